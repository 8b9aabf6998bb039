"""PostgreSQL through asyncpg: write transactions that exclude each other as SQLite's do, and a view that only reads.

A write transaction takes the installation's one advisory lock first, so that code written for SQLite's single writer
holds for any number of processes. The ledger's batches do not take it: their statements need no lock but the rows'.
"""

# pyright: reportUnknownMemberType=false
# asyncpg is not annotated; Server says what is used of it.

import asyncio
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg
from sqlalchemy import Connection, MetaData, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from penstock.store.sql.backend import (
    Cell,
    PointRow,
    PoolSettings,
    ReadFailed,
    RowRefused,
    WriteFailed,
    owner_key,
)
from penstock.store.sql.bulk import BulkRow, numbered
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.postgresql_frames import guard_driver
from penstock.store.sql.schema import metadata
from penstock.timeouts import within

WRITE_LOCK = 0x70656E73746F636B
"""The advisory lock of write transactions and migrations: "penstock" in ASCII."""

OURS = ("21", "22", "23", "42", "44")
"""SQLSTATE classes that are the statement's fault: more rows than one, values, constraints, the statement itself. Any other
is the server's state, or no class of SQL's.
"""

NOT_OURS = ("26000", "0A000", "3D000", "3F000", "42P01", "42703", "42601", "42883", "42501")
"""No such statement, database, schema, table, column or function, not supported, no syntax, no right."""

DEADLOCKED = ("40P01", "40001")
ATTEMPTS = 5
"""How often a batch is tried that lost its rows to another worker's."""


NOT_UNDERSTOOD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
    struct.error,
)
"""What asyncpg and SQLAlchemy fail with on bytes that are not what a PostgreSQL server says."""

LONGEST_REASON = 300
"""How much of what a server says is kept, in characters."""


class Server(Protocol):
    """A connection of asyncpg's, as far as it is used."""

    async def execute(self, query: str, *values: object) -> str:
        """Execute one statement."""
        ...

    async def fetch(self, query: str, *values: object) -> Sequence[Sequence[Any]]:
        """The rows of one statement."""
        ...

    def is_closed(self) -> bool:
        """Whether it has ended."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """A transaction: committed at the end of the block, or rolled back."""
        ...

    async def close(self, *, timeout: float) -> None:  # noqa: ASYNC109 - asyncpg's own
        """Part from the server."""
        ...

    def terminate(self) -> None:
        """Drop the connection."""
        ...


_READ_ONLY = {"default_transaction_read_only": "on"}
_connect = cast("Callable[..., Awaitable[Server]]", asyncpg.connect)


async def connect(address: PostgresqlAddress, pool: PoolSettings, more: dict[str, str]) -> Server:
    """A connection as the address says; ``more`` are settings of the server's for it. Fails as ``out_of_reach`` says."""
    named = {"options": address.options} if address.options else {}
    return await _connect(
        host=list(address.hosts) or None,
        port=list(address.ports) if address.hosts else address.ports[0],
        user=address.user,
        password=address.password,
        passfile=address.passfile,
        database=address.database,
        ssl=address.tls,
        direct_tls=address.direct_tls or None,
        target_session_attrs=address.session,
        timeout=address.connect or pool.connect,
        # The server's own deadlines come first, unless it hangs.
        command_timeout=pool.statement + pool.lock,
        server_settings=named | server_settings(pool) | {"application_name": address.application} | more,
    )


class PostgresqlBackend:
    """A PostgreSQL database, opened."""

    path = None
    out_of_reach = (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        *NOT_UNDERSTOOD,
    )

    def __init__(self, address: PostgresqlAddress, pool: PoolSettings) -> None:
        guard_driver()
        self._address = address
        self._pool = pool
        tell_dialect(metadata)
        self.name = address.name
        self.writing = self._engine("READ COMMITTED", _may_hold(pool))
        self.reading = self._engine("REPEATABLE READ", _READ_ONLY)
        self._points = PostgresqlPointReader(self._connect_to_read, size=pool.size, patience=pool.lock)
        event.listen(self.writing.sync_engine, "begin", take_turn)
        for engine in (self.writing, self.reading):
            event.listen(engine.sync_engine, "handle_error", not_understood)

    def passing(self, error: Exception) -> bool:
        return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in DEADLOCKED

    def unavailable(self, error: DBAPIError) -> bool:
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            return True
        state = str(getattr(error.orig, "sqlstate", None) or "")
        # Without a state it is the driver's own: it was told what no server says. And the tables are ours: who does not know
        # them, or our statements, is another server than the one that was opened.
        return state[:2] not in OURS or state in NOT_OURS

    def explain(self, error: Exception) -> str:
        return explain(error, self.name)

    def read_now(self, text: str, values: Sequence[Cell]) -> list[PointRow] | None:  # noqa: ARG002 - a server is always waited for
        return None

    async def read(self, text: str, values: Sequence[Cell]) -> list[PointRow]:
        return await self._points.read(numbered(text), values)

    async def close(self) -> None:
        await self._points.close()
        await self.writing.dispose()
        await self.reading.dispose()

    async def _connect_to_read(self) -> Server:
        """A connection as the reading engine's are, but without SQLAlchemy."""
        return await connect(self._address, self._pool, _READ_ONLY)

    def batch_connection(self, owner: str) -> "PostgresqlBatch":
        return PostgresqlBatch(self._address, self._pool, owner)

    def _engine(self, isolation: str, more: dict[str, str]) -> AsyncEngine:
        pool = self._pool

        async def connecting() -> Server:
            return await connect(self._address, pool, more)

        # A dead connection is noticed when it is taken out, so the first request after the server is back finds a new one.
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connecting,
            hide_parameters=True,
            pool_size=pool.size,
            max_overflow=pool.size,
            pool_timeout=pool.lock,
            pool_pre_ping=True,
            isolation_level=isolation,
        )


class PostgresqlPointReader:
    """A few connections for statements that read some rows by their key, each a snapshot of its own.

    SQLAlchemy's pool asks whether a connection lives before each use, and begins and ends a transaction: three journeys where
    this takes one. A connection that turns out to be dead is replaced once, since a read may be made twice.
    """

    __slots__ = ("_closed", "_connect", "_idle", "_patience", "_turns")

    def __init__(self, connect: Callable[[], Awaitable[Server]], *, size: int, patience: float) -> None:
        """``patience``: seconds to wait for a free connection."""
        self._connect = connect
        self._patience = patience
        self._turns = asyncio.Semaphore(size)
        self._idle: list[Server] = []
        self._closed = False

    async def read(self, text: str, values: Sequence[Cell]) -> list[PointRow]:
        try:
            async with within(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise ReadFailed(error, connecting=False) from error
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_closed():
                    continue
                try:
                    return await self._read_on(connection, text, values)
                except ReadFailed as failure:
                    if not connection.is_closed() or isinstance(failure.cause, TimeoutError):
                        raise
            try:
                connection = await self._connect()
            except (*_FAILURES, ValueError) as error:
                raise ReadFailed(error, connecting=True) from error
            return await self._read_on(connection, text, values)
        finally:
            self._turns.release()

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await _part(self._idle.pop())

    async def _read_on(self, connection: Server, text: str, values: Sequence[Cell]) -> list[PointRow]:
        usable = False
        try:
            rows = await connection.fetch(text, *values)
            usable = True
        except asyncpg.PostgresError as error:
            # The server refused the statement, and may have ended the connection with it.
            usable = not str(getattr(error, "sqlstate", None) or "").startswith(("08", "57P"))
            raise ReadFailed(error, connecting=False) from error
        except _FAILURES as error:
            raise ReadFailed(error, connecting=False) from error
        finally:
            if usable and not self._closed and not connection.is_closed():
                self._idle.append(connection)
            else:
                connection.terminate()
        return [tuple(row) for row in rows]


class PostgresqlBatch:
    """One transaction per call, on a connection and an event loop of the writing thread's own.

    The connection holds the advisory lock of its owner: while the server still works for a process, even for one that
    was killed a moment ago, nobody takes it for dead.
    """

    __slots__ = ("_address", "_connection", "_loop", "_owner", "_pool")

    def __init__(self, address: PostgresqlAddress, pool: PoolSettings, owner: str) -> None:
        self._address = address
        self._pool = pool
        self._owner = owner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Server | None = None

    def write(self, statements: Iterable[tuple[str, BulkRow]]) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        try:
            connection = self._connection or self._loop.run_until_complete(self._connect())
        except (*_FAILURES, ValueError) as error:
            self._abandon()
            raise WriteFailed(_words(error)) from error
        try:
            self._loop.run_until_complete(_transact(connection, list(statements)))
        except (
            UnicodeDecodeError
        ) as error:  # what it was told; a text of ours that is none fails as it is encoded
            self._abandon()
            raise WriteFailed(_words(error)) from error
        except _REFUSALS as error:
            raise RowRefused(_words(error)) from error
        except _FAILURES as error:
            self._abandon()
            raise WriteFailed(_words(error)) from error

    def close(self) -> None:
        if self._loop is None:
            return
        # Called on the thread of another running loop, where this one may not run: so in one more thread.
        closing = threading.Thread(target=self._close, name="penstock-batch-close")
        closing.start()
        closing.join()

    def _close(self) -> None:
        if self._loop is not None:
            if self._connection is not None:
                self._loop.run_until_complete(_part(self._connection))
                self._connection = None
            self._loop.close()
            self._loop = None

    async def _connect(self) -> Server:
        connection = await connect(self._address, self._pool, _may_hold(self._pool))
        self._connection = connection
        if self._owner:
            await connection.execute("SELECT pg_advisory_lock($1)", owner_key(self._owner))
        return connection

    def _abandon(self) -> None:
        """After a failure: the next write begins with a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is not None:
            connection.terminate()
            self._loop.run_until_complete(
                asyncio.sleep(0)
            )  # the transport closes its socket in the loop's next turn


async def _transact(connection: Server, statements: list[tuple[str, BulkRow]]) -> None:
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            async with connection.transaction():
                for text, values in statements:
                    await connection.execute(numbered(text), *values)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            if not left:
                raise
        else:
            return


async def _part(connection: Server) -> None:
    try:
        await connection.close(timeout=2)
    except _FAILURES:
        connection.terminate()
    await asyncio.sleep(0)


_REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    ValueError,  # asyncpg's own refusal of a value that is not of the column's type, and of text that is no UTF-8
    OverflowError,
)
_FAILURES = PostgresqlBackend.out_of_reach


def tell_dialect(tables: MetaData) -> None:
    """Set what is PostgreSQL's alone in the tables, which the schema keeps in ``info``: set there it would load the dialect
    for everybody, 2 MB.
    """
    for table in tables.tables.values():
        for item in (table, *table.indexes):
            options: dict[str, object] = item.info.get("postgresql", {})
            for name, value in options.items():
                item.dialect_options["postgresql"][name] = value


def take_turn(connection: Connection) -> None:
    """Wait for the write lock, which the end of the transaction gives back."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1)", (WRITE_LOCK,))


def not_understood(context: ExceptionContext) -> DBAPIError | None:
    """What the driver fails with on an answer that is none, as the server's failure.

    Its connection is not used again: the driver keeps what it was told of a statement for as long as that lasts.
    """
    known, error = context.sqlalchemy_exception, context.original_exception
    if isinstance(known, DBAPIError):
        state = str(getattr(known.orig, "sqlstate", None) or "")
        context.is_disconnect = context.is_disconnect or not state or state in NOT_OURS
        return None
    if known is not None or not isinstance(error, NOT_UNDERSTOOD):
        return None
    context.is_disconnect = True
    return OperationalError(None, None, error, connection_invalidated=True)


def server_settings(pool: PoolSettings) -> dict[str, str]:
    """Settings of a connection for the server, in its own units: milliseconds."""
    return {
        "statement_timeout": str(int(pool.statement * 1000)),
        "lock_timeout": str(int(pool.lock * 1000)),
        "idle_in_transaction_session_timeout": str(int(pool.idle * 1000)),
        "timezone": "UTC",
    }


def _may_hold(pool: PoolSettings) -> dict[str, str]:
    """How long a transaction of this connection may keep others waiting while its process does nothing."""
    return {"idle_in_transaction_session_timeout": str(int(pool.hold * 1000))}


def _words(error: Exception) -> str:
    """The server's words without its DETAIL, which quotes the row."""
    words = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    return _plain(str(words)) or type(error).__name__


def _plain(text: str) -> str:
    """What a server says, as it may stand in a line of the log."""
    return "".join(one if one.isprintable() else " " for one in text[:LONGEST_REASON])


def explain(error: Exception, name: str) -> str:
    """A failure in the operator's terms, on one line."""
    return _plain(_explained(error, name))


def _explained(error: Exception, name: str) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    if isinstance(cause, OSError | TimeoutError):
        return f"{name} cannot be reached: {cause}" if str(cause) else f"{name} did not answer in time"
    if state.startswith("28"):
        return f"{name} refuses the user or the password: {cause}"
    if state == "3D000":
        return f"{name} does not exist; make it: createdb"
    if state == "42501":
        return f"{name}: the user may not do what is needed: {cause}"
    if isinstance(cause, NOT_UNDERSTOOD) or not state:
        return f"{name} does not answer as PostgreSQL does: {cause or type(cause).__name__}"
    return f"cannot use {name}: {cause}"
