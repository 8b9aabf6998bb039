"""SQLite: one connection that writes, so that writers of this process queue fairly instead of polling the file's lock,
and a pool that can only read.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from penstock.store.sql.backend import Cell, PointRow, ReadFailed, RowRefused, StoreError, WriteFailed
from penstock.store.sql.bulk import BulkRow

Synchronous = Literal["NORMAL", "FULL"]
"""What SQLite syncs: NORMAL loses nothing when the process dies, FULL nothing when the power fails either."""

BUSY_SECONDS = 20.0
READERS = 4
MOST_COMPILED = 1000
"""Statements that are kept compiled."""


class SqliteDialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's own, each equal to each other: what one engine has compiled is what all others would compile."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


registry.register("sqlite.penstock", __name__, SqliteDialect.__name__)


class CompiledStatements(dict[Any, Any]):
    """The statements of this process as SQL, for every engine: to compile one takes longer than to execute it.

    Their number is bounded in the simplest way: all are forgotten when there are too many.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= MOST_COMPILED:
            self.clear()
        super().__setitem__(key, value)


_compiled = CompiledStatements()


class SqliteBackend:
    """A SQLite file, opened."""

    out_of_reach = (OSError, TimeoutError)

    def __init__(self, path: Path, synchronous: Synchronous, busy_seconds: float) -> None:
        make_file(path)
        self.path = path
        self.name = str(path)
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._points = SqlitePointReader(path)
        self.writing = self._engine(pool_size=1, max_overflow=0)
        self.reading = self._engine(pool_size=READERS, max_overflow=READERS)
        event.listen(self.writing.sync_engine, "begin", begin_immediate)
        event.listen(self.reading.sync_engine, "begin", _begin)
        event.listen(self.reading.sync_engine, "connect", _only_read)

    def passing(self, error: Exception) -> bool:
        return isinstance(error, DBAPIError) and "locked" in str(error.orig)

    def unavailable(self, error: DBAPIError) -> bool:
        return isinstance(error, OperationalError)

    def explain(self, error: Exception) -> str:
        return explain(error, self.path)

    def read_now(self, text: str, values: Sequence[Cell]) -> list[PointRow] | None:
        return self._points.read(text, values)

    async def read(self, text: str, values: Sequence[Cell]) -> list[PointRow]:
        try:
            async with self.reading.connect() as conn:
                return [tuple(row) for row in await conn.exec_driver_sql(text, tuple(values))]
        except (SQLAlchemyError, *self.out_of_reach) as error:
            raise ReadFailed(error, connecting=False) from error

    async def close(self) -> None:
        self._points.close()
        await self.writing.dispose()
        await self.reading.dispose()

    def batch_connection(self, owner: str) -> "SqliteBatch":  # noqa: ARG002 - one server has the file, so who lives is no question
        return SqliteBatch(self.path, self._synchronous, self._busy_seconds)

    def _engine(self, pool_size: int, max_overflow: int) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+penstock", database=str(self.path)),
            hide_parameters=True,
            execution_options={"compiled_cache": _compiled},
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


class SqlitePointReader:
    """A connection of the event loop's own thread that can only read: some 8 us a row, where a thread and a pool take 770.

    It waits for nothing. In WAL mode writers do not block it; whatever else does (a lock while the file is recovered, a file
    that is not there) is left to the connections that wait. Each statement is a snapshot of its own.
    """

    __slots__ = ("_connection", "_file", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        """Device and number of the file that is open: another one may take its place."""

    def read(self, text: str, values: Sequence[Cell]) -> list[PointRow] | None:
        try:
            found = self._path.stat()
            file = (found.st_dev, found.st_ino)
            if file != self._file:
                self.close()
            connection = self._connection or self._connect(file)
            return connection.execute(text, values).fetchall()
        except (sqlite3.Error, OSError):
            self.close()
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, file: tuple[int, int]) -> sqlite3.Connection:
        # Closed by whoever closes the database, which in a test may be another thread.
        self._connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        self._file = file
        return self._connection


class SqliteBatch:
    """One ``BEGIN IMMEDIATE`` transaction per call."""

    __slots__ = ("_busy_seconds", "_connection", "_path", "_synchronous")

    def __init__(self, path: Path, synchronous: Synchronous, busy_seconds: float) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None

    def write(self, statements: Iterable[tuple[str, BulkRow]]) -> None:
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


def pragmas(synchronous: Synchronous) -> tuple[str, ...]:
    """Statements that every writing connection begins with."""
    return ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}", "PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def begin_immediate(connection: Connection) -> None:
    """Begin a transaction that has the write lock from the start."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _only_read(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def make_file(path: Path) -> None:
    """Make the file and its directory readable by their owner only, since SQLite would use the umask."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"cannot write in {path.parent}, where SQLite keeps its journal")


def explain(error: Exception, path: Path) -> str:
    """A database error in the operator's terms."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if "locked" in text:
        return f"{path} is locked by another process that does not let go; see who has it open (fuser {path})"
    if "readonly" in text or "unable to open" in text:
        return f"cannot write {path}: {text}"
    if "not a database" in text or "malformed" in text:
        return f"{path} is not a SQLite database, or is damaged: {text}"
    if "full" in text:
        return f"no space left for {path}"
    return f"cannot use {path}: {text}"


async def quick_check(conn: AsyncConnection) -> str:
    """What SQLite finds wrong with the file, 'ok' for nothing."""
    return str((await conn.exec_driver_sql("PRAGMA quick_check(1)")).scalar_one())
