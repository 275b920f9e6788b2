"""Composition root of the knowledge service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.ground import ground
from kit.mesh import Mesh, Service
from knowledge.config import KnowledgeConfig
from knowledge.service import SERVICE_NAMES, registrations


@asynccontextmanager
async def build(config: KnowledgeConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Open the service; what it opened is closed with it."""
    async with ground("knowledge", mesh) as base:
        yield Service(
            name="knowledge",
            health=base.health,
            registrations=registrations(base.database),
            service_names=SERVICE_NAMES,
            background=base.background,
        )
