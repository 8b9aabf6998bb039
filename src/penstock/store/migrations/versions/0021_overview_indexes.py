"""Indexes that the overview of the staff and their list of mails read by, however long the history is."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("ix_usage_times_hour", "usage_times", ["hour"])
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"])
