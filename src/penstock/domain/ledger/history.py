"""History of an account, request by request; sums of it are in ``domain/ledger/rollups.py``.

Every function takes a connection; days are UTC day numbers, times epoch milliseconds.
"""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import InvalidRequest
from penstock.store.sql.schema import requests, usage_days

ROWS_PER_PAGE = 50


class NoSuchRequest(InvalidRequest):
    """The account has no such request."""

    status = 404
    code = "request_not_found"


class Receipt(msgspec.Struct, frozen=True):
    """A request as its owner sees it. Times and lengths of time are in milliseconds.

    ``answered_model`` is the model that the answer names, where the provider was asked for another.
    """

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
    answered_model: str | None


class Filter(msgspec.Struct, frozen=True):
    """Which requests to show; an empty part takes all. ``before`` is the ``cursor`` of the last one shown."""

    model: str = ""
    key_id: str = ""
    outcome: str = ""
    before: str = ""


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
        if not (at.isascii() and at.isdigit()) or len(at) > 15:
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
        .limit(ROWS_PER_PAGE + 1)
    )
    found = [_receipt(row) for row in rows]
    if len(found) <= ROWS_PER_PAGE:
        return found, ""
    last = found[ROWS_PER_PAGE - 1]
    return found[:ROWS_PER_PAGE], f"{last.created_at}.{last.id}"


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


async def rank(conn: AsyncConnection, row: Receipt, user_id: str) -> int:
    """How many requests of its day had counted before this one."""
    earlier = or_(
        requests.c.created_at < row.created_at,
        and_(requests.c.created_at == row.created_at, requests.c.id < row.id),
    )
    count = await conn.scalar(
        select(func.count()).where(
            requests.c.user_id == user_id, requests.c.day == row.day, requests.c.counted, earlier
        )
    )
    return count or 0


async def used_on(conn: AsyncConnection, user_id: str, day: int) -> int:
    """How many requests of ``day`` count against the plan."""
    return (
        await conn.scalar(
            select(usage_days.c.used).where(usage_days.c.user_id == user_id, usage_days.c.day == day)
        )
        or 0
    )


def _receipt(row: Row[*tuple[Any, ...]]) -> Receipt:
    return Receipt(*row)


async def newest_at(conn: AsyncConnection) -> int | None:
    """When the newest request of all came, in epoch milliseconds; None where there is none."""
    return await conn.scalar(select(func.max(requests.c.created_at)))
