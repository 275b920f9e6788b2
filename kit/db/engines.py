"""Engines: SQLite with one writer and many readers, PostgreSQL with one schema a service."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session

from kit.db.config import DatabaseConfig, is_sqlite

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")


def sqlite_file(url: str) -> Path:
    """File of a SQLite URL; its folder is made."""
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def sqlite_engines(url: str, config: DatabaseConfig) -> tuple[AsyncEngine, AsyncEngine]:
    """The writer (one connection; its queue is the lock) and the readers (query_only, WAL snapshots)."""
    options: dict[str, Any] = {"pool_timeout": config.timeout_s, "connect_args": {"timeout": config.timeout_s}}
    writer = create_async_engine(url, pool_size=1, max_overflow=0, **options)
    reader = create_async_engine(url, pool_size=config.pool_size, max_overflow=0, **options)
    _prepare_sqlite(writer, "BEGIN IMMEDIATE", _PRAGMAS)
    _prepare_sqlite(reader, "BEGIN", (*_PRAGMAS, "query_only=ON"))
    return writer, reader


def _prepare_sqlite(engine: AsyncEngine, begin: str, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions late, and never IMMEDIATE
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def postgres_engine(url: str, service: str, config: DatabaseConfig) -> AsyncEngine:
    """A pool whose connections see the service's schema and nothing else."""
    return create_async_engine(
        url,
        pool_size=config.pool_size,
        max_overflow=0,
        pool_timeout=config.timeout_s,
        pool_pre_ping=True,
        connect_args={
            "timeout": config.timeout_s,
            "command_timeout": max(30.0, config.timeout_s),
            "server_settings": {"search_path": f'"{service}"', "application_name": f"fastchat-{service}"},
        },
    )


def migration_engine(url: str, service: str, config: DatabaseConfig) -> AsyncEngine:
    """An engine for migrations: one connection, foreign keys off on SQLite while tables are rebuilt."""
    if is_sqlite(url):
        sqlite_file(url)
        engine = create_async_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": config.timeout_s})
        _prepare_sqlite(engine, "BEGIN IMMEDIATE", ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF"))
        return engine
    return postgres_engine(url, service, config)


def begin_connection(session: Session) -> Connection:
    """Start the session's transaction now, so that engine failures show before the caller's code runs.

    The plain class's method: TenantSession refuses its own to everybody else.
    """
    return Session.connection(session)
