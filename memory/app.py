"""Composition root of the memory service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.ground import ground
from kit.mesh import Mesh, Service
from memory.config import MemoryConfig
from memory.service import SERVICE_NAMES, registrations


@asynccontextmanager
async def build(config: MemoryConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """Open the service; what it opened is closed with it."""
    async with ground("memory", mesh) as base:
        yield Service(
            name="memory",
            health=base.health,
            registrations=registrations(base.database),
            service_names=SERVICE_NAMES,
            background=base.background,
        )
