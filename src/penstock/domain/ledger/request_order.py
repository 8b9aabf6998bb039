"""The request log by size: the slowest requests of an account, or those with most tokens, in pages, with any filter.

No index has these orders; one for each would be written with every request. The sums by hour and kind say instead above what
no request of them is (``usage_kinds.most_*``). They are looked at with the highest first, and rows are read of one after the
other until the next cannot hold anything that belongs before what was found. Each of those that were read holds a request
that is listed, so a list reads no more hours than it has lines, however long the log is; it ends after ``MOST_LISTED``.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, and_, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.history import RECEIPTS, Receipt
from penstock.domain.ledger.request_log import ROWS_PER_PAGE, Filter, of_sums, words_of_kinds
from penstock.domain.ledger.retention import first_day_kept
from penstock.errors import InvalidRequest
from penstock.store.request_key import id_of, key_of
from penstock.store.sql.schema import kinds, requests, usage_kinds

MOST_LISTED: Final = 500
"""Requests that a list by size has; a filter or a file finds the others."""
_AT_ONCE: Final = 32
"""Hours of a kind whose rows are read with one statement."""
_HOUR_MS: Final = 3_600_000


class Order(msgspec.Struct, frozen=True):
    """A column of requests, and what none of an hour and kind is above."""

    column: str
    most: str


ORDERS: Final = {
    "read": Order("input_tokens", "most_input"),
    "written": Order("output_tokens", "most_output"),
    "first": Order("first_byte_ms", "most_first_ms"),
    "whole": Order("total_ms", "most_total_ms"),
}
"""By the word that a page has for it; the largest come first."""


class _Place(msgspec.Struct, frozen=True, order=True):
    """Where a request stands in the order: its size, its time, and its stored id."""

    size: int
    at: int
    key: bytes


class _Spot(msgspec.Struct, frozen=True):
    """The requests of one kind in one hour, none of which is larger than ``most``."""

    hour: int
    kind: int
    most: int

    @property
    def first(self) -> tuple[int, int]:
        """The size and time that the first of them can have."""
        return self.most, (self.hour + 1) * _HOUR_MS - 1


async def page(
    conn: AsyncConnection, user_id: str, chosen: Filter, most: int = ROWS_PER_PAGE
) -> tuple[list[Receipt], str]:
    """A page of requests that have ended, and the cursor of the next page ('' at the end). Raises ``InvalidRequest``."""
    order = ORDERS[chosen.order]
    listed, before = _cursor(chosen.before)
    if not chosen.sent:
        return [], ""
    most = min(most, MOST_LISTED - listed)
    spots = await _spots(conn, user_id, chosen, order)
    found: list[_Place] = []
    for start in range(0, len(spots), _AT_ONCE):
        if len(found) > most and spots[start].first < (found[most].size, found[most].at):
            break
        some = spots[start : start + _AT_ONCE]
        found += await _read(conn, user_id, chosen.key_id, order.column, some, before, most + 1)
        found = sorted(found, reverse=True)[: most + 1]
    shown = found[:most]
    rows = await _receipts(conn, shown)
    if len(found) <= most or listed + most >= MOST_LISTED:
        return rows, ""
    last = shown[-1]
    return rows, f"{listed + most}.{last.size}.{last.at}.{id_of(last.key)}"


def _cursor(before: str) -> tuple[int, _Place | None]:
    if not before:
        return 0, None
    count, _, rest = before.partition(".")
    size, _, rest = rest.partition(".")
    at, _, id = rest.partition(".")
    numbers = (count, size, at)
    if not all(number.isascii() and number.isdigit() and len(number) <= 18 for number in numbers):
        raise InvalidRequest("This is not a page of the list.", param="before")
    if int(count) >= MOST_LISTED:
        raise InvalidRequest("The list by size ends before this page.", param="before")
    return int(count), _Place(int(size), int(at), key_of(id))


async def _spots(conn: AsyncConnection, user_id: str, chosen: Filter, order: Order) -> list[_Spot]:
    """Where requests can be, the highest first: no more than the list has lines, since each holds one of them."""
    highest = func.max(usage_kinds.c[order.most])
    rows = await conn.execute(
        select(usage_kinds.c.hour, usage_kinds.c.kind, highest)
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(
            *of_sums(user_id, chosen),
            *words_of_kinds(chosen),
            usage_kinds.c.hour >= await first_day_kept(conn) * 24,
        )
        .group_by(usage_kinds.c.hour, usage_kinds.c.kind)
        .order_by(highest.desc(), usage_kinds.c.hour.desc())
        .limit(MOST_LISTED + _AT_ONCE)
    )
    return [_Spot(*tuple(row)) for row in rows]


async def _read(
    conn: AsyncConnection,
    user_id: str,
    key_id: str,
    column: str,
    spots: Sequence[_Spot],
    before: _Place | None,
    most: int,
) -> list[_Place]:
    """The first ``most`` of each of these, those behind ``before`` alone."""
    size, at, key = requests.c[column], requests.c.created_at, requests.c.id
    parts: list[Select[*tuple[Any, ...]]] = []
    for number, spot in enumerate(spots):
        day, start = spot.hour // 24, spot.hour * _HOUR_MS
        wanted = [
            requests.c.user_id == user_id,
            # A row's day is that of its time, or one beside it.
            requests.c.day.in_((day - 1, day, day + 1)),
            requests.c.kind == spot.kind,
            at >= start,
            at < start + _HOUR_MS,
            size.is_not(None),
        ]
        if key_id:
            wanted.append(requests.c.key_id == key_id)
        if before is not None:
            same = and_(
                size == before.size, or_(at < before.at, and_(at == before.at, key < id_of(before.key)))
            )
            wanted.append(or_(size < before.size, same))
        first = select(size, at, key).where(*wanted).order_by(size.desc(), at.desc(), key.desc()).limit(most)
        parts.append(select(first.subquery(f"spot_{number}")))
    rows = await conn.execute(union_all(*parts))
    return [_Place(int(size), int(at), key_of(id)) for size, at, id in rows]


async def _receipts(conn: AsyncConnection, places: Sequence[_Place]) -> list[Receipt]:
    if not places:
        return []
    days = {place.at // (24 * _HOUR_MS) + beside for place in places for beside in (-1, 0, 1)}
    rows = await conn.execute(
        RECEIPTS.where(
            entries.c.id.in_([id_of(place.key) for place in places]), entries.c.day.in_(sorted(days))
        )
    )
    of = {row.id: row for row in (Receipt(*row) for row in rows)}
    return [of[id] for place in places if (id := id_of(place.key)) in of]
