"""Fixtures of the model gateway's tests. LiteLLM is imported once a session, on first use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.models.assembly import warm
from tests.support.upstream import Upstream, running
from tests.unit.integration.world import World, member, world


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    warm()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A provider of one's own."""
    async with running() as found:
        yield found


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[World]:
    """The gateway with the alias "gpt" at the mock, used by a member of the tenant."""
    async with world(tmp_path, upstream) as made:
        made.model("gpt")
        with member():
            yield made
