"""Fixtures of the orchestrator's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.nats import NatsServer, nats_server
from tests.unit.orchestrator.fake_models import Script
from tests.unit.orchestrator.world import World
from tests.unit.orchestrator.world import world as open_world


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both engines."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/orchestrator.db"
    url: str = request.getfixturevalue("postgres_dsn")
    return url


@pytest.fixture
def own_nats(tmp_path: Path) -> object:
    """A NATS server of the test's own: the queue of runs is empty, and it may be stopped."""
    with nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def world(tmp_path: Path, own_nats: NatsServer, database_url: str, script: Script) -> AsyncIterator[World]:
    async with open_world(tmp_path, own_nats.url, database_url, script) as opened:
        yield opened
