"""Opening, migrating, and what happens when the database cannot."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from deploy.allinone.nats import free_port
from kit.config import ConfigError
from kit.db import Database, DatabaseConfig, default_url, migrate
from kit.errors import PlatformError, Reason
from tests.unit.kit_data.conftest import MIGRATIONS, SERVICE
from tests.unit.kit_data.tables import Box, Note


async def test_migrations_may_run_at_the_same_time(database_url: str, tmp_path: Path) -> None:
    ups = (migrate.upgrade(SERVICE, database_url, MIGRATIONS, home=tmp_path) for _ in range(4))
    assert await asyncio.gather(*ups) == ["0001"] * 4
    assert await migrate.upgrade(SERVICE, database_url, MIGRATIONS, home=tmp_path) == "0001"


async def test_services_share_a_postgres_database_without_meeting(postgres_dsn: str, tmp_path: Path) -> None:
    for service in ("left", "right"):
        await migrate.upgrade(service, postgres_dsn, MIGRATIONS)
    async with await Database.open(postgres_dsn, "left", home=tmp_path) as left:
        async with left.platform() as session:
            session.add(Note(id=1, text="left"))
        async with await Database.open(postgres_dsn, "right", home=tmp_path) as right, right.platform() as session:
            assert (await session.execute(select(Note))).all() == []


async def test_a_database_newer_than_the_code_is_refused(database: Database, database_url: str, tmp_path: Path) -> None:
    async with database.platform() as session:
        await session.execute(text(f"update alembic_version_{SERVICE} set version_num = '9999'"))
    await database.close()
    with pytest.raises(ConfigError, match="9999, which this release does not know"):
        await migrate.upgrade(SERVICE, database_url, MIGRATIONS, home=tmp_path)


async def test_a_second_replica_on_sqlite_is_refused(sqlite: Database, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from kit.config import ConfigError
        from kit.db import Database
        try:
            asyncio.run(Database.open("", "{SERVICE}", home=Path("{tmp_path}")))
        except ConfigError as error:
            print(error)
        """
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
    assert "a second replica on SQLite" in done.stdout, done.stderr
    assert "FASTCHAT_DATABASE__URL" in done.stdout


async def test_the_file_is_free_again_after_close(sqlite: Database, tmp_path: Path) -> None:
    await sqlite.close()
    async with await Database.open("", SERVICE, home=tmp_path) as again:
        await again.ping()


async def test_sqlite_survives_a_power_cut_by_its_settings(sqlite: Database) -> None:
    async with sqlite.platform() as session:
        told = [(await session.execute(text(f"PRAGMA {name}"))).scalar() for name in ("journal_mode", "synchronous")]
    assert told == ["wal", 2]


async def test_a_full_disk_is_storage_unavailable_and_goes_away(sqlite: Database) -> None:
    async with sqlite.platform() as session:
        pages = (await session.execute(text("PRAGMA page_count"))).scalar()
        await session.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(PlatformError) as caught:
        async with sqlite.tenant("a") as session:
            session.add_all(Box(id=f"box-{n}", label="x" * 60) for n in range(500))
    assert caught.value.reason is Reason.STORAGE_UNAVAILABLE
    assert "disk is full" in caught.value.message
    async with sqlite.platform() as session:
        await session.execute(text("PRAGMA max_page_count = 1000000"))
    async with sqlite.tenant("a") as session:
        session.add(Box(id="box"))
    async with sqlite.tenant("a", read_only=True) as session:
        assert (await session.execute(select(Box.id))).scalars().all() == ["box"]


async def test_waiting_for_the_writer_has_a_deadline(tmp_path: Path) -> None:
    await migrate.upgrade(SERVICE, "", MIGRATIONS, home=tmp_path)
    config = DatabaseConfig(timeout_s=0.2)
    async with await Database.open("", SERVICE, home=tmp_path, config=config) as database, database.tenant("a"):
        with pytest.raises(PlatformError) as caught:
            async with database.tenant("b"):
                pass
        async with database.tenant("b", read_only=True) as session:  # readers do not wait for it
            await session.execute(select(Box))
    assert caught.value.reason is Reason.STORAGE_UNAVAILABLE


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.tenant("a") as session:
            session.add(Box(id="box"))
            await session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.tenant("a") as session:
        assert await session.get(Box, "box") is None


async def test_a_cancelled_transaction_leaves_nothing_and_frees_its_connection(database: Database) -> None:
    inside = asyncio.Event()

    async def write() -> None:
        async with database.tenant("a") as session:
            session.add(Box(id="box"))
            await session.flush()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task})
    async with database.tenant("a") as session:
        assert await session.get(Box, "box") is None


async def test_a_broken_constraint_is_the_callers_to_explain(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.tenant("a") as session:
            session.add_all([Box(id="box"), Box(id="box")])


async def test_read_only_sessions_do_not_write(database: Database) -> None:
    with pytest.raises(Exception, match="read-only"):
        async with database.tenant("a", read_only=True) as session:
            session.add(Box(id="box"))


async def test_a_postgres_that_is_away_is_dependency_unavailable(tmp_path: Path) -> None:
    url = f"postgresql://me@127.0.0.1:{free_port()}/db"
    for attempt in (Database.open(url, SERVICE, home=tmp_path), migrate.upgrade(SERVICE, url, MIGRATIONS)):
        with pytest.raises(PlatformError) as caught:
            await attempt
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_connection_cut_in_mid_transaction_is_dependency_unavailable(postgres_dsn: str, tmp_path: Path) -> None:
    await migrate.upgrade(SERVICE, postgres_dsn, MIGRATIONS)
    async with await Database.open(postgres_dsn, SERVICE, home=tmp_path) as database:

        async def cut() -> None:
            async with database.platform() as session:
                own = (await session.execute(text("select pg_backend_pid()"))).scalar()
                async with database.platform() as killer:
                    await killer.execute(text(f"select pg_terminate_backend({own})"))
                await session.execute(select(Note))

        with pytest.raises(PlatformError) as caught:
            await cut()
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        await database.ping()  # and the next transaction has a new connection


def test_urls_are_understood_or_refused(tmp_path: Path) -> None:
    config = DatabaseConfig(url="postgres://h/db", urls={"edge": "sqlite:////x/e.db"})
    assert config.url_for("control", tmp_path) == "postgresql+asyncpg://h/db"
    assert config.url_for("edge", tmp_path) == "sqlite+aiosqlite:////x/e.db"
    assert DatabaseConfig().url_for("edge", tmp_path) == default_url("edge", tmp_path)
    with pytest.raises(ConfigError, match="mysql is not a supported engine"):
        DatabaseConfig(url="mysql://h/db").url_for("edge", tmp_path)
