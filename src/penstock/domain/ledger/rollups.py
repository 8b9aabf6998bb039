"""Rollups: sums of the ledger by hour, written with the rows that they add up, read by pages instead of the rows.

``usage_hours`` has a row for each account, hour and model, ``usage_kinds`` one for each account, hour, key and kind,
``usage_special`` one where such a sum has classes that few answers are billed by, ``usage_errors`` one for each account, day
and cause, ``model_days`` one for each model and day, all accounts together; times are in ``domain/ledger/latency.py``. The
statements are text for a whole batch, as the ledger's are; ``sums_of_rows`` makes the same from the rows, for
``domain/ledger/reconciliation.py``, which compares the two.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, and_, case, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.neutral.usage import Special
from penstock.domain.ledger import latency
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.kinds import KnownKind
from penstock.domain.ledger.rows import Ended
from penstock.domain.ledger.values import fit, whole_count
from penstock.store.sql.bulk import Bulk, BulkRow
from penstock.store.sql.schema import (
    SPECIAL,
    model_days,
    usage_errors,
    usage_hours,
    usage_kinds,
    usage_special,
    usage_times,
    users,
)

HOUR_MS = 3_600_000
TROUBLE = ("upstream_error", "error", "aborted", "draining")
"""Outcomes that are a provider's fault or ours."""

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
SUMS = ("requests", "refunded", *TOKENS)
MOST = ("most_input", "most_output", "most_first_ms", "most_total_ms")
"""What no request of a row is above; one that is taken out again leaves it as it was."""


def _adding(table: str, key: Sequence[str], sums: Sequence[str], most: Sequence[str] = ()) -> Bulk:
    columns = (*key, *sums, *most)
    more = ", ".join(
        [
            *(f"{name} = {table}.{name} + excluded.{name}" for name in sums),
            *(
                f"{name} = CASE WHEN excluded.{name} > {table}.{name} THEN excluded.{name} ELSE {table}.{name} END"
                for name in most
            ),
        ]
    )
    return Bulk(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ",  # noqa: S608 - names of this file alone
        f"({', '.join('?' * len(columns))})",
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {more}",
    )


_HOURS = _adding("usage_hours", ("user_id", "hour", "model"), SUMS)
_KINDS = _adding("usage_kinds", ("user_id", "hour", "key_id", "kind"), ("requests", *TOKENS), MOST)
_SPECIAL = _adding("usage_special", ("user_id", "hour", "key_id", "kind"), SPECIAL)
_ERRORS = _adding("usage_errors", ("user_id", "day", "cause"), ("requests",))
_MODELS = _adding("model_days", ("model", "day"), ("requests", "trouble", "timed", "first_ms"))


_FIRST = 1 + len(TOKENS) + len(MOST)
_WHOLE = _FIRST + latency.NUMBER
"""Where the classes of times begin in the sums of a kind."""


def rolling(ended: Sequence[Ended], *, sign: int = 1) -> Iterator[tuple[str, BulkRow]]:
    """The statements that add requests which are being settled for the first time, or with ``sign`` -1 take them out again."""
    hours: dict[tuple[str, int, str], list[int]] = {}
    kinds: dict[tuple[str, int, str, int], list[int]] = {}
    known: dict[tuple[str, int, str, int], KnownKind] = {}
    errors: dict[tuple[str, int, str], int] = {}
    models: dict[tuple[str, int], list[int]] = {}
    special: dict[tuple[str, int, str, int], list[int]] = {}
    for row, end in ended:
        usage, first, whole = end.usage, whole_count(end.first_byte_ms), whole_count(end.total_ms)
        model, hour = row.kind.model, row.created_at // HOUR_MS
        of_hour = (row.user_id, hour, model)
        sums = hours.get(of_hour)
        if sums is None:
            sums = hours[of_hour] = [0] * len(SUMS)
        of_kind = (row.user_id, hour, row.key_id, row.kind.ended(end).id)
        kind = kinds.get(of_kind)
        if kind is None:
            kind = kinds[of_kind] = [0] * (_WHOLE + latency.NUMBER)
            known[of_kind] = row.kind
        came, went = whole_count(usage.input) or 0, whole_count(usage.output) or 0
        sums[0], kind[0] = sums[0] + 1, kind[0] + 1
        sums[1] += not end.counted
        sums[2] += came
        kind[1] += came
        sums[3] += went
        kind[2] += went
        if usage.cache_read:
            sums[4] += whole_count(usage.cache_read) or 0
            kind[3] += whole_count(usage.cache_read) or 0
        if usage.cache_write:
            sums[5] += whole_count(usage.cache_write) or 0
            kind[4] += whole_count(usage.cache_write) or 0
        _add_special(special, of_kind, usage.special)
        kind[5] = max(kind[5], came)
        kind[6] = max(kind[6], went)
        if whole is not None:
            kind[8] = max(kind[8], whole)
            if end.outcome == "completed":
                kind[_WHOLE + bisect_right(latency.BOUNDS, whole)] += 1
        of_day = (model, hour // 24)
        day = models.get(of_day)
        if day is None:
            day = models[of_day] = [0, 0, 0, 0]
        day[0] += 1
        if first is not None:
            kind[7] = max(kind[7], first)
            kind[_FIRST + bisect_right(latency.BOUNDS, first)] += 1
            day[2] += 1
            day[3] += first
        if end.outcome != "completed":
            day[1] += end.outcome in TROUBLE
            cause = fit(end.outcome, 32) if end.error_code is None else fit(end.error_code, 64)
            key = (row.user_id, hour // 24, cause)
            errors[key] = errors.get(key, 0) + 1
    yield from _HOURS.statements([(*key, *_bounded(hours[key], sign)) for key in sorted(hours)])
    yield from _KINDS.statements([(*key, *_of_kind(kinds[key], sign)) for key in sorted(kinds)])
    yield from _special_statements(special, sign)
    yield from _ERRORS.statements([(*key, sign * errors[key]) for key in sorted(errors)])
    yield from _MODELS.statements([(*key, *_bounded(models[key], sign)) for key in sorted(models)])
    yield from latency.timing(_timed(kinds, known), sign)


def _special_statements(
    sums: dict[tuple[str, int, str, int], list[int]], sign: int
) -> Iterator[tuple[str, BulkRow]]:
    some = [key for key in sorted(sums) if any(sums[key])]
    return _SPECIAL.statements([(*key, *_bounded(sums[key], sign)) for key in some])


def _add_special(
    sums_of: dict[tuple[str, int, str, int], list[int]],
    of_kind: tuple[str, int, str, int],
    special: Special | None,
) -> None:
    if special is None:
        return
    sums = sums_of.setdefault(of_kind, [0] * len(SPECIAL))
    for at, name in enumerate(SPECIAL):
        sums[at] += whole_count(getattr(special, name)) or 0


_MOST = 2**53
"""What an upstream claims to have counted is added up to here, so that a sum of sums stays within 64 bits."""


def _bounded(values: Sequence[int], sign: int) -> list[int]:
    return [sign * min(value, _MOST) for value in values]


def _timed(
    kinds: Mapping[tuple[str, int, str, int], Sequence[int]],
    known: Mapping[tuple[str, int, str, int], KnownKind],
) -> Iterator[tuple[latency.Timed, Sequence[int]]]:
    for key, sums in kinds.items():
        kind = known[key]
        yield (*key[:3], kind.model, kind.plain.client), sums[_FIRST:]


def _of_kind(values: Sequence[int], sign: int) -> list[int]:
    most = values[1 + len(TOKENS) : _FIRST]
    return [*_bounded(values[: 1 + len(TOKENS)], sign), *(most if sign > 0 else [0] * len(most))]


# ---- the same from the rows


class Kept(msgspec.Struct, frozen=True):
    """A table of sums: its key, its sums, the part of it that is meant, and the same made from the rows.

    Of ``most`` it has what no row is above. ``has`` is what it has, where that is not one row for another.
    """

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    part: ColumnElement[bool]
    made: Select[*tuple[Any, ...]]
    most: tuple[str, ...] = ()
    has: Select[*tuple[Any, ...]] | None = None

    @property
    def kept(self) -> Select[*tuple[Any, ...]]:
        """What the table has, in the columns' order of ``made``."""
        if self.has is not None:
            return self.has
        return select(*(self.table.c[name] for name in (*self.key, *self.columns))).where(self.part)


def sums_of_rows(first: int, end: int | None) -> tuple[Kept, ...]:
    """The tables of sums, from day ``first`` to before ``end``, with their sums of the rows."""
    # The day is that of the hour or one beside it, and leads the key.
    settled = and_(
        entries.c.state == "settled",
        entries.c.created_at >= first * 24 * HOUR_MS,
        entries.c.day >= first - 1,
    )
    hours, kinds, days, models = (
        usage_hours.c.hour >= first * 24,
        usage_kinds.c.hour >= first * 24,
        usage_errors.c.day >= first,
        model_days.c.day >= first,
    )
    if end is not None:
        settled = and_(settled, entries.c.created_at < end * 24 * HOUR_MS, entries.c.day <= end)
        hours = and_(hours, usage_hours.c.hour < end * 24)
        kinds = and_(kinds, usage_kinds.c.hour < end * 24)
        days, models = and_(days, usage_errors.c.day < end), and_(models, model_days.c.day < end)
    hour = entries.c.created_at // _constant(HOUR_MS)
    of_day = entries.c.created_at // _constant(24 * HOUR_MS)
    by_hour = (entries.c.user_id, hour, entries.c.model)
    cause = func.coalesce(entries.c.error_code, entries.c.outcome)
    by_kind = (entries.c.user_id, hour, entries.c.key_id, entries.c.kind)
    by_cause = (entries.c.user_id, of_day, cause)
    by_model = (entries.c.model, of_day)
    return (
        Kept(
            usage_hours,
            ("user_id", "hour", "model"),
            SUMS,
            hours,
            select(*by_hour, *_sums()).where(settled).group_by(*by_hour),
        ),
        Kept(
            usage_kinds,
            ("user_id", "hour", "key_id", "kind"),
            ("requests", *TOKENS, *MOST),
            kinds,
            select(*by_kind, func.count(), *_token_sums(), *_maxima()).where(settled).group_by(*by_kind),
            MOST,
        ),
        _special_sums(first, end, settled, by_kind),
        Kept(
            usage_errors,
            ("user_id", "day", "cause"),
            ("requests",),
            days,
            select(*by_cause, func.count())
            .where(settled, entries.c.outcome != "completed")
            .group_by(*by_cause),
        ),
        Kept(
            model_days,
            ("model", "day"),
            ("requests", "trouble", "timed", "first_ms"),
            models,
            select(*by_model, func.count(), *_of_model()).where(settled).group_by(*by_model),
        ),
        _times(first, end),
    )


def _special_sums(
    first: int, end: int | None, settled: ColumnElement[bool], by_kind: Sequence[ColumnElement[Any]]
) -> Kept:
    """Those of the classes that few answers are billed by."""
    part = usage_special.c.hour >= first * 24
    if end is not None:
        part = and_(part, usage_special.c.hour < end * 24)
    made = (
        select(*by_kind, *(func.coalesce(func.sum(entries.c[name]), 0) for name in SPECIAL))
        .where(settled, or_(*(entries.c[name].is_not(None) for name in SPECIAL)))
        .group_by(*by_kind)
    )
    return Kept(usage_special, ("user_id", "hour", "key_id", "kind"), SPECIAL, part, made)


def _of_model() -> list[ColumnElement[int]]:
    first = entries.c.first_byte_ms
    trouble = func.sum(case((entries.c.outcome.in_(TROUBLE), 1), else_=0))
    return [trouble, func.count(first), func.coalesce(func.sum(first), 0)]


def _times(first: int, end: int | None) -> Kept:
    part, has, made = latency.of_rows(first, end)
    return Kept(usage_times, latency.KEY, (*latency.FIRST, *latency.WHOLE), part, made, has=has)


def _sums() -> list[ColumnElement[int]]:
    return [
        func.count(),
        func.sum(case((entries.c.counted, 0), else_=1)),
        *_token_sums(),
    ]


def _maxima() -> list[ColumnElement[int]]:
    names = ("input_tokens", "output_tokens", "first_byte_ms", "total_ms")
    return [func.coalesce(func.max(entries.c[name]), 0) for name in names]


def _token_sums() -> list[ColumnElement[int]]:
    return [func.coalesce(func.sum(entries.c[name]), 0) for name in TOKENS]


# ---- what pages ask for


class DayOfModel(msgspec.Struct, frozen=True):
    """Counted requests of an account with a model on a day."""

    day: int
    model: str
    requests: int


class Sums(msgspec.Struct, frozen=True):
    """Some days of an account."""

    requests: int
    refunded: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class ModelDay(msgspec.Struct, frozen=True):
    """How a model did on a day, for all accounts together. ``first_byte_ms`` is a mean."""

    day: int
    model: str
    requests: int
    trouble: int
    first_byte_ms: int | None


async def by_day(conn: AsyncConnection, user_id: str, days: range) -> list[DayOfModel]:
    """Counted requests on each of ``days`` (UTC day numbers) with each model."""
    day = usage_hours.c.hour // _constant(24)
    counted = func.sum(usage_hours.c.requests - usage_hours.c.refunded)
    rows = await conn.execute(
        select(day, usage_hours.c.model, counted)
        .where(_of(user_id, days))
        .group_by(day, usage_hours.c.model)
        .order_by(day)
    )
    return [DayOfModel(number, model, int(count)) for number, model, count in rows if count]


async def sums(conn: AsyncConnection, user_id: str, days: range) -> Sums:
    """``days`` together."""
    row = await conn.execute(
        select(*(func.coalesce(func.sum(usage_hours.c[name]), 0) for name in SUMS)).where(_of(user_id, days))
    )
    return Sums(*(int(value) for value in row.one()))


async def errors(conn: AsyncConnection, user_id: str, days: range) -> list[tuple[str, int]]:
    """How often requests of ``days`` did not complete, by cause, the most frequent first."""
    count = func.sum(usage_errors.c.requests)
    rows = await conn.execute(
        select(usage_errors.c.cause, count)
        .where(
            usage_errors.c.user_id == user_id,
            usage_errors.c.day >= days.start,
            usage_errors.c.day < days.stop,
        )
        .group_by(usage_errors.c.cause)
        .having(count > 0)
        .order_by(count.desc(), usage_errors.c.cause)
    )
    return [(cause, int(number)) for cause, number in rows]


async def models_by_day(conn: AsyncConnection, days: range) -> list[ModelDay]:
    """Every model on each of ``days``."""
    columns = model_days.c
    rows = await conn.execute(select(model_days).where(columns.day >= days.start, columns.day < days.stop))
    return [
        ModelDay(
            row.day, row.model, row.requests, row.trouble, row.first_ms // row.timed if row.timed else None
        )
        for row in rows
    ]


async def addresses_using(conn: AsyncConnection, model: str, days: range) -> list[str]:
    """The addresses of those who have used a model on one of ``days``, and can sign in."""
    hours = usage_hours.c
    used = (
        select(hours.user_id)
        .where(hours.hour >= days.start * 24, hours.hour < days.stop * 24, hours.model == model)
        .distinct()
    )
    rows = await conn.scalars(
        select(users.c.email)
        .where(
            users.c.id.in_(used),
            users.c.verified_at.is_not(None),
            users.c.disabled_at.is_(None),
            users.c.leaving_at.is_(None),
        )
        .order_by(users.c.id)
    )
    return list(rows)


def _constant(number: int) -> ColumnElement[int]:
    """A number in the statement itself: PostgreSQL takes two parameters for different, and so what is grouped by them."""
    return literal(number, literal_execute=True)


def _of(user_id: str, days: range) -> ColumnElement[bool]:
    return and_(
        usage_hours.c.user_id == user_id,
        usage_hours.c.hour >= days.start * 24,
        usage_hours.c.hour < days.stop * 24,
    )
