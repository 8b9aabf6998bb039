"""Carries an installation from a SQLite file over to an empty PostgreSQL database: whole and verified, or not at all.

The rows of a table are read in the order of its primary key and hashed on their way out; then they are read back from
PostgreSQL in the same order and hashed again. Everything there happens in one transaction, so that whatever goes wrong
leaves the database as empty as it was.
"""

# pyright: reportUnknownMemberType=false
# asyncpg is not annotated; Copying says what is used of it.

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Final, Protocol, cast

import asyncpg
import msgspec
from sqlalchemy import ColumnElement, String, Table, TypeDecorator, exists, select, type_coerce
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import DatabaseUnavailable
from penstock.store.sql.backend import PoolSettings, StoreError, owner_key
from penstock.store.sql.database import ONE_SERVER, Database, check_revision, make_tables, stored_revision
from penstock.store.sql.key_changes import let_pass
from penstock.store.sql.partitions import make_for
from penstock.store.sql.postgresql import PostgresqlBackend
from penstock.store.sql.postgresql_address import PostgresqlAddress
from penstock.store.sql.schema import metadata, requests

ROWS_AT_A_TIME: Final = 1000
"""Rows in one COPY."""

_DAY: Final = 86_400.0
_POOL: Final = PoolSettings(size=1, statement=_DAY, idle=_DAY, hold=_DAY)
_PATIENCE: Final = 3.0
"""Seconds that a connection which was just closed may take to be gone from the server's list."""

_OTHERS: Final = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'penstock%' AND pid <> pg_backend_pid()"
)


class MovedTable(msgspec.Struct, frozen=True):
    """A table that is the same on both sides. ``checksum`` is the SHA-256 of its rows, in hexadecimal."""

    name: str
    rows: int
    checksum: str


class Copying(Protocol):
    """A connection of asyncpg's, as far as it is used."""

    async def copy_records_to_table(
        self, table_name: str, *, records: Sequence[tuple[object, ...]], columns: Sequence[str]
    ) -> str:
        """Append rows by the COPY protocol."""
        ...


async def move(source: Database, address: PostgresqlAddress) -> list[MovedTable]:
    """Copy every row of the SQLite database ``source`` to the empty PostgreSQL database at ``address``.

    Nobody can write to ``source`` meanwhile; it stays as it is. Raises ``StoreError`` when the other database is not
    empty, in use or out of reach, refuses a row, or does not give back what it was given; it is empty then.
    """
    target = PostgresqlBackend(address, _POOL)
    try:
        async with source.transaction() as old, target.writing.begin() as new:
            await _refuse_company(new, target.name)
            await _prepare(new, target.name)
            days = list(await old.scalars(select(requests.c.day).distinct().order_by(requests.c.day)))
            await new.run_sync(lambda connection: make_for(connection, days))
            await new.run_sync(lambda connection: let_pass(connection, noted=False))
            sent = [await _copy(old, new, table) for table in metadata.sorted_tables]
            await new.run_sync(lambda connection: let_pass(connection, noted=True))
            for table, moved in zip(metadata.sorted_tables, sent, strict=True):
                if await _summary(new, table) != moved:
                    raise StoreError(
                        f"{target.name} does not give back what table {table.name} had; nothing was moved"
                    )
            return sent
    except DatabaseUnavailable as error:
        raise StoreError(source.trouble or f"cannot use {source.name}") from error
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise StoreError(target.explain(error)) from error
    finally:
        await target.writing.dispose()
        await target.reading.dispose()


async def _refuse_company(conn: AsyncConnection, name: str) -> None:
    alone = await conn.exec_driver_sql("SELECT pg_try_advisory_xact_lock($1)", (owner_key(ONE_SERVER),))
    busy = not alone.scalar_one()
    deadline = time.monotonic() + _PATIENCE
    while not busy:
        if not (await conn.exec_driver_sql(_OTHERS)).scalar_one():
            return
        busy = time.monotonic() > deadline
        await asyncio.sleep(0.05)
        # A transaction sees the list as it first saw it, until it is told to look again.
        await conn.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    raise StoreError(f"a server or another command is using {name}; stop it first")


async def _prepare(conn: AsyncConnection, name: str) -> None:
    """The tables, as they are made for a new database, or found there without a row."""
    if await conn.run_sync(make_tables):
        return
    check_revision(await conn.run_sync(stored_revision), name)
    for table in metadata.sorted_tables:
        if (await conn.execute(select(exists(select(1).select_from(table))))).scalar_one():
            raise StoreError(
                f"{name} is not empty, table {table.name} has rows: make another database (createdb), or empty this one"
            )


def _stored(table: Table) -> list[ColumnElement[object]]:
    """The columns with their values as they are stored: COPY does not ask SQLAlchemy's types what they make of them."""
    return [
        type_coerce(column, column.type.impl_instance) if isinstance(column.type, TypeDecorator) else column
        for column in table.columns
    ]


async def _copy(old: AsyncConnection, new: AsyncConnection, table: Table) -> MovedTable:
    raw = await new.get_raw_connection()
    server = cast("Copying", raw.driver_connection)
    names = [column.name for column in table.columns]
    digest = hashlib.sha256()
    count = 0
    async with old.stream(select(*_stored(table)).order_by(*table.primary_key)) as rows:
        async for part in rows.partitions(ROWS_AT_A_TIME):
            records = [tuple(row) for row in part]
            for record in records:
                digest.update(msgspec.msgpack.encode(record))
            try:
                await server.copy_records_to_table(table.name, records=records, columns=names)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                # The server's words without its DETAIL, which quotes the row.
                raise StoreError(f"table {table.name}: {error.args[0]}; nothing was moved") from error
            except (ValueError, OverflowError, TypeError) as error:
                raise StoreError(
                    f"table {table.name} has a value that PostgreSQL cannot store ({type(error).__name__}); nothing was moved"
                ) from error
            count += len(records)
    return MovedTable(str(table.name), count, digest.hexdigest())


async def _summary(conn: AsyncConnection, table: Table) -> MovedTable:
    """What PostgreSQL has of a table, in SQLite's order: text by its bytes, whatever the database's collation."""
    key: list[ColumnElement[object]] = [
        column.collate("C") if isinstance(column.type, String) else column for column in table.primary_key
    ]
    digest = hashlib.sha256()
    count = 0
    async with conn.stream(select(*_stored(table)).order_by(*key)) as rows:
        async for part in rows.partitions(ROWS_AT_A_TIME):
            for row in part:
                digest.update(msgspec.msgpack.encode(tuple(row)))
            count += len(part)
    return MovedTable(str(table.name), count, digest.hexdigest())
