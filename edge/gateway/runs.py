"""RunService of fastchat.gateway.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edge.gateway.caller import Context, caller
from edge.permission import Permission
from edge.run_access import RunAccess
from edge.run_reader import attached
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1 import run_service_pb2 as pb
from fastchat.gateway.v1.run_service_pb2_grpc import RunServiceServicer
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


class RunServicer(RunServiceServicer):
    """Durable runs, from whichever replica."""

    def __init__(self, deps: EdgeDeps) -> None:
        self._deps = deps
        self._access = RunAccess(deps.clients, deps.threads)
        self._permission = Permission(deps.policy, deps.audit)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        """WatchRun streams a run's events after a cursor."""
        who = await caller(self._deps, context)
        await self._permission.require(who.principal, "run.read", "Run", request.run_id)
        await self._access.check(who.principal, request.run_id)
        with self._deps.limits.stream(who):
            reader = attached(self._deps.clients, who.principal, request.run_id, request.after_sequence)
            try:
                while events := await reader.read():
                    for event in events:
                        yield pb.WatchRunResponse(event=event)
            finally:
                reader.close()

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        """GetRun tells where a run stands."""
        principal = await self._allowed(context, "run.read", request.run_id)
        return pb.GetRunResponse(run=await self._access.get(principal, request.run_id))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """ListRuns lists runs, newest first."""
        principal = await self._allowed(context, "run.read", "")
        asked = runs_pb.ListRunsRequest(
            thread_id=request.thread_id,
            active_only=request.active_only,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = await self._access.page(principal, asked)
        return pb.ListRunsResponse(runs=page.runs, next_page_token=page.next_page_token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        """CancelRun stops a run."""
        principal = await self._allowed(context, "run.cancel", request.run_id)
        return pb.CancelRunResponse(run=await self._access.cancel(principal, request.run_id))

    async def _allowed(self, context: Context, action: str, run_id: str) -> Principal:
        principal = (await caller(self._deps, context)).principal
        await self._permission.require(principal, action, "Run", run_id)
        return principal
