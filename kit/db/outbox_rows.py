"""The outbox table: jobs that a transaction asks for, kept until the bus has them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

import sqlalchemy as sa
from alembic import op
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2 import DataClass
from kit.db.database import AFTER_COMMIT, DATABASE, Database
from kit.db.migrate import enable_rls
from kit.db.rows import TenantRow, UtcDateTime, new_metadata, utc_now
from kit.db.whole import uninterrupted
from kit.ids import new_uuid

_ATTEMPTS_SHOWN = 1_000_000


class _Row(DeclarativeBase):
    metadata = new_metadata()


class OutboxRow(TenantRow, _Row):
    """A job to be put. The same class in every service: each has a table `outbox` of this shape in its database."""

    __tablename__ = "outbox"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONFIGURATION

    id: Mapped[str] = mapped_column(sa.String(36), primary_key=True)
    """Time-ordered."""
    queue: Mapped[str] = mapped_column(sa.String(64))
    kind: Mapped[str] = mapped_column(sa.String(64))
    key: Mapped[str] = mapped_column(sa.String(255))
    payload: Mapped[bytes] = mapped_column(sa.LargeBinary)
    principal: Mapped[bytes] = mapped_column(sa.LargeBinary, default=b"")
    trace: Mapped[str] = mapped_column(sa.Text, default="")
    attempts: Mapped[int] = mapped_column(sa.Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    def trace_headers(self) -> dict[str, str]:
        """The trace in which the job was asked for."""
        return dict(json.loads(self.trace)) if self.trace else {}

    def as_principal(self) -> Principal | None:
        """Who the job runs as."""
        return Principal.FromString(self.principal) if self.principal else None


def outbox_table(row: type[DeclarativeBase]) -> type[OutboxRow]:
    """Add the table to a service's metadata (so that create_all and autogenerate know it); returns the class."""
    if OutboxRow.__tablename__ not in row.metadata.tables:
        sa.inspect(OutboxRow).local_table.to_metadata(row.metadata)  # type: ignore[attr-defined]  # always a Table
    return OutboxRow


def create_outbox() -> None:
    """In a migration: make the table."""
    op.create_table(
        OutboxRow.__tablename__,
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant_id", sa.String(64), nullable=False, index=True),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("data_class", sa.SmallInteger, nullable=False, server_default=str(OutboxRow.DATA_CLASS)),
        sa.Column("queue", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("principal", sa.LargeBinary, nullable=False),
        sa.Column("trace", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    enable_rls(OutboxRow.__tablename__)


def insert(
    session: AsyncSession,
    queue: str,
    kind: str,
    payload: bytes,
    key: str,
    principal: Principal | None,
    trace: Mapping[str, str],
) -> None:
    """Add a row to the session's transaction; the relay is told when it commits."""
    tenant_id = session.info.get("tenant_id") or (principal.tenant_id if principal else "")
    session.add(
        OutboxRow(
            id=new_uuid(),
            tenant_id=tenant_id,
            queue=queue,
            kind=kind,
            key=key,
            payload=payload,
            principal=principal.SerializeToString() if principal else b"",
            trace=json.dumps(dict(trace)) if trace else "",
        )
    )
    database: Database = session.info[DATABASE]
    session.info.setdefault(AFTER_COMMIT, []).append(database.outbox_added.set)


@uninterrupted
async def oldest(database: Database, limit: int) -> list[OutboxRow]:
    """Rows to be put, those that failed least first, then in order of time."""
    query = sa.select(OutboxRow).order_by(OutboxRow.attempts, OutboxRow.id).limit(limit)
    async with database.platform(read_only=True) as session:
        return list((await session.execute(query)).scalars())


@uninterrupted
async def remove(database: Database, ids: Sequence[str]) -> None:
    """Forget rows that the bus has."""
    async with database.platform() as session:
        await session.execute(sa.delete(OutboxRow).where(OutboxRow.id.in_(ids)))


@uninterrupted
async def count_failure(database: Database, row_id: str) -> None:
    """Note that the bus refused a row, so that it does not hold up others."""
    async with database.platform() as session:
        more = sa.update(OutboxRow).where(OutboxRow.id == row_id, OutboxRow.attempts < _ATTEMPTS_SHOWN)
        await session.execute(more.values(attempts=OutboxRow.attempts + 1))
