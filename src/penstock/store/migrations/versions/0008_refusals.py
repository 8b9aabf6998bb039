"""Refused requests: how often by hour and code, and the newest of each account."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the two tables."""
    op.create_table(
        "refusal_hours",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "hour", "code", "key_id", name="pk_refusal_hours"),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("dialect", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("requested_model", sa.String(128), nullable=False),
        sa.Column("stream", sa.Boolean()),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("retry_after", sa.Integer()),
        sa.Column("plan_id", sa.String(64), nullable=False),
        sa.Column("most", sa.BigInteger()),
        sa.Column("used", sa.BigInteger()),
        sa.Column("holders", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_refusals"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_refusals_user_created", "refusals", ["user_id", "created_at"])
    op.create_index("ix_refusals_created_at", "refusals", ["created_at"])
