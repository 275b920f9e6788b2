"""What every table about tenants or people has in common."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, Dialect, MetaData, SmallInteger, String, TypeDecorator, inspect
from sqlalchemy.orm import Mapped, MappedColumn, declared_attr, mapped_column

from fastchat.common.v1.scope_service_pb2 import DataClass

# Alembic needs stable names to alter constraints on both engines.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def new_metadata() -> MetaData:
    """Metadata for one service's tables (never shared: two services may both have a table `outbox`)."""
    return MetaData(naming_convention=_NAMING)


def utc_now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time on both engines; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store as UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite gives naive times back; they are UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class TenantRow:
    """Mixin of every table whose rows belong to a tenant: `class Thread(TenantRow, Row)`.

    Columns: `tenant_id` (VARCHAR(64), indexed, filled in by the session), `data_class` (SMALLINT, common.v1.DataClass)
    and `key_id` (VARCHAR(32), key that seals the row's content; "" for none).
    """

    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONTENT
    """How sensitive rows of this table are; a subclass says otherwise."""
    SUBJECT_COLUMN: ClassVar[str] = ""
    """Column that names the person a row is about; "": rows are about no person in particular."""
    KEY_ID: ClassVar[str] = ""

    tenant_id: Mapped[str] = mapped_column(String(64), index=True)
    key_id: Mapped[str] = mapped_column(String(32), default="", server_default="")

    @declared_attr
    def data_class(cls) -> MappedColumn[int]:
        """Filled in from DATA_CLASS."""
        return mapped_column(SmallInteger, default=int(cls.DATA_CLASS), server_default=str(int(cls.DATA_CLASS)))

    def export(self) -> dict[str, Any]:
        """The row for ExportScope, column -> value. A table with sealed columns overrides this to open them."""
        return {column.key: getattr(self, column.key) for column in inspect(self).mapper.column_attrs}
