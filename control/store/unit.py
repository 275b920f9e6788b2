"""One transaction on control's tables, in the terms of the domain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from control.store.tables import ResourceRow, RevisionCounter
from kit.db import Database, utc_now

R = TypeVar("R")

# Any number: the id of control's advisory lock in its own database.
_WRITERS = 0x66_63_63_74_72_6C


class Unit:
    """A transaction for `owner` ("" is the platform: every tenant's rows are in reach)."""

    def __init__(self, session: AsyncSession, owner: str) -> None:
        self.session = session
        self.owner = owner

    async def find(self, kind: type[R], /, **equal: Any) -> R | None:
        """The one row whose columns are equal, or None. A text with NUL equals nothing (PostgreSQL refuses it)."""
        if _holds_nul(equal.values()):
            return None
        return (await self.session.scalars(_where(select(kind), kind, equal))).one_or_none()

    async def all(self, kind: type[R], /, **equal: Any) -> list[R]:
        """Every row whose columns are equal. For sets that are small by nature."""
        return list(await self.session.scalars(_where(select(kind), kind, equal)))

    async def page(
        self,
        kind: type[R],
        order: Sequence[str],
        after: Sequence[Any],
        limit: int,
        /,
        *,
        newest_first: bool = False,
        **equal: Any,
    ) -> list[R]:
        """Rows by keyset: those after the key `after` (empty: from the start) in the order of the columns."""
        if _holds_nul([*equal.values(), *after]):
            return []
        query = _where(select(kind), kind, equal)
        return list(await self.session.scalars(keyset(query, kind, order, after, limit, newest_first=newest_first)))

    async def add(self, row: object) -> None:
        """Insert a row now, so that a constraint it breaks shows here."""
        self.session.add(row)
        await self.session.flush()

    async def delete(self, row: object) -> None:
        """Remove a row now."""
        await self.session.delete(row)
        await self.session.flush()

    async def next_revision(self) -> int:
        """The next number. Its order is the order of commits: writers hold a lock, and the counter's row."""
        query = (
            update(RevisionCounter)
            .where(RevisionCounter.id == 1)
            .values(value=RevisionCounter.value + 1)
            .returning(RevisionCounter.value)
            .execution_options(synchronize_session=False)
        )
        return int((await self.session.execute(query)).scalar_one())

    async def tell(
        self,
        kind: int,
        tenant_id: str,
        name: str,
        body: Mapping[str, Any] | None,
        *,
        workspace_id: str = "",
        origin: str = "registry",
    ) -> int:
        """Write what services are told of a resource; None withdraws it. Returns its revision."""
        revision = await self.next_revision()
        key = {"kind": kind, "tenant_id": tenant_id, "workspace_id": workspace_id, "name": name}
        row = await self.find(ResourceRow, **key)
        if row is None:
            row = ResourceRow(**key)
            self.session.add(row)
        row.revision, row.origin, row.updated_at = revision, origin, utc_now()
        row.deleted = body is None
        row.body = "" if body is None else orjson.dumps(body).decode()
        await self.session.flush()
        return revision


class Store:
    """Opens transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def read(self, owner: str) -> AsyncIterator[Unit]:
        """A transaction that only reads."""
        opened = self._database.tenant(owner, read_only=True) if owner else self._database.platform(read_only=True)
        async with opened as session:
            yield Unit(session, owner)

    @asynccontextmanager
    async def write(self, owner: str) -> AsyncIterator[Unit]:
        """A transaction that writes; one at a time over all replicas, so that what it read holds until it commits."""
        opened = self._database.tenant(owner) if owner else self._database.platform()
        async with opened as session:
            if not self._database.sqlite:  # which has one writer anyway
                await session.execute(select(func.pg_advisory_xact_lock(_WRITERS)))
            yield Unit(session, owner)


def keyset(
    query: Select[R],
    kind: type[R],
    order: Sequence[str],
    after: Sequence[Any],
    limit: int,
    *,
    newest_first: bool = False,
) -> Select[R]:
    """The query's rows after a key, ordered by its columns."""
    columns = [getattr(kind, name) for name in order]
    if after:
        key = tuple_(*columns)
        query = query.where(key < tuple(after) if newest_first else key > tuple(after))
    return query.order_by(*[column.desc() if newest_first else column for column in columns]).limit(limit)


def _where(query: Select[R], kind: type[R], equal: Mapping[str, Any]) -> Select[R]:
    return query.where(*[getattr(kind, name) == value for name, value in equal.items()])


def _holds_nul(values: Any) -> bool:
    return any(isinstance(value, str) and "\x00" in value for value in values)
