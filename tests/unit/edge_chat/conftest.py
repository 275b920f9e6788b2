"""Threads on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.store import ThreadStore
from edge.threads import Threads
from kit.crypto import Keyring
from kit.db import Database
from kit.db.migrate import upgrade


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    await upgrade("edge", home=tmp_path)
    async with await Database.open("", "edge", home=tmp_path) as opened:
        yield opened


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.from_home(tmp_path)


@pytest.fixture
def threads(database: Database, keyring: Keyring) -> Threads:
    return Threads(ThreadStore(database, keyring))
