"""History of an account: single requests. Lists are in ``domain/ledger/request_log.py``, sums in ``domain/ledger/rollups.py``.

Every function takes a connection; days are UTC day numbers, times epoch milliseconds.
"""

from typing import Any

import msgspec
from sqlalchemy import Row, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries, of_some_day
from penstock.errors import InvalidRequest
from penstock.store.sql.schema import requests, usage_days, usage_hours


class NoSuchRequest(InvalidRequest):
    """The account has no such request."""

    status = 404
    code = "request_not_found"


class RunsYet(NoSuchRequest):
    """The request runs, and the database has nothing of it yet."""


class Receipt(msgspec.Struct, frozen=True):
    """A request as its owner sees it. Times and lengths of time are in milliseconds.

    ``answered_model`` is the model that the answer names, where the provider was asked for another. ``service_tier`` is the
    provider's word, where it is not its usual tier; what follows is None where an answer has none of it.
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
    service_tier: str | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    accepted_prediction_tokens: int | None
    rejected_prediction_tokens: int | None
    web_searches: int | None
    web_fetches: int | None
    code_runs: int | None
    file_searches: int | None
    other_tool_runs: int | None


RECEIPTS = select(*(entries.c[name] for name in Receipt.__struct_fields__))
"""Built once: of thirty columns that takes as long as asking for them."""


async def find(conn: AsyncConnection, user_id: str, id: str) -> Receipt | None:
    """One request of the account that reached an upstream."""
    row = await conn.execute(
        RECEIPTS.add_columns(entries.c.user_id).where(entries.c.id == id, of_some_day(entries.c.day))
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


async def first_request(conn: AsyncConnection, user_id: str, *, outcome: str = "") -> Receipt | None:
    """The account's first request, once it has ended; with an ``outcome`` the first that ended so."""
    ended = (
        and_(entries.c.state == "settled", entries.c.outcome == outcome)
        if outcome
        else entries.c.state == "settled"
    )
    row = await conn.execute(
        RECEIPTS.where(entries.c.user_id == user_id, ended)
        .order_by(entries.c.day, entries.c.created_at)
        .limit(1)
    )
    found = row.one_or_none()
    return None if found is None else _receipt(found)


async def counted_by(conn: AsyncConnection, user_id: str, day: int, hour: int) -> int:
    """How many requests of ``day`` had counted when ``hour`` (epoch hours) began: from the sums, not the day's rows."""
    number = await conn.scalar(
        select(func.sum(usage_hours.c.requests - usage_hours.c.refunded)).where(
            usage_hours.c.user_id == user_id,
            usage_hours.c.hour >= day * 24,
            usage_hours.c.hour < hour,
        )
    )
    return int(number or 0)


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
