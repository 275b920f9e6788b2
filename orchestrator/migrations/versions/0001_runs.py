"""Runs and the outbox."""

import sqlalchemy as sa
from alembic import op

from kit.db.migrate import enable_rls
from kit.outbox import create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CONTENT = "2"
_OPEN = sa.text("ended_at IS NULL")
_ACTIVE = sa.text("ended_at IS NULL AND thread_id <> ''")


def upgrade() -> None:
    """Create both tables."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "runs",
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("data_class", sa.SmallInteger(), nullable=False, server_default=_CONTENT),
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("thread_id", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("public_id", sa.String(128), nullable=False),
        sa.Column("graph", sa.String(128), nullable=False),
        sa.Column("model_alias", sa.String(255), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("on_disconnect", sa.SmallInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("principal", sa.LargeBinary(), nullable=False),
        sa.Column("timeout_ms", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("logged_sequence", sa.Integer(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("usage_json", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("cancel_cause", sa.String(255), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("deadline_at", time, nullable=False),
        sa.Column("touched_at", time, nullable=False),
        sa.Column("ended_at", time, nullable=True),
        sa.Column("purge_at", time, nullable=True),
        sa.Column("purged_at", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", name="pk_runs"),
    )
    # One active run a thread, whoever asks.
    op.create_index(
        "uq_runs_active_thread",
        "runs",
        ["tenant_id", "thread_id"],
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    )
    op.create_index("ix_runs_page", "runs", ["tenant_id", "created_at", "run_id"])
    op.create_index("ix_runs_purge", "runs", ["purge_at"])
    op.create_index("ix_runs_unfinished", "runs", ["touched_at"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    enable_rls("runs")
    create_outbox()


def downgrade() -> None:
    """Remove them."""
    op.drop_table("outbox")
    op.drop_table("runs")
