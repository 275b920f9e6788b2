"""One active run a thread: a new turn supersedes a run that nobody reads, and yields to one that somebody reads."""

from __future__ import annotations

import asyncio

from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.telemetry import get_logger
from orchestrator.cancels import Cancels
from orchestrator.config import OrchestratorConfig
from orchestrator.readers import Readers
from orchestrator.settle import Settler
from orchestrator.store import RunRow, RunStore, ThreadOccupied, run_job

log = get_logger(__name__)

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25


class Turns:
    """Admits durable runs to their threads."""

    def __init__(
        self, config: OrchestratorConfig, store: RunStore, readers: Readers, settler: Settler, cancels: Cancels
    ) -> None:
        self._config = config
        self._store = store
        self._readers = readers
        self._settler = settler
        self._cancels = cancels

    async def admit(self, row: RunRow, principal: Principal, queue: bool) -> RunRow | None:
        """Stores the run with its job; returns the run that already has its id instead, if there is one.

        ``queue``: wait for a run that somebody reads, instead of THREAD_BUSY.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        cancelled: set[str] = set()
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._store.insert(row, run_job(row, principal))
            except ThreadOccupied as occupied:
                active = occupied.run_id
            if await self._ended(row.tenant_id, active):
                continue
            waited = loop.time() - began
            if active not in cancelled and await self._unread(row.tenant_id, active):
                log.info("run superseded", run_id=active, by=row.run_id)
                await self._supersede(row, active)
                cancelled.add(active)
            patience_s = self._config.queue_wait_s if queue else self._config.supersede_wait_s
            if (active not in cancelled and not queue) or waited >= patience_s:
                raise _busy(active)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _ended(self, tenant_id: str, run_id: str) -> bool:
        """The client has its last event before SQL knows: the log's end counts."""
        active = await self._store.get(tenant_id, run_id)
        return active is None or await self._settler.settle_if_ended(active)

    async def _unread(self, tenant_id: str, run_id: str) -> bool:
        key = (tenant_id, run_id)
        return not self._readers.local(key) and not (await self._readers.count([key]))[key]

    async def _supersede(self, row: RunRow, active: str) -> None:
        try:
            await self._cancels.cancel((row.tenant_id, active), f"superseded by {row.run_id}")
        except PlatformError as error:
            if error.reason is not Reason.NOT_CANCELLABLE:
                raise


def _busy(run_id: str) -> PlatformError:
    return PlatformError(Reason.THREAD_BUSY, "The thread has a running run.", run_id=run_id)
