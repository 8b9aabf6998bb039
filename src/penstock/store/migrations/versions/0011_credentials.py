"""Pools of credentials, what operators have said of upstreams, and the attempts of requests that had to be made again."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column and the two tables."""
    op.add_column("providers", sa.Column("credentials", sa.Text()))
    op.create_table(
        "upstream_state",
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("credential", sa.String(64), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("until", sa.BigInteger()),
        sa.Column("why", sa.String(200), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("reset_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("provider", "credential", "model", name="pk_upstream_state"),
    )
    op.create_table(
        "attempts",
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("request_id", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("credential", sa.String(64), nullable=False),
        sa.Column("upstream_model", sa.String(256), nullable=False),
        sa.Column("upstream_dialect", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("failure", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("upstream_request_id", sa.String(128)),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger()),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("retry_after_ms", sa.BigInteger()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("maybe_billed", sa.Boolean(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.PrimaryKeyConstraint("day", "request_id", "number", name="pk_attempts"),
        sqlite_with_rowid=False,
    )
