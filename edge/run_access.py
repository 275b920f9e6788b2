"""Whose runs a caller sees: those of the threads within its reach. Tenants are kept apart by the orchestrator."""

from __future__ import annotations

from edge.clients import Clients, told
from edge.store import Reach
from edge.threads import Threads, reach_of
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.orchestrator.v1 import run_service_pb2 as pb
from kit.errors import PlatformError, Reason
from kit.principal import acting_as

_UNBOUNDED = Reach()


class RunAccess:
    """Durable runs, as callers may see them. What is out of reach is RUN_NOT_FOUND."""

    def __init__(self, clients: Clients, threads: Threads) -> None:
        self._clients = clients
        self._threads = threads

    async def get(self, principal: Principal, run_id: str) -> pb.Run:
        """Where a run stands."""
        with acting_as(principal):
            asked = pb.GetRunRequest(tenant_id=principal.tenant_id, run_id=run_id)
            run = (await told(self._clients.runs.GetRun(asked), "orchestrator")).run
        if not await self._visible(principal, [run]):
            raise PlatformError(Reason.RUN_NOT_FOUND, f"No run found with id '{run_id}'.", id=run_id)
        return run

    async def check(self, principal: Principal, run_id: str) -> None:
        """RUN_NOT_FOUND when the run is out of reach; costs nothing for callers who see all of their tenant's."""
        if reach_of(principal) != _UNBOUNDED:
            await self.get(principal, run_id)

    async def cancel(self, principal: Principal, run_id: str) -> pb.Run:
        """Stop a run."""
        await self.check(principal, run_id)
        with acting_as(principal):
            asked = pb.CancelRunRequest(tenant_id=principal.tenant_id, run_id=run_id, cause="cancelled by client")
            return (await told(self._clients.runs.CancelRun(asked), "orchestrator")).run

    async def page(self, principal: Principal, asked: pb.ListRunsRequest) -> pb.ListRunsResponse:
        """Runs, newest first. Pages may be shorter than asked for, where runs are out of reach."""
        asked.tenant_id = principal.tenant_id
        with acting_as(principal):
            page = await told(self._clients.runs.ListRuns(asked), "orchestrator")
        runs = await self._visible(principal, list(page.runs))
        return pb.ListRunsResponse(runs=runs, next_page_token=page.next_page_token)

    async def _visible(self, principal: Principal, runs: list[pb.Run]) -> list[pb.Run]:
        if reach_of(principal) == _UNBOUNDED:
            return runs
        seen = await self._threads.visible(principal, {run.thread_id for run in runs if run.thread_id})
        return [run for run in runs if run.thread_id in seen]
