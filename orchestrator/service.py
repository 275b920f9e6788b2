"""RunService over gRPC: validates, delegates, converts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from google.protobuf.json_format import Parse

from fastchat.common.v1.event_pb2 import UsagePayload
from fastchat.orchestrator.v1.run_service_pb2 import (
    AttachRunRequest,
    AttachRunResponse,
    CancelRunRequest,
    CancelRunResponse,
    GetRunRequest,
    GetRunResponse,
    ListRunsRequest,
    ListRunsResponse,
    Run,
    StartRunRequest,
    StartRunResponse,
)
from fastchat.orchestrator.v1.run_service_pb2_grpc import RunServiceServicer
from kit.errors import PlatformError
from kit.policy import PolicyEngine
from kit.principal import current
from kit.settings import SettingsCache
from orchestrator.cancels import Cancels
from orchestrator.plain import PlainRuns
from orchestrator.requests import Intake
from orchestrator.runs import Runs
from orchestrator.store import RunRow

Context = grpc.aio.ServicerContext[object, object]

_RESOURCE = "Run"


class RunServicer(RunServiceServicer):
    """The six services' view of runs. Policy is decided here, where the action happens."""

    def __init__(
        self,
        intake: Intake,
        plain: PlainRuns,
        runs: Runs,
        cancels: Cancels,
        policy: PolicyEngine,
        settings: SettingsCache,
    ) -> None:
        self._intake = intake
        self._plain = plain
        self._runs = runs
        self._cancels = cancels
        self._policy = policy
        self._settings = settings

    async def StartRun(self, request: StartRunRequest, context: Context) -> AsyncIterator[StartRunResponse]:
        """Begins a run and streams its events."""
        accepted = self._intake.accept(request)
        self._settings.require_fresh(request.tenant_id)
        principal = current()
        self._policy.require(principal, "chat.create", "Chat", request.call.model_alias)
        stream = self._runs.start(accepted, principal) if request.durable else self._plain.stream(accepted)
        async with aclosing(stream):
            async for events in stream:
                yield StartRunResponse(event=events[0], more=events[1:])

    async def AttachRun(self, request: AttachRunRequest, context: Context) -> AsyncIterator[AttachRunResponse]:
        """Streams a durable run's events after a cursor."""
        self._allow("run.read", request.tenant_id, request.run_id)
        stream = self._runs.attach(request.tenant_id, request.run_id, request.after_sequence)
        async with aclosing(stream):
            async for events in stream:
                yield AttachRunResponse(event=events[0], more=events[1:])

    async def GetRun(self, request: GetRunRequest, context: Context) -> GetRunResponse:
        """Tells where a run stands."""
        self._allow("run.read", request.tenant_id, request.run_id)
        row = await self._runs.get(request.tenant_id, request.run_id)
        return GetRunResponse(run=(await self._told([row]))[0])

    async def ListRuns(self, request: ListRunsRequest, context: Context) -> ListRunsResponse:
        """Lists runs, newest first."""
        self._allow("run.read", request.tenant_id, "")
        rows, token = await self._runs.page(
            request.tenant_id, request.thread_id, request.active_only, request.page_size, request.page_token
        )
        return ListRunsResponse(runs=await self._told(rows), next_page_token=token)

    async def CancelRun(self, request: CancelRunRequest, context: Context) -> CancelRunResponse:
        """Stops a run."""
        self._allow("run.cancel", request.tenant_id, request.run_id)
        row = await self._cancels.cancel((request.tenant_id, request.run_id), request.cause)
        return CancelRunResponse(run=(await self._told([row]))[0])

    def _allow(self, action: str, tenant_id: str, run_id: str) -> None:
        if not tenant_id:
            raise PlatformError.invalid("tenant_id", "tenant_id is required.")
        self._policy.require(current(), action, _RESOURCE, run_id)

    async def _told(self, rows: list[RunRow]) -> list[Run]:
        readers = await self._runs.readers(rows)
        return [_message(row, readers.get((row.tenant_id, row.run_id), 0)) for row in rows]


def _message(row: RunRow, readers: int) -> Run:
    run = Run(
        run_id=row.run_id,
        thread_id=row.thread_id,
        status=row.status,  # type: ignore[arg-type]  # stored as the enum's number
        graph=row.graph,
        model_alias=row.model_alias,
        last_sequence=row.last_sequence,
        readers=readers,
        public_id=row.public_id,
    )
    run.create_time.FromDatetime(row.created_at)
    if row.ended_at is not None:
        run.end_time.FromDatetime(row.ended_at)
    if row.usage_json:
        run.usage.CopyFrom(Parse(row.usage_json, UsagePayload()).usage)
    return run
