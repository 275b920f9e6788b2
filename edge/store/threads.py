"""Threads and messages in SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from edge.store.sealing import NewMessage, Sealer
from edge.store.tables import MessageRow, ThreadRow
from fastchat.common.v1.message_pb2 import ChatMessage
from fastchat.gateway.v1 import thread_service_pb2 as pb
from kit.crypto import Keyring
from kit.db import Database, utc_now
from kit.errors import PlatformError, Reason

# Ids of one IN list; engines bound the number of parameters.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose threads a caller sees within its tenant; "" does not narrow."""

    workspace_id: str = ""
    user_id: str = ""


class ThreadSession:
    """One thread within one transaction; on PostgreSQL the thread's row is locked when it was opened to write."""

    def __init__(self, session: AsyncSession, row: ThreadRow, sealer: Sealer) -> None:
        self._session = session
        self._sealer = sealer
        self.row = row

    async def links(self) -> list[tuple[str, str, int]]:
        """(id, parent id, position) of every message, parents first, siblings in the order of their writing."""
        rows = await self._session.execute(
            select(MessageRow.id, MessageRow.parent_id, MessageRow.position)
            .where(MessageRow.thread_id == self.row.id)
            .order_by(MessageRow.position, MessageRow.created_at, MessageRow.id)
        )
        return [(message_id, parent_id, position) for message_id, parent_id, position in rows]

    async def messages(self, ids: Sequence[str]) -> list[pb.ThreadMessage]:
        """Messages by id, in the order of the ids."""
        found: dict[str, pb.ThreadMessage] = {}
        for start in range(0, len(ids), _BATCH):
            query = select(MessageRow).where(MessageRow.id.in_(ids[start : start + _BATCH]))
            for row in await self._session.scalars(query):
                found[row.id] = self._sealer.message(row)
        return [found[message_id] for message_id in ids]

    async def contents(self) -> dict[str, ChatMessage]:
        """Every message of the thread, by id."""
        query = select(MessageRow).where(MessageRow.thread_id == self.row.id)
        return {row.id: self._sealer.message(row).message for row in await self._session.scalars(query)}

    async def existing(self, ids: Sequence[str]) -> set[str]:
        """Which of the ids are written already."""
        return set(await self._session.scalars(select(MessageRow.id).where(MessageRow.id.in_(ids))))

    def add(self, messages: Iterable[NewMessage]) -> None:
        """Write messages."""
        self._session.add_all(self._sealer.row(self.row, message) for message in messages)

    async def remove(self, ids: Sequence[str]) -> None:
        """Remove messages."""
        await self._session.execute(delete(MessageRow).where(MessageRow.id.in_(ids)))

    def set_head(self, message_id: str, position: int, preview: str, now: datetime) -> None:
        """Make a message the end of the current branch."""
        self.row.head_id, self.row.message_count, self.row.updated_at = message_id, position, now
        self.row.preview_sealed = self._sealer.text(self.row, preview, "preview")

    def set_title(self, title: str) -> None:
        """Change the title; "" removes it."""
        self.row.title_sealed = self._sealer.text(self.row, title, "title")

    async def delete(self) -> None:
        """Remove the thread with its messages."""
        await self._session.execute(delete(MessageRow).where(MessageRow.thread_id == self.row.id))
        await self._session.execute(delete(ThreadRow).where(ThreadRow.id == self.row.id))

    def thread(self) -> pb.Thread:
        """The thread as told."""
        return self._sealer.thread(self.row)


class ThreadStore:
    """Opens threads and lists them."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._sealer = Sealer(keyring)

    @asynccontextmanager
    async def create(
        self, tenant_id: str, thread_id: str, workspace_id: str, user_id: str
    ) -> AsyncIterator[ThreadSession]:
        """A new, empty thread."""
        async with self._database.tenant(tenant_id) as session:
            row = ThreadRow(tenant_id=tenant_id, id=thread_id, workspace_id=workspace_id, user_id=user_id)
            now = utc_now()
            row.created_at, row.updated_at, row.is_pinned = now, now, False
            row.head_id, row.message_count, row.active_run_id = "", 0, ""
            session.add(row)
            # messages refer to the thread, which must be there before them
            await session.flush()
            yield ThreadSession(session, row, self._sealer)

    @asynccontextmanager
    async def open(
        self, tenant_id: str, thread_id: str, reach: Reach, *, read_only: bool = False
    ) -> AsyncIterator[ThreadSession]:
        """An existing thread; THREAD_NOT_FOUND, whether it is absent or out of the caller's reach."""
        async with self._database.tenant(tenant_id, read_only=read_only) as session:
            query = _within(select(ThreadRow).where(ThreadRow.id == thread_id), reach)
            row = await session.scalar(query if read_only else query.with_for_update())
            if row is None:
                raise PlatformError(Reason.THREAD_NOT_FOUND, f"No thread found with id '{thread_id}'.", id=thread_id)
            yield ThreadSession(session, row, self._sealer)

    async def visible(self, tenant_id: str, thread_ids: Collection[str], reach: Reach) -> set[str]:
        """Which of the threads (at most some hundreds) exist within reach."""
        query = _within(select(ThreadRow).where(ThreadRow.id.in_(thread_ids)), reach)
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return {row.id for row in await session.scalars(query)}

    async def list(
        self, tenant_id: str, reach: Reach, limit: int, before: tuple[datetime, str] | None
    ) -> list[tuple[pb.Thread, datetime]]:
        """Threads, last used first, after the key (updated_at, id) of the page before."""
        query = _within(select(ThreadRow), reach)
        if before is not None:
            query = query.where(tuple_(ThreadRow.updated_at, ThreadRow.id) < before)
        query = query.order_by(ThreadRow.updated_at.desc(), ThreadRow.id.desc()).limit(limit)
        async with self._database.tenant(tenant_id, read_only=True) as session:
            return [(self._sealer.thread(row), row.updated_at) for row in await session.scalars(query)]


def _within(query: Select[ThreadRow], reach: Reach) -> Select[ThreadRow]:
    if reach.workspace_id:
        query = query.where(ThreadRow.workspace_id == reach.workspace_id)
    if reach.user_id:
        query = query.where(ThreadRow.user_id == reach.user_id)
    return query
