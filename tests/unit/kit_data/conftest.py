"""Fixtures of the data layer's tests: databases on both engines, a bus on a real server, a keyring."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog.testing

from kit.bus import Bus, BusConfig
from kit.crypto import Keyring, MasterKey
from kit.db import Database, migrate
from kit.eventlog import EventLog

MIGRATIONS = "tests.unit.kit_data.migrations"
SERVICE = "box"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Structlog as it comes draws every traceback for a second, on the event loop that the tests time."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database; "" is the SQLite file below the home."""
    if request.param == "sqlite":
        return ""
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database with the tables of tests.unit.kit_data.tables."""
    await migrate.upgrade(SERVICE, database_url, MIGRATIONS, home=tmp_path)
    async with await Database.open(database_url, SERVICE, home=tmp_path) as opened:
        yield opened


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """The same on SQLite only, for tests of what is SQLite's own."""
    await migrate.upgrade(SERVICE, "", MIGRATIONS, home=tmp_path)
    async with await Database.open("", SERVICE, home=tmp_path) as opened:
        yield opened


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection to the session's NATS server."""
    connected = await Bus.connect(BusConfig(url=nats_url, request_timeout_s=2.0))
    yield connected
    await connected.close()


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes names that no other test of the session uses."""
    return lambda prefix: f"{prefix}-{uuid4().hex[:12]}"


@pytest.fixture
def keyring() -> Keyring:
    """A keyring with a fresh key."""
    return Keyring([MasterKey.of(os.urandom(32))])


@pytest.fixture
async def event_log(bus: Bus, keyring: Keyring) -> EventLog:
    """An event log on the session's server."""
    return await EventLog(bus, keyring).open()
