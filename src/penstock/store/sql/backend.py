"""The interface of a database engine to ``store/sql/database.py``, and the names of its failures."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.errors import OperatorError
from penstock.store.sql.bulk import BulkRow


class StoreError(OperatorError):
    """The store cannot be opened; the message is for the operator, and tells what to do."""


class WriteFailed(Exception):
    """The database cannot take a batch now: locked, full, out of reach. What was not committed is rolled back."""


class RowRefused(Exception):
    """A row of a batch cannot be stored as it is. Nothing of the batch was written."""


class ReadFailed(Exception):
    """A point read could not be made now. ``connecting``: not even a connection was to be had."""

    def __init__(self, cause: Exception, *, connecting: bool) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause
        self.connecting = connecting


Cell = str | int | bytes | None
PointRow = tuple[Cell, ...]
"""A row as the driver gives it."""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a PostgreSQL server is used. Times are in seconds."""

    size: int = 5
    connect: float = 5.0
    statement: float = 15.0
    lock: float = 5.0

    idle: float = 30.0
    """How long a transaction may sit idle before the server ends it."""
    hold: float = 4.0
    """The same of one that writes. It has the turn of all writers, so a process that hangs in the middle of one must lose
    that before those who wait for it give up.
    """


class BatchConnection(Protocol):
    """A connection for one thread that writes batches, without SQLAlchemy's 15 us a statement.

    Opened with the first call, in the thread that calls, and anew after a failure.
    """

    def write(self, statements: Iterable[tuple[str, BulkRow]]) -> None:
        """Execute all statements, with ``?`` for each value, in one transaction. Raises ``WriteFailed``, ``RowRefused``."""
        ...

    def close(self) -> None:
        """Close the connection, which rolls back what was not committed. From any thread, once none is writing."""
        ...


class Backend(Protocol):
    """One opened engine. ``writing`` begins write transactions, which exclude each other; ``reading`` can only read."""

    @property
    def name(self) -> str:
        """What messages call the database: a path, or an address without its password."""
        ...

    @property
    def path(self) -> Path | None:
        """The database's file, where it is one."""
        ...

    @property
    def out_of_reach(self) -> tuple[type[Exception], ...]:
        """What connecting fails with, before SQLAlchemy has a connection whose errors it wraps."""
        ...

    @property
    def writing(self) -> AsyncEngine: ...

    @property
    def reading(self) -> AsyncEngine: ...

    def passing(self, error: Exception) -> bool:
        """Whether a failure at the start is worth another try."""
        ...

    def unavailable(self, error: DBAPIError) -> bool:
        """Whether a failure is the database's state, and not the statement's fault."""
        ...

    def explain(self, error: Exception) -> str:
        """A failure in the operator's terms."""
        ...

    def read_now(self, text: str, values: Sequence[Cell]) -> list[PointRow] | None:
        """The rows of a small SELECT with ``?`` for each value, at once; None when it would have to be waited for."""
        ...

    async def read(self, text: str, values: Sequence[Cell]) -> list[PointRow]:
        """The same, waited for, by the driver alone. Raises ``ReadFailed``."""
        ...

    async def close(self) -> None:
        """Close every connection but those of batches."""
        ...

    def batch_connection(self, owner: str) -> BatchConnection:
        """A connection that shows, while it lives, that ``owner`` is alive."""
        ...


def owner_key(owner: str) -> int:
    """The advisory lock of an owner: 64 bits of a hash, signed, as the server wants it."""
    return int.from_bytes(hashlib.sha256(b"penstock:" + owner.encode()).digest()[:8], "big", signed=True)
