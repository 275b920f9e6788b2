"""Migrations: Alembic driven from code, one history and one version table a service, safe to run at the same time.

Revisions are in `<service>/migrations/versions/NNNN_<what>.py` (no env.py, no alembic.ini). They expand,
migrate, then contract: the release before must keep working on the new schema.
"""

import asyncio
import hashlib
import importlib.util
import time
from pathlib import Path

from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from kit.config import ConfigError
from kit.db import engines
from kit.db.config import DatabaseConfig, default_url, is_sqlite, normalize_url
from kit.db.database import PLATFORM_SETTING, TENANT_SETTING
from kit.db.failures import translated
from kit.db.single_writer import SingleWriter

_LOCK_WAIT_S = 60.0
_LOCK_POLL_S = 0.05


async def upgrade(
    service: str, url: str = "", package: str = "", *, home: Path | None = None, revision: str = "head"
) -> str:
    """Bring the service's schema to `revision`; returns the revision reached ("" when there is no migration).

    An empty `url` is the SQLite file under `home`; an empty `package` is "<service>.migrations". Several processes may
    call it at once: one migrates, the others wait for it (60 s at most). ConfigError when that takes too long or the
    database is newer than the code; PlatformError when it cannot be reached.
    """
    config = DatabaseConfig()
    url = normalize_url(url or default_url(service, home or Path(".fastchat")))
    scripts = _scripts(package or f"{service}.migrations")
    engine = engines.migration_engine(url, service, config)
    lock = SingleWriter(engines.sqlite_file(url)) if is_sqlite(url) else None
    with translated(service):
        try:
            if lock is not None:
                await _wait_for(lock)
            async with engine.connect() as connection:
                return await connection.run_sync(_upgrade, service, scripts, revision)
        finally:
            await engine.dispose()
            if lock is not None:
                lock.release()


def enable_rls(table: str) -> None:
    """In a migration: hide the table's rows from every tenant but the session's (PostgreSQL; nothing on SQLite).

    FORCE makes it hold for the table's owner too, which the services are. A session without a tenant sees nothing.
    """
    if op.get_bind().dialect.name != "postgresql":
        return
    rule = (
        f"tenant_id = current_setting('{TENANT_SETTING}', true) OR current_setting('{PLATFORM_SETTING}', true) = 'on'"
    )
    op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
    op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
    op.execute(f'CREATE POLICY tenant_isolation ON "{table}" USING ({rule}) WITH CHECK ({rule})')


def _scripts(package: str) -> ScriptDirectory:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"migrations: there is no package {package}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def _upgrade(connection: Connection, service: str, scripts: ScriptDirectory, revision: str) -> str:
    postgres = connection.dialect.name == "postgresql"
    lock_id = int.from_bytes(hashlib.sha256(f"fastchat/{service}".encode()).digest()[:8], "big", signed=True)
    if postgres:
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": lock_id})
        _make_schema(connection, service)
        connection.execute(text(f"SELECT set_config('{PLATFORM_SETTING}', 'on', false)"))
        connection.commit()
    try:
        return _run(connection, service, scripts, revision)
    finally:
        if postgres:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": lock_id})
            connection.commit()


def _run(connection: Connection, service: str, scripts: ScriptDirectory, revision: str) -> str:
    reached: list[str] = []

    def steps(current: str | tuple[str, ...], context: object) -> list[object]:
        known = {script.revision for script in scripts.walk_revisions()}
        ahead = [rev for rev in ((current,) if isinstance(current, str) else current) if rev not in known]
        if ahead:
            raise ConfigError(f"the database of {service} is at {ahead[0]}, which this release does not know")
        plan = scripts._upgrade_revs(revision, current)  # type: ignore[arg-type]  # what alembic.command.upgrade does
        reached.append((scripts.get_current_head() or "") if revision == "head" else revision)
        return list(plan)

    environment = EnvironmentContext(_no_config(), scripts, fn=steps, destination_rev=revision)
    with environment:
        environment.configure(connection=connection, version_table=f"alembic_version_{service}", render_as_batch=True)
        with environment.begin_transaction():
            environment.run_migrations()
    connection.commit()
    return reached[0] if reached else ""


def _no_config() -> Config:
    return Config()


def _make_schema(connection: Connection, service: str) -> None:
    query = text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
    if connection.execute(query, {"name": service}).scalar() is None:
        # Asked first: IF NOT EXISTS wants the right to create even when there is nothing to create.
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{service}"'))


async def _wait_for(lock: SingleWriter) -> None:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            lock.acquire()
        await asyncio.sleep(_LOCK_POLL_S)
