"""The database: the only file that knows SQLite from PostgreSQL.

SQLite is opened twice: one connection that writes, so that writers of this process queue fairly instead of polling the
file's lock, and a pool that can only read. Statements elsewhere are portable SQLAlchemy Core; where a dialect's own
insert is needed, ``upsert`` picks it.
"""

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.dml import Insert, ReturningInsert

from penstock.errors import DatabaseUnavailable
from penstock.store.bulk import Row
from penstock.store.schema import HEAD, metadata

Synchronous = Literal["NORMAL", "FULL"]
"""What SQLite syncs: NORMAL loses nothing when the process dies, FULL nothing when the power fails either."""

OLDER: tuple[str, ...] = ()
"""The revisions before ``HEAD``, from which this program can migrate."""

BUSY_SECONDS = 5.0
READERS = 4
RETRY_SECONDS = 0.02

alembic_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as Alembic makes it."""


class StoreError(Exception):
    """The store cannot be opened; the message is for the operator, and tells what to do."""


class SchemaTooNew(StoreError):
    """The database was written by a newer program."""


class SchemaBehind(StoreError):
    """The database needs ``penstock migrate``."""


class Database:
    """An open database. Reads: ``connect``; writes: ``transaction``."""

    def __init__(self, url: URL, synchronous: Synchronous, busy_seconds: float) -> None:
        self.path = Path(str(url.database))
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._writing = self._engine(pool_size=1, max_overflow=0)
        self._reading = self._engine(pool_size=READERS, max_overflow=READERS)
        event.listen(self._writing.sync_engine, "begin", _begin_immediate)
        event.listen(self._reading.sync_engine, "begin", _begin)
        event.listen(self._reading.sync_engine, "connect", _only_read)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        synchronous: Synchronous = "NORMAL",
        busy_seconds: float = BUSY_SECONDS,
        migrate: bool = True,
    ) -> "Database":
        """Open the database at ``url`` (``sqlite:////var/lib/penstock/penstock.db``), made when it is not there yet.

        An older schema is migrated in a process of its own (Alembic is slow to load and is not needed again), or
        refused when ``migrate`` is False. Raises ``StoreError`` with what to do: not writable, locked, not ours,
        ``SchemaTooNew``, ``SchemaBehind``.
        """
        parsed = parse_url(url)
        make_file(Path(str(parsed.database)))
        database = cls(parsed, synchronous, busy_seconds)
        try:
            try:
                await database._prepare()
            except SchemaBehind:
                if not migrate:
                    raise
                await _migrate_apart(url)
                await database._prepare()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection."""
        await self._writing.dispose()
        await self._reading.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection, None]:
        """A write transaction (``BEGIN IMMEDIATE``): committed at the end of the block, rolled back when it raises.

        Keep it short: the ledger waits for it. Raises ``DatabaseUnavailable`` when the database cannot take it now;
        a broken constraint comes as SQLAlchemy's ``IntegrityError``.
        """
        try:
            async with self._writing.begin() as conn:
                yield conn
        except (OperationalError, PoolTimeout) as error:
            raise DatabaseUnavailable(UNAVAILABLE, retry_after=5) from error

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[AsyncConnection, None]:
        """A consistent view to read from; writing through it is an error. Raises ``DatabaseUnavailable``."""
        try:
            async with self._reading.connect() as conn:
                yield conn
        except (OperationalError, PoolTimeout) as error:
            raise DatabaseUnavailable(UNAVAILABLE, retry_after=5) from error

    def batch_connection(self) -> "BatchConnection":
        """A plain connection for a thread that writes batches of its own making, such as the ledger's."""
        return BatchConnection(self.path, self._synchronous, self._busy_seconds)

    def _engine(self, pool_size: int, max_overflow: int) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self.path)),
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=self._busy_seconds,
            connect_args={"isolation_level": None, "timeout": self._busy_seconds},
        )
        event.listen(engine.sync_engine, "connect", self._set_pragmas)
        return engine

    def _set_pragmas(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas(self._synchronous):
            cursor.execute(pragma)
        cursor.close()

    async def _prepare(self) -> None:
        """Make the tables of a new database, or see whether the schema is the one this program knows."""
        # SQLite does not wait for its lock when a new file is first turned to WAL, so two starts at once must try again.
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                async with self._writing.begin() as conn:
                    if not await conn.run_sync(make_tables):
                        check_revision(await conn.run_sync(stored_revision), self.path)
                return
            except DBAPIError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise StoreError(explain(error, self.path)) from error
            await asyncio.sleep(RETRY_SECONDS)


class WriteFailed(Exception):
    """The database cannot take a batch now: locked, full, unreadable. Nothing of the batch was written."""


class RowRefused(Exception):
    """A row of a batch cannot be stored as it is. Nothing of the batch was written."""


class BatchConnection:
    """One transaction per call on a connection without SQLAlchemy, whose 15 us a statement would double a row's cost.

    Opened with the first call, in the thread that calls, and anew after a failure.
    """

    __slots__ = ("_busy_seconds", "_connection", "_path", "_synchronous")

    def __init__(self, path: Path, synchronous: Synchronous, busy_seconds: float) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None

    def write(self, statements: Iterable[tuple[str, Row]]) -> None:
        """Execute all statements in one ``BEGIN IMMEDIATE`` transaction. Raises ``WriteFailed`` or ``RowRefused``."""
        try:
            connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            for text, values in statements:
                connection.execute(text, values)
            connection.execute("COMMIT")
        except _REFUSALS as error:
            self.close()
            raise RowRefused(str(error)) from error
        except sqlite3.Error as error:
            self.close()
            raise WriteFailed(str(error)) from error

    def close(self) -> None:
        """Close the connection, which rolls back what was not committed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        # Used by one thread at a time, but closed by another: the loop's, once the writing thread has ended.
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in pragmas(self._synchronous):
                connection.execute(pragma)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection


_REFUSALS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)

UNAVAILABLE = "The service's database cannot be reached at the moment; please retry."


def pragmas(synchronous: Synchronous) -> tuple[str, ...]:
    """What every connection that may write is told first."""
    return ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}", "PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _only_read(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def parse_url(url: str) -> URL:
    """The parts of a database URL. Raises ``StoreError`` for one that this version cannot open."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "PENSTOCK_DATABASE_URL is not a URL such as sqlite:////var/lib/penstock/penstock.db"
        ) from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"this version keeps its data in SQLite only, not in {parsed.get_backend_name()}")
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError("the SQLite database must be a file: several connections share it")
    return parsed


def database_directory(url: str) -> Path:
    """The directory that the database at ``url`` lies in. Raises ``StoreError``."""
    return Path(str(parse_url(url).database)).resolve().parent


def make_file(path: Path) -> None:
    """Make the file and its directory readable by their owner only, since SQLite would use the umask."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"cannot write in {path.parent}, where SQLite keeps its journal")


def make_tables(connection: Connection) -> bool:
    """Make all tables in an empty database and stamp it with ``HEAD``; False when it is not empty."""
    if connection.dialect.get_table_names(connection):
        return False
    metadata.create_all(connection)
    alembic_version.metadata.create_all(connection)
    connection.execute(alembic_version.insert().values(version_num=HEAD))
    return True


def stored_revision(connection: Connection) -> str | None:
    """The revision that the database is stamped with; None when it is not one of ours."""
    if not connection.dialect.has_table(connection, alembic_version.name):
        return None
    return connection.execute(select(alembic_version.c.version_num)).scalar_one_or_none()


def check_revision(revision: str | None, path: Path) -> None:
    """Raise unless the stored revision is ``HEAD``."""
    if revision == HEAD:
        return
    if revision is None:
        raise StoreError(f"{path} is a SQLite database, but not one of Penstock's")
    if revision in OLDER:
        raise SchemaBehind(
            f"{path} is at schema {revision}, this program needs {HEAD}: run `penstock migrate`"
        )
    raise SchemaTooNew(
        f"{path} is at schema {revision}, which is newer than this program's {HEAD}: upgrade Penstock, "
        "or restore the backup that was made before the upgrade"
    )


def explain(error: DBAPIError, path: Path) -> str:
    """A database error in the operator's terms."""
    text = str(error.orig)
    if "locked" in text:
        return f"{path} is locked by another process that does not let go; see who has it open (fuser {path})"
    if "readonly" in text or "unable to open" in text:
        return f"cannot write {path}: {text}"
    if "not a database" in text or "malformed" in text:
        return f"{path} is not a SQLite database, or is damaged: {text}"
    if "full" in text:
        return f"no space left for {path}"
    return f"cannot use {path}: {text}"


async def _migrate_apart(url: str) -> None:
    # The URL may hold a password, so it goes through a pipe: arguments are for everyone on the machine to see.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock.store.migrate",
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
    ours = postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
    if not change:
        return ours.on_conflict_do_nothing(index_elements=list(key))
    return ours.on_conflict_do_update(
        index_elements=list(key), set_={name: ours.excluded[name] for name in change}
    )


def tally(
    conn: AsyncConnection | Connection, table: Table, key: Sequence[str], count: str
) -> ReturningInsert[int]:
    """``INSERT`` of a row with a count, or that much more where the row is there; gives the count as it is then."""
    ours = postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
    more = ours.on_conflict_do_update(
        index_elements=list(key), set_={count: table.c[count] + ours.excluded[count]}
    )
    return more.returning(table.c[count])
