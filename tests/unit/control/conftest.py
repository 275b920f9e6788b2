"""Fixtures: control on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.control.running import Control, serving


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh database; empty: SQLite in the home folder."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def control(tmp_path: Path, database_url: str) -> AsyncIterator[Control]:
    """A control just started for the first time."""
    async with serving(tmp_path / "home", url=database_url) as running:
        yield running


@pytest.fixture
async def sqlite_control(tmp_path: Path) -> AsyncIterator[Control]:
    """The same on SQLite alone, for what no engine has a part in."""
    async with serving(tmp_path / "home") as running:
        yield running
