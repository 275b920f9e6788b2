"""Ending a run in SQL as its log tells. Any replica may do it, any number of times: the log decides, once."""

from __future__ import annotations

from google.protobuf.json_format import MessageToJson

from fastchat.common.v1.principal_pb2 import Principal
from kit.eventlog import EventLog, LogKey
from kit.settings import SettingsCache
from orchestrator import lifecycle, measures
from orchestrator.fold import RunFold
from orchestrator.store import Ending, RunRow, RunStore, history_job

_PATH = "durable"


class Settler:
    """Carries the end of logs into SQL, with the job that stores the answer in its thread."""

    def __init__(self, store: RunStore, log: EventLog, settings: SettingsCache) -> None:
        self._store = store
        self._log = log
        self._settings = settings

    async def settle(self, row: RunRow, fold: RunFold) -> None:
        """Ends the run's row. The fold must have its end."""
        status = lifecycle.status_of(fold)
        usage = MessageToJson(fold.usage, indent=None) if fold.usage is not None else ""
        window_s = self._settings.effective(row.tenant_id, row.workspace_id).runs.replay_window_s
        ending = Ending(status, fold.last_sequence, usage, window_s)
        history = history_job(row, Principal.FromString(row.principal)) if row.thread_id else None
        if await self._store.finish((row.tenant_id, row.run_id), ending, history):
            measures.RUNS_ENDED.labels(_PATH, lifecycle.label(status)).inc()

    async def settle_if_ended(self, row: RunRow) -> bool:
        """Whether the run has ended; if only its log knows, SQL is told."""
        if row.ended_at is not None:
            return True
        fold = RunFold.of(await self._log.read(LogKey(row.tenant_id, row.run_id)))
        if fold.ended:
            await self.settle(row, fold)
        return fold.ended
