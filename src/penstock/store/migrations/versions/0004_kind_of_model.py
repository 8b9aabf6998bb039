"""What a model is called for: all that were there before are models to chat with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the kind."""
    # A column that may not be empty comes with a default, which the schema does not have.
    op.add_column("models", sa.Column("kind", sa.String(16), nullable=False, server_default="chat"))
    with op.batch_alter_table("models") as table:
        table.alter_column("kind", server_default=None)
