"""Tidying up behind crashes and time: runs without a job get one, logs past their window go."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from fastchat.common.v1.principal_pb2 import Principal
from kit.db import utc_now
from kit.errors import PlatformError
from kit.eventlog import EventLog, LogKey
from kit.jobs import JobQueue
from kit.telemetry import get_logger
from orchestrator.config import OrchestratorConfig
from orchestrator.store import RunRow, RunStore, run_job

log = get_logger(__name__)

_BATCH = 100


class Sweeper:
    """Idempotent background work; any number of replicas may do it at once."""

    def __init__(
        self,
        config: OrchestratorConfig,
        store: RunStore,
        event_log: EventLog,
        history: JobQueue,
    ) -> None:
        self._config = config
        self._store = store
        self._log = event_log
        self._history = history

    async def run(self) -> None:
        """Sweeps once an interval, until cancelled."""
        while True:
            await asyncio.sleep(self._config.sweep_interval_s)
            try:
                await self.revive()
                await self.purge()
            except PlatformError as error:
                log.warning("sweep failed", reason=error.reason.name)

    async def revive(self) -> int:
        """Gives runs that nobody works on a new job; a power cut may have taken theirs. Returns how many."""
        before = utc_now() - timedelta(seconds=self._config.stuck_after_s)
        revived = 0
        for row in await self._store.untouched(before, _BATCH):
            attempt = str(int(row.touched_at.timestamp() * 1000))
            job = run_job(row, Principal.FromString(row.principal), attempt)
            if await self._store.retouch(row, job):
                log.warning("run without a job", run_id=row.run_id)
                revived += 1
        return revived

    async def purge(self) -> int:
        """Removes logs whose answer is stored and whose replay window is over. Returns how many."""
        purged = 0
        after = ("", "")
        while rows := await self._store.purgeable(_BATCH, after):
            for row in rows:
                if await self._is_stored(row):
                    await self._log.purge(LogKey(row.tenant_id, row.run_id))
                    await self._store.mark_purged((row.tenant_id, row.run_id))
                    purged += 1
            after = (rows[-1].tenant_id, rows[-1].run_id)
        return purged

    async def _is_stored(self, row: RunRow) -> bool:
        """Whether no job still needs the log: a job leaves its queue when it is done, never before."""
        if not row.thread_id:
            return True
        return not await self._history.pending(f"{row.tenant_id}/{row.run_id}")
