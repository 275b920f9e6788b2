"""Boxes, items and notes."""

import sqlalchemy as sa
from alembic import op

from kit.db.migrate import enable_rls
from kit.db.rows import UtcDateTime
from kit.outbox import create_outbox

revision = "0001"
down_revision = None


def _tenant_columns() -> list[sa.Column]:
    return [
        sa.Column("tenant_id", sa.String(64), nullable=False, index=True),
        sa.Column("data_class", sa.SmallInteger, nullable=False, server_default="2"),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
    ]


def upgrade() -> None:
    op.create_table(
        "boxes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        *_tenant_columns(),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("box_id", sa.String(64), sa.ForeignKey("boxes.id"), nullable=False),
        sa.Column("text", sa.String(64), nullable=False),
        *_tenant_columns(),
    )
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String(64), nullable=False),
    )
    enable_rls("boxes")
    enable_rls("items")
    create_outbox()
