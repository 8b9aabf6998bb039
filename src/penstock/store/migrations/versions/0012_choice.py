"""What of a provider and of a plan counts in the choice of a provider: tags, places, shares; JSON, empty at first."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("providers", sa.Column("choice", sa.Text))
    op.add_column("plans", sa.Column("choice", sa.Text))
