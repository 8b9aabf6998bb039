"""Latency of requests: how long the first token and the whole answer took, counted in classes, and percentiles of them.

``usage_times`` has a row for each account, hour, key, model and client, with as many requests in each class. It is written
in the ledger's batches, with the other sums (``domain/ledger/rollups.py``). Hours that no page shows any more are put together
by day, so that a year is as quickly read as it is long: ``merge_hours``.

A class below ten milliseconds holds one to three values, and no class ends later than five thirds of where it begins. So a
percentile is told to the millisecond where it is short. Where it is long it is off by a few per cent if requests fill its
class evenly, and by a third of itself if a lone one is at its edge. Only requests that completed are timed as a whole.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, delete, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries
from penstock.store.sql.bulk import Bulk, BulkRow
from penstock.store.sql.database import Database
from penstock.store.sql.schema import usage_times

BOUNDS: Final = (
    1, 2, 3, 4, 5, 7, 10, 13, 16, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 260, 330, 420, 550, 700, 900, 1200, 1600,
    2100, 2800, 3700, 5000, 7000, 10_000, 14_000, 20_000, 30_000, 45_000, 70_000, 110_000, 170_000, 280_000, 450_000,
)  # fmt: skip
"""Milliseconds at which the classes end; the last class has no end."""
NUMBER: Final = len(BOUNDS) + 1
"""Of classes."""
FIRST: Final = tuple(f"first_{number}" for number in range(NUMBER))
WHOLE: Final = tuple(f"whole_{number}" for number in range(NUMBER))
KEY: Final = ("user_id", "hour", "key_id", "model", "client")
HOURS_KEPT: Final = 3
"""Days whose hours are kept apart: the page shows two."""
_ROWS_AT_ONCE: Final = 200
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

_ADD: Final = Bulk(
    f"INSERT INTO usage_times ({', '.join((*KEY, *FIRST, *WHOLE))}) VALUES ",  # noqa: S608 - names of this file alone
    f"({', '.join('?' * (len(KEY) + 2 * NUMBER))})",
    f" ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = usage_times.{name} + excluded.{name}" for name in (*FIRST, *WHOLE)),
)


Timed = tuple[str, int, str, str, str]
"""The key of a row: account, epoch hour, key, model and client."""


def timing(found: Iterable[tuple[Timed, Sequence[int]]], sign: int) -> Iterator[tuple[str, BulkRow]]:
    """The statements that add so many requests in each class, or with ``sign`` -1 take them out again."""
    times: dict[Timed, Sequence[int]] = {}
    for key, counts in found:
        if any(counts):
            known = times.get(key)
            times[key] = counts if known is None else [sum(two) for two in zip(known, counts, strict=True)]
    if sign < 0:
        times = {key: [-count for count in counts] for key, counts in times.items()}
    yield from _ADD.statements([(*key, *times[key]) for key in sorted(times)])


def class_of(milliseconds: int) -> int:
    """The class that a time is in."""
    return bisect_right(BOUNDS, milliseconds)


def percentile(classes: Sequence[int], share: float) -> int | None:
    """The time in milliseconds within which ``share`` of the requests were.

    The requests of a class are taken to lie evenly in it, each in the middle of its part, so a lone one in the class's middle.
    """
    total = sum(classes)
    if total < 1:
        return None
    wanted = max(1, ceil(share * total))
    below = 0
    for number, count in enumerate(classes):
        if count > 0 and below + count >= wanted:
            start = BOUNDS[number - 1] if number else 0
            end = BOUNDS[number] if number < len(BOUNDS) else 2 * BOUNDS[-1]
            # Times are whole milliseconds: a class of one has no other value.
            return min(end - 1, start + int((end - start) * (wanted - below - 0.5) / count))
        below += count
    return 2 * BOUNDS[-1]


# ---- the same from the rows


def of_rows(
    first: int, end: int | None
) -> tuple[ColumnElement[bool], Select[*tuple[Any, ...]], Select[*tuple[Any, ...]]]:
    """By day, since hours may have been put together: which rows of the table are meant, what it has, what the rows say.

    From day ``first`` to before ``end``. Both have the columns of ``KEY``, and then the classes.
    """
    part = usage_times.c.hour >= first * 24
    settled = and_(
        entries.c.state == "settled",
        entries.c.created_at >= first * _DAY_MS,
        entries.c.day >= first - 1,
        or_(entries.c.first_byte_ms.is_not(None), _whole().is_not(None)),
    )
    if end is not None:
        part = and_(part, usage_times.c.hour < end * 24)
        settled = and_(settled, entries.c.created_at < end * _DAY_MS, entries.c.day <= end)
    day = usage_times.c.hour // _constant(24) * _constant(24)
    kept = (usage_times.c.user_id, day, usage_times.c.key_id, usage_times.c.model, usage_times.c.client)
    day_of_row = entries.c.created_at // _constant(_DAY_MS) * _constant(24)
    made = (entries.c.user_id, day_of_row, entries.c.key_id, entries.c.model, entries.c.client)
    return (
        part,
        select(*kept, *(func.sum(usage_times.c[name]) for name in (*FIRST, *WHOLE)))
        .where(part)
        .group_by(*kept),
        select(*made, *_classes(entries.c.first_byte_ms), *_classes(_whole())).where(settled).group_by(*made),
    )


def _whole() -> ColumnElement[int]:
    return case((entries.c.outcome == "completed", entries.c.total_ms))


def _classes(time: ColumnElement[int]) -> list[ColumnElement[int]]:
    found: list[ColumnElement[int]] = []
    for start, end in zip((None, *BOUNDS), (*BOUNDS, None), strict=True):
        within = time.is_not(None) if start is None else time >= start
        if end is not None:
            within = and_(within, time < end)
        found.append(func.sum(case((within, 1), else_=0)))
    return found


# ---- hours that are put together


async def merge_hours(database: Database, today: int) -> int:
    """Put the hours of days before the last ``HOURS_KEPT`` (``today`` is a UTC day number) together by day; how many rows.

    A row that is added to such a day later is put to the others the next time. Raises ``DatabaseUnavailable``.
    """
    hour = usage_times.c.hour
    apart = and_(hour < (today - HOURS_KEPT + 1) * 24, hour % 24 != 0)
    key = [usage_times.c[name] for name in KEY]
    some = delete(usage_times).where(tuple_(*key).in_(select(*key).where(apart).limit(_ROWS_AT_ONCE)))
    count = 0
    while True:
        async with database.transaction() as conn:
            # What another process has taken is not among them.
            gone = (await conn.execute(some.returning(usage_times))).all()
            rows = [tuple(row) for row in gone]
            width = len(KEY)
            days = ((_of_day(row[:width]), row[width:]) for row in rows)
            await database.execute(conn, timing(days, 1))
        count += len(rows)
        if len(rows) < _ROWS_AT_ONCE:
            return count


def _of_day(key: tuple[Any, ...]) -> Timed:
    user_id, hour, key_id, model, client = key
    return user_id, hour // 24 * 24, key_id, model, client


# ---- what pages ask for


class Times(msgspec.Struct, frozen=True):
    """Requests of some time, with one model, key or client where they are told apart: how many are in each class."""

    start: int
    of: str
    first: tuple[int, ...]
    whole: tuple[int, ...]


async def times_of(conn: AsyncConnection, user_id: str, days: range, hours: int, by: str) -> list[Times]:
    """The classes of ``days`` (UTC day numbers) by spans of ``hours`` and by ``by``: model, key_id or client.

    ``start`` is in epoch hours, in the order of time.
    """
    length = _constant(hours)
    start = usage_times.c.hour // length * length
    of = usage_times.c[by]
    rows = await conn.execute(
        select(start, of, *(func.sum(usage_times.c[name]) for name in (*FIRST, *WHOLE)))
        .where(*_within(user_id, days))
        .group_by(start, of)
        .order_by(start, of)
    )
    found: list[Times] = []
    for row in rows:
        at, name, *counts = tuple(row)
        numbers = tuple(max(0, int(count)) for count in counts)
        found.append(Times(at, name, numbers[:NUMBER], numbers[NUMBER:]))
    return found


async def first_classes(conn: AsyncConnection, user_id: str, days: range) -> tuple[int, ...]:
    """How many requests of ``days`` are in each class of the time to the first token."""
    row = await conn.execute(
        select(*(func.coalesce(func.sum(usage_times.c[name]), 0) for name in FIRST)).where(
            *_within(user_id, days)
        )
    )
    return tuple(int(count) for count in row.one())


def together(times: Sequence[Times], part: Callable[[Times], tuple[int, ...]]) -> list[int]:
    """The classes of all of ``times``."""
    return [sum(counts) for counts in zip(*(part(one) for one in times), strict=True)]


def _within(user_id: str, days: range) -> list[ColumnElement[bool]]:
    hour = usage_times.c.hour
    return [usage_times.c.user_id == user_id, hour >= days.start * 24, hour < days.stop * 24]


def _constant(number: int) -> ColumnElement[int]:
    """A number in the statement itself: PostgreSQL takes two parameters for different, and so what is grouped by them."""
    return literal(number, literal_execute=True)
