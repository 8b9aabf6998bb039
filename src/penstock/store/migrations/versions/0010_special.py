"""What few answers are billed for besides: columns of a request, and sums by hour, key and kind of those that have any."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

CLASSES = (
    "audio_input_tokens", "audio_output_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
    "web_searches", "web_fetches", "code_runs", "file_searches", "other_tool_runs",
)  # fmt: skip


def upgrade() -> None:
    """Add the columns, empty, and the table of their sums."""
    for name in CLASSES:
        op.add_column("requests", sa.Column(name, sa.BigInteger()))
    op.create_table(
        "usage_special",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in CLASSES),
        sa.PrimaryKeyConstraint("user_id", "hour", "key_id", "kind", name="pk_usage_special"),
        sqlite_with_rowid=False,
    )
