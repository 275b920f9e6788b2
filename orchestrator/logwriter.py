"""Append before deliver: what a run emits goes into its log, group by group, and only then to its readers."""

from __future__ import annotations

import time

from fastchat.common.v1.usage_pb2 import Usage
from kit.errors import PlatformError, Reason
from kit.eventlog import EventLog, LogKey, RunLogFull
from kit.telemetry import get_logger
from orchestrator.coalesce import Buffer
from orchestrator.events import Numbering, Payload, final_usage
from orchestrator.feed import Feed
from orchestrator.fold import RunFold
from orchestrator.measures import APPEND_SECONDS, FIRST_OUTPUT_SECONDS

log = get_logger(__name__)


class LogWriter:
    """Group commit: whatever is emitted during one append goes into the next.

    ``fold`` follows what was acknowledged. A failed append (fenced, or the bus is away) ends the writer: whether it
    was stored is then for the log to tell, to whoever takes over.
    """

    def __init__(
        self,
        log: EventLog,
        key: LogKey,
        numbering: Numbering,
        fold: RunFold,
        feed: Feed,
        fence: int,
        max_bytes: int,
        asked_at: float | None = None,
    ) -> None:
        """`asked_at`: when the run was asked for, Unix seconds, to measure its first output; None: not measured."""
        self._log = log
        self._key = key
        self._numbering = numbering
        self.feed = feed
        self._fence = fence
        self._buffer = Buffer(max_bytes)
        self._asked_at = asked_at
        self.fold = fold

    async def emit(self, payload: Payload) -> None:
        """Hands over a payload; waits while too much is pending. Raises SinkClosed once the writer has ended."""
        await self._buffer.put(payload)

    def close(self) -> None:
        """No more will be emitted: `pump` returns once everything is logged."""
        self._buffer.close()

    async def append(self, payload: Payload) -> None:
        """Appends one payload at once, before anything is pumped."""
        await self._commit([payload])

    async def pump(self) -> None:
        """Appends until closed and empty, or until the log has its end. Raises the failure of an append."""
        try:
            while payloads := await self._buffer.take():
                try:
                    await self._commit(payloads)
                except PlatformError as refused:
                    if not isinstance(refused, RunLogFull) and refused.reason is not Reason.PAYLOAD_TOO_LARGE:
                        raise  # another owner, or the bus is away
                    await self._end(refused)
                    return
        finally:
            self._buffer.abandon()

    async def _end(self, refused: PlatformError) -> None:
        """Ends a run whose output does not fit its log."""
        log.warning("run does not fit its log", run_id=self._key.run_id, reason=refused.reason.name)
        self._numbering.last = self.fold.last_sequence
        usage = self.fold.usage.usage if self.fold.usage is not None else Usage(estimated=True)
        usage.completion_tokens = max(usage.completion_tokens, self.fold.delivered.chunks)
        window = self.fold.started.context_window if self.fold.started is not None else 0
        await self._commit([final_usage(usage, (), window), refused.to_event()])

    async def _commit(self, payloads: list[Payload]) -> None:
        events = [self._numbering.stamp(payload) for payload in payloads]
        began = time.perf_counter()
        records = [event.SerializeToString() for event in events]
        self._fence = await self._log.append(self._key, records, fence=self._fence)
        APPEND_SECONDS.observe(time.perf_counter() - began)
        for event in events:
            self.fold.add(event)
        self.feed.publish(events)
        if self._asked_at is not None and not self.fold.delivered.empty:
            FIRST_OUTPUT_SECONDS.labels("durable").observe(max(0.0, time.time() - self._asked_at))
            self._asked_at = None
