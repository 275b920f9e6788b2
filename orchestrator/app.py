"""Composition root of the orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastchat.common.v1.scope_service_pb2_grpc import add_ScopeServiceServicer_to_server
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from fastchat.orchestrator.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from kit.bus import Bus
from kit.config import ConfigError
from kit.db.scope import ScopeServicer
from kit.eventlog import EventLog
from kit.ground import Ground, ground
from kit.jobs import JobQueue
from kit.mesh import Background, Mesh, Service
from kit.outbox import Relay
from kit.policy import PolicyEngine
from orchestrator import readers as readers_module
from orchestrator.cancels import SUBJECT as CANCEL_SUBJECT
from orchestrator.cancels import Cancels
from orchestrator.claim import Claims
from orchestrator.clients import Models
from orchestrator.config import OrchestratorConfig
from orchestrator.erasure import LogEraser
from orchestrator.executor import Executor
from orchestrator.feed import Feeds
from orchestrator.follow import Follower
from orchestrator.graphs.builtin import chat
from orchestrator.graphs.registry import Graphs
from orchestrator.keeper import Keeper
from orchestrator.plain import PlainRuns
from orchestrator.probes import watch_bus, watch_integration
from orchestrator.readers import Readers
from orchestrator.requests import Intake
from orchestrator.runs import Runs
from orchestrator.service import RunServicer
from orchestrator.settle import Settler
from orchestrator.store import TABLES, RunStore
from orchestrator.sweep import Sweeper
from orchestrator.turns import Turns

NAME = "orchestrator"
_KINDS = (
    ResourceKind.RESOURCE_KIND_SETTINGS,
    ResourceKind.RESOURCE_KIND_MODEL,
    ResourceKind.RESOURCE_KIND_POLICY,
)


@asynccontextmanager
async def build(config: OrchestratorConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Open the service; what it opened is closed with it."""
    if mesh.bus is None:
        raise ConfigError("the orchestrator needs the message bus: set bus.url")
    async with AsyncExitStack() as opened:
        base = await opened.enter_async_context(ground(NAME, mesh, kinds=_KINDS))
        yield (await assemble(config, mesh, mesh.bus, base)).service


@dataclass(frozen=True, slots=True)
class Assembly:
    """The service, and the parts of it that tests and tools reach into."""

    service: Service
    store: RunStore
    executor: Executor
    jobs: JobQueue
    sweeper: Sweeper


async def assemble(config: OrchestratorConfig, mesh: Mesh, bus: Bus, base: Ground) -> Assembly:
    """The service over what is open."""
    event_log = await EventLog(bus, mesh.keyring).open()
    store = RunStore(base.database)
    relay = Relay(base.database, bus)
    feeds = Feeds()
    graphs = Graphs([chat.build()])
    models = Models(mesh.channel("integration"))
    policy = PolicyEngine(base.settings)
    intake = Intake(graphs, base.settings)
    readers = Readers(bus, mesh.replica, config.readers_wait_s)
    settler = Settler(store, event_log, base.settings)
    claims = Claims(event_log, feeds, mesh.replica, config.buffer_bytes)
    executor = Executor(config, mesh.replica, store, claims, settler, intake, models, policy, mesh.keyring)
    cancels = Cancels(bus, store, executor)
    turns = Turns(config, store, readers, settler, cancels)
    follower = Follower(event_log, store, feeds, readers)
    runs = Runs(bus, store, follower, readers, turns, mesh.keyring)
    servicer = RunServicer(intake, PlainRuns(config, models), runs, cancels, policy, base.settings)
    jobs = JobQueue(bus, "runs", ack_wait_s=config.lease_s, max_deliver=config.max_deliveries + 2)
    keeper = Keeper(config, store, executor, readers)
    sweeper = Sweeper(config, store, event_log, JobQueue(bus, "history"))
    await bus.subscribe(CANCEL_SUBJECT, cancels.hear)
    await bus.subscribe(readers_module.SUBJECT, readers.answer)
    scopes = ScopeServicer(base.database, TABLES, [LogEraser(event_log, store)])
    work = _Work(jobs, executor, config.concurrent_runs)
    background: list[Background] = [
        *base.background,
        work.run,
        relay.run,
        keeper.run,
        sweeper.run,
        lambda: watch_bus(bus, base.health),
        lambda: watch_integration(models, base.health),
    ]
    service = Service(
        name=NAME,
        health=base.health,
        registrations=[
            lambda server: add_RunServiceServicer_to_server(servicer, server),
            lambda server: add_ScopeServiceServicer_to_server(scopes, server),
        ],
        service_names=["fastchat.orchestrator.v1.RunService", "fastchat.common.v1.ScopeService"],
        background=background,
        drain=work.drain,
    )
    return Assembly(service, store, executor, jobs, sweeper)


class _Work:
    """This replica's part in the queue of runs."""

    def __init__(self, jobs: JobQueue, executor: Executor, concurrency: int) -> None:
        self._jobs = jobs
        self._executor = executor
        self._concurrency = concurrency
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Takes jobs until drained."""
        self._idle.clear()
        try:
            await self._jobs.work(self._executor.handle, self._concurrency, self._stop)
        finally:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Takes no further jobs; runs that do not end in time are handed to another replica, at once."""
        self._stop.set()
        await self._executor.drain(seconds)
        await self._idle.wait()
