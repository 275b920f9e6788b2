"""What a service with state stands on: its database, the settings that control pushes, and the health of both."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import Database, DatabaseConfig
from kit.db.migrate import upgrade
from kit.errors import PlatformError
from kit.health import Health
from kit.mesh import Background, Mesh
from kit.settings import SettingsCache, watch_settings

DATABASE, CONTROL = "database", "control"
_CHECK_S = 2.0
# Until both were there once: a start should not wait for the next look.
_FIRST_CHECKS_S = 0.1
# Control says something every second.
_CONTROL_SILENT_S = 5.0


@dataclass(frozen=True)
class Ground:
    """Open for as long as the service runs; `background` are the tasks that keep it fresh."""

    database: Database
    settings: SettingsCache
    health: Health
    background: Sequence[Background]


@asynccontextmanager
async def ground(
    service: str, mesh: Mesh, *, kinds: Sequence[ResourceKind.ValueType] = (), critical: Sequence[str] = ()
) -> AsyncIterator[Ground]:
    """Migrate and open the service's database, and follow control's settings (`kinds`; empty: all).

    Without its database the service is not ready; without control it goes on with its last settings.
    """
    config = mesh.config.section("database", DatabaseConfig)
    url = config.url_for(service, mesh.home)
    if importlib.util.find_spec(f"{service}.migrations") is not None:
        await upgrade(service, url)
    cache, health = SettingsCache(), Health(critical=(DATABASE, *critical))
    kept = mesh.home / service / "settings.pb"
    async with await Database.open(url, service, home=mesh.home, config=config) as database:
        yield Ground(
            database,
            cache,
            health,
            (
                lambda: watch_settings(mesh.channel("control"), cache, kept, f"{service}/{mesh.replica}", kinds),
                lambda: _watch_health(database, cache, health),
            ),
        )


async def _watch_health(database: Database, cache: SettingsCache, health: Health) -> None:
    pause_s = _FIRST_CHECKS_S
    while True:
        try:
            await database.ping()
        except PlatformError as problem:
            health.set(DATABASE, False, problem.message, "nothing that is stored can be reached")
        else:
            health.set(DATABASE, True)
        age_s = cache.age_s
        silent = "never heard of" if age_s == float("inf") else f"silent for {age_s:.0f} s"
        alive = age_s < _CONTROL_SILENT_S
        health.set(
            CONTROL, alive, "" if alive else silent, "" if alive else "everything goes on with the last settings"
        )
        if alive:
            pause_s = _CHECK_S
        await asyncio.sleep(pause_s)
