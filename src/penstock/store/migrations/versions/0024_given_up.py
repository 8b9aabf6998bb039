"""When a mail, or a message to staff, was given up. Nobody knows it of earlier ones."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns; they may be empty, so no table is copied."""
    for table in ("outbox", "deliveries"):
        op.add_column(table, sa.Column("given_up_at", sa.BigInteger()))
