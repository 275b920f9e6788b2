"""Opening a service's database, and its two kinds of session."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from kit.db import engines
from kit.db.config import DatabaseConfig, is_sqlite, normalize_url
from kit.db.failures import translated
from kit.db.guard import TenantSession
from kit.db.single_writer import SingleWriter
from kit.db.whole import uninterrupted, whole

Session = AsyncSession
"""What `Database.tenant` and `Database.platform` give."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

TENANT_SETTING = "fastchat.tenant_id"
PLATFORM_SETTING = "fastchat.platform"
AFTER_COMMIT = "after_commit"
"""Key of session.info: callables to run once the transaction is committed."""
DATABASE = "database"
"""Key of session.info: the Database."""

# A connection that is still in use when the pool is closed would stay open.
_CLOSE_WAIT_S = 5.0


class Database:
    """One service's database. Open it with `open`, close it with `close` (or use it as a context manager).

    Sessions are transactions: they commit when their block ends well and roll back when it raises. Errors of the engine
    (full disk, lost connection, pool exhausted) come out as PlatformError; IntegrityError is left to the caller.
    """

    def __init__(
        self, service: str, writer: AsyncEngine, reader: AsyncEngine, lock: SingleWriter | None, config: DatabaseConfig
    ) -> None:
        self.service = service
        self.sqlite = lock is not None
        self.outbox_added = asyncio.Event()
        """Set when a committed transaction has added to the outbox (kit.outbox.Relay waits for it)."""
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._config = config
        self._transactions = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tenant_sessions = {
            read_only: async_sessionmaker(engine, expire_on_commit=False, sync_session_class=TenantSession)
            for read_only, engine in ((False, writer), (True, reader))
        }
        self._platform_sessions = {
            read_only: async_sessionmaker(engine, expire_on_commit=False)
            for read_only, engine in ((False, writer), (True, reader))
        }

    @classmethod
    async def open(cls, url: str, service: str, *, home: Path, config: DatabaseConfig | None = None) -> "Database":
        """Connect. An empty `url` is the service's SQLite file under `home`.

        ConfigError when the engine is not supported or another process holds the SQLite file; DEPENDENCY_UNAVAILABLE
        or STORAGE_UNAVAILABLE when the database cannot be reached.
        """
        config = config or DatabaseConfig()
        url = normalize_url(url) if url else config.url_for(service, home)
        if is_sqlite(url):
            lock = SingleWriter(engines.sqlite_file(url))
            lock.acquire()
            try:
                database = cls(service, *engines.sqlite_engines(url, config), lock, config)
                await database.ping()
            except BaseException:
                lock.release()
                raise
            return database
        engine = engines.postgres_engine(url, service, config)
        database = cls(service, engine, engine, None, config)
        try:
            await database._warn_if_rls_is_off()
        except BaseException:
            await engine.dispose()
            raise
        return database

    @asynccontextmanager
    async def tenant(self, tenant_id: str, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction that sees and writes only the tenant's rows (see kit.db.guard for what is refused).

        On SQLite there is one writer: say `read_only=True` where nothing is written, and readers do not queue for it.
        """
        if not tenant_id:
            raise ValueError("a tenant session needs a tenant")
        make = self._tenant_sessions[read_only]
        async with self._transaction(
            make(info={"tenant_id": tenant_id, DATABASE: self}), {TENANT_SETTING: tenant_id}, read_only
        ) as session:
            yield session

    @asynccontextmanager
    async def platform(self, *, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction across tenants: for platform rows and relays, never for a request's data."""
        async with self._transaction(
            self._platform_sessions[read_only](info={DATABASE: self}), {PLATFORM_SETTING: "on"}, read_only
        ) as session:
            yield session

    @uninterrupted
    async def ping(self) -> None:
        """One round trip; raises like any session. For health checks."""
        async with self.platform(read_only=True) as session:
            await session.execute(select(1))

    async def close(self) -> None:
        """Close every connection and let another process have the SQLite file. Transactions that run may end first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WAIT_S):
                await self._idle.wait()
        await self._reader.dispose()
        await self._writer.dispose()
        if self._lock is not None:
            self._lock.release()

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _transaction(
        self, session: AsyncSession, settings: Mapping[str, str], read_only: bool
    ) -> AsyncIterator[AsyncSession]:
        async with AsyncExitStack() as stack:
            stack.enter_context(self._counted())
            stack.enter_context(translated(self.service))
            await stack.enter_async_context(session)
            # A connection that is cut off while it is made, or while it goes back to the pool, is never closed.
            await whole(self._begin(session, settings, read_only))
            try:
                yield session
                await whole(_commit(session))
            except BaseException:
                # A cancelled task still has to give its connection back clean.
                await asyncio.shield(session.rollback())
                raise

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._transactions += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._transactions -= 1
            if not self._transactions:
                self._idle.set()

    async def _begin(self, session: AsyncSession, settings: Mapping[str, str], read_only: bool) -> None:
        connection = await session.run_sync(engines.begin_connection)
        if self.sqlite:
            return
        wanted: dict[str, str] = dict(settings)
        if read_only:
            wanted["transaction_read_only"] = "on"
        connection_settings = [func.set_config(name, value, True) for name, value in wanted.items()]
        await session.run_sync(lambda _: connection.execute(select(*connection_settings)))

    async def _warn_if_rls_is_off(self) -> None:
        query = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
        async with self.platform() as session:
            bypasses: Any = (await session.execute(text(query))).scalar()
        if bypasses:
            log.warning(
                "database.row_level_security_off", service=self.service, why="the role is superuser or BYPASSRLS"
            )


async def _commit(session: AsyncSession) -> None:
    await session.commit()
    for call in session.info.get(AFTER_COMMIT, ()):
        call()
