"""Append before deliver: what a run emits goes into its log, group by group, and only then to its readers."""

from __future__ import annotations

import time

from kit.eventlog import EventLog, LogKey
from orchestrator.coalesce import Buffer
from orchestrator.events import Numbering, Payload
from orchestrator.feed import Feed
from orchestrator.fold import RunFold
from orchestrator.measures import APPEND_SECONDS


class LogWriter:
    """Group commit: whatever is emitted during one append goes into the next.

    ``fold`` follows what was acknowledged. A failed append (fenced, or the bus is away) ends the writer: whether it
    was stored is then for the log to tell, to whoever takes over.
    """

    def __init__(
        self, log: EventLog, key: LogKey, numbering: Numbering, fold: RunFold, feed: Feed, fence: int, max_bytes: int
    ) -> None:
        self._log = log
        self._key = key
        self._numbering = numbering
        self.feed = feed
        self._fence = fence
        self._buffer = Buffer(max_bytes)
        self.fold = fold

    async def emit(self, payload: Payload) -> None:
        """Hands over a payload; waits while too much is pending. Raises what ended the writer."""
        await self._buffer.put(payload)

    def close(self) -> None:
        """No more will be emitted: `pump` returns once everything is logged."""
        self._buffer.close()

    async def append(self, payload: Payload) -> None:
        """Appends one payload at once, before anything is pumped."""
        await self._commit([payload])

    async def pump(self) -> None:
        """Appends until closed and empty. Raises the failure of an append, which every further `emit` raises too."""
        try:
            while payloads := await self._buffer.take():
                await self._commit(payloads)
        except BaseException as failure:
            self._buffer.fail(failure)
            raise

    async def _commit(self, payloads: list[Payload]) -> None:
        events = [self._numbering.stamp(payload) for payload in payloads]
        began = time.perf_counter()
        records = [event.SerializeToString() for event in events]
        self._fence = await self._log.append(self._key, records, fence=self._fence)
        APPEND_SECONDS.observe(time.perf_counter() - began)
        for event in events:
            self.fold.add(event)
        self.feed.publish(events)
