"""What the orchestrator depends on, looked at again and again; and what still works without it."""

from __future__ import annotations

import asyncio

from kit.bus import Bus
from kit.errors import PlatformError
from kit.health import Health
from orchestrator.clients import Models

_EVERY_S = 2.0
_WITHOUT_BUS = "plain completions go on; runs that outlive their reader are refused"
_WITHOUT_INTEGRATION = "runs can be read and cancelled; answers wait for the gateway, for a while"


async def watch_bus(bus: Bus, health: Health) -> None:
    """Reports the bus until cancelled."""
    while True:
        try:
            await bus.ping()
        except PlatformError as error:
            health.set("bus", False, error.message, _WITHOUT_BUS)
        else:
            health.set("bus", True)
        await asyncio.sleep(_EVERY_S)


async def watch_integration(models: Models, health: Health) -> None:
    """Reports the model gateway until cancelled."""
    while True:
        if await models.serving():
            health.set("integration", True)
        else:
            health.set("integration", False, "does not answer", _WITHOUT_INTEGRATION)
        await asyncio.sleep(_EVERY_S)
