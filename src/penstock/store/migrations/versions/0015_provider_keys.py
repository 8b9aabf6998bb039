"""Keys of providers that were entered here, sealed; until now they came from the environment and from files alone."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "provider_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("provider_id", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("last4", sa.String(4), nullable=False),
        sa.Column("origins", sa.Text(), nullable=False),
        sa.Column("added_by", sa.String(320), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("retire_at", sa.BigInteger()),
        sa.Column("unused_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_provider_keys"),
    )
