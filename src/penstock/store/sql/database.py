"""The database, on SQLite or on PostgreSQL: opened, checked, and used in transactions of one kind.

Statements elsewhere are portable SQLAlchemy Core; where a dialect's own insert is needed, ``upsert`` picks it. What
differs otherwise is in ``sqlite.py`` and ``postgresql.py``, and nobody but this file chooses between them.
"""

import asyncio
import logging
import random
import re
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.dml import Insert, ReturningInsert

from penstock.errors import DatabaseUnavailable
from penstock.settings import Settings
from penstock.store.sql.backend import (
    Backend,
    BatchConnection,
    Cell,
    PointRow,
    PoolSettings,
    ReadFailed,
    RowRefused,
    StoreError,
    WriteFailed,
    owner_key,
)
from penstock.store.sql.bulk import BulkRow, numbered
from penstock.store.sql.key_changes import has_triggers, make_triggers
from penstock.store.sql.partitions import is_partitioned, make_others
from penstock.store.sql.postgresql_address import PostgresqlAddress, is_postgresql_url
from penstock.store.sql.schema import HEAD, metadata
from penstock.store.sql.sqlite import BUSY_SECONDS, SqliteBackend, Synchronous

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = [
    "BatchConnection",
    "Database",
    "PoolSettings",
    "RowRefused",
    "SchemaBehind",
    "SchemaTooNew",
    "StoreError",
    "Synchronous",
    "WriteFailed",
    "database_directory",
    "parse_url",
    "upsert",
]

log = logging.getLogger("penstock.store.sql")

OLDER: tuple[str, ...] = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0015",
    "0016",
    "0017",
    "0018",
    "0019",
    "0020",
    "0021",
    "0022",
    "0023",
)
"""The revisions before ``HEAD``, from which this program can migrate."""

ONE_SERVER = "the one server"
"""The owner whose lock a server holds that shares its database with no other."""

COPIED_A_SECOND = 30_000
"""Requests that an upgrade copies in a second, on a slow machine."""
HOLD_SHARE = 0.8
"""How much of the time that others wait for their turn a writer may be idle in its own."""
RETRY_SECONDS = 0.02
RETRY_PAUSE_FIRST = 0.05
RETRY_PAUSE_LAST = 2.0
"""After connecting failed: seconds until the next attempt, doubled each time, half of it left to chance."""

alembic_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as Alembic makes it."""


class SchemaTooNew(StoreError):
    """The database was written by a newer program."""


class SchemaBehind(StoreError):
    """The database needs ``penstock migrate``."""


class Database:
    """An open database. Reads: ``connect``; writes: ``transaction``."""

    def __init__(self, backend: Backend, directory: Path | None, patience: float) -> None:
        self.name = backend.name
        """What messages call it, without a password."""
        self.path = backend.path
        """Its file; None on PostgreSQL."""
        self._backend = backend
        self._directory = directory or (backend.path.parent if backend.path else None)
        self._patience = patience
        self._writing = backend.writing
        self._reading = backend.reading
        self._pause = 0.0
        self._again_at = 0.0
        self.after_commit: Callable[[], Awaitable[object]] | None = None
        """Told of each transaction of this process, so that what rests on its rows need not wait for the next poll."""
        self.trouble: str | None = None
        """Why it could not be used when it was last asked, for the operator; None when it could."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        directory: Path | None = None,
        synchronous: Synchronous = "NORMAL",
        busy_seconds: float = BUSY_SECONDS,
        pool: PoolSettings = PoolSettings(),  # noqa: B008 - frozen
        migrate: bool = True,
    ) -> "Database":
        """Open the database at ``url`` (``sqlite:////var/lib/penstock/penstock.db``, ``postgresql://user@host/name``).

        ``directory`` is where this process keeps its files beside it, by default a SQLite file's. A SQLite file that is
        not there yet is made. An older schema is migrated in a process of its own (Alembic is slow to load and is not
        needed again), or refused when ``migrate`` is False. Raises ``StoreError`` with what to do: out of reach, not
        writable, locked, not ours, ``SchemaTooNew``, ``SchemaBehind``.
        """
        database = cls(_backend(parse_url(url), synchronous, busy_seconds, pool), directory, busy_seconds)
        try:
            try:
                await database._prepare()
            except SchemaBehind:
                if not migrate:
                    raise
                await database._foretell()
                await _migrate_apart(url)
                await database._prepare()
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def directory(self) -> Path:
        """Where this process keeps its files beside the database. Raises ``StoreError`` when it was given none."""
        if self._directory is None:
            raise StoreError(f"no directory was given for what belongs beside {self.name}")
        return self._directory

    async def close(self) -> None:
        """Close every connection."""
        await self._backend.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection, None]:
        """A write transaction; no other runs at the same time. Committed at the end of the block, or rolled back.

        Keep it short: others wait for it. Raises ``DatabaseUnavailable`` when the database cannot take it now;
        a broken constraint comes as SQLAlchemy's ``IntegrityError``. Once it is committed, ``after_commit`` is awaited.
        """
        async with self._connected(self._writing) as conn, conn.begin():
            yield conn
        if self.after_commit is not None:
            await self.after_commit()

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[AsyncConnection, None]:
        """A consistent view to read from; writing through it is an error. Raises ``DatabaseUnavailable``."""
        async with self._connected(self._reading) as conn:
            yield conn

    def read_now(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow] | None:
        """The rows of a small SELECT by keys, with ``?`` for each value, as they are at this moment.

        None where they would have to be waited for: ask ``read`` then. The event loop stands still meanwhile.
        """
        rows = self._backend.read_now(text, values)
        if rows is not None:
            self.trouble = None
        return rows

    async def read(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow]:
        """The same, waited for if need be. All of it is of one moment. Raises ``DatabaseUnavailable``."""
        rows = self.read_now(text, values)
        if rows is not None:
            return rows
        self._keep_pause()
        try:
            rows = await self._backend.read(text, values)
        except ReadFailed as failure:
            raise self._unavailable(failure.cause, connecting=failure.connecting) from failure
        self._pause = 0.0
        self.trouble = None
        return rows

    def batch_connection(self, owner: str = "") -> BatchConnection:
        """A plain connection for a thread that writes batches of its own making, such as the ledger's.

        While it lives, ``gone`` tells others that ``owner`` is alive.
        """
        return self._backend.batch_connection(owner)

    @asynccontextmanager
    async def claimed(self) -> AsyncGenerator[None]:
        """This process is the one server of the database, because it keeps the limits in its memory.

        Raises ``StoreError`` when there is another, and still is after a moment: the server notices the end of one that
        was killed a little later. A SQLite file's one server is seen to by the lock of its directory.
        """
        if self.path is not None:
            yield
            return
        async with self._connected(self._reading) as conn:
            alone = await conn.exec_driver_sql("SELECT pg_try_advisory_lock($1)", (owner_key(ONE_SERVER),))
            if not alone.scalar_one():
                raise StoreError(f"another server uses {self.name}: several need Redis to share their limits")
            await conn.rollback()
            yield

    async def execute(self, conn: AsyncConnection, statements: Iterable[tuple[str, BulkRow]]) -> None:
        """Execute a batch's statements, which have ``?`` for each value, in a transaction of ours."""
        on_postgresql = conn.dialect.name == "postgresql"
        for text, values in statements:
            await conn.exec_driver_sql(numbered(text) if on_postgresql else text, values)

    async def gone(self, conn: AsyncConnection, owners: Sequence[str]) -> list[str]:
        """Those owners of batch connections that are dead; they stay so until the transaction ends.

        On SQLite all: whoever asks is the one server of the file.
        """
        if conn.dialect.name != "postgresql":
            return list(owners)
        taken = "SELECT pg_try_advisory_xact_lock($1)"
        return [
            owner for owner in owners if (await conn.exec_driver_sql(taken, (owner_key(owner),))).scalar_one()
        ]

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncGenerator[AsyncConnection, None]:
        self._keep_pause()
        try:
            conn = await engine.connect()
        except (DBAPIError, PoolTimeout, *self._backend.out_of_reach) as error:
            # A pool that is empty says nothing about the server.
            raise self._unavailable(error, connecting=not isinstance(error, PoolTimeout)) from error
        self._pause = 0.0
        try:
            yield conn
        except DBAPIError as error:
            if not self._backend.unavailable(error):
                raise
            raise self._unavailable(error, connecting=False) from error
        except TimeoutError as error:
            await conn.invalidate()  # it hangs, so there is nothing to roll back on it
            raise self._unavailable(error, connecting=False) from error
        else:
            self.trouble = None
        finally:
            await self._give_back(conn)

    async def _give_back(self, conn: AsyncConnection) -> None:
        """Return a connection to its pool. What was to be done on it is done, so one that fails now is only dropped."""
        try:
            await conn.close()
        except (DBAPIError, *self._backend.out_of_reach) as error:
            self.trouble = self._backend.explain(error)
            with suppress(SQLAlchemyError, *self._backend.out_of_reach):
                await conn.invalidate()
                await conn.close()

    def _keep_pause(self) -> None:
        """Raises ``DatabaseUnavailable`` while no new attempt to connect is due."""
        if self._pause and time.monotonic() < self._again_at:
            raise DatabaseUnavailable(UNAVAILABLE, retry_after=5)

    def _unavailable(self, error: Exception, *, connecting: bool) -> DatabaseUnavailable:
        """What a caller is told of ``error``; the next attempt to connect waits, if this was one."""
        if connecting and self.path is None:
            self._pause = min(RETRY_PAUSE_LAST, 2 * self._pause or RETRY_PAUSE_FIRST)
            self._again_at = time.monotonic() + self._pause * random.uniform(0.5, 1)  # noqa: S311 - jitter, so that processes do not return in step
        self.trouble = self._backend.explain(error)
        return DatabaseUnavailable(UNAVAILABLE, retry_after=5)

    async def _foretell(self) -> None:
        """Tell the operator what an upgrade is about to take."""
        async with self.connect() as conn:
            rows = (await conn.exec_driver_sql("SELECT count(*) FROM requests")).scalar_one()
        log.warning(
            "%s is upgraded to schema %s: with %d requests that may take %d seconds",
            self.name,
            HEAD,
            rows,
            1 + rows // COPIED_A_SECOND,
        )

    async def _prepare(self) -> None:
        """Make the tables of a new database, or see whether the schema is the one this program knows."""
        # SQLite does not wait for its lock when a new file is first turned to WAL, so two starts at once must try again.
        deadline = time.monotonic() + self._patience
        while True:
            try:
                async with self._writing.begin() as conn:
                    if not await conn.run_sync(make_tables):
                        check_revision(await conn.run_sync(stored_revision), self.name)
                        if not await conn.run_sync(has_triggers):
                            log.warning("the triggers that note changes of keys were missing; made again")
                            await conn.run_sync(make_triggers)
                return
            except (DBAPIError, *self._backend.out_of_reach) as error:
                if not self._backend.passing(error) or time.monotonic() > deadline:
                    raise StoreError(self._backend.explain(error)) from error
            await asyncio.sleep(RETRY_SECONDS)


UNAVAILABLE = "The service's database cannot be reached at the moment; please retry."


def _backend(
    address: PostgresqlAddress | Path, synchronous: Synchronous, busy_seconds: float, pool: PoolSettings
) -> Backend:
    if isinstance(address, Path):
        return SqliteBackend(address, synchronous, busy_seconds)
    from penstock.store.sql.postgresql import PostgresqlBackend  # noqa: PLC0415 - a driver of 3 MB that SQLite does not need

    return PostgresqlBackend(address, pool)


_SQLITE = re.compile(r"sqlite(\+[a-z0-9_]+)?://(?:/(.*))?", re.IGNORECASE | re.DOTALL)


def parse_url(url: str) -> PostgresqlAddress | Path:
    """PostgreSQL's address, or SQLite's file. Raises ``StoreError`` for what this version cannot open."""
    if is_postgresql_url(url):
        return PostgresqlAddress.parse(url)
    found = _SQLITE.fullmatch(url)
    if found is None:
        scheme, separator, _ = url.partition(":/")
        if separator and scheme.isalpha() and scheme.lower() != "sqlite":
            raise StoreError(f"data are kept in SQLite or PostgreSQL, not in {scheme.lower()}")
        raise StoreError(
            "PENSTOCK_DATABASE_URL is not a URL such as sqlite:////var/lib/penstock/penstock.db or "
            "postgresql://user:password@host/penstock"
        )
    file, _, options = (found[2] or "").partition("?")
    if options:
        raise StoreError(
            "the address of SQLite is a file and nothing else: leave out the ? and what follows it"
        )
    if not file or file == ":memory:":
        raise StoreError("the SQLite database must be a file: several connections share it")
    return Path(file)


def database_directory(url: str) -> Path | None:
    """The directory that the database's file lies in; None on PostgreSQL. Raises ``StoreError``."""
    parsed = parse_url(url)
    return None if isinstance(parsed, PostgresqlAddress) else parsed.resolve().parent


@lru_cache(maxsize=2)
def creation(dialect: Dialect) -> Sequence[str]:
    """The statements that make all tables and their indexes, in a database that has none.

    Dialects of SQLite are equal, so they are compiled once for all its databases of a process.
    """
    written: list[str] = []

    def write(statement: ExecutableDDLElement, *_: object, **_options: object) -> None:
        written.append(str(statement.compile(dialect=dialect)))

    for each in (metadata, alembic_version.metadata):
        each.create_all(MockConnection(dialect, write), checkfirst=False)
    return tuple(written)


def make_tables(connection: Connection) -> bool:
    """Make all tables in an empty database and stamp it with ``HEAD``; False when it is not empty."""
    if connection.dialect.get_table_names(connection):
        return False
    for statement in creation(connection.dialect):
        connection.exec_driver_sql(statement)
    make_triggers(connection)
    if is_partitioned(connection):
        make_others(connection)
    connection.execute(alembic_version.insert().values(version_num=HEAD))
    return True


def stored_revision(connection: Connection) -> str | None:
    """The revision that the database is stamped with; None when it is not one of ours."""
    if not connection.dialect.has_table(connection, alembic_version.name):
        return None
    return connection.execute(select(alembic_version.c.version_num)).scalar_one_or_none()


def check_revision(revision: str | None, name: str) -> None:
    """Raise unless the stored revision is ``HEAD``."""
    if revision == HEAD:
        return
    if revision is None:
        raise StoreError(f"{name} is a database, but not one of Penstock's")
    if revision in OLDER:
        raise SchemaBehind(
            f"{name} is at schema {revision}, this program needs {HEAD}: run `penstock migrate`"
        )
    raise SchemaTooNew(
        f"{name} is at schema {revision}, which is newer than this program's {HEAD}: upgrade Penstock, "
        "or restore the backup that was made before the upgrade"
    )


async def _migrate_apart(url: str) -> None:
    # The URL may hold a password, so it goes through a pipe: arguments are for everyone on the machine to see.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock.store.sql.migrate",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate(url.encode())
    if process.returncode != 0:
        raise StoreError(complaint.decode("utf-8", "replace").strip())


def upsert(
    conn: AsyncConnection | Connection, table: Table, key: Sequence[str], change: Sequence[str]
) -> Insert:
    """``INSERT ... ON CONFLICT (key) DO UPDATE`` of the columns ``change``; with none, ``DO NOTHING``.

    Portable: it is the insert of the connection's dialect. Rows are given to ``execute`` beside it.
    """
    ours = _insert(conn, table)
    if not change:
        return ours.on_conflict_do_nothing(index_elements=list(key))
    return ours.on_conflict_do_update(
        index_elements=list(key), set_={name: ours.excluded[name] for name in change}
    )


def upsert_adding(
    conn: AsyncConnection | Connection, table: Table, key: Sequence[str], sums: Sequence[str]
) -> Insert:
    """``INSERT`` of a row with sums, or that much more where the row is there."""
    ours = _insert(conn, table)
    return ours.on_conflict_do_update(
        index_elements=list(key), set_={name: table.c[name] + ours.excluded[name] for name in sums}
    )


def tally(
    conn: AsyncConnection | Connection, table: Table, key: Sequence[str], count: str
) -> ReturningInsert[int]:
    """``INSERT`` of a row with a count, or that much more where the row is there; gives the count as it is then."""
    ours = _insert(conn, table)
    more = ours.on_conflict_do_update(
        index_elements=list(key), set_={count: table.c[count] + ours.excluded[count]}
    )
    return more.returning(table.c[count])


def _insert(conn: AsyncConnection | Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    if conn.dialect.name != "postgresql":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 2 MB that SQLite does not need

    return postgresql.insert(table)


async def open_database(settings: Settings, *, migrate: bool = True) -> Database:
    """The database that the settings name. Raises ``StoreError``."""
    return await Database.open(
        settings.database_url,
        directory=settings.data,
        synchronous=settings.database_synchronous,
        pool=PoolSettings(
            size=settings.database_pool,
            connect=settings.database_connect,
            statement=settings.database_statement,
            lock=settings.database_lock,
            hold=HOLD_SHARE * settings.database_lock,
        ),
        migrate=migrate,
    )
