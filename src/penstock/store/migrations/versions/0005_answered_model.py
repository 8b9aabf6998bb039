"""Which model an answer named, where that was another than the one asked for. Nobody knows it of earlier requests."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the name; a column that may be empty needs no copy of the table."""
    op.add_column("requests", sa.Column("answered_model", sa.String(128)))
