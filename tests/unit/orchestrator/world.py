"""Replicas of the orchestrator over real gRPC, NATS and SQL, with a scripted model gateway."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import orjson

from fastchat.common.v1.event_pb2 import RunEvent
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2_grpc import ScopeServiceStub
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from fastchat.integration.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from fastchat.orchestrator.v1.run_service_pb2 import (
    AttachRunRequest,
    CancelRunRequest,
    GetRunRequest,
    ListRunsRequest,
    ListRunsResponse,
    Run,
    StartRunRequest,
)
from fastchat.orchestrator.v1.run_service_pb2_grpc import RunServiceStub
from kit.bus import Bus, BusConfig
from kit.channel import MeshChannel, calling, open_channel
from kit.config import load
from kit.crypto import Keyring
from kit.db import Database
from kit.db.migrate import upgrade
from kit.ground import Ground
from kit.health import Health
from kit.mesh import Mesh, Service
from kit.principal import MeshKey, Signer, Verifier, acting_as
from kit.process import SECTIONS
from kit.server import RunningServer, serve
from kit.settings import SettingsCache
from kit.tasks import Tasks
from orchestrator.app import Assembly, assemble
from orchestrator.config import OrchestratorConfig
from tests.unit.orchestrator.fake_models import FakeGateway, Script

BUILTIN = Path("control/policy/builtin.cedar")
FAST = OrchestratorConfig(
    lease_s=0.6,
    watch_interval_s=0.2,
    readers_wait_s=0.1,
    watermark_interval_s=0.2,
    supersede_wait_s=5,
    model_patience_s=3,
    plain_patience_s=0.3,
    stuck_after_s=2,
    sweep_interval_s=3600,
)


def member(tenant_id: str = "t1", *, roles: tuple[str, ...] = ("member",)) -> Principal:
    return Principal(tenant_id=tenant_id, subject="user:u1", roles=roles, scopes=["chat"])


class Replica:
    """One orchestrator, as others see it, and the switches to hurt it."""

    def __init__(self, parts: Assembly, server: RunningServer, bus: Bus, tasks: Tasks, channel: MeshChannel) -> None:
        self.service = parts.service
        self.store = parts.store
        self.executor = parts.executor
        self.jobs = parts.jobs
        self.sweeper = parts.sweeper
        self.server = server
        self.bus = bus
        self.tasks = tasks
        self.stub = RunServiceStub(channel)
        self.scopes = ScopeServiceStub(channel)
        self.standing: asyncio.Future[None] | None = None

    async def start(self, request: StartRunRequest, who: Principal | None = None) -> AsyncIterator[RunEvent]:
        with acting_as(who or member(request.tenant_id)):
            call = self.stub.StartRun(request, timeout=30)
        try:
            with calling("orchestrator"):
                async for response in call:
                    yield response.event
                    for event in response.more:
                        yield event
        finally:
            call.cancel()

    async def attach(
        self, run_id: str, after: int = 0, tenant_id: str = "t1", who: Principal | None = None
    ) -> AsyncIterator[RunEvent]:
        request = AttachRunRequest(tenant_id=tenant_id, run_id=run_id, after_sequence=after)
        with acting_as(who or member(tenant_id)):
            call = self.stub.AttachRun(request, timeout=30)
        try:
            with calling("orchestrator"):
                async for response in call:
                    yield response.event
                    for event in response.more:
                        yield event
        finally:
            call.cancel()

    async def get(self, run_id: str, tenant_id: str = "t1") -> Run:
        with acting_as(member(tenant_id)), calling("orchestrator"):
            return (await self.stub.GetRun(GetRunRequest(tenant_id=tenant_id, run_id=run_id))).run

    async def list(self, **query: object) -> ListRunsResponse:
        request = ListRunsRequest(**{"tenant_id": "t1", **query})  # type: ignore[arg-type]
        with acting_as(member(request.tenant_id)), calling("orchestrator"):
            return await self.stub.ListRuns(request)

    async def cancel(self, run_id: str, tenant_id: str = "t1") -> Run:
        request = CancelRunRequest(tenant_id=tenant_id, run_id=run_id, cause="test")
        with acting_as(member(tenant_id)), calling("orchestrator"):
            return (await self.stub.CancelRun(request)).run

    async def begin(self, request: StartRunRequest) -> None:
        """Starts a durable run and leaves its stream after the first event."""
        async with aclosing(self.start(request)) as events:  # type: ignore[type-var]
            async for event in events:
                assert event.HasField("started")
                return

    async def drain(self, seconds: float) -> None:
        """Stops as a process would on SIGTERM."""
        assert self.service.drain is not None
        await asyncio.gather(self.server.drain(seconds), self.service.drain(seconds))
        await self.tasks.cancel()


class World:
    """Everything that replicas share: NATS, the database, the gateway."""

    def __init__(self, stack: AsyncExitStack, home: Path, nats_url: str, database_url: str, script: Script) -> None:
        self.script = script
        self._stack = stack
        self._home = home
        self._nats_url = nats_url
        self._database_url = database_url
        self._database: Database | None = None
        self._key = MeshKey.generate()
        self._keyring = Keyring.from_home(home)
        self._gateway = ""
        self.layer: dict[str, object] = {}

    @property
    def keyring(self) -> Keyring:
        return self._keyring

    async def open(self) -> World:
        await upgrade("orchestrator", self._database_url, home=self._home)
        await self.serve_gateway()
        return self

    async def serve_gateway(self) -> None:
        gateway = FakeGateway(self.script)
        mesh = self._mesh("gateway", None)
        service = Service(
            name="integration",
            health=Health(),
            registrations=[lambda server: add_ModelServiceServicer_to_server(gateway, server)],
        )
        server = await self._stack.enter_async_context(serve(service, mesh, self._gateway or "127.0.0.1:0"))
        self._gateway = server.address

    async def bus(self) -> Bus:
        bus = await Bus.connect(BusConfig(url=self._nats_url, request_timeout_s=2))
        self._stack.push_async_callback(bus.close)
        return bus

    async def database(self) -> Database:
        """One a replica on PostgreSQL; on SQLite, which takes one process, one for all."""
        if self._database is None or "postgresql" in self._database_url:
            self._database = await Database.open(self._database_url, "orchestrator", home=self._home)
            self._stack.push_async_callback(self._database.close)
        return self._database

    async def replica(self, config: OrchestratorConfig = FAST, *, working: bool = True) -> Replica:
        """A new replica; one that does not work takes no jobs and sweeps nothing."""
        bus = await self.bus()
        mesh = self._mesh("r" + secrets.token_hex(3), bus)
        ground = Ground(await self.database(), self.settings(), Health(), ())
        parts = await assemble(config, mesh, bus, ground)
        service = parts.service
        server = await self._stack.enter_async_context(serve(service, mesh, "127.0.0.1:0"))
        tasks = Tasks("test")
        self._stack.push_async_callback(tasks.cancel)
        tasks.start(service.background if working else service.background[1:])
        channel = open_channel(server.address, signer=Signer(self._key))
        self._stack.push_async_callback(channel.close)
        return Replica(parts, server, bus, tasks, channel)

    def settings(self) -> SettingsCache:
        cache = SettingsCache()
        bodies: list[tuple[ResourceKind.ValueType, str, str, dict[str, object]]] = [
            (ResourceKind.RESOURCE_KIND_MODEL, "", "m", {"context_window": 8192}),
            (ResourceKind.RESOURCE_KIND_POLICY, "", "builtin", {"cedar": BUILTIN.read_text(), "enabled": True}),
        ]
        if self.layer:
            bodies.append((ResourceKind.RESOURCE_KIND_SETTINGS, "t1", "tenant", self.layer))
        resources = [
            Resource(kind=kind, tenant_id=tenant, name=name, revision=1, body_json=orjson.dumps(body).decode())
            for kind, tenant, name, body in bodies
        ]
        cache.apply(WatchSettingsResponse(resources=resources, revision=1, snapshot=True))
        return cache

    def _mesh(self, replica: str, bus: Bus | None) -> Mesh:
        return Mesh(
            home=self._home,
            replica=replica,
            profile="oss",
            addresses={"integration": self._gateway},
            signer=Signer(self._key),
            verifier=Verifier.of(self._key),
            tls=None,
            bus=bus,
            keyring=self._keyring,
            config=load(None, {}, dict(SECTIONS)),
        )


@asynccontextmanager
async def world(home: Path, nats_url: str, database_url: str, script: Script) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World(stack, home, nats_url, database_url, script).open()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until a condition, plain or awaitable, holds."""
    async with asyncio.timeout(seconds):
        while not await _value(condition):  # noqa: ASYNC110  # what other processes and tasks do has no event
            await asyncio.sleep(0.01)


async def _value(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value


async def ended(replica: Replica, run_id: str, tenant_id: str = "t1") -> Run:
    """The run, once SQL knows its end."""

    async def has_ended() -> bool:
        return (await replica.get(run_id, tenant_id)).HasField("end_time")

    await until(has_ended)
    return await replica.get(run_id, tenant_id)


async def queued(replica: Replica) -> None:
    """Waits until some run has been accepted."""

    async def any_run() -> bool:
        return bool((await replica.list()).runs)

    await until(any_run)


async def collect(events: AsyncIterator[RunEvent]) -> list[RunEvent]:
    """All events of a stream."""
    return [event async for event in events]


def text_of(events: list[RunEvent]) -> str:
    return "".join(delta.text for event in events for delta in event.token.deltas)


def sequences(events: list[RunEvent]) -> list[int]:
    return [event.sequence for event in events]
