"""Threads and their messages."""

import sqlalchemy as sa
from alembic import op

from kit.db.migrate import enable_rls

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CONTENT = "2"


def _owned() -> list[sa.Column]:  # type: ignore[type-arg]  # columns of several types
    """Columns of every table about a tenant."""
    return [
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("data_class", sa.SmallInteger(), nullable=False, server_default=_CONTENT),
    ]


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "threads",
        sa.Column("id", sa.String(36), nullable=False),
        *_owned(),
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("title_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("preview_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("is_pinned", sa.Boolean(), nullable=False),
        sa.Column("head_id", sa.String(36), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("active_run_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_threads"),
    )
    op.create_index("ix_threads_tenant_id", "threads", ["tenant_id"])
    op.create_index("ix_threads_recent", "threads", ["tenant_id", "updated_at", "id"])
    op.create_table(
        "messages",
        sa.Column("id", sa.String(36), nullable=False),
        *_owned(),
        sa.Column("thread_id", sa.String(36), nullable=False),
        sa.Column("parent_id", sa.String(36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(256), nullable=False),
        sa.Column("content_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.ForeignKeyConstraint(
            ["thread_id"], ["threads.id"], name="fk_messages_thread_id_threads", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_messages_tenant_id", "messages", ["tenant_id"])
    op.create_index("ix_messages_thread", "messages", ["tenant_id", "thread_id", "position"])
    enable_rls("threads")
    enable_rls("messages")


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("messages")
    op.drop_table("threads")
