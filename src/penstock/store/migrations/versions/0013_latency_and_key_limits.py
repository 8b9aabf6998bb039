"""Times of requests in fine classes, limits of a key's own, mail about the day, and an order of the log by size.

All sums that are new are made of the rows that there are; of days whose rows are gone nothing is known of times.
"""

import sqlalchemy as sa
from alembic import op

from penstock.store.sql.key_changes import make_triggers

revision = "0013"
down_revision = "0012"

WATCHED = {
    "users": ("id", ("id", "plan_id", "verified_at", "disabled_at", "leaving_at")),
    "api_keys": (
        "user_id",
        (
            "id", "user_id", "digest", "models", "addresses", "daily_requests", "concurrent_requests", "expires_at",
            "revoked_at",
        ),
    ),
}  # fmt: skip
"""As it was then."""
BOUNDS = (
    1, 2, 3, 4, 5, 7, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 260, 330, 420, 550, 700, 900, 1200, 1600,
    2100, 2800, 3700, 5000, 7000, 10_000, 14_000, 20_000, 30_000, 45_000, 70_000, 110_000, 170_000, 280_000, 450_000,
)  # fmt: skip
CLASSES = len(BOUNDS) + 1
HOURS_KEPT = 3
OLD_CLASSES = 12
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
MOST = ("most_input", "most_output", "most_first_ms", "most_total_ms")


def upgrade() -> None:
    """Add the tables and columns, fill them, and make the index that a size is looked for by."""
    connection = op.get_bind()
    on_postgresql = connection.dialect.name == "postgresql"
    op.drop_index("ix_requests_user_day_kind", "requests")
    op.create_index("ix_requests_user_day_kind_created", "requests", ["user_id", "day", "kind", "created_at"])
    _make_times(connection)
    if on_postgresql:
        _change_columns()
    else:
        _remake_hours()
        _remake_kinds()
    op.add_column("api_keys", sa.Column("daily_requests", sa.BigInteger()))
    op.add_column("api_keys", sa.Column("concurrent_requests", sa.Integer()))
    make_triggers(connection, WATCHED)
    op.create_table(
        "day_mails",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_day_mails_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_day_mails"),
    )


def _make_times(connection: sa.Connection) -> None:
    op.create_table(
        "usage_times",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        *(sa.Column(f"first_{number}", sa.Integer(), nullable=False) for number in range(CLASSES)),
        *(sa.Column(f"whole_{number}", sa.Integer(), nullable=False) for number in range(CLASSES)),
        sa.PrimaryKeyConstraint("user_id", "hour", "key_id", "model", "client", name="pk_usage_times"),
        sqlite_with_rowid=False,
    )
    newest = connection.exec_driver_sql("SELECT max(day) FROM requests").scalar_one() or 0
    whole = "CASE WHEN kinds.outcome = 'completed' THEN total_ms END"
    hour = (
        f"CASE WHEN created_at / 86400000 <= {newest - HOURS_KEPT} THEN created_at / 86400000 * 24"
        " ELSE created_at / 3600000 END"
    )
    op.execute(
        f"INSERT INTO usage_times SELECT user_id, {hour}, key_id, kinds.model, kinds.client,"  # noqa: S608 - names of our own tables
        f" {_classes('first_byte_ms')}, {_classes(whole)} FROM requests JOIN kinds ON kinds.id = requests.kind"
        f" WHERE kinds.state = 'settled' AND (first_byte_ms IS NOT NULL OR {whole} IS NOT NULL)"
        f" GROUP BY user_id, {hour}, key_id, kinds.model, kinds.client"
    )


def _classes(time: str) -> str:
    sums: list[str] = []
    for start, end in zip((None, *BOUNDS), (*BOUNDS, None), strict=True):
        within = [f"({time}) >= {start}"] if start is not None else []
        if end is not None:
            within.append(f"({time}) < {end}")
        sums.append(f"sum(CASE WHEN {' AND '.join(within)} THEN 1 ELSE 0 END)")
    return ", ".join(sums)


_LARGEST = (
    "SELECT user_id, created_at / 3600000 AS hour, key_id, kind, coalesce(max(input_tokens), 0) AS most_input,"
    " coalesce(max(output_tokens), 0) AS most_output, coalesce(max(first_byte_ms), 0) AS most_first_ms,"
    " coalesce(max(total_ms), 0) AS most_total_ms FROM requests GROUP BY user_id, created_at / 3600000, key_id, kind"
)


def _change_columns() -> None:
    for number in range(OLD_CLASSES):
        op.drop_column("usage_hours", f"first_{number}")
    for name in MOST:
        size = sa.Integer() if name.endswith("_ms") else sa.BigInteger()
        op.add_column("usage_kinds", sa.Column(name, size, nullable=False, server_default=sa.text("0")))
        op.alter_column("usage_kinds", name, server_default=None)
    told = ", ".join(f"{name} = largest.{name}" for name in MOST)
    op.execute(
        f"UPDATE usage_kinds SET {told} FROM ({_LARGEST}) AS largest WHERE usage_kinds.user_id = largest.user_id"  # noqa: S608 - names of our own tables
        " AND usage_kinds.hour = largest.hour AND usage_kinds.key_id = largest.key_id AND usage_kinds.kind = largest.kind"
    )


def _remake_hours() -> None:
    op.rename_table("usage_hours", "usage_hours_before")
    columns = ("requests", "refunded", *TOKENS)
    op.create_table(
        "usage_hours",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in columns),
        sa.PrimaryKeyConstraint("user_id", "hour", "model", name="pk_usage_hours"),
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO usage_hours SELECT user_id, hour, model, {', '.join(columns)} FROM usage_hours_before"  # noqa: S608 - names of our own tables
    )
    op.drop_table("usage_hours_before")


def _remake_kinds() -> None:
    op.rename_table("usage_kinds", "usage_kinds_before")
    key = ("user_id", "hour", "key_id", "kind")
    columns = ("requests", *TOKENS)
    op.create_table(
        "usage_kinds",
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in columns),
        *(
            sa.Column(name, sa.Integer() if name.endswith("_ms") else sa.BigInteger(), nullable=False)
            for name in MOST
        ),
        sa.PrimaryKeyConstraint(*key, name="pk_usage_kinds"),
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO usage_kinds SELECT {', '.join(f'b.{name}' for name in (*key, *columns))},"  # noqa: S608 - names of our own tables
        f" {', '.join(f'coalesce(l.{name}, 0)' for name in MOST)} FROM usage_kinds_before b LEFT JOIN ({_LARGEST}) l"
        " ON l.user_id = b.user_id AND l.hour = b.hour AND l.key_id = b.key_id AND l.kind = b.kind"
    )
    op.drop_table("usage_kinds_before")
