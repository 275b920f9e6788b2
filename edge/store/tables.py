"""Tables of the edge."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kit.db import TenantRow, UtcDateTime, new_metadata, utc_now


class Row(DeclarativeBase):
    """Base of the edge's tables."""

    metadata = new_metadata()


class ThreadRow(TenantRow, Row):
    """A conversation. Title and preview are sealed with `key_id`."""

    __tablename__ = "threads"
    SUBJECT_COLUMN: ClassVar[str] = "user_id"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(String(64), default="")
    user_id: Mapped[str] = mapped_column(String(256))
    title_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    preview_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    is_pinned: Mapped[bool] = mapped_column(Boolean, default=False)
    # last message of the current branch; empty: none yet
    head_id: Mapped[str] = mapped_column(String(36), default="")
    # messages of the current branch
    message_count: Mapped[int] = mapped_column(Integer, default=0)
    # run that works on the thread now; empty: none
    active_run_id: Mapped[str] = mapped_column(String(36), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    __table_args__ = (Index("ix_threads_recent", "tenant_id", "updated_at", "id"),)


class MessageRow(TenantRow, Row):
    """A message of a thread: a serialized ChatMessage, sealed with `key_id`. Never changed once written."""

    __tablename__ = "messages"
    SUBJECT_COLUMN: ClassVar[str] = "user_id"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    thread_id: Mapped[str] = mapped_column(ForeignKey("threads.id", ondelete="CASCADE"))
    # message before it; empty: it is a first one
    parent_id: Mapped[str] = mapped_column(String(36), default="")
    # number within its branch, from 1
    position: Mapped[int] = mapped_column(Integer)
    # owner of the thread, so that a person's messages can be told and erased
    user_id: Mapped[str] = mapped_column(String(256))
    content_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    # run that wrote it and how that ended; empty: a client wrote it
    run_id: Mapped[str] = mapped_column(String(36), default="")
    outcome: Mapped[str] = mapped_column(String(16), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)

    __table_args__ = (Index("ix_messages_thread", "tenant_id", "thread_id", "position"),)


TABLES: tuple[type[Any], ...] = (MessageRow, ThreadRow)
"""Every table, in an order in which rows can be erased."""
