"""Brings a database to the schema of this program; also run as a process of its own with the URL on stdin.

Kept out of the server: Alembic takes a quarter of a second and 12 MB to load and is needed once per upgrade.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from penstock.store.database import (
    BUSY_SECONDS,
    OLDER,
    StoreError,
    check_revision,
    explain,
    make_file,
    parse_url,
    stored_revision,
)
from penstock.store.schema import HEAD


def migrate(url: str) -> tuple[str | None, str]:
    """Migrate to ``HEAD`` in one transaction: all steps or none. Gives the revisions before and after.

    An empty database gets every step from the first; one at ``HEAD`` is left alone. Raises ``StoreError`` when the
    database is not ours, newer than the program, locked or not writable, or when a step leaves a dangling reference.
    """
    path = Path(str(parse_url(url).database))
    make_file(path)
    engine = _engine(path)
    try:
        with engine.begin() as connection:
            before = stored_revision(connection)
            if before == HEAD:
                return before, HEAD
            if before is not None or connection.dialect.get_table_names(connection):
                _refuse_strangers(before, path)
            command.upgrade(_config(connection), HEAD)
            dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if dangling:
                raise StoreError(
                    f"{path}: the migration would leave {len(dangling)} dangling references; undone"
                )
            return before, HEAD
    except DBAPIError as error:
        raise StoreError(explain(error, path)) from error
    finally:
        engine.dispose()


def _refuse_strangers(revision: str | None, path: Path) -> None:
    if revision not in OLDER:
        check_revision(revision, path)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS},
    )
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _begin_immediate(connection: Connection) -> None:
    # Foreign keys stay off, SQLite's default: changing a table by remaking it would delete what refers to it.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def main() -> None:
    """Migrate the database whose URL is on stdin; the process answers 1 and one line on stderr when it cannot."""
    try:
        before, after = migrate(sys.stdin.read().strip())
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    sys.stdout.write(f"{before or 'empty'} -> {after}\n")


if __name__ == "__main__":
    main()
