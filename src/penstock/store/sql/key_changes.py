"""The revision of the keys, and whose changed: written by triggers, so that no writer can forget it.

Whatever a caller is recognised by lies in a few columns of ``users`` and ``api_keys``. A row that changes in one of them
raises ``revisions`` (subject ``keys``) by one, in the same transaction, and leaves the account's id in ``key_changes``, which
keeps the last ``KEPT``. The counter's row is locked until the transaction ends, so revisions are committed in their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

SUBJECT: Final = "keys"
"""The counter's row in ``revisions``."""
KEPT: Final = 1000
"""Changes that ``key_changes`` reaches back."""

Watched = Mapping[str, tuple[str, Sequence[str]]]
WATCHED: Final[Watched] = {
    "users": ("id", ("id", "plan_id", "verified_at", "disabled_at", "leaving_at")),
    "api_keys": (
        "user_id",
        (
            "id",
            "user_id",
            "digest",
            "models",
            "addresses",
            "daily_requests",
            "concurrent_requests",
            "expires_at",
            "revoked_at",
            "account_id",
        ),
    ),
}
"""Of each table: the column with the account's id, and the columns that authentication rests on."""

_NOTED: Final = ("ALTER TABLE users ENABLE TRIGGER USER", "ALTER TABLE api_keys ENABLE TRIGGER USER")
_NOT_NOTED: Final = ("ALTER TABLE users DISABLE TRIGGER USER", "ALTER TABLE api_keys DISABLE TRIGGER USER")

_FUNCTION: Final = "note_key_change"
_EVENTS: Final = {"users": ("update", "delete"), "api_keys": ("insert", "update", "delete")}
"""An account without a key is nobody's, so a new one changes nothing."""


def make_triggers(connection: Connection, watched: Watched = WATCHED) -> None:
    """Make the triggers, in place of those that are there. A migration that remakes a watched table calls it again."""
    on_postgresql = connection.dialect.name == "postgresql"
    for text in _for_postgresql(watched) if on_postgresql else _for_sqlite(watched):
        connection.exec_driver_sql(text)


def has_triggers(connection: Connection) -> bool:
    """Whether all of them are there and not turned off; a copy of the tables alone has none."""
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal"
            " AND tgrelid IN (to_regclass('users'), to_regclass('api_keys'))"
        )
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    there = set(connection.exec_driver_sql(query).scalars())
    return there >= {_name(table, event) for table, event in _wanted(WATCHED)}


def let_pass(connection: Connection, *, noted: bool) -> None:
    """On PostgreSQL: whether what this transaction writes is noted. Rows that are copied bring their revision with them."""
    for text in _NOTED if noted else _NOT_NOTED:
        connection.exec_driver_sql(text)


def _wanted(watched: Watched) -> Iterator[tuple[str, str]]:
    for table in watched:
        for event in _EVENTS[table]:
            yield table, event


def _name(table: str, event: str) -> str:
    return f"tr_{table}_{event}"


def _for_sqlite(watched: Watched) -> Iterator[str]:
    for table, event in _wanted(watched):
        account, columns = watched[table]
        row = "NEW" if event == "insert" else "OLD"
        changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns)
        yield f"DROP TRIGGER IF EXISTS {_name(table, event)}"
        yield (
            f"CREATE TRIGGER {_name(table, event)} AFTER {event.upper()} ON {table}"  # noqa: S608 - names of this file alone
            + (f" WHEN {changed}" if event == "update" else "")
            + " BEGIN"  # noqa: S608 - names of this file alone
            f" INSERT INTO revisions (subject, value) VALUES ('{SUBJECT}', 1)"
            " ON CONFLICT (subject) DO UPDATE SET value = value + 1;"
            f" INSERT INTO key_changes (revision, user_id) SELECT value, {row}.{account} FROM revisions"
            f" WHERE subject = '{SUBJECT}' ON CONFLICT (revision) DO UPDATE SET user_id = excluded.user_id;"
            " DELETE FROM key_changes"
            f" WHERE revision <= (SELECT value - {KEPT} FROM revisions WHERE subject = '{SUBJECT}');"
            " END"
        )


def _for_postgresql(watched: Watched) -> Iterator[str]:
    yield (
        f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$"  # noqa: S608 - names of this file alone
        " DECLARE account text; reached bigint;"
        " BEGIN"
        " IF TG_OP = 'INSERT' THEN account := to_jsonb(NEW) ->> TG_ARGV[0];"
        " ELSE account := to_jsonb(OLD) ->> TG_ARGV[0]; END IF;"
        f" INSERT INTO revisions AS r (subject, value) VALUES ('{SUBJECT}', 1)"
        " ON CONFLICT (subject) DO UPDATE SET value = r.value + 1 RETURNING r.value INTO reached;"
        " INSERT INTO key_changes (revision, user_id) VALUES (reached, account)"
        " ON CONFLICT (revision) DO UPDATE SET user_id = excluded.user_id;"
        f" DELETE FROM key_changes WHERE revision <= reached - {KEPT};"
        " RETURN NULL;"
        " END $$"
    )
    for table, event in _wanted(watched):
        account, columns = watched[table]
        changed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)
        yield f"DROP TRIGGER IF EXISTS {_name(table, event)} ON {table}"
        yield (
            f"CREATE TRIGGER {_name(table, event)} AFTER {event.upper()} ON {table} FOR EACH ROW"
            + (f" WHEN ({changed})" if event == "update" else "")
            + f" EXECUTE FUNCTION {_FUNCTION}('{account}')"
        )
