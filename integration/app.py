"""Composition root of the integration service."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastchat.control.v1.settings_service_pb2 import ResourceKind
from fastchat.integration.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from integration.clients import follow_control
from integration.config import IntegrationConfig
from integration.pacing import Pacer
from integration.service.model_service import ModelServicer
from kit.audit import Audit
from kit.health import Health
from kit.mesh import Mesh, Service
from kit.settings import SettingsCache

if TYPE_CHECKING:
    from integration.models.assembly import Models

NAME = "integration"
SETTINGS = "settings"
_KINDS = (
    ResourceKind.RESOURCE_KIND_SETTINGS,
    ResourceKind.RESOURCE_KIND_MODEL,
    ResourceKind.RESOURCE_KIND_POLICY,
)
_CONTROL_SILENT_S = 5.0


@asynccontextmanager
async def build(config: IntegrationConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Open the service; what it opened is closed with it. Takes the seconds that LiteLLM's import takes."""
    cache, health = SettingsCache(), Health(critical=(SETTINGS,))
    # seconds of CPU, in a thread so that the loop can answer health checks meanwhile
    assembly = await asyncio.to_thread(importlib.import_module, "integration.models.assembly")
    await asyncio.to_thread(assembly.warm)
    async with Audit(mesh.bus, mesh.home / NAME / "audit", NAME) as audit:
        models: Models = assembly.Models(config, cache, mesh.keyring, audit)
        pacer = Pacer(config.stream_messages_per_s, time.monotonic)
        try:
            yield Service(
                name=NAME,
                health=health,
                registrations=[
                    lambda server: add_ModelServiceServicer_to_server(ModelServicer(models.gateway, pacer), server)
                ],
                service_names=["fastchat.integration.v1.ModelService"],
                background=[
                    lambda: follow_control(mesh, cache, NAME, _KINDS),
                    lambda: _watch(models, cache, health, config.check_interval_s),
                ],
            )
        finally:
            await models.close()


async def _watch(models: Models, cache: SettingsCache, health: Health, interval_s: float) -> None:
    """Reports what this service depends on until cancelled."""
    while True:
        known = cache.revision > 0
        health.set(SETTINGS, known, "" if known else "control was never heard of, and nothing was kept")
        alive = cache.age_s < _CONTROL_SILENT_S
        impact = "everything goes on with the last settings"
        health.set("control", alive, "" if alive else "silent", "" if alive else impact)
        models.report(health)
        # the first settings make the service ready: they are looked for sooner
        await asyncio.sleep(interval_s if known else min(interval_s, 0.1))
