"""SQLite for SQLAlchemy: statements compiled once for all engines, and one trip to the connection's thread for each."""

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    SQLiteDialect_aiosqlite,
)

NAME = "sqlite+penstock"
"""Its name in the address of an engine."""
MOST_COMPILED = 1000
"""Statements that are kept compiled."""


class OneTripCursor(AsyncAdapt_aiosqlite_cursor):
    """Opened, executed, fetched and closed in one trip to the thread; SQLAlchemy's own takes four, which is most of the work.

    All rows of a statement are fetched at once there, too. What is streamed has another cursor, which is theirs.
    """

    __slots__ = ("_arraysize", "_description", "_lastrowid", "_rowcount")

    def __init__(self, adapt_connection: AsyncAdapt_aiosqlite_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection.driver_connection
        self._rows = deque()
        self._arraysize = 1
        self._description: Any = None
        self._rowcount = -1
        self._lastrowid: int | None = None

    @property
    def description(self) -> Any:
        return self._description

    @property
    def rowcount(self) -> int:
        return self._rowcount

    @property
    def lastrowid(self) -> Any:
        return self._lastrowid

    @property
    def arraysize(self) -> int:
        return self._arraysize

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self._arraysize = value

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """There is nothing left to close."""

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._run(operation, () if parameters is None else parameters, many=False)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._run(operation, seq_of_parameters, many=True)

    async def _run(self, text: str, values: Any, *, many: bool) -> None:
        connection: Any = self._connection

        def run() -> Sequence[Any]:
            cursor: sqlite3.Cursor = connection._conn.cursor()  # noqa: SLF001 - the connection that the thread has
            try:
                (cursor.executemany if many else cursor.execute)(text, values)
                rows = cursor.fetchall() if cursor.description else ()
                self._description = cursor.description
                self._rowcount = cursor.rowcount
                self._lastrowid = cursor.lastrowid
            finally:
                cursor.close()
            return rows

        self._rows = deque(await connection._execute(run))  # noqa: SLF001 - the only way into its thread


class OneTripConnection(AsyncAdapt_aiosqlite_connection):
    """A connection whose statements take one trip each."""

    __slots__ = ()

    _cursor_cls = OneTripCursor


class SqliteDialect(SQLiteDialect_aiosqlite):
    """SQLAlchemy's own, each equal to each other: what one engine has compiled is what all others would compile."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        made = super().connect(*cargs, **cparams)
        return OneTripConnection(self.loaded_dbapi, made.driver_connection)


registry.register(NAME.replace("+", "."), __name__, SqliteDialect.__name__)


class CompiledStatements(dict[Any, Any]):
    """The statements of this process as SQL, for every engine: to compile one takes longer than to execute it.

    Their number is bounded in the simplest way: all are forgotten when there are too many.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= MOST_COMPILED:
            self.clear()
        super().__setitem__(key, value)


COMPILED = CompiledStatements()
