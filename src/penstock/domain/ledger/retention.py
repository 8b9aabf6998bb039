"""Retention: how long the ledger's rows are kept. Old ones go; the counts and sums that pages show stay.

The first day whose rows are all kept is noted before any of an earlier day goes, so that nobody takes what is left of a day
for the whole of it.
"""

import logging

from sqlalchemy import delete, exists, func, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.database import Database, upsert
from penstock.store.sql.partitions import drop_before, is_partitioned, make_ahead
from penstock.store.sql.schema import requests, retention

log = logging.getLogger("penstock.domain.ledger")

ROWS_AT_ONCE = 2000
"""Rows deleted in one transaction: others wait for it, so it is short."""
LOCK_MS = 1000
"""How long changing the partitions may wait for those who read them; whoever comes then waits, too."""

_LOCK_NOT_AVAILABLE = "55P03"


class _Busy(Exception):
    """The partitions are in use."""


async def first_day_kept(conn: AsyncConnection) -> int:
    """The first day (UTC day number) whose rows are all kept; 0 while none were removed."""
    noted = select(retention.c.first_day).where(retention.c.subject == requests.name)
    return await conn.scalar(noted) or 0


async def keep(database: Database, today: int, days: int) -> int:
    """Remove the rows of what is more than ``days`` days before ``today`` (UTC day number); 0 removes none.

    On PostgreSQL a month goes as a whole, once the last of its days may, and the partitions of the next one are made; gives
    the days removed there, and elsewhere the rows. Raises ``DatabaseUnavailable``.
    """
    async with database.connect() as conn:
        partitioned = await conn.run_sync(is_partitioned)
    if partitioned:
        return await _keep_partitions(database, today, days)
    return await _keep_rows(database, today - days) if days else 0


async def _keep_partitions(database: Database, today: int, days: int) -> int:
    async with database.connect() as conn:
        # Only where the server's clock agrees is a day over: one that runs ahead would take what cannot be brought back.
        server_day = int(
            await conn.scalar(select(func.floor(func.extract("epoch", func.now()) / 86_400))) or 0
        )
    oldest = min(today, server_day) - days if days else 0
    try:
        async with database.transaction() as conn:
            await conn.execute(select(func.set_config("lock_timeout", str(LOCK_MS), True)))
            try:
                made = await conn.run_sync(lambda connection: make_ahead(connection, today, kept=days))
                if made:
                    log.info("partitions made: %s", ", ".join(made))
                return await _drop(conn, oldest)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                    raise _Busy from error
                raise
    except _Busy:
        log.info("the partitions of the request log are in use; they are seen to next time")
        return 0


async def _drop(conn: AsyncConnection, oldest: int) -> int:
    gone = await conn.run_sync(lambda connection: drop_before(connection, oldest))
    if not gone:
        return 0
    await _note(conn, max(part.end for part in gone))
    count = sum(part.end - part.first for part in gone)
    log.info("requests of %d days removed", count)
    return count


async def _keep_rows(database: Database, oldest: int) -> int:
    old = (requests.c.day < oldest,)
    async with database.connect() as conn:
        if not await conn.scalar(select(exists(select(1).where(*old)))):
            return 0
    async with database.transaction() as conn:
        await _note(conn, oldest)
    key = tuple_(requests.c.id, requests.c.day)
    some = delete(requests).where(
        key.in_(select(requests.c.id, requests.c.day).where(*old).limit(ROWS_AT_ONCE))
    )
    count = 0
    while True:
        async with database.transaction() as conn:
            gone = (await conn.execute(some)).rowcount
        count += gone
        if gone < ROWS_AT_ONCE:
            break
    log.info("requests removed", extra={"rows": count})
    return count


async def _note(conn: AsyncConnection, first: int) -> None:
    first = max(first, await first_day_kept(conn))
    note = upsert(conn, retention, ["subject"], ["first_day"])
    await conn.execute(note, {"subject": requests.name, "first_day": first})
