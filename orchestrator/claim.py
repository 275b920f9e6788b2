"""Becoming the owner of a run: from then on only this replica's appends are accepted."""

from __future__ import annotations

from dataclasses import dataclass

from kit.eventlog import EventLog, Fenced, LogKey
from kit.telemetry import current_trace_id, get_logger
from orchestrator import lifecycle, measures
from orchestrator.events import Numbering
from orchestrator.feed import Feeds
from orchestrator.fold import RunFold
from orchestrator.logwriter import LogWriter
from orchestrator.requests import Accepted
from orchestrator.store import RunRow

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """An owned run. ``writer.fold`` is what the log held and holds. ``lost``: why the log cannot be gone on from."""

    writer: LogWriter
    taken_over: bool
    lost: str = ""


class Claims:
    """Opens runs' logs for writing."""

    def __init__(self, event_log: EventLog, feeds: Feeds, owner: str, buffer_bytes: int) -> None:
        self._log = event_log
        self._feeds = feeds
        self._owner = owner
        self._buffer_bytes = buffer_bytes

    async def claim(self, row: RunRow, accepted: Accepted, deliveries: int) -> Claim:
        """Owns the run; its `started` event is in the log then. Raises Fenced when another is faster."""
        if deliveries <= 1 and row.status == lifecycle.QUEUED:
            try:
                return await self._begin(row, accepted, RunFold(), 0)
            except Fenced:
                log.info("run was begun before", run_id=row.run_id)
        records, fence = await self._log.take_over(LogKey(row.tenant_id, row.run_id), self._owner)
        fold = RunFold.of(records)
        lost = _lost(row, fold)
        if fold.started is None:
            return await self._begin(row, accepted, fold, fence, lost)
        measures.TAKEOVERS.inc()
        log.info("run taken over", run_id=row.run_id, sequence=fold.last_sequence, owner=row.owner)
        return Claim(self._writer(row, fold, fence), True, lost)

    async def _begin(self, row: RunRow, accepted: Accepted, fold: RunFold, fence: int, lost: str = "") -> Claim:
        writer = self._writer(row, fold, fence)
        try:
            await writer.append(accepted.request.started)
        except BaseException:
            self.release(row, writer)
            raise
        measures.RUNS_STARTED.labels("durable").inc()
        return Claim(writer, False, lost)

    def _writer(self, row: RunRow, fold: RunFold, fence: int) -> LogWriter:
        trace_id = fold.trace_id or current_trace_id()
        numbering = Numbering(row.run_id, row.thread_id, trace_id, fold.last_sequence)
        feed = self._feeds.open((row.tenant_id, row.run_id), fold.last_sequence)
        key = LogKey(row.tenant_id, row.run_id)
        asked_at = row.created_at.timestamp() if fold.delivered.empty else None
        return LogWriter(self._log, key, numbering, fold, feed, fence, self._buffer_bytes, asked_at)

    def release(self, row: RunRow, writer: LogWriter) -> None:
        """Nothing more comes from here: local readers go on from the log."""
        self._feeds.remove((row.tenant_id, row.run_id), writer.feed)


def _lost(row: RunRow, fold: RunFold) -> str:
    """What a power cut took: SQL knows of events that the log does not have."""
    if fold.last_sequence >= row.logged_sequence:
        return ""
    return f"the log ends at event {fold.last_sequence}, {row.logged_sequence} were written"
