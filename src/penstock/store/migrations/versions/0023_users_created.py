"""The index by which new accounts are found, and listed, however many there are."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_users_created_at", "users", ["created_at"])
