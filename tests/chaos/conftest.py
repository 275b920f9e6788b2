"""Platforms to hurt. Tests put right what they broke: the next one meets everything up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.allinone.nats import NatsServer
from tests.support.postgres import PostgresServer
from tests.support.stack import Stack, own_nats, six_processes, until

DRAIN_S = 6
REPLICAS = {"orchestrator": 2, "edge": 2}


@pytest.fixture(scope="session")
def hurt_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The NATS server of `platform`."""
    with own_nats(tmp_path_factory.mktemp("chaos-nats")) as server:
        yield server


@pytest.fixture(scope="session")
def platform(
    upstream_url: str,
    session_postgres: PostgresServer,
    hurt_nats: NatsServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """Six services as processes over TCP and PostgreSQL; two orchestrators, two edges."""
    dsn = session_postgres.new_database()
    folder = tmp_path_factory.mktemp("chaos")
    env = {"FASTCHAT_MESH__DRAIN_S": str(DRAIN_S)}
    with six_processes(folder, upstream_url, hurt_nats.url, dsn, env, REPLICAS) as running:
        wait_whole(running)
        yield running
    session_postgres.drop_database(dsn)


@pytest.fixture
def whole(platform: Stack) -> Iterator[Stack]:
    """`platform`, with everything up before the test and after it."""
    yield platform
    for name, process in platform.processes.items():
        if not process.running:
            platform.restart(name)
    wait_whole(platform)


def wait_whole(stack: Stack) -> None:
    """Wait until every process says that it is ready."""
    away: list[str] = []

    def up() -> bool:
        away[:] = [name for name in stack.processes if not stack.crew.ready(name)]
        return not away

    until(up, 90, lambda: f"{away} ready\n{stack.tails()}")
