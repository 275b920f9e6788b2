"""The runs table: which durable runs there are, and what must survive the loss of the bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

import orjson
from sqlalchemy import Boolean, Index, Integer, LargeBinary, SmallInteger, String, Text, and_, or_, select, text, update
from sqlalchemy import Update as Update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, defer, mapped_column

from fastchat.common.v1.principal_pb2 import Principal
from kit.db import Database, TenantRow, UtcDateTime, new_metadata, uninterrupted, utc_now
from kit.outbox import OutboxRow, add, outbox_table

Key = tuple[str, str]
"""Tenant id, run id."""

_OPEN = "ended_at IS NULL"
_ACTIVE = "ended_at IS NULL AND thread_id <> ''"


class Row(DeclarativeBase):
    """The orchestrator's tables."""

    metadata = new_metadata()


class RunRow(TenantRow, Row):
    """A durable run. One that has not ended has no ``ended_at``, and its thread has no other such run."""

    __tablename__ = "runs"
    __table_args__ = (
        Index(
            "uq_runs_active_thread",
            "tenant_id",
            "thread_id",
            unique=True,
            sqlite_where=text(_ACTIVE),
            postgresql_where=text(_ACTIVE),
        ),
        Index("ix_runs_page", "tenant_id", "created_at", "run_id"),
        Index("ix_runs_purge", "purge_at"),
        Index("ix_runs_unfinished", "touched_at", sqlite_where=text(_OPEN), postgresql_where=text(_OPEN)),
    )
    SUBJECT_COLUMN: ClassVar[str] = "subject"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(String(64), default="")
    thread_id: Mapped[str] = mapped_column(String(64), default="")
    subject: Mapped[str] = mapped_column(String(255), default="")
    public_id: Mapped[str] = mapped_column(String(128), default="")
    graph: Mapped[str] = mapped_column(String(128))
    model_alias: Mapped[str] = mapped_column(String(255))
    status: Mapped[int] = mapped_column(SmallInteger)
    on_disconnect: Mapped[int] = mapped_column(SmallInteger, default=0)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    """The sealed StartRunRequest, complete; empty once the log is purged."""
    principal: Mapped[bytes] = mapped_column(LargeBinary)
    """Who the run works for (common.v1.Principal), for its next job."""
    timeout_ms: Mapped[int] = mapped_column(Integer)
    owner: Mapped[str] = mapped_column(String(128), default="")
    logged_sequence: Mapped[int] = mapped_column(Integer, default=0)
    """A number that the log is known to have reached; a shorter log has lost events."""
    last_sequence: Mapped[int] = mapped_column(Integer, default=0)
    usage_json: Mapped[str] = mapped_column(Text, default="")
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    cancel_cause: Mapped[str] = mapped_column(String(255), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    purge_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)
    """When the log may go: the replay window is over. None while the run runs, and once the log is gone."""
    purged_at: Mapped[datetime | None] = mapped_column(UtcDateTime, default=None)


outbox_table(Row)

TABLES = (OutboxRow, RunRow)
"""Tables with rows about tenants, for export and erasure."""

AddJob = Callable[[AsyncSession], Awaitable[None]]
"""Adds a job to the outbox in the session's transaction."""


def run_job(row: RunRow, principal: Principal, attempt: str = "") -> AddJob:
    """The job that executes a run. Jobs of one run and attempt are one job."""
    return _job("runs", row, principal, {"tenant_id": row.tenant_id, "run_id": row.run_id}, attempt)


def history_job(row: RunRow, principal: Principal) -> AddJob:
    """The job that stores an ended run's answer in its thread."""
    document = {"tenant_id": row.tenant_id, "run_id": row.run_id, "thread_id": row.thread_id}
    return _job("history", row, principal, document)


def _job(queue: str, row: RunRow, principal: Principal, document: Mapping[str, str], attempt: str = "") -> AddJob:
    key = f"{row.tenant_id}/{row.run_id}" + (f"/{attempt}" if attempt else "")

    async def add_job(session: AsyncSession) -> None:
        await add(session, queue, queue, orjson.dumps(document), key, principal)

    return add_job


class ThreadOccupied(Exception):  # an answer, not a failure
    """The thread has an active run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


@dataclass(frozen=True, slots=True)
class Ending:
    """What an ended run's row is told."""

    status: int
    last_sequence: int
    usage_json: str
    replay_window_s: float


class RunStore:
    """Reads and writes of the runs table. Rows that it returns are detached copies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @uninterrupted
    async def insert(self, row: RunRow, add_job: AddJob) -> RunRow | None:
        """Adds a run with its job. Returns the run that already has the id instead, if there is one.

        Raises ThreadOccupied when the thread has another active run.
        """
        tenant_id, run_id, thread_id = row.tenant_id, row.run_id, row.thread_id
        while True:
            try:
                async with self._database.tenant(tenant_id) as session:
                    session.add(_copy(row))
                    await session.flush()
                    await add_job(session)
                return None
            except IntegrityError:
                existing = await self.get(tenant_id, run_id)
                if existing is not None:
                    return existing
                active = await self.active_of_thread(tenant_id, thread_id)
                if active is not None:
                    raise ThreadOccupied(active) from None
            # Whoever was in the way has just ended: once more.

    @uninterrupted
    async def get(self, tenant_id: str, run_id: str) -> RunRow | None:
        """One run."""
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return (await session.execute(select(RunRow).where(RunRow.run_id == run_id))).scalar_one_or_none()

    @uninterrupted
    async def active_of_thread(self, tenant_id: str, thread_id: str) -> str | None:
        """Id of the thread's run that has not ended."""
        query = select(RunRow.run_id).where(RunRow.thread_id == thread_id, RunRow.ended_at.is_(None))
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return (await session.execute(query)).scalar_one_or_none()

    @uninterrupted
    async def page(
        self, tenant_id: str, thread_id: str, active_only: bool, limit: int, before: tuple[datetime, str] | None
    ) -> list[RunRow]:
        """Runs, newest first, after the given (creation time, id)."""
        query = select(RunRow).order_by(RunRow.created_at.desc(), RunRow.run_id.desc()).limit(limit)
        if thread_id:
            query = query.where(RunRow.thread_id == thread_id)
        if active_only:
            query = query.where(RunRow.ended_at.is_(None))
        if before is not None:
            at, run_id = before
            older = or_(RunRow.created_at < at, and_(RunRow.created_at == at, RunRow.run_id < run_id))
            query = query.where(older)
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return list((await session.execute(query)).scalars())

    @uninterrupted
    async def of_subject(self, tenant_id: str, subject: str) -> set[str]:
        """Ids of the runs that a subject began."""
        query = select(RunRow.run_id).where(RunRow.subject == subject)
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return set((await session.execute(query)).scalars())

    @uninterrupted
    async def mark_running(self, key: Key, status: int, owner: str, logged_sequence: int) -> None:
        """Notes who executes a run, and how far its log has come."""
        values = {"status": status, "owner": owner, "logged_sequence": logged_sequence, "touched_at": utc_now()}
        async with self._database.tenant(key[0]) as session:
            await session.execute(_active(key).values(values))

    @uninterrupted
    async def request_cancel(self, key: Key, cause: str) -> RunRow | None:
        """Records the wish; returns the run as it stands then. A run that has ended stays as it is."""
        async with self._database.tenant(key[0]) as session:
            values = {"cancel_requested": True, "cancel_cause": cause[:255]}
            await session.execute(_active(key).where(RunRow.cancel_requested.is_(False)).values(values))
            return (await session.execute(select(RunRow).where(RunRow.run_id == key[1]))).scalar_one_or_none()

    @uninterrupted
    async def finish(self, key: Key, ending: Ending, add_history: AddJob | None) -> bool:
        """Ends a run as its log tells, with the job that stores its answer. False: it had ended already."""
        now = utc_now()
        values = {
            "status": ending.status,
            "last_sequence": ending.last_sequence,
            "logged_sequence": ending.last_sequence,
            "usage_json": ending.usage_json,
            "touched_at": now,
            "ended_at": now,
            "purge_at": now + timedelta(seconds=ending.replay_window_s),
        }
        async with self._database.tenant(key[0]) as session:
            done = await session.execute(_active(key).values(values).returning(RunRow.run_id))
            ended = done.scalar_one_or_none() is not None
            if ended and add_history is not None:
                await add_history(session)
        return ended

    @uninterrupted
    async def wanted_cancelled(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the runs whose cancellation was asked for."""
        ids = {run_id for _, run_id in keys}
        wanted = set(keys)
        query = select(RunRow.tenant_id, RunRow.run_id).where(RunRow.run_id.in_(ids), RunRow.cancel_requested.is_(True))
        async with self._database.platform(read_only=True) as session:
            return {(tenant, run) for tenant, run in await session.execute(query)} & wanted

    @uninterrupted
    async def set_watermarks(self, heads: Mapping[Key, int]) -> None:
        """Notes how far the logs of executed runs have come."""
        now = utc_now()
        async with self._database.platform() as session:
            for (tenant_id, run_id), sequence in heads.items():
                await session.execute(
                    update(RunRow)
                    .where(RunRow.tenant_id == tenant_id, RunRow.run_id == run_id, RunRow.ended_at.is_(None))
                    .where(RunRow.logged_sequence <= sequence)
                    .values(logged_sequence=sequence, touched_at=now)
                    .execution_options(synchronize_session=False)
                )

    @uninterrupted
    async def untouched(self, before: datetime, limit: int) -> list[RunRow]:
        """Unfinished runs that nobody touched since, of all tenants."""
        query = select(RunRow).where(RunRow.ended_at.is_(None), RunRow.touched_at < before).limit(limit)
        async with self._database.platform(read_only=True) as session:
            return list((await session.execute(query)).scalars())

    @uninterrupted
    async def retouch(self, row: RunRow, add_job: AddJob) -> bool:
        """Gives an untouched run a new job. False: somebody touched it in between."""
        async with self._database.tenant(row.tenant_id) as session:
            still = _active((row.tenant_id, row.run_id)).where(RunRow.touched_at == row.touched_at)
            done = await session.execute(still.values(touched_at=utc_now()).returning(RunRow.run_id))
            if done.scalar_one_or_none() is None:
                return False
            await add_job(session)
            return True

    @uninterrupted
    async def purgeable(self, limit: int, after: Key = ("", "")) -> list[RunRow]:
        """Ended runs whose replay window is over, of all tenants, in order of key."""
        past = or_(RunRow.tenant_id > after[0], and_(RunRow.tenant_id == after[0], RunRow.run_id > after[1]))
        query = select(RunRow).options(defer(RunRow.request)).where(RunRow.purge_at <= utc_now(), past)
        query = query.order_by(RunRow.tenant_id, RunRow.run_id).limit(limit)
        async with self._database.platform(read_only=True) as session:
            return list((await session.execute(query)).scalars())

    @uninterrupted
    async def mark_purged(self, key: Key) -> None:
        """Notes that the log is gone, and forgets the request with it."""
        async with self._database.tenant(key[0]) as session:
            statement = (
                update(RunRow).where(RunRow.run_id == key[1]).values(purged_at=utc_now(), purge_at=None, request=b"")
            )
            await session.execute(statement.execution_options(synchronize_session=False))


def _active(key: Key) -> Update:
    statement = update(RunRow).where(RunRow.run_id == key[1], RunRow.ended_at.is_(None))
    return statement.execution_options(synchronize_session=False)


def _copy(row: RunRow) -> RunRow:
    """A new row with the same values: one that met a conflict cannot be added again."""
    return RunRow(**{column.key: getattr(row, column.key) for column in RunRow.__table__.columns})
