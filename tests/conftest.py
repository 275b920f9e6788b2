"""Fixtures that every kind of test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from tests.support.nats import NatsServer, nats_server
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.stack import ALL_IN_ONE, PROCESSES_SHAPE, Stack, all_in_one, mock_upstream, own_nats, six_processes


def missing(part: str, why: object) -> NoReturn:
    """A part of the system is not to be had: skip, or fail where everything is required (FASTCHAT_REQUIRE_ALL=1)."""
    text = f"{part} is not available here: {why}"
    if os.environ.get("FASTCHAT_REQUIRE_ALL") == "1":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def session_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The session's NATS server. Do not stop it: start an own one (tests.support.nats) to hurt."""
    store = tmp_path_factory.mktemp("nats")
    try:
        running = nats_server(store)
        server = running.__enter__()
    except (RuntimeError, OSError) as problem:
        missing("NATS", problem)
    yield server
    running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def nats_url(session_nats: NatsServer) -> str:
    """URL of a real NATS server with JetStream, shared by the session: use names of your own."""
    return session_nats.url


@pytest.fixture(scope="session")
def session_postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL server."""
    try:
        running = postgres_server()
        server = running.__enter__()
    except (RuntimeError, OSError, ImportError) as problem:
        missing("PostgreSQL", problem)
    yield server
    running.__exit__(None, None, None)


@pytest.fixture
def new_postgres_dsn(session_postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes as many fresh databases as a test wants; returns SQLAlchemy URLs."""
    made: list[str] = []

    def make() -> str:
        made.append(session_postgres.new_database())
        return made[-1]

    yield make
    for url in made:
        session_postgres.drop_database(url)


@pytest.fixture
def postgres_dsn(new_postgres_dsn: Callable[[], str]) -> str:
    """SQLAlchemy URL (asyncpg) of a database fresh for this test, as a role bound by row-level security."""
    return new_postgres_dsn()


@pytest.fixture(scope="session")
def upstream_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a mock OpenAI-compatible provider in a process of its own."""
    with mock_upstream(tmp_path_factory.mktemp("upstream")) as url:
        yield url


@pytest.fixture(
    scope="session", params=[ALL_IN_ONE, pytest.param(PROCESSES_SHAPE, marks=pytest.mark.full)], ids=lambda shape: shape
)
def stack(
    request: pytest.FixtureRequest, upstream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The whole platform, in both shapes, shared by the session: leave it as you found it.

    A test that hurts it opens one of its own by tests.support.stack.
    """
    folder = tmp_path_factory.mktemp("stack")
    if request.param == ALL_IN_ONE:
        with all_in_one(folder, upstream_url) as running:
            yield running
        return
    postgres: PostgresServer = request.getfixturevalue("session_postgres")
    dsn = postgres.new_database()
    with own_nats(folder) as nats, six_processes(folder, upstream_url, nats.url, dsn) as running:
        yield running
    postgres.drop_database(dsn)
