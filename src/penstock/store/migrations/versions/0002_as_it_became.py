"""What the first schema got while it was still edited in place, for databases that were made before.

They are all stamped 0001, so what is there is looked at. Sums begin empty: ``penstock reconcile --repair`` makes those of
a day from its rows.
"""

import sqlalchemy as sa
from alembic import op

from penstock.store.migrations.first_tables import sign_in, sums

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables and columns that are missing."""
    inspector = sa.inspect(op.get_bind())
    tables = set(inspector.get_table_names())
    if "leaving_at" not in _columns(inspector, "users"):
        op.add_column("users", sa.Column("leaving_at", sa.BigInteger()))
    if "credentials" not in tables:
        sign_in()
    if "usage_hours" not in tables:
        sums()
    if "profile" not in _columns(inspector, "providers"):
        # A column that may not be empty comes with a default, which the tables of later databases do not have.
        op.add_column("providers", sa.Column("profile", sa.Text(), nullable=False, server_default="{}"))
        with op.batch_alter_table("providers") as table:
            table.alter_column("profile", server_default=None)


def _columns(inspector: sa.Inspector, table: str) -> set[str]:
    return {column["name"] for column in inspector.get_columns(table)}
