"""A whole control, served over gRPC, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from control.app import build
from control.config import ControlConfig
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2_grpc import ScopeServiceStub
from fastchat.control.v1 import api_key_service_pb2 as keys_pb
from fastchat.control.v1 import model_registry_service_pb2 as models_pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from fastchat.control.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from fastchat.control.v1.audit_service_pb2_grpc import AuditServiceStub
from fastchat.control.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from fastchat.control.v1.policy_service_pb2_grpc import PolicyServiceStub
from fastchat.control.v1.settings_service_pb2_grpc import SettingsServiceStub
from fastchat.control.v1.tenant_service_pb2_grpc import TenantServiceStub
from kit.bus import Bus, BusConfig
from kit.channel import calling
from kit.config import load
from kit.errors import PlatformError
from kit.hosting import Hosting
from kit.mesh import Mesh, open_mesh
from kit.principal import acting_as, service_principal
from kit.process import SECTIONS
from kit.settings import SettingsCache
from kit.tasks import Tasks

PLATFORM = Principal(tenant_id="default", subject="key:root", roles=["admin"], scopes=["chat", "admin", "platform"])
EDGE = service_principal("edge")


def admin_of(tenant_id: str, *, workspace_id: str = "", role: str = "admin") -> Principal:
    """An administrator (or another role with the scope admin) of one tenant."""
    return Principal(
        tenant_id=tenant_id,
        workspace_id=workspace_id,
        subject=f"key:{role}-{tenant_id}",
        roles=[role],
        scopes=["chat", "admin"],
    )


class Stubs:
    """Every service of control, called as one principal; errors come as PlatformError."""

    def __init__(self, mesh: Mesh, principal: Principal) -> None:
        channel: Any = mesh.channel("control")
        self.principal = principal
        self.tenants: Any = _Acting(TenantServiceStub(channel), principal)
        self.keys: Any = _Acting(ApiKeyServiceStub(channel), principal)
        self.models: Any = _Acting(ModelRegistryServiceStub(channel), principal)
        self.policies: Any = _Acting(PolicyServiceStub(channel), principal)
        self.settings: Any = _Acting(SettingsServiceStub(channel), principal)
        self.audit: Any = _Acting(AuditServiceStub(channel), principal)
        self.scope: Any = _Acting(ScopeServiceStub(channel), principal)


class _Acting:
    def __init__(self, stub: Any, principal: Principal) -> None:
        self._stub = stub
        self._principal = principal

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        method = getattr(self._stub, name)

        async def call(request: Any) -> Any:
            with acting_as(self._principal), calling("control"):
                answer = method(request)
                if hasattr(answer, "__aiter__") and not hasattr(answer, "__await__"):
                    return [item async for item in answer]
                return await answer

        return call


@dataclass
class Control:
    """A served control."""

    mesh: Mesh
    hosting: Hosting
    home: Path
    url: str

    def acting(self, principal: Principal = PLATFORM) -> Stubs:
        """The services, called as somebody."""
        return Stubs(self.mesh, principal)

    async def tenant(self, tenant_id: str) -> Stubs:
        """Make a tenant; returns the services called as its administrator."""
        await self.acting().tenants.CreateTenant(tenants_pb.CreateTenantRequest(id=tenant_id, name=tenant_id))
        return self.acting(admin_of(tenant_id))

    async def key(self, tenant_id: str, **wanted: Any) -> keys_pb.CreateApiKeyResponse:
        """Make a key as the platform."""
        request = keys_pb.CreateApiKeyRequest(tenant_id=tenant_id, **wanted)
        made: keys_pb.CreateApiKeyResponse = await self.acting().keys.CreateApiKey(request)
        return made

    async def model(self, tenant_id: str, alias: str, **more: Any) -> models_pb.CreateModelEntryResponse:
        """Make a model entry as the platform."""
        entry = {"alias": alias, "litellm": {"model": f"openai/{alias}"}, **more}
        request = models_pb.CreateModelEntryRequest(tenant_id=tenant_id, entry_json=orjson.dumps(entry).decode())
        made: models_pb.CreateModelEntryResponse = await self.acting().models.CreateModelEntry(request)
        return made

    @property
    def health(self) -> dict[str, Any]:
        """Dependencies by name."""
        return {state.name: state for state in self.hosting.hosted[0].service.health.snapshot()}


@asynccontextmanager
async def serving(
    home: Path,
    *,
    url: str = "",
    nats: str = "",
    env: Mapping[str, str] | None = None,
    settings: Path | None = None,
    bind: str = "",
) -> AsyncIterator[Control]:
    """Serve control as a process would; an empty `url` is SQLite below `home`, an empty `nats` no bus."""
    told = {"FASTCHAT_MESH__BIND__CONTROL": bind or "127.0.0.1:0", **(env or {})}
    if url:
        told["FASTCHAT_DATABASE__URL"] = url
    loaded = load(settings, told, {**SECTIONS, "control": ControlConfig})
    async with AsyncExitStack() as stack:
        bus = await Bus.connect(BusConfig(url=nats)) if nats else None
        if bus is not None:
            stack.push_async_callback(bus.close)
        mesh = open_mesh(loaded, home, bus)
        stack.push_async_callback(mesh.close)
        hosting = Hosting(mesh, stack)
        await hosting.host("control", build)
        yield Control(mesh, hosting, home, url)
        await hosting.drain(2)


@asynccontextmanager
async def watching(control: Control, watch: Callable[..., Any], cache: SettingsCache) -> AsyncIterator[SettingsCache]:
    """A service's settings cache that follows control."""
    tasks = Tasks("test")
    tasks.start([lambda: watch(control.mesh.channel("control"), cache, control.home / "watch.pb", "edge/test1")])
    try:
        yield cache
    finally:
        await tasks.cancel()


@contextmanager
def refused(reason: Any, **metadata: str) -> Iterator[None]:
    """The block ends with that PlatformError."""
    with pytest.raises(PlatformError) as caught:
        yield
    error = caught.value
    assert error.reason is reason, repr(error)
    assert {key: error.metadata.get(key) for key in metadata} == metadata
