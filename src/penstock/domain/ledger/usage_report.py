"""The usage report of an account: requests and tokens by day or hour, model and key."""

from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.neutral.usage import Special
from penstock.store.sql.schema import SPECIAL, api_keys, kinds, refusal_hours, usage_kinds, usage_special

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
    special: Special | None = None
    """Without a tier; None where there is nothing of it."""


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
    special = await _special_of(conn, user_id, days, length, models=models, keys=keys, clients=clients)
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
            more = special.get((at, of_model, key_id, of_client))
            told.append(UsageRow(at, of_model, key_id, names.get(key_id), of_client, *sums, special=more))
    return told


async def _special_of(
    conn: AsyncConnection,
    user_id: str,
    days: range,
    length: ColumnElement[int],
    *,
    models: bool,
    keys: bool,
    clients: bool,
) -> dict[tuple[int, str | None, str | None, str | None], Special]:
    """What few answers are billed by, by start, model, key and client."""
    start = (usage_special.c.hour // length * length).label("start")
    group = [
        start,
        kinds.c.model if models else literal(None),
        usage_special.c.key_id if keys else literal(None),
        kinds.c.client if clients else literal(None),
    ]
    rows = await conn.execute(
        select(*group, *(func.sum(usage_special.c[name]) for name in SPECIAL))
        .join_from(usage_special, kinds, usage_special.c.kind == kinds.c.id)
        .where(
            usage_special.c.user_id == user_id,
            usage_special.c.hour >= days.start * 24,
            usage_special.c.hour < days.stop * 24,
        )
        .group_by(
            start, *(one for one, asked in zip(group[1:], (models, keys, clients), strict=True) if asked)
        )
    )
    found: dict[tuple[int, str | None, str | None, str | None], Special] = {}
    for row in rows:
        values: tuple[Any, ...] = tuple(row)
        sums = [int(value or 0) for value in values[4:]]
        if any(sums):
            found[values[0], values[1], values[2], values[3]] = Special("", *sums)
    return found


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
