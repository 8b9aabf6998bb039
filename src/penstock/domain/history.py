"""What an account has asked for: its requests one by one, and summed up for its pages.

Sums are made from the ledger's rows by the index of account and day. Every function takes a connection; days are UTC day
numbers, times epoch milliseconds.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import InvalidRequest
from penstock.store.schema import requests, usage_days

PAGE = 50
LATENCY_ROWS = 2000
"""How many of the newest requests the latency is taken from."""


class NoSuchRequest(InvalidRequest):
    """The account has no such request."""

    status = 404
    code = "request_not_found"


class Receipt(msgspec.Struct, frozen=True):
    """A request as its owner sees it. Times and lengths of time are in milliseconds."""

    id: str
    key_id: str
    day: int
    created_at: int
    state: str
    dialect: str
    model: str
    requested_model: str
    stream: bool
    client: str
    provider: str
    upstream_dialect: str
    attempts: int
    status: int | None
    outcome: str | None
    counted: bool
    refund_reason: str | None
    error_code: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool
    first_byte_ms: int | None
    total_ms: int | None
    translation: str | None


class Filter(msgspec.Struct, frozen=True):
    """Which requests to show; an empty part takes all. ``before`` is the ``cursor`` of the last one shown."""

    model: str = ""
    key_id: str = ""
    outcome: str = ""
    before: str = ""


class Outcomes(msgspec.Struct, frozen=True):
    """A day of one model."""

    day: int
    model: str
    requests: int


class Sums(msgspec.Struct, frozen=True):
    """Some days together."""

    requests: int
    refunded: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


_COLUMNS = tuple(requests.c[name] for name in Receipt.__struct_fields__)
_FAILED = and_(requests.c.state == "settled", requests.c.outcome != "completed")


async def page(conn: AsyncConnection, user_id: str, chosen: Filter) -> tuple[list[Receipt], str]:
    """A page of requests, the newest first, and the cursor of the next page ('' at the end)."""
    wanted: list[ColumnElement[bool]] = [requests.c.user_id == user_id]
    if chosen.model:
        wanted.append(requests.c.model == chosen.model)
    if chosen.key_id:
        wanted.append(requests.c.key_id == chosen.key_id)
    if chosen.outcome == "failed":
        wanted.append(_FAILED)
    elif chosen.outcome:
        wanted.append(requests.c.outcome == chosen.outcome)
    if chosen.before:
        at, _, id = chosen.before.partition(".")
        if not at.isdigit() or len(at) > 15:
            raise InvalidRequest("This is not a page of the list.", param="before")
        older = requests.c.created_at < int(at)
        wanted.append(
            and_(
                requests.c.day <= int(at) // 86_400_000,
                or_(older, and_(requests.c.created_at == int(at), requests.c.id < id)),
            )
        )
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(*wanted)
        .order_by(requests.c.day.desc(), requests.c.created_at.desc(), requests.c.id.desc())
        .limit(PAGE + 1)
    )
    found = [_receipt(row) for row in rows]
    if len(found) <= PAGE:
        return found, ""
    last = found[PAGE - 1]
    return found[:PAGE], f"{last.created_at}.{last.id}"


async def receipt(conn: AsyncConnection, user_id: str, id: str) -> Receipt:
    """One request of the account. Raises ``NoSuchRequest``."""
    row = await conn.execute(select(*_COLUMNS).where(requests.c.id == id, requests.c.user_id == user_id))
    found = row.one_or_none()
    if found is None:
        raise NoSuchRequest("There is no such request on this account.")
    return _receipt(found)


async def first_request(conn: AsyncConnection, user_id: str) -> Receipt | None:
    """The account's first request, once it has ended."""
    row = await conn.execute(
        select(*_COLUMNS)
        .where(requests.c.user_id == user_id, requests.c.state == "settled")
        .order_by(requests.c.day, requests.c.created_at)
        .limit(1)
    )
    found = row.one_or_none()
    return None if found is None else _receipt(found)


async def by_day(conn: AsyncConnection, user_id: str, days: range) -> list[Outcomes]:
    """How many counted requests each model had on each of ``days``."""
    rows = await conn.execute(
        select(requests.c.day, requests.c.model, func.count())
        .where(_within(user_id, days), requests.c.counted)
        .group_by(requests.c.day, requests.c.model)
        .order_by(requests.c.day)
    )
    return [Outcomes(*row) for row in rows]


async def sums(conn: AsyncConnection, user_id: str, days: range) -> Sums:
    """Requests and tokens of ``days`` together."""

    def total(name: str) -> ColumnElement[int]:
        return func.coalesce(func.sum(requests.c[name]), 0)

    row = await conn.execute(
        select(
            func.count(),
            func.coalesce(func.sum(case((requests.c.counted, 0), else_=1)), 0),
            total("input_tokens"),
            total("output_tokens"),
            total("cache_read_tokens"),
            total("cache_write_tokens"),
        ).where(_within(user_id, days))
    )
    return Sums(*(int(value) for value in row.one()))


async def errors(conn: AsyncConnection, user_id: str, days: range) -> list[tuple[str, int]]:
    """How often requests of ``days`` failed, by cause, the most frequent first."""
    cause = func.coalesce(requests.c.error_code, requests.c.outcome)
    rows = await conn.execute(
        select(cause, func.count())
        .where(_within(user_id, days), _FAILED)
        .group_by(cause)
        .order_by(func.count().desc())
    )
    return [(name, count) for name, count in rows]


async def first_bytes(conn: AsyncConnection, user_id: str, days: range) -> list[int]:
    """The times to the first byte of the newest requests of ``days``, in rising order."""
    rows = await conn.scalars(
        select(requests.c.first_byte_ms)
        .where(_within(user_id, days), requests.c.first_byte_ms.is_not(None))
        .order_by(requests.c.day.desc(), requests.c.created_at.desc())
        .limit(LATENCY_ROWS)
    )
    return sorted(value for value in rows if value is not None)


async def used_on(conn: AsyncConnection, user_id: str, day: int) -> int:
    """How many requests of ``day`` count against the plan."""
    return (
        await conn.scalar(
            select(usage_days.c.used).where(usage_days.c.user_id == user_id, usage_days.c.day == day)
        )
        or 0
    )


def percentile(rising: Sequence[int], share: float) -> int | None:
    """The value below which ``share`` of ``rising`` lies; None of nothing."""
    return rising[min(len(rising) - 1, int(len(rising) * share))] if rising else None


def _within(user_id: str, days: range) -> ColumnElement[bool]:
    return and_(requests.c.user_id == user_id, requests.c.day >= days.start, requests.c.day < days.stop)


def _receipt(row: Row[*tuple[Any, ...]]) -> Receipt:
    return Receipt(*row)


class ModelDay(msgspec.Struct, frozen=True):
    """How a model did on a day, for all accounts together; ``failed`` is by fault of a provider or of ours."""

    day: int
    model: str
    requests: int
    failed: int
    first_byte_ms: int | None
    """The mean time to the first byte."""


async def model_days(conn: AsyncConnection, days: range) -> list[ModelDay]:
    """Every model on each of ``days``."""
    ours = requests.c.outcome.in_(("upstream_error", "error"))
    rows = await conn.execute(
        select(
            requests.c.day,
            requests.c.model,
            func.count(),
            func.sum(case((ours, 1), else_=0)),
            func.avg(requests.c.first_byte_ms),
        )
        .where(requests.c.day >= days.start, requests.c.day < days.stop, requests.c.state == "settled")
        .group_by(requests.c.day, requests.c.model)
    )
    return [
        ModelDay(number, model, count, int(failed), None if wait is None else int(wait))
        for number, model, count, failed, wait in rows
    ]
