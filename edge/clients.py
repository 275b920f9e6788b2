"""The stubs that the edge calls, and its reading of run streams. gRPC ends here: above, errors are PlatformErrors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from fastchat.common.v1.event_pb2 import RunEvent
from fastchat.control.v1 import (
    api_key_service_pb2_grpc,
    audit_service_pb2_grpc,
    model_registry_service_pb2_grpc,
    policy_service_pb2_grpc,
    settings_service_pb2_grpc,
    tenant_service_pb2_grpc,
)
from fastchat.integration.v1 import model_service_pb2_grpc
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from fastchat.orchestrator.v1 import run_service_pb2_grpc
from kit.errors import PlatformError, Reason

if TYPE_CHECKING:
    from fastchat.control.v1.api_key_service_pb2_grpc import ApiKeyServiceAsyncStub
    from fastchat.control.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from fastchat.control.v1.model_registry_service_pb2_grpc import ModelRegistryServiceAsyncStub
    from fastchat.control.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub
    from fastchat.control.v1.settings_service_pb2_grpc import SettingsServiceAsyncStub
    from fastchat.control.v1.tenant_service_pb2_grpc import TenantServiceAsyncStub
    from fastchat.integration.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from fastchat.orchestrator.v1.run_service_pb2_grpc import RunServiceAsyncStub

T = TypeVar("T")

ORCHESTRATOR = "orchestrator"
"""Named in errors as the dependency that did not answer."""


@dataclass(frozen=True, slots=True)
class Clients:
    """One stub a service that the edge calls."""

    runs: RunServiceAsyncStub
    models: ModelServiceAsyncStub
    tenants: TenantServiceAsyncStub
    api_keys: ApiKeyServiceAsyncStub
    model_registry: ModelRegistryServiceAsyncStub
    policies: PolicyServiceAsyncStub
    settings: SettingsServiceAsyncStub
    audit: AuditServiceAsyncStub

    @classmethod
    def over(cls, channel: Callable[[str], grpc.aio.Channel]) -> Clients:
        """Stubs over `channel(service)`, such as Mesh.channel."""
        orchestrator, integration, control = channel(ORCHESTRATOR), channel("integration"), channel("control")
        return cls(
            runs=run_service_pb2_grpc.RunServiceStub(orchestrator),
            models=model_service_pb2_grpc.ModelServiceStub(integration),
            tenants=tenant_service_pb2_grpc.TenantServiceStub(control),
            api_keys=api_key_service_pb2_grpc.ApiKeyServiceStub(control),
            model_registry=model_registry_service_pb2_grpc.ModelRegistryServiceStub(control),
            policies=policy_service_pb2_grpc.PolicyServiceStub(control),
            settings=settings_service_pb2_grpc.SettingsServiceStub(control),
            audit=audit_service_pb2_grpc.AuditServiceStub(control),
        )


async def told(answer: Awaitable[T], dependency: str) -> T:
    """Await a unary call; its failure as a PlatformError."""
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        raise PlatformError.from_rpc(error, dependency) from None


RunCall = grpc.aio.UnaryStreamCall[runs_pb.StartRunRequest, runs_pb.StartRunResponse]


class EventCall:
    """One call that streams run events."""

    def __init__(self, call: RunCall) -> None:
        self._call = call
        self._responses: AsyncIterator[runs_pb.StartRunResponse] = aiter(call)
        self._left = False

    async def read(self) -> list[RunEvent]:
        """Events that came together, in order; empty at the end. CANCELLED once `leave` was called."""
        try:
            response = await anext(self._responses)
        except StopAsyncIteration:
            return []
        except grpc.aio.AioRpcError as error:
            raise PlatformError.from_rpc(error, ORCHESTRATOR) from None
        except asyncio.CancelledError:
            # gRPC tells a call that we cancelled as if the task were
            task = asyncio.current_task()
            if self._left and not (task is not None and task.cancelling()):
                raise PlatformError(Reason.CANCELLED, "The reader left.") from None
            raise
        return [response.event, *response.more] if response.more else [response.event]

    def leave(self) -> None:
        """Stop reading. A run that is not durable is cancelled by that."""
        self._left = True
        self._call.cancel()


def start_run(clients: Clients, request: runs_pb.StartRunRequest) -> EventCall:
    """StartRun."""
    return EventCall(clients.runs.StartRun(request))


def attach_run(clients: Clients, tenant_id: str, run_id: str, after: int) -> EventCall:
    """AttachRun; its responses have the shape of StartRun's."""
    request = runs_pb.AttachRunRequest(tenant_id=tenant_id, run_id=run_id, after_sequence=after)
    return EventCall(clients.runs.AttachRun(request))  # type: ignore[arg-type]  # same fields, another name
