"""Composition root of the edge: HTTP for clients, gRPC for partners, and its part of the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

from edge import gateway, history
from edge.api import site
from edge.auth import Authenticator
from edge.auth.apikey import ApiKeys, Lookup
from edge.auth.authenticator import HEADERS
from edge.auth.bearer import BearerTokens
from edge.auth.identity import CHAT, KeyHash, KeyRecord
from edge.auth.jwks import JsonWebKeys
from edge.clients import Clients, told
from edge.config import EdgeConfig
from edge.deps import EdgeDeps
from edge.history import History
from edge.limits import Limits
from edge.pushed import KINDS, Pushed, record_of
from edge.store import TABLES, Sealer, ThreadStore
from edge.threads import Threads
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2_grpc import add_ScopeServiceServicer_to_server
from fastchat.control.v1.api_key_service_pb2 import LookupApiKeyRequest
from kit.admission import Admission
from kit.audit import Audit
from kit.channel import MeshChannel
from kit.db.scope import ScopeServicer
from kit.errors import PlatformError, Reason
from kit.ground import ground
from kit.health import Health
from kit.interceptors.call import ServerCall
from kit.jobs import JobQueue
from kit.mesh import Background, Mesh, PublicPort, Service
from kit.policy import PolicyEngine
from kit.principal import acting_as, service_principal

_SETTINGS = "settings"
"""Critical: nobody can be let in before control (or the disk) has told a first state."""

_IMPACTS = {
    "orchestrator": "threads, models, embeddings and administration work; chats are refused",
    "integration": "threads, running streams' history and administration work; chats and embeddings are refused",
}


@asynccontextmanager
async def build(config: EdgeConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Open the service; what it opened is closed with it."""
    async with AsyncExitStack() as opened:
        base = await opened.enter_async_context(ground("edge", mesh, kinds=KINDS, critical=(_SETTINGS,)))
        opened.callback(base.settings.on_change(lambda _: base.health.set(_SETTINGS, True)))
        clients = Clients.over(mesh.channel)
        pushed = Pushed(base.settings)
        opened.callback(pushed.close)
        keys = JsonWebKeys(config.auth.jwks)
        opened.push_async_callback(keys.close)
        tokens = BearerTokens(keys, pushed.issuers, pushed.trusts, config.auth.clock_skew_s)
        audit = await opened.enter_async_context(Audit(mesh.bus, mesh.home / "edge" / "audit", "edge"))
        threads = Threads(ThreadStore(base.database, mesh.keyring))
        deps = EdgeDeps(
            mesh=mesh,
            config=config,
            clients=clients,
            settings=base.settings,
            policy=PolicyEngine(base.settings),
            audit=audit,
            database=base.database,
            keyring=mesh.keyring,
            threads=threads,
            history=History(clients, threads),
            authenticator=Authenticator(ApiKeys(pushed, _lookup(clients), config.auth), tokens, pushed),
            limits=Limits(pushed),
            health=base.health,
        )
        admission = Admission(mesh.settings.server.admission, "edge")
        scopes = ScopeServicer(base.database, TABLES, export=Sealer(mesh.keyring).export)
        yield Service(
            name="edge",
            health=base.health,
            registrations=[lambda server: add_ScopeServiceServicer_to_server(scopes, server)],
            service_names=["fastchat.common.v1.ScopeService"],
            background=[*base.background, *_background(deps)],
            http=site.build(deps, pushed, admission),
            http_bind=f"{config.host}:{config.port}",
            public=_partner_port(deps) if config.partner.enabled else None,
            admission=admission,
            drain=deps.answers.drain,
        )


def _lookup(clients: Clients) -> Lookup:
    """Asks control for a key, as the edge itself: who brings the key is what is to be found out."""
    edge = service_principal("edge")

    async def lookup(key_hash: KeyHash) -> KeyRecord | None:
        try:
            with acting_as(edge):
                found = await told(clients.api_keys.LookupApiKey(LookupApiKeyRequest(key_hash=key_hash)), "control")
        except PlatformError as error:
            if error.reason is Reason.NOT_FOUND:
                return None
            raise
        return record_of(found.api_key)

    return lookup


def _partner_port(deps: EdgeDeps) -> PublicPort:
    partner = deps.config.partner

    async def authenticate(call: ServerCall) -> Principal:
        sent: dict[str, str] = {name: str(call.metadata[name]) for name in HEADERS if name in call.metadata}
        who = await deps.authenticator.authenticate(sent)
        who.require(CHAT)
        deps.limits.count(who)
        return who.principal

    return PublicPort(
        name="gateway",
        registrations=gateway.registrations(deps),
        service_names=gateway.SERVICE_NAMES,
        health=deps.health,
        bind=f"{partner.host}:{partner.port}",
        authenticate=authenticate,
    )


def _background(deps: EdgeDeps) -> list[Background]:
    tasks: list[Background] = [
        lambda: _watch_channel("orchestrator", deps.mesh.channel("orchestrator"), deps.health),
        lambda: _watch_channel("integration", deps.mesh.channel("integration"), deps.health),
    ]
    bus = deps.mesh.bus
    if bus is not None:
        queue = JobQueue(bus, history.QUEUE)
        tasks.append(lambda: deps.history.work(queue, asyncio.Event()))
    return tasks


async def _watch_channel(service: str, channel: MeshChannel, health: Health) -> None:
    """Report a service by the state of its channel. Only a failed attempt to connect counts as away."""
    down = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
    while True:
        state = channel.get_state(try_to_connect=True)
        if state in down:
            health.set(service, False, "cannot be reached", _IMPACTS[service])
        elif state is not grpc.ChannelConnectivity.CONNECTING:
            health.set(service, True)
        await channel.wait_for_state_change(state)
