"""Tokens of the admin API, answers that are kept by a caller's key, and which file manages a row of the catalogue."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the tables and the columns."""
    op.create_table(
        "admin_tokens",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("last4", sa.String(4), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("pepper_id", sa.String(8), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("addresses", sa.Text()),
        sa.Column("maker_id", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_admin_tokens"),
        sa.UniqueConstraint("digest", name="uq_admin_tokens_digest"),
        sa.ForeignKeyConstraint(
            ["maker_id"], ["users.id"], name="fk_admin_tokens_maker_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_admin_tokens_maker_id", "admin_tokens", ["maker_id"])
    op.create_table(
        "idempotency",
        sa.Column("token_id", sa.String(40), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", "key", name="pk_idempotency"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["admin_tokens.id"], name="fk_idempotency_token_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
    for table in ("providers", "models", "plans"):
        op.add_column(table, sa.Column("managed_by", sa.String(64)))
