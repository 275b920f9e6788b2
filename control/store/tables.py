"""Tables of control.

Rows that administrators write (tenants, workspaces, keys, models, policies, settings layers) are the truth; `resources`
is what services are told of them, numbered by one counter. `revision` on a row is the number of its last change and
serves as its etag, so that a row removed and made again never repeats one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastchat.common.v1.scope_service_pb2 import DataClass
from kit.db import TenantRow, UtcDateTime, new_metadata, utc_now


class Row(DeclarativeBase):
    """Base of control's tables."""

    metadata = new_metadata()


class RevisionCounter(Row):
    """The one counter (its only row has id 1). Watchers that know less than `floor` need a snapshot."""

    __tablename__ = "revision_counter"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    floor: Mapped[int] = mapped_column(BigInteger)


class TenantEntry(TenantRow, Row):
    """A tenant. A deleted one keeps its row, so that nobody gets its id, and what is left under it, again."""

    __tablename__ = "tenants"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONFIGURATION

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class WorkspaceEntry(TenantRow, Row):
    """A workspace of a tenant."""

    __tablename__ = "workspaces"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONFIGURATION

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(16))
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class ApiKeyEntry(TenantRow, Row):
    """An API key: its SHA-256 and what it may do. The key itself is stored nowhere."""

    __tablename__ = "api_keys"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CREDENTIAL
    SUBJECT_COLUMN: ClassVar[str] = "subject"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(String(64), default="")
    subject: Mapped[str] = mapped_column(String(256))
    name: Mapped[str] = mapped_column(String(200), default="")
    prefix: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    roles: Mapped[list[str]] = mapped_column(JSON)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    # whether it is the key of the first start, which follows FASTCHAT_BOOTSTRAP_KEY
    bootstrap: Mapped[bool] = mapped_column(Boolean, default=False)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_api_keys_recent", "tenant_id", "created_at", "id"),)


class ModelRow(TenantRow, Row):
    """A model entry made by the admin API, secrets sealed. `tenant_id` "" is the whole platform."""

    __tablename__ = "model_entries"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CREDENTIAL

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    alias: Mapped[str] = mapped_column(String(128), primary_key=True)
    entry: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class PolicyRow(TenantRow, Row):
    """A policy bundle made by the admin API. `tenant_id` "" is the whole platform."""

    __tablename__ = "policies"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONFIGURATION

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    cedar: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(Boolean)
    description: Mapped[str] = mapped_column(String(1000), default="")
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class LayerRow(TenantRow, Row):
    """A tenant's settings layer (`workspace_id` ""), or a workspace's."""

    __tablename__ = "settings_layers"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CONFIGURATION

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class ResourceRow(TenantRow, Row):
    """What services are told: one row per resource at its newest revision; a removed one stays for a while."""

    __tablename__ = "resources"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_CREDENTIAL

    kind: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger, unique=True)
    body: Mapped[str] = mapped_column(Text)
    deleted: Mapped[bool] = mapped_column(Boolean, default=False)
    # where it comes from: "registry" (the admin API), "file", "environment", "builtin"
    origin: Mapped[str] = mapped_column(String(16))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class AuditEntry(TenantRow, Row):
    """One thing that was done, or refused."""

    __tablename__ = "audit_events"
    DATA_CLASS: ClassVar[int] = DataClass.DATA_CLASS_AUDIT
    SUBJECT_COLUMN: ClassVar[str] = "subject"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    workspace_id: Mapped[str] = mapped_column(String(64), default="")
    subject: Mapped[str] = mapped_column(String(256))
    act_for: Mapped[str] = mapped_column(String(256), default="")
    action: Mapped[str] = mapped_column(String(128))
    resource_type: Mapped[str] = mapped_column(String(64), default="")
    resource_id: Mapped[str] = mapped_column(String(256), default="")
    decision: Mapped[int] = mapped_column(Integer, default=0)
    rule_ids: Mapped[list[str]] = mapped_column(JSON)
    input_hash: Mapped[str] = mapped_column(String(64), default="")
    output_hash: Mapped[str] = mapped_column(String(64), default="")
    # millionths of a US dollar, milliseconds
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    latency_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    outcome: Mapped[str] = mapped_column(String(64), default="")
    trace_id: Mapped[str] = mapped_column(String(64), default="")
    request_id: Mapped[str] = mapped_column(String(128), default="")
    service: Mapped[str] = mapped_column(String(64), default="")
    details: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (Index("ix_audit_events_recent", "tenant_id", "time", "event_id"),)


ERASABLE: tuple[type[Any], ...] = (ApiKeyEntry, ModelRow, PolicyRow, LayerRow, WorkspaceEntry, TenantEntry, AuditEntry)
"""Tables of ScopeService, in an order in which rows can be erased. `resources` repeats them: withdrawn, not erased."""
