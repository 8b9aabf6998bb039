"""The request log by days: partitions on PostgreSQL, and everywhere a note of which days' rows are still kept.

The rows are copied into the new table, because PostgreSQL cannot turn a table into partitions in its place.
"""

import sqlalchemy as sa
from alembic import op

from penstock.store.migrations.first_tables import requests
from penstock.store.sql.partitions import is_partitioned, make_for, make_others

revision = "0003"
down_revision = "0002"

OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    """Remake the table of requests with the day in its key."""
    connection = op.get_bind()
    for index in ("ix_requests_created_at", "ix_requests_open_boot", "ix_requests_user_day"):
        op.drop_index(index, "requests")
    if is_partitioned(connection):
        op.drop_constraint("pk_requests", "requests")
    op.rename_table("requests", "requests_before")
    requests("id", "day", partitioned_by="RANGE (day)")
    if is_partitioned(connection):
        make_others(connection)
        days = connection.exec_driver_sql("SELECT DISTINCT day FROM requests_before ORDER BY day").scalars()
        make_for(connection, list(days))
    names = ", ".join(column["name"] for column in sa.inspect(connection).get_columns("requests_before"))
    op.execute(f"INSERT INTO requests ({names}) SELECT {names} FROM requests_before")  # noqa: S608 - columns of our own table
    op.drop_table("requests_before")
    op.create_index("ix_requests_created_at", "requests", ["created_at"])
    op.create_index("ix_requests_open_boot", "requests", ["boot"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_requests_user_day", "requests", ["user_id", "day"])
    op.create_table(
        "retention",
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("first_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_retention"),
    )
