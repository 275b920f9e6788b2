"""Watching over the runs that this replica executes: wishes recorded elsewhere, readers gone, progress noted."""

from __future__ import annotations

import asyncio

from kit.errors import PlatformError
from kit.telemetry import get_logger
from orchestrator.config import OrchestratorConfig
from orchestrator.execution import StopCause
from orchestrator.executor import ActiveRun, Executor
from orchestrator.feed import RunKey
from orchestrator.readers import Readers
from orchestrator.store import RunStore

log = get_logger(__name__)


class Keeper:
    """The periodic part of ownership."""

    def __init__(self, config: OrchestratorConfig, store: RunStore, executor: Executor, readers: Readers) -> None:
        self._config = config
        self._store = store
        self._executor = executor
        self._readers = readers
        self._unread_since: dict[RunKey, float] = {}
        self._marked_at = 0.0

    async def run(self) -> None:
        """Looks once an interval, until cancelled. A look that fails is made up for by the next."""
        while True:
            await asyncio.sleep(self._config.watch_interval_s)
            try:
                await self.look()
            except PlatformError as error:
                log.warning("watching runs failed", reason=error.reason.name)

    async def look(self) -> None:
        """One look at the executed runs."""
        active = dict(self._executor.active())
        if not active:
            self._unread_since.clear()
            return
        for key in await self._store.wanted_cancelled(active):
            self._executor.cancel(key)
        await self._look_for_readers(active)
        await self._mark(active)

    async def _look_for_readers(self, active: dict[RunKey, ActiveRun]) -> None:
        suspects = [key for key, run in active.items() if run.cancels_unread and not self._readers.local(key)]
        counts = await self._readers.count(suspects)
        now = asyncio.get_running_loop().time()
        unread = {key for key in suspects if not counts[key]}
        self._unread_since = {key: self._unread_since.get(key, now) for key in unread}
        for key, since in self._unread_since.items():
            if now - since >= active[key].accepted.settings.runs.disconnect_grace_s:
                log.info("run cancelled: nobody reads it", run_id=key[1])
                await self._store.request_cancel(key, "nobody reads it")
                active[key].halt(StopCause.CANCELLED)

    async def _mark(self, active: dict[RunKey, ActiveRun]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._marked_at < self._config.watermark_interval_s:
            return
        self._marked_at = now
        # Also those that did not move: a mark tells that the run is being worked on.
        await self._store.set_watermarks({key: run.head for key, run in active.items()})
