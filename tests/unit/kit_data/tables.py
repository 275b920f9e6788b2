"""Tables that the tests of kit.db run on, and the migrations that make them."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastchat.common.v1.scope_service_pb2 import DataClass
from kit.db import TenantRow, UtcDateTime, new_metadata, utc_now


class Row(DeclarativeBase):
    """Base of the tables below."""

    metadata = new_metadata()


class Box(TenantRow, Row):
    """A thing that belongs to a tenant."""

    __tablename__ = "boxes"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_IDENTITY
    SUBJECT_COLUMN: ClassVar[str] = "subject"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    label: Mapped[str] = mapped_column(String(64), default="")
    subject: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    items: Mapped[list["Item"]] = relationship(back_populates="box", order_by="Item.id")


class Item(TenantRow, Row):
    """A thing in a box."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    box_id: Mapped[str] = mapped_column(ForeignKey("boxes.id"))
    text: Mapped[str] = mapped_column(String(64), default="")
    box: Mapped[Box] = relationship(back_populates="items")


class Note(Row):
    """A row of the platform."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(64))
