"""A small mesh: one service with one answer, one stream and one subscription, served for real on a free port."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastchat.common.v1 import scope_service_pb2 as scope_pb
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2_grpc import (
    ScopeServiceServicer,
    ScopeServiceStub,
    add_ScopeServiceServicer_to_server,
)
from fastchat.control.v1 import settings_service_pb2 as settings_pb
from fastchat.control.v1.settings_service_pb2_grpc import (
    SettingsServiceServicer,
    SettingsServiceStub,
    add_SettingsServiceServicer_to_server,
)
from kit.channel import MeshChannel, open_channel
from kit.health import Health
from kit.mesh import Service
from kit.principal import MeshKey, Signer, Verifier
from kit.server import RunningServer, serve
from kit.tls import TlsFiles

SCOPE = "fastchat.common.v1.ScopeService"
SETTINGS = "fastchat.control.v1.SettingsService"

MEMBER = Principal(tenant_id="acme", subject="key:1", roles=["member"], scopes=["chat"])
PLATFORM = Principal(subject="service:test", roles=["service"], scopes=["platform"])


@dataclass
class Script(ScopeServiceServicer, SettingsServiceServicer):
    """Servicers that do what a test says."""

    erase: Callable[[Any, Any], Awaitable[Any]] | None = None
    export: Callable[[Any, Any], AsyncGenerator[Any, None]] | None = None
    watch: Callable[[Any, Any], AsyncGenerator[Any, None]] | None = None

    async def EraseScope(self, request: Any, context: Any) -> Any:
        return await self.erase(request, context) if self.erase else scope_pb.EraseScopeResponse()

    async def ExportScope(self, request: Any, context: Any) -> AsyncIterator[Any]:
        assert self.export is not None
        async with aclosing(self.export(request, context)) as rows:
            async for row in rows:
                yield row

    async def WatchSettings(self, request: Any, context: Any) -> AsyncIterator[Any]:
        assert self.watch is not None
        async with aclosing(self.watch(request, context)) as changes:
            async for change in changes:
                yield change

    async def GetSettings(self, request: Any, context: Any) -> Any:
        return settings_pb.GetSettingsResponse()

    async def UpdateSettings(self, request: Any, context: Any) -> Any:
        return settings_pb.UpdateSettingsResponse()


@dataclass
class Peer:
    """One mesh key, and what is signed and served with it."""

    key: MeshKey = field(default_factory=MeshKey.generate)
    tls: TlsFiles | None = None

    @property
    def verifier(self) -> Verifier:
        return Verifier.of(self.key)

    @property
    def signer(self) -> Signer:
        return Signer(self.key)


@dataclass
class Running:
    """A served script and a channel to it."""

    script: Script
    service: Service
    server: RunningServer
    channel: MeshChannel

    @property
    def scope(self) -> Any:
        return ScopeServiceStub(self.channel)

    @property
    def settings(self) -> Any:
        return SettingsServiceStub(self.channel)


def service_of(script: Script, health: Health | None = None) -> Service:
    return Service(
        name="scripted",
        health=health or Health(),
        registrations=[
            lambda server: add_ScopeServiceServicer_to_server(script, server),
            lambda server: add_SettingsServiceServicer_to_server(script, server),
        ],
        service_names=[SCOPE, SETTINGS],
    )


@asynccontextmanager
async def running(
    peer: Peer | None = None, *, bind: str = "127.0.0.1:0", health: Health | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Serve a script; `options` go to `serve`."""
    peer = peer or Peer()
    script = Script()
    service = service_of(script, health)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(service, peer, bind, **options))
        channel = await stack.enter_async_context(open_channel(server.address, signer=peer.signer, tls=peer.tls))
        yield Running(script, service, server, channel)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition that no event tells of."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)


class Clock:
    """Time that a test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds
