"""The usage report of an account: requests and tokens by day or hour, model and key."""

from typing import Any, Final, Literal

import msgspec
from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.schema import api_keys, kinds, refusal_hours, usage_kinds

Span = Literal["day", "hour"]
MOST_DAYS: Final = {"day": 366, "hour": 31}
"""Days that a report may have, so that no answer is without bound."""


class UsageRow(msgspec.Struct, frozen=True):
    """Settled requests of a day or an hour, with one model and one key where the report has them."""

    start: int
    model: str | None
    key_id: str | None
    key_name: str | None
    client: str | None
    requests: int
    counted: int
    failed: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class RefusedRow(msgspec.Struct, frozen=True):
    """Requests that were refused in a day or an hour with one code."""

    start: int
    code: str
    requests: int


async def usage_of(
    conn: AsyncConnection,
    user_id: str,
    days: range,
    span: Span,
    *,
    models: bool = False,
    keys: bool = False,
    clients: bool = False,
) -> list[UsageRow]:
    """The sums of ``days`` (UTC day numbers), in the order of time; ``start`` is in epoch hours."""
    length = literal(24 if span == "day" else 1, literal_execute=True)
    start = (usage_kinds.c.hour // length * length).label("start")
    model = kinds.c.model if models else literal(None)
    key = usage_kinds.c.key_id if keys else literal(None)
    client = kinds.c.client if clients else literal(None)
    group = [
        start,
        *([kinds.c.model] if models else []),
        *([usage_kinds.c.key_id] if keys else []),
        *([kinds.c.client] if clients else []),
    ]
    number = usage_kinds.c.requests
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    rows = await conn.execute(
        select(
            start,
            model,
            key,
            client,
            func.sum(number),
            func.sum(number).filter(kinds.c.counted),
            func.sum(number).filter(kinds.c.outcome != "completed"),
            *(func.sum(usage_kinds.c[name]) for name in tokens),
        )
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(
            usage_kinds.c.user_id == user_id,
            usage_kinds.c.hour >= days.start * 24,
            usage_kinds.c.hour < days.stop * 24,
        )
        .group_by(*group)
        .order_by(*group)
    )
    found = rows.all()
    names: dict[str, str] = {}
    if keys:
        mine = select(api_keys.c.id, api_keys.c.name).where(api_keys.c.user_id == user_id)
        names = dict(tuple(row) for row in await conn.execute(mine))
    told: list[UsageRow] = []
    for row in found:
        values: tuple[Any, ...] = tuple(row)
        at, of_model, key_id, of_client = values[:4]
        sums = [int(value or 0) for value in values[4:]]
        if sums[0]:
            told.append(UsageRow(at, of_model, key_id, names.get(key_id), of_client, *sums))
    return told


async def refused_of(conn: AsyncConnection, user_id: str, days: range, span: Span) -> list[RefusedRow]:
    """How often each code was answered without asking a provider, in the order of time."""
    length = literal(24 if span == "day" else 1, literal_execute=True)
    start = (refusal_hours.c.hour // length * length).label("start")
    rows = await conn.execute(
        select(start, refusal_hours.c.code, func.sum(refusal_hours.c.requests))
        .where(
            refusal_hours.c.user_id == user_id,
            refusal_hours.c.hour >= days.start * 24,
            refusal_hours.c.hour < days.stop * 24,
        )
        .group_by(start, refusal_hours.c.code)
        .order_by(start, refusal_hours.c.code)
    )
    return [RefusedRow(at, code, int(count)) for at, code, count in rows]
