"""Composition root of control."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from control import tenants
from control.access import Access
from control.audit import AuditLog
from control.bootstrap import bootstrap
from control.changes import Changes
from control.config import ControlConfig
from control.consumer import AuditConsumer
from control.keys import ApiKeys
from control.policy import Policies
from control.registry import Registry
from control.service.api_keys import ApiKeyServicer
from control.service.audit import AuditServicer
from control.service.model_registry import ModelRegistryServicer
from control.service.policies import PolicyServicer
from control.service.scope import ControlScopeServicer
from control.service.settings import SettingsServicer
from control.service.tenants import TenantServicer
from control.settings import Settings
from control.sources import Sources
from control.store import Store
from control.watch import Acknowledgements, Feed
from fastchat.common.v1 import scope_service_pb2_grpc
from fastchat.control.v1 import (
    api_key_service_pb2_grpc,
    audit_service_pb2_grpc,
    model_registry_service_pb2_grpc,
    policy_service_pb2_grpc,
    settings_service_pb2_grpc,
    tenant_service_pb2_grpc,
)
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import Database, DatabaseConfig
from kit.db.migrate import upgrade
from kit.health import Health
from kit.mesh import Mesh, Service
from kit.policy import PolicyEngine
from kit.server import Registration
from kit.settings import SettingsCache

NAME = "control"

# What control itself needs to decide.
_OWN_KINDS = (
    ResourceKind.RESOURCE_KIND_POLICY,
    ResourceKind.RESOURCE_KIND_SETTINGS,
    ResourceKind.RESOURCE_KIND_TENANT,
    ResourceKind.RESOURCE_KIND_WORKSPACE,
)
_SERVICE_NAMES = (
    *(
        f"fastchat.control.v1.{name}Service"
        for name in ("Tenant", "ApiKey", "ModelRegistry", "Settings", "Policy", "Audit")
    ),
    "fastchat.common.v1.ScopeService",
)


@dataclass(frozen=True)
class _Parts:
    """What control is made of."""

    store: Store
    cache: SettingsCache
    feed: Feed
    access: Access
    changes: Changes
    sources: Sources
    audit: AuditLog


@asynccontextmanager
async def build(config: ControlConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Migrate, open, make what the first start needs, tell what the sources say; then serve.

    ConfigError for wrong sources or a second replica on SQLite; PlatformError when the database cannot be reached.
    """
    health = Health(critical=("database",))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(await _open_database(mesh))
        parts = _parts(config, mesh, database, health)
        stack.callback(parts.feed.close)
        parts.sources.check()
        await bootstrap(parts.changes, mesh.home, mesh.config.env)
        await parts.sources.start()
        await parts.feed.look()
        async for part in parts.feed.snapshot(_OWN_KINDS):
            parts.cache.apply(part)
        health.set("database", True)
        consumer = AuditConsumer(parts.audit, mesh.bus, config.audit_workers)
        yield Service(
            name=NAME,
            health=health,
            registrations=_registrations(config, mesh, parts, database),
            service_names=_SERVICE_NAMES,
            background=[
                parts.feed.run,
                parts.feed.tell_replicas,
                parts.feed.prune,
                lambda: parts.sources.run(config.reload_s),
                lambda: _follow(parts.feed, parts.cache),
                consumer.run,
            ],
            drain=lambda _: _end_streams(parts.feed),
        )


async def _open_database(mesh: Mesh) -> Database:
    config = mesh.config.section("database", DatabaseConfig)
    url = config.url_for(NAME, mesh.home)
    await upgrade(NAME, url)
    return await Database.open(url, NAME, home=mesh.home, config=config)


def _parts(config: ControlConfig, mesh: Mesh, database: Database, health: Health) -> _Parts:
    store, cache = Store(database), SettingsCache()
    feed = Feed(store, config, mesh.bus, health)
    access = Access(PolicyEngine(cache), store)
    changes = Changes(store, feed.announce)
    sources = Sources(mesh.config, mesh.profile, changes, mesh.keyring, health, tenants.DEFAULT)
    return _Parts(store, cache, feed, access, changes, sources, AuditLog(changes, access))


def _registrations(config: ControlConfig, mesh: Mesh, parts: _Parts, database: Database) -> list[Registration]:
    changes, access = parts.changes, parts.access
    registry = Registry(changes, access, mesh.keyring, parts.sources.nudge)
    settings = SettingsServicer(Settings(changes, access), parts.feed, Acknowledgements(config.max_watchers), access)
    tenant = TenantServicer(tenants.Tenants(changes, access))
    keys, models = ApiKeyServicer(ApiKeys(changes, access)), ModelRegistryServicer(registry)
    policies, audit = PolicyServicer(Policies(changes, access, parts.cache.wait_for)), AuditServicer(parts.audit)
    scope = ControlScopeServicer(database, changes, access)
    return [
        lambda server: tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(tenant, server),
        lambda server: api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(keys, server),
        lambda server: model_registry_service_pb2_grpc.add_ModelRegistryServiceServicer_to_server(models, server),
        lambda server: settings_service_pb2_grpc.add_SettingsServiceServicer_to_server(settings, server),
        lambda server: policy_service_pb2_grpc.add_PolicyServiceServicer_to_server(policies, server),
        lambda server: audit_service_pb2_grpc.add_AuditServiceServicer_to_server(audit, server),
        lambda server: scope_service_pb2_grpc.add_ScopeServiceServicer_to_server(scope, server),
    ]


async def _follow(feed: Feed, cache: SettingsCache) -> None:
    """Keep the own cache in step, as every other service does over the network."""
    async for batch in feed.stream(_OWN_KINDS, cache.revision):
        cache.apply(batch)


async def _end_streams(feed: Feed) -> None:
    feed.close()
