"""Rows of requests that name their kind: the words that many have in common go to a table of their own, each once.

The rows are copied into a new table, a part at a time, because each is packed anew: the id as bytes, the kind as a number,
no word that the kind has. The day leads the key. Never edited any more: a change is a new step.
"""

import sqlite3
from hashlib import blake2b

import msgspec
import sqlalchemy as sa
from alembic import op

from penstock.store.sql.partitions import is_partitioned, make_for, make_others

revision = "0007"
down_revision = "0006"

ROWS_AT_ONCE = 50_000
OPEN = sa.text("boot IS NOT NULL")
WORDS = (
    "state", "dialect", "model", "stream", "client", "provider", "upstream_model", "upstream_dialect", "credential", "reason",
    "attempts", "status", "outcome", "counted", "refund_reason", "error_code", "estimated",
)  # fmt: skip
"""A kind, in its order. Older rows have no credential and no reason."""
OLD_WORDS = tuple(word for word in WORDS if word not in ("credential", "reason"))


def upgrade() -> None:
    """Make the kinds that there are, and copy the rows."""
    connection = op.get_bind()
    for index in ("ix_requests_created_at", "ix_requests_open_boot", "ix_requests_user_day"):
        op.drop_index(index, "requests")
    op.rename_table("requests", "requests_before")
    parts = _set_aside(connection) if is_partitioned(connection) else []
    _make_tables()
    _make_kinds(connection)
    if is_partitioned(connection):
        _copy_partitions(connection, parts)
    else:
        _copy_rows(connection)
    op.drop_table("requests_before")
    op.drop_table("kinds_before")
    op.create_index("ix_requests_open_boot", "requests", ["boot"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_requests_user_day", "requests", ["user_id", "day"])


def _set_aside(connection: sa.Connection) -> list[str]:
    """On PostgreSQL the parts of the log have the names that the new ones want, and so has its key; gives their new names."""
    parts = connection.exec_driver_sql(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'requests_before'::regclass ORDER BY relname"
    )
    quote = connection.dialect.identifier_preparer.quote
    aside: list[str] = []
    for name in list(parts.scalars()):
        op.execute(f"ALTER TABLE {quote(name)} RENAME TO {quote('before_' + name)}")
        op.execute(
            f"ALTER INDEX IF EXISTS {quote(name + '_pkey')} RENAME TO {quote('before_' + name + '_pkey')}"
        )
        aside.append(quote("before_" + name))
    op.execute("ALTER INDEX pk_requests RENAME TO pk_requests_before")
    return aside


def _make_tables() -> None:
    op.create_table(
        "kinds",
        sa.Column("id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("dialect", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("upstream_model", sa.String(256), nullable=False),
        sa.Column("upstream_dialect", sa.String(16), nullable=False),
        sa.Column("credential", sa.String(64)),
        sa.Column("reason", sa.String(32)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("outcome", sa.String(32)),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("refund_reason", sa.String(32)),
        sa.Column("error_code", sa.String(64)),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kinds"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(40)),
        sa.Column("requested_model", sa.String(128)),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("first_byte_ms", sa.Integer()),
        sa.Column("total_ms", sa.Integer()),
        sa.Column("translation", sa.Text()),
        sa.Column("answered_model", sa.String(128)),
        sa.Column("account_id", sa.String(40)),
        sa.Column("actor_id", sa.String(40)),
        sa.Column("upstream_request_id", sa.String(128)),
        sa.Column("service_tier", sa.String(32)),
        sa.Column("cost", sa.BigInteger()),
        sa.Column("charge", sa.BigInteger()),
        sa.PrimaryKeyConstraint("day", "id", name="pk_requests"),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (day)",
    )


def _make_kinds(connection: sa.Connection) -> None:
    """Fill the table of kinds, and ``kinds_before``, which finds a kind by the words of a row."""
    op.create_table(
        "kinds_before",
        sa.Column("words", sa.Text(), primary_key=True),
        sa.Column("kind", sa.BigInteger(), nullable=False),
    )
    log = sa.Table("requests_before", sa.MetaData(), autoload_with=connection)
    words_of = sa.select(sa.literal_column(_words(), sa.Text()), *(log.c[name] for name in OLD_WORDS))
    rows = connection.execute(words_of.distinct())
    kinds = sa.Table("kinds", sa.MetaData(), autoload_with=connection)
    before = sa.table("kinds_before", sa.column("words"), sa.column("kind"))
    made: list[dict[str, object]] = []
    places: list[dict[str, object]] = []
    for words, *values in rows.all():
        told = dict(zip(OLD_WORDS, values, strict=True)) | {"credential": None, "reason": None}
        told |= {name: bool(told[name]) for name in ("stream", "counted", "estimated")}
        kind = tuple(told[name] for name in WORDS)
        digest = blake2b(msgspec.msgpack.encode(kind), digest_size=8).digest()
        number = int.from_bytes(digest, "big") >> 1
        made.append({"id": number, **told})
        places.append({"words": words, "kind": number})
    if made:
        connection.execute(kinds.insert(), made)
        connection.execute(before.insert(), places)


def _words() -> str:
    """All words of a row as one text, each with its length, so that no two rows of other words have the same."""
    return " || ".join(
        f"CASE WHEN {word} IS NULL THEN '-' ELSE length(CAST({word} AS TEXT)) || ':' || CAST({word} AS TEXT) END"
        for word in OLD_WORDS
    )


def _copy_partitions(connection: sa.Connection, parts: list[str]) -> None:
    """One part of the log after the other, into the parts of the new one."""
    make_others(connection)
    days = connection.exec_driver_sql("SELECT DISTINCT day FROM requests_before ORDER BY day").scalars()
    make_for(connection, list(days))
    key = (
        "CASE WHEN id ~ '^req_[0-9a-f]{24}$' THEN decode(substr(id, 5), 'hex')"
        " WHEN octet_length(id) = 11 THEN '\\x00'::bytea || convert_to(id, 'UTF8') || '\\x00'::bytea"
        " ELSE '\\x00'::bytea || convert_to(id, 'UTF8') END"
    )
    for part in parts:
        op.execute(_copying(key, part, "JOIN"))


def _copy_rows(connection: sa.Connection) -> None:
    """So many rows after the other, as they were written.

    CROSS JOIN is SQLite's word for taking the tables in the order in which they stand: a kind is looked up for each row.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for the type checker: what is not PostgreSQL is SQLite
    driver.create_function("request_key", 1, _key_of, deterministic=True)
    last = connection.exec_driver_sql("SELECT max(rowid) FROM requests_before").scalar_one() or 0
    for start in range(0, last, ROWS_AT_ONCE):
        op.execute(
            f"{_copying('request_key(id)', 'requests_before', 'CROSS JOIN')} WHERE requests_before.rowid > {start}"
            f" AND requests_before.rowid <= {start + ROWS_AT_ONCE}"
        )


def _copying(key: str, table: str, join: str) -> str:
    return (
        "INSERT INTO requests (day, id, user_id, key_id, created_at, kind, boot, requested_model, input_tokens,"  # noqa: S608 - names of our own tables
        " output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, first_byte_ms, total_ms, translation,"
        " answered_model)"
        f" SELECT day, {key}, user_id, key_id, created_at, kinds_before.kind, CASE WHEN state = 'open' THEN boot END,"
        " NULLIF(requested_model, model), input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,"
        f" reasoning_tokens, first_byte_ms, total_ms, translation, answered_model FROM {table}"
        f" {join} kinds_before ON kinds_before.words = ({_words()})"
    )


def _key_of(id: str) -> bytes:
    if len(id) == 28 and id.startswith("req_") and not set(id[4:]) - set("0123456789abcdef"):
        return bytes.fromhex(id[4:])
    key = b"\0" + id.encode()
    return key + b"\0" if len(key) == 12 else key
