"""The overview of an installation: its last day beside the usual one, and what needs somebody.

Everything is read from sums by hour and day, never from the requests themselves. Times are epoch milliseconds.
"""

from collections.abc import Sequence
from statistics import median

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger import latency
from penstock.domain.ledger.rollups import HOUR_MS
from penstock.store.sql.schema import (
    kinds,
    model_days,
    outbox,
    plan_wishes,
    refusal_hours,
    usage_kinds,
    usage_times,
    users,
)

DAY_MS = 86_400_000


class ProviderDay(msgspec.Struct, frozen=True):
    """A provider in the last 24 hours. ``trouble``: by its own fault; ``refused``: our credential failed there."""

    provider: str
    requests: int
    trouble: int
    refused: int

    @property
    def share(self) -> float:
        """Of its requests, those that failed by its fault."""
        return self.trouble / self.requests if self.requests else 0.0


class Day(msgspec.Struct, frozen=True):
    """The last 24 hours of all accounts together. ``usual`` are medians of the seven whole days before today, if any."""

    requests: int
    completed: int
    ours: int
    upstream: int
    tokens_read: int
    tokens_written: int
    p50: int | None
    p95: int | None
    refused: tuple[tuple[str, int], ...]
    providers: tuple[ProviderDay, ...]
    sign_ups: int
    accounts: int
    usual_requests: int | None
    usual_trouble: int | None


class Waiting(msgspec.Struct, frozen=True):
    """What waits for somebody: plans that people ask for, and mails that do not go out."""

    wishes: int
    mails_failing: int
    mails_given_up: int
    mail_error: str


async def last_day(conn: AsyncConnection, *, now: int) -> Day:
    """The last 24 hours."""
    hour = now // HOUR_MS - 23
    today = now // DAY_MS
    rows = await conn.execute(
        select(
            kinds.c.outcome,
            kinds.c.provider,
            kinds.c.error_code,
            func.sum(usage_kinds.c.requests),
            func.sum(usage_kinds.c.input_tokens),
            func.sum(usage_kinds.c.output_tokens),
        )
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(usage_kinds.c.hour >= hour)
        .group_by(kinds.c.outcome, kinds.c.provider, kinds.c.error_code)
    )
    total = completed = ours = upstream = read = written = 0
    providers: dict[str, list[int]] = {}
    for outcome, provider, code, count, came, went in rows:
        number = int(count)
        total, read, written = total + number, read + int(came or 0), written + int(went or 0)
        completed += number if outcome == "completed" else 0
        ours += number if outcome == "error" else 0
        failed = number if outcome == "upstream_error" else 0
        upstream += failed
        of = providers.setdefault(provider, [0, 0, 0])
        of[0], of[1] = of[0] + number, of[1] + failed
        of[2] += number if code in _CREDENTIAL else 0
    firsts = await _first_classes(conn, hour)
    refused = await conn.execute(
        select(refusal_hours.c.code, func.sum(refusal_hours.c.requests))
        .where(refusal_hours.c.hour >= hour)
        .group_by(refusal_hours.c.code)
        .order_by(func.sum(refusal_hours.c.requests).desc())
    )
    usual = await _whole_days(conn, range(today - 7, today))
    # Both in one walk over the accounts.
    joined = func.count().filter(users.c.created_at >= now - DAY_MS)
    accounts, sign_ups = (await conn.execute(select(func.count(), joined).select_from(users))).one()
    return Day(
        requests=total,
        completed=completed,
        ours=ours,
        upstream=upstream,
        tokens_read=read,
        tokens_written=written,
        p50=latency.percentile(firsts, 0.5),
        p95=latency.percentile(firsts, 0.95),
        refused=tuple((code, int(count)) for code, count in refused),
        providers=tuple(ProviderDay(name, *counts) for name, counts in sorted(providers.items()) if name),
        sign_ups=int(sign_ups),
        accounts=int(accounts),
        usual_requests=_median([count for count, _ in usual]),
        usual_trouble=_median([trouble for _, trouble in usual]),
    )


async def _first_classes(conn: AsyncConnection, hour: int) -> list[int]:
    """The requests since an epoch hour in each class of the time to the first byte."""
    sums = (func.sum(usage_times.c[name]) for name in latency.FIRST)
    row = await conn.execute(select(*sums).where(usage_times.c.hour >= hour))
    return [int(value or 0) for value in row.one()]


async def _whole_days(conn: AsyncConnection, days: range) -> list[tuple[int, int]]:
    """The requests of each of these days, and those with trouble."""
    rows = await conn.execute(
        select(func.sum(model_days.c.requests), func.sum(model_days.c.trouble))
        .where(model_days.c.day >= days.start, model_days.c.day < days.stop)
        .group_by(model_days.c.day)
    )
    return [(int(count), int(trouble)) for count, trouble in rows]


async def waiting(conn: AsyncConnection, *, now: int) -> Waiting:
    """What waits for somebody."""
    columns = outbox.c
    failing = await conn.scalar(
        select(func.count()).select_from(outbox).where(columns.due_at.is_not(None), columns.tries > 0)
    )
    given_up = await conn.scalar(
        select(func.count())
        .select_from(outbox)
        .where(columns.due_at.is_(None), columns.sent_at.is_(None), columns.created_at >= now - 7 * DAY_MS)
    )
    error = await conn.scalar(
        select(columns.error)
        .where(columns.error.is_not(None), columns.sent_at.is_(None), columns.created_at >= now - 7 * DAY_MS)
        .order_by(columns.created_at.desc())
        .limit(1)
    )
    wishes = await conn.scalar(select(func.count()).select_from(plan_wishes))
    return Waiting(wishes or 0, failing or 0, given_up or 0, error or "")


async def provider_hours(conn: AsyncConnection, *, now: int, hours: int) -> list[ProviderDay]:
    """Providers over the last hours, that which runs included."""
    rows = await conn.execute(
        select(kinds.c.provider, kinds.c.outcome, kinds.c.error_code, func.sum(usage_kinds.c.requests))
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(usage_kinds.c.hour > now // HOUR_MS - hours)
        .group_by(kinds.c.provider, kinds.c.outcome, kinds.c.error_code)
    )
    found: dict[str, list[int]] = {}
    for provider, outcome, code, count in rows:
        of = found.setdefault(provider, [0, 0, 0])
        of[0] += int(count)
        of[1] += int(count) if outcome == "upstream_error" else 0
        of[2] += int(count) if code in _CREDENTIAL else 0
    return [ProviderDay(name, *counts) for name, counts in sorted(found.items()) if name]


_CREDENTIAL = frozenset({"provider_credentials"})
"""Codes of failures that are our own credential's."""


def _median(values: Sequence[int]) -> int | None:
    return round(median(values)) if values else None
