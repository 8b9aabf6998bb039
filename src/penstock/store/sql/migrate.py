"""Brings a database to the schema of this program; also run as a process of its own with the URL on stdin.

Kept out of the server: Alembic takes a quarter of a second and 12 MB to load and is needed once per upgrade.
"""

import asyncio
import sys
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from penstock.core.limits import day_of
from penstock.store.sql.backend import PoolSettings, StoreError
from penstock.store.sql.backup import back_up
from penstock.store.sql.database import OLDER, check_revision, parse_url, stored_revision
from penstock.store.sql.partitions import is_partitioned, make_ahead
from penstock.store.sql.postgresql import PostgresqlBackend
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.schema import HEAD
from penstock.store.sql.sqlite import BUSY_SECONDS, begin_immediate, explain, make_file

SCRIPTS = Path(__file__).parents[1] / "migrations"
_HOUR = 3600.0


def migrate_database(url: str) -> tuple[str | None, str]:
    """Migrate to ``HEAD`` in one transaction: all steps or none. Gives the revisions before and after.

    An empty database gets every step from the first; one at ``HEAD`` is left alone. Raises ``StoreError`` when the
    database is not ours, newer than the program, locked or not writable, or when a step leaves a dangling reference.
    """
    path = parse_url(url)
    if isinstance(path, PostgresqlAddress):
        return asyncio.run(_migrate_server(path))
    make_file(path)
    engine = _engine(path)
    try:
        with engine.begin() as connection:
            before = _upgrade(connection, str(path))
            if before == HEAD:
                return before, HEAD
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


async def _migrate_server(address: PostgresqlAddress) -> tuple[str | None, str]:
    """The same on PostgreSQL, whose schema changes are part of the transaction too. One process at a time does it."""
    backend = PostgresqlBackend(address, PoolSettings(statement=_HOUR, lock=_HOUR, idle=_HOUR, hold=_HOUR))
    try:
        async with backend.writing.begin() as connection:
            return await connection.run_sync(_upgrade, backend.name), HEAD
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreError(backend.explain(error)) from error
    finally:
        await backend.writing.dispose()
        await backend.reading.dispose()


def revision_of(url: str) -> str | None:
    """The revision that is there now, ``HEAD`` or an older one; None for a database that is empty or not made yet.

    Raises ``StoreError`` for what is not ours, newer than the program, or out of reach.
    """
    path = parse_url(url)
    if isinstance(path, PostgresqlAddress):
        return asyncio.run(_server_revision(path))
    if not path.exists():
        return None
    engine = _engine(path)
    try:
        with engine.begin() as connection:
            return _revision(connection, str(path))
    except DBAPIError as error:
        raise StoreError(explain(error, path)) from error
    finally:
        engine.dispose()


def back_up_older(url: str) -> Path | None:
    """A copy of a SQLite database that a migration would change; None where there is none to keep. Raises ``StoreError``."""
    path = parse_url(url)
    if isinstance(path, PostgresqlAddress):
        return None
    revision = revision_of(url)
    return None if revision in (None, HEAD) else back_up(path, revision)


async def _server_revision(address: PostgresqlAddress) -> str | None:
    backend = PostgresqlBackend(address, PoolSettings())
    try:
        async with backend.reading.connect() as connection:
            return await connection.run_sync(_revision, backend.name)
    except (DBAPIError, OSError, TimeoutError) as error:
        raise StoreError(backend.explain(error)) from error
    finally:
        await backend.writing.dispose()
        await backend.reading.dispose()


def _revision(connection: Connection, name: str) -> str | None:
    found = stored_revision(connection)
    if (found is not None or connection.dialect.get_table_names(connection)) and found not in OLDER:
        check_revision(found, name)
    return found


def _upgrade(connection: Connection, name: str) -> str | None:
    """All steps that are missing, and the partitions of the months to come; the revision from before.

    Raises ``StoreError`` for what is not ours.
    """
    before = _revision(connection, name)
    if before != HEAD:
        command.upgrade(_config(connection), HEAD)
    if is_partitioned(connection):
        make_ahead(connection, day_of(time.time()))
    return before


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS},
    )
    # Foreign keys stay off, SQLite's default: changing a table by remaking it would delete what refers to it.
    event.listen(engine, "begin", begin_immediate)
    return engine


def main() -> None:
    """Copy and migrate the database whose URL is on stdin; the process answers 1 and one line on stderr when it cannot."""
    url = sys.stdin.read().strip()
    try:
        back_up_older(url)
        before, after = migrate_database(url)
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    sys.stdout.write(f"{before or 'empty'} -> {after}\n")


if __name__ == "__main__":
    main()
