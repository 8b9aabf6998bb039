"""Sums by hour, key and kind, made of the rows that there are; and requests found by day and kind, not by day alone."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the sums, and the kind to the index."""
    op.create_table(
        "usage_kinds",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "hour", "key_id", "kind", name="pk_usage_kinds"),
        sqlite_with_rowid=False,
    )
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    # Each is bounded where it is added up, so that no sum leaves 64 bits.
    sums = ", ".join(
        f"CAST(coalesce(sum(CASE WHEN {name} > 9007199254740992 THEN 9007199254740992 ELSE {name} END), 0) AS BIGINT)"
        for name in tokens
    )
    op.execute(
        "INSERT INTO usage_kinds"  # noqa: S608 - names of our own tables
        f" SELECT user_id, created_at / 3600000, key_id, kind, count(*), {sums} FROM requests"
        " JOIN kinds ON kinds.id = requests.kind WHERE kinds.state = 'settled'"
        " GROUP BY user_id, created_at / 3600000, key_id, kind"
    )
    op.drop_index("ix_requests_user_day", "requests")
    op.create_index("ix_requests_user_day_kind", "requests", ["user_id", "day", "kind"])
