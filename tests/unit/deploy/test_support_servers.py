"""The servers that other tests stand on are real ones."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import nats
import pytest
from nats.js.api import StreamConfig

from tests.support.nats import nats_server


async def test_nats_keeps_what_was_acknowledged_over_a_kill(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(StreamConfig(name="S", subjects=["s.>"]))
        await client.jetstream().publish("s.a", b"kept")
        await client.close()
        server.kill()
        assert not server.answers()
        server.start()
        client = await nats.connect(server.url)
        assert (await client.jetstream().get_last_msg("S", "s.a")).data == b"kept"
        await client.close()


async def test_postgres_role_is_bound_by_row_level_security(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn.replace("+asyncpg", ""))
    row = await connection.fetchrow("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
    await connection.execute("CREATE SCHEMA edge; CREATE TABLE edge.t (id int)")
    await connection.close()
    assert row is not None
    assert tuple(row) == (False, False)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_postgres_database_is_fresh_for_every_test(postgres_dsn: str, attempt: int) -> None:
    connection = await asyncpg.connect(postgres_dsn.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE once (id int)")
    await connection.close()
