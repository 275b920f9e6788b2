"""RunService of fastchat.gateway.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edge.clients import told
from edge.gateway.caller import Context, caller
from edge.permission import Permission
from edge.run_reader import attached
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1 import run_service_pb2 as pb
from fastchat.gateway.v1.run_service_pb2_grpc import RunServiceServicer
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from kit.principal import acting_as

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


class RunServicer(RunServiceServicer):
    """Durable runs, from whichever replica."""

    def __init__(self, deps: EdgeDeps) -> None:
        self._deps = deps
        self._permission = Permission(deps.policy, deps.audit)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        """WatchRun streams a run's events after a cursor."""
        who = await caller(self._deps, context)
        self._permission.require(who.principal, "run.read", "Run", request.run_id)
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
        with acting_as(principal):
            asked = runs_pb.GetRunRequest(tenant_id=principal.tenant_id, run_id=request.run_id)
            return pb.GetRunResponse(run=(await told(self._deps.clients.runs.GetRun(asked), "orchestrator")).run)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """ListRuns lists runs, newest first."""
        principal = await self._allowed(context, "run.read", "")
        asked = runs_pb.ListRunsRequest(
            tenant_id=principal.tenant_id,
            thread_id=request.thread_id,
            active_only=request.active_only,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        with acting_as(principal):
            page = await told(self._deps.clients.runs.ListRuns(asked), "orchestrator")
        return pb.ListRunsResponse(runs=page.runs, next_page_token=page.next_page_token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        """CancelRun stops a run."""
        principal = await self._allowed(context, "run.cancel", request.run_id)
        asked = runs_pb.CancelRunRequest(
            tenant_id=principal.tenant_id, run_id=request.run_id, cause="cancelled by client"
        )
        with acting_as(principal):
            return pb.CancelRunResponse(run=(await told(self._deps.clients.runs.CancelRun(asked), "orchestrator")).run)

    async def _allowed(self, context: Context, action: str, run_id: str) -> Principal:
        principal = (await caller(self._deps, context)).principal
        self._permission.require(principal, action, "Run", run_id)
        return principal
