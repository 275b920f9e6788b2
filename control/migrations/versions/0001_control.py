"""Tenants, workspaces, keys, models, policies, settings, the resources told to services, and the audit log."""

import time

import sqlalchemy as sa
from alembic import op

from kit.db.migrate import enable_rls
from kit.db.rows import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CONFIGURATION, _CREDENTIAL, _AUDIT = "1", "4", "5"
_TABLES = (
    "tenants",
    "workspaces",
    "api_keys",
    "model_entries",
    "policies",
    "settings_layers",
    "resources",
    "audit_events",
)


def _text(name: str, length: int, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default=default)


def _time(name: str, *, nullable: bool = False) -> sa.Column:  # type: ignore[type-arg]  # one helper for all columns
    return sa.Column(name, UtcDateTime, nullable=nullable)


def _owned(data_class: str) -> list[sa.Column]:  # type: ignore[type-arg]  # columns of several types
    return [
        sa.Column("tenant_id", sa.String(64), nullable=False, index=True),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("data_class", sa.SmallInteger, nullable=False, server_default=data_class),
    ]


def _revision() -> sa.Column[int]:
    return sa.Column("revision", sa.BigInteger, nullable=False)


def upgrade() -> None:
    """Create everything. The counter begins at the clock, so that a rebuilt database never repeats a number."""
    counter = op.create_table(
        "revision_counter",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    now = time.time_ns() // 1000
    op.bulk_insert(counter, [{"id": 1, "value": now, "floor": now}])
    _tenancy()
    _configuration()
    _audit()
    for table in _TABLES:
        enable_rls(table)


def _tenancy() -> None:
    op.create_table(
        "tenants",
        *_owned(_CONFIGURATION),
        _text("name", 200),
        _text("status", 16),
        _revision(),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    )
    op.create_table(
        "workspaces",
        *_owned(_CONFIGURATION),
        _text("id", 64),
        _text("name", 200),
        _text("status", 16),
        _revision(),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_workspaces"),
    )
    op.create_table(
        "api_keys",
        *_owned(_CREDENTIAL),
        _text("id", 64),
        _text("workspace_id", 64, ""),
        _text("subject", 256),
        _text("name", 200, ""),
        _text("prefix", 16),
        _text("key_hash", 64),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("bootstrap", sa.Boolean, nullable=False, server_default=sa.false()),
        _revision(),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    )
    op.create_index("ix_api_keys_recent", "api_keys", ["tenant_id", "created_at", "id"])


def _configuration() -> None:
    op.create_table(
        "model_entries",
        *_owned(_CREDENTIAL),
        _text("alias", 128),
        sa.Column("entry", sa.JSON, nullable=False),
        _revision(),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "alias", name="pk_model_entries"),
    )
    op.create_table(
        "policies",
        *_owned(_CONFIGURATION),
        _text("name", 64),
        sa.Column("cedar", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        _text("description", 1000, ""),
        _revision(),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="pk_policies"),
    )
    op.create_table(
        "settings_layers",
        *_owned(_CONFIGURATION),
        _text("workspace_id", 64),
        sa.Column("document", sa.JSON, nullable=False),
        _revision(),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "workspace_id", name="pk_settings_layers"),
    )
    op.create_table(
        "resources",
        *_owned(_CREDENTIAL),
        sa.Column("kind", sa.Integer, nullable=False, autoincrement=False),
        _text("workspace_id", 64),
        _text("name", 200),
        _revision(),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        _text("origin", 16),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("kind", "tenant_id", "workspace_id", "name", name="pk_resources"),
        sa.UniqueConstraint("revision", name="uq_resources_revision"),
    )


def _audit() -> None:
    op.create_table(
        "audit_events",
        *_owned(_AUDIT),
        _text("event_id", 64),
        _time("time"),
        _text("workspace_id", 64, ""),
        _text("subject", 256),
        _text("act_for", 256, ""),
        _text("action", 128),
        _text("resource_type", 64, ""),
        _text("resource_id", 256, ""),
        sa.Column("decision", sa.Integer, nullable=False),
        sa.Column("rule_ids", sa.JSON, nullable=False),
        _text("input_hash", 64, ""),
        _text("output_hash", 64, ""),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("latency_ms", sa.BigInteger, nullable=False),
        _text("outcome", 64, ""),
        _text("trace_id", 64, ""),
        _text("request_id", 128, ""),
        _text("service", 64, ""),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "event_id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_recent", "audit_events", ["tenant_id", "time", "event_id"])


def downgrade() -> None:
    """Drop everything."""
    for table in (*_TABLES, "revision_counter"):
        op.drop_table(table)
