"""History of an account, request by request; sums of it are in ``domain/ledger/rollups.py``.

Every function takes a connection; days are UTC day numbers, times epoch milliseconds.
"""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries, of_some_day
from penstock.domain.ledger.refusals import Refusal
from penstock.domain.ledger.refusals import newest as newest_refusals
from penstock.errors import InvalidRequest
from penstock.store.sql.schema import requests, usage_days

ROWS_PER_PAGE = 50
REFUSED = "refused"
"""The result of requests that were refused before any upstream was asked."""


class NoSuchRequest(InvalidRequest):
    """The account has no such request."""

    status = 404
    code = "request_not_found"


class RunsYet(NoSuchRequest):
    """The request runs, and the database has nothing of it yet."""


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


_RECEIPTS = select(*(entries.c[name] for name in Receipt.__struct_fields__))
"""Built once: of thirty columns that takes as long as asking for them."""
_FAILED = and_(entries.c.state == "settled", entries.c.outcome != "completed")


async def page(conn: AsyncConnection, user_id: str, chosen: Filter) -> tuple[list[Receipt], str]:
    """A page of requests, the newest first, and the cursor of the next page ('' at the end)."""
    wanted: list[ColumnElement[bool]] = [entries.c.user_id == user_id]
    if chosen.model:
        wanted.append(entries.c.model == chosen.model)
    if chosen.key_id:
        wanted.append(entries.c.key_id == chosen.key_id)
    if chosen.outcome == "failed":
        wanted.append(_FAILED)
    elif chosen.outcome and chosen.outcome != REFUSED:
        wanted.append(entries.c.outcome == chosen.outcome)
    if chosen.before:
        at, _, id = chosen.before.partition(".")
        if not (at.isascii() and at.isdigit()) or len(at) > 15:
            raise InvalidRequest("This is not a page of the list.", param="before")
        older = entries.c.created_at < int(at)
        wanted.append(
            and_(
                entries.c.day <= int(at) // 86_400_000,
                or_(older, and_(entries.c.created_at == int(at), entries.c.id < id)),
            )
        )
    rows = await conn.execute(
        _RECEIPTS.where(*wanted)
        .order_by(entries.c.day.desc(), entries.c.created_at.desc(), entries.c.id.desc())
        .limit(ROWS_PER_PAGE + 1)
    )
    sent = [] if chosen.outcome == REFUSED else [_receipt(row) for row in rows]
    found = sorted([*sent, *await _refused(conn, user_id, chosen)], key=_place, reverse=True)
    if len(found) <= ROWS_PER_PAGE:
        return found, ""
    last = found[ROWS_PER_PAGE - 1]
    return found[:ROWS_PER_PAGE], f"{last.created_at}.{last.id}"


def _place(row: Receipt) -> tuple[int, int, str]:
    return (row.day, row.created_at, row.id)


async def _refused(conn: AsyncConnection, user_id: str, chosen: Filter) -> list[Receipt]:
    """As many of a page as were refused before any upstream was asked."""
    if chosen.outcome not in {"", "failed", REFUSED}:
        return []
    at, _, id = chosen.before.partition(".")
    before = (int(at), id) if at else None
    rows = await newest_refusals(
        conn,
        user_id,
        before=before,
        model=chosen.model,
        key_id=chosen.key_id,
        most=ROWS_PER_PAGE + 1,
    )
    return [refused_receipt(row) for row in rows]


def refused_receipt(refusal: Refusal) -> Receipt:
    """A refusal as a line of the log."""
    return Receipt(
        id=refusal.id,
        key_id=refusal.key_id,
        day=refusal.created_at // 86_400_000,
        created_at=refusal.created_at,
        state="refused",
        dialect=refusal.dialect,
        model=refusal.model or refusal.requested_model,
        requested_model=refusal.requested_model,
        stream=bool(refusal.stream),
        client=refusal.client,
        provider="",
        upstream_dialect=refusal.dialect,
        attempts=0,
        status=refusal.status,
        outcome=None,
        counted=False,
        refund_reason=None,
        error_code=refusal.code,
        input_tokens=None,
        output_tokens=None,
        cache_read_tokens=None,
        cache_write_tokens=None,
        reasoning_tokens=None,
        estimated=False,
        first_byte_ms=None,
        total_ms=None,
        translation=None,
        answered_model=None,
    )


async def find(conn: AsyncConnection, user_id: str, id: str) -> Receipt | None:
    """One request of the account that reached an upstream."""
    row = await conn.execute(
        _RECEIPTS.add_columns(entries.c.user_id).where(entries.c.id == id, of_some_day(entries.c.day))
    )
    found = row.one_or_none()
    # Looked at here, so that no database takes the way through all that the account ever asked.
    return None if found is None or found.user_id != user_id else Receipt(*found[:-1])


async def receipt(conn: AsyncConnection, user_id: str, id: str) -> Receipt:
    """The same. Raises ``NoSuchRequest``."""
    found = await find(conn, user_id, id)
    if found is None:
        raise NoSuchRequest("There is no such request on this account.")
    return found


async def newest(conn: AsyncConnection, user_id: str) -> Receipt | None:
    """The account's newest request that has ended, or was refused."""
    rows, _ = await page(conn, user_id, Filter())
    return next((row for row in rows if row.state != "open"), None)


async def first_request(conn: AsyncConnection, user_id: str, *, outcome: str = "") -> Receipt | None:
    """The account's first request, once it has ended; with an ``outcome`` the first that ended so."""
    ended = (
        and_(entries.c.state == "settled", entries.c.outcome == outcome)
        if outcome
        else entries.c.state == "settled"
    )
    row = await conn.execute(
        _RECEIPTS.where(entries.c.user_id == user_id, ended)
        .order_by(entries.c.day, entries.c.created_at)
        .limit(1)
    )
    found = row.one_or_none()
    return None if found is None else _receipt(found)


async def rank(conn: AsyncConnection, row: Receipt, user_id: str) -> int:
    """How many requests of its day had counted before this one."""
    earlier = or_(
        entries.c.created_at < row.created_at,
        and_(entries.c.created_at == row.created_at, entries.c.id < row.id),
    )
    count = await conn.scalar(
        select(func.count()).where(
            entries.c.user_id == user_id, entries.c.day == row.day, entries.c.counted, earlier
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
    """When the newest request of the newest day came, in epoch milliseconds; None where there is none."""
    newest = select(func.max(requests.c.day)).scalar_subquery()
    return await conn.scalar(select(func.max(requests.c.created_at)).where(requests.c.day == newest))
