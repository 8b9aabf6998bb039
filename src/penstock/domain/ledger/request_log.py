"""The request log of an account: what was sent and what was refused, newest first, filtered, in pages, with its totals.

A filter that names words of a kind (model, status, client and the like) is a list of kinds first, and the sums by hour say on
which days there are any. So a rare one reads the days that have it, by an index that has the kind, and not all that was
ever asked. Sent and refused requests are merged, since they lie in different tables.
"""

from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.history import RECEIPTS, Receipt
from penstock.domain.ledger.refusals import REFUSALS, Refusal, read_refusal
from penstock.errors import InvalidRequest
from penstock.store.sql.schema import kinds, refusals, requests, usage_kinds

ROWS_PER_PAGE: Final = 50
ROWS_OF_A_FILE: Final = 200
"""Rows that are read at a time where all of them are wanted."""
REFUSED: Final = "refused"
"""The result of requests that were refused before any upstream was asked."""
_DAY_MS: Final = 86_400_000
_MOST_KINDS: Final = 2000
"""A filter that more kinds fit is no list of kinds: it is looked for in the rows."""


class Filter(msgspec.Struct, frozen=True):
    """Which requests to show; an empty part takes all.

    ``first`` and ``last`` are days (UTC day numbers, both included), ``before`` is the ``cursor`` of the last one shown.
    ``oldest`` turns the order round; ``order`` is one by size (``domain/ledger/request_order.py``).
    """

    model: str = ""
    key_id: str = ""
    outcome: str = ""
    status: int | None = None
    code: str = ""
    provider: str = ""
    dialect: str = ""
    client: str = ""
    stream: bool | None = None
    first: int | None = None
    last: int | None = None
    oldest: bool = False
    order: str = ""
    before: str = ""

    @property
    def of_kinds(self) -> bool:
        """Whether it is about words of a kind."""
        words = (self.model, self.outcome, self.code, self.provider, self.dialect, self.client)
        return any(words) or self.status is not None or self.stream is not None

    @property
    def sent(self) -> bool:
        """Whether a request that was sent can fit."""
        return self.outcome != REFUSED

    @property
    def refused(self) -> bool:
        """Whether a refused one can."""
        return self.outcome in {"", "failed", REFUSED} and not self.provider


class Totals(msgspec.Struct, frozen=True):
    """All that fits a filter, but for requests that run. ``refused`` are those that are still kept."""

    requests: int
    counted: int
    refused: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class Choices(msgspec.Struct, frozen=True):
    """What there is to filter by: the words of the account's own requests."""

    models: tuple[str, ...]
    providers: tuple[str, ...]
    clients: tuple[str, ...]
    codes: tuple[str, ...]
    statuses: tuple[int, ...]
    dialects: tuple[str, ...]


async def page(
    conn: AsyncConnection, user_id: str, chosen: Filter, most: int = ROWS_PER_PAGE
) -> tuple[list[Receipt], str]:
    """A page of requests, and the cursor of the next page ('' at the end). Raises ``InvalidRequest``."""
    before = _cursor(chosen.before)
    found: list[Receipt] = []
    if chosen.sent:
        found += await _sent(conn, user_id, chosen, before, most + 1)
    if chosen.refused:
        found += await _refused(conn, user_id, chosen, before, most + 1)
    found.sort(key=_place, reverse=not chosen.oldest)
    if len(found) <= most:
        return found, ""
    last = found[most - 1]
    return found[:most], f"{last.created_at}.{last.id}"


async def totals(conn: AsyncConnection, user_id: str, chosen: Filter) -> Totals:
    """The sums of all that fits ``chosen``, whatever page of it is shown."""
    sums = [0] * 6
    if chosen.sent:
        counted = func.sum(usage_kinds.c.requests).filter(kinds.c.counted)
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        row = await conn.execute(
            select(
                func.sum(usage_kinds.c.requests),
                counted,
                *(func.sum(usage_kinds.c[name]) for name in names),
            )
            .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
            .where(*of_sums(user_id, chosen), *words_of_kinds(chosen))
        )
        sums = [int(value or 0) for value in row.one()]
    refused = 0
    if chosen.refused:
        refused = (
            await conn.scalar(
                select(func.count()).select_from(refusals).where(*_of_refusals(user_id, chosen))
            )
            or 0
        )
    return Totals(sums[0], sums[1], refused, *sums[2:])


async def choices(conn: AsyncConnection, user_id: str) -> Choices:
    """The words that the account's requests have."""
    mine = select(usage_kinds.c.kind).where(usage_kinds.c.user_id == user_id).distinct()
    columns = (
        kinds.c.model,
        kinds.c.provider,
        kinds.c.client,
        kinds.c.error_code,
        kinds.c.status,
        kinds.c.dialect,
    )
    sent = [tuple(row) for row in await conn.execute(select(*columns).where(kinds.c.id.in_(mine)).distinct())]
    words = (
        refusals.c.model,
        refusals.c.client,
        refusals.c.code,
        refusals.c.status,
        refusals.c.dialect,
    )
    refused = await conn.execute(select(*words).where(refusals.c.user_id == user_id).distinct())
    all_of = [
        *sent,
        *((model, "", client, code, status, form) for model, client, code, status, form in refused),
    ]
    texts = [tuple(sorted({row[at] for row in all_of if row[at]})) for at in (0, 1, 2, 3, 5)]
    statuses = tuple(sorted({row[4] for row in all_of if row[4] is not None}))
    return Choices(texts[0], texts[1], texts[2], texts[3], statuses, texts[4])


def _place(row: Receipt) -> tuple[int, int, str]:
    return (row.day, row.created_at, row.id)


def _cursor(before: str) -> tuple[int, str] | None:
    at, _, id = before.partition(".")
    if not before:
        return None
    if not (at.isascii() and at.isdigit()) or len(at) > 15:
        raise InvalidRequest("This is not a page of the list.", param="before")
    return int(at), id


# ---- what was sent


def words_of_kinds(chosen: Filter) -> list[ColumnElement[bool]]:
    """What a filter says of kinds."""
    wanted: list[ColumnElement[bool]] = []
    if chosen.model:
        wanted.append(kinds.c.model == chosen.model)
    if chosen.outcome == "failed":
        wanted.append(and_(kinds.c.state == "settled", kinds.c.outcome != "completed"))
    elif chosen.outcome:
        wanted.append(kinds.c.outcome == chosen.outcome)
    if chosen.status is not None:
        wanted.append(kinds.c.status == chosen.status)
    if chosen.code:
        wanted.append(kinds.c.error_code == chosen.code)
    if chosen.provider:
        wanted.append(kinds.c.provider == chosen.provider)
    if chosen.dialect:
        wanted.append(kinds.c.dialect == chosen.dialect)
    if chosen.client:
        wanted.append(kinds.c.client == chosen.client)
    if chosen.stream is not None:
        wanted.append(kinds.c.stream.is_(chosen.stream))
    return wanted


def of_sums(user_id: str, chosen: Filter) -> list[ColumnElement[bool]]:
    """What a filter says of the sums by hour, key and kind, but for the words of the kinds."""
    wanted = [usage_kinds.c.user_id == user_id]
    if chosen.key_id:
        wanted.append(usage_kinds.c.key_id == chosen.key_id)
    if chosen.first is not None:
        wanted.append(usage_kinds.c.hour >= chosen.first * 24)
    if chosen.last is not None:
        wanted.append(usage_kinds.c.hour < (chosen.last + 1) * 24)
    return wanted


async def _sent(
    conn: AsyncConnection, user_id: str, chosen: Filter, before: tuple[int, str] | None, most: int
) -> list[Receipt]:
    wanted = [entries.c.user_id == user_id, *_within(chosen, before)]
    if chosen.of_kinds or chosen.key_id:
        days = await _days(conn, user_id, chosen, before, most)
        if not days:
            return []
        wanted.append(entries.c.day.in_(days))
    if chosen.of_kinds:
        found = list(
            await conn.scalars(select(kinds.c.id).where(*words_of_kinds(chosen)).limit(_MOST_KINDS + 1))
        )
        if len(found) <= _MOST_KINDS:
            wanted.append(entries.c.kind.in_(found))
        else:
            wanted += [entries.c.kind.in_(select(kinds.c.id).where(*words_of_kinds(chosen)))]
    if chosen.key_id:
        wanted.append(entries.c.key_id == chosen.key_id)
    order = (entries.c.day, entries.c.created_at, entries.c.id)
    rows = await conn.execute(
        RECEIPTS.where(*wanted)
        .order_by(*(column if chosen.oldest else column.desc() for column in order))
        .limit(most)
    )
    return [Receipt(*row) for row in rows]


def _within(chosen: Filter, before: tuple[int, str] | None) -> list[ColumnElement[bool]]:
    """The days and the place from which on. A row's day is that of its time, or one beside it."""
    at, day = entries.c.created_at, entries.c.day
    wanted: list[ColumnElement[bool]] = []
    if chosen.first is not None:
        wanted += [day >= chosen.first - 1, at >= chosen.first * _DAY_MS]
    if chosen.last is not None:
        wanted += [day <= chosen.last + 1, at < (chosen.last + 1) * _DAY_MS]
    if before is None:
        return wanted
    time, id = before
    same = at == time
    if chosen.oldest:
        return [*wanted, day >= time // _DAY_MS, or_(at > time, and_(same, entries.c.id > id))]
    return [*wanted, day <= time // _DAY_MS, or_(at < time, and_(same, entries.c.id < id))]


async def _days(
    conn: AsyncConnection, user_id: str, chosen: Filter, before: tuple[int, str] | None, most: int
) -> list[int]:
    """The days on which there are as many as are wanted, and that which runs, whose sums are not complete."""
    hour = usage_kinds.c.hour
    wanted = [*of_sums(user_id, chosen), *words_of_kinds(chosen)]
    if before is not None:
        of_place = before[0] // 3_600_000
        wanted.append(hour >= of_place if chosen.oldest else hour <= of_place)
    number = func.sum(usage_kinds.c.requests)
    rows = await conn.execute(
        select(hour, number)
        .join_from(usage_kinds, kinds, usage_kinds.c.kind == kinds.c.id)
        .where(*wanted)
        .group_by(hour)
        .order_by(hour if chosen.oldest else hour.desc())
    )
    days: set[int] = set()
    if before is None and not chosen.oldest:
        newest = await conn.scalar(select(func.max(requests.c.day)).where(requests.c.user_id == user_id))
        days |= set() if newest is None else {newest}
    # What stands in the hour of the place may be behind it.
    left = most if before is None else None
    for at, count in rows:
        # A row's day is that of its time, or one beside it.
        days |= {at // 24 - 1, at // 24, at // 24 + 1}
        if left is None:
            left = most
            continue
        left -= count
        if left <= 0:
            break
    return sorted(days)


# ---- what was refused


async def _refused(
    conn: AsyncConnection, user_id: str, chosen: Filter, before: tuple[int, str] | None, most: int
) -> list[Receipt]:
    wanted = _of_refusals(user_id, chosen)
    at, id = refusals.c.created_at, refusals.c.id
    if before is not None and chosen.oldest:
        wanted.append(or_(at > before[0], and_(at == before[0], id > before[1])))
    elif before is not None:
        wanted.append(or_(at < before[0], and_(at == before[0], id < before[1])))
    order = (at, id) if chosen.oldest else (at.desc(), id.desc())
    rows = await conn.execute(REFUSALS.where(*wanted).order_by(*order).limit(most))
    return [refused_receipt(read_refusal(row)) for row in rows]


def _of_refusals(user_id: str, chosen: Filter) -> list[ColumnElement[bool]]:
    columns = refusals.c
    wanted = [columns.user_id == user_id]
    if chosen.model:
        wanted.append(or_(columns.model == chosen.model, columns.requested_model == chosen.model))
    if chosen.key_id:
        wanted.append(columns.key_id == chosen.key_id)
    if chosen.status is not None:
        wanted.append(columns.status == chosen.status)
    if chosen.code:
        wanted.append(columns.code == chosen.code)
    if chosen.dialect:
        wanted.append(columns.dialect == chosen.dialect)
    if chosen.client:
        wanted.append(columns.client == chosen.client)
    if chosen.stream is not None:
        wanted.append(columns.stream.is_(chosen.stream))
    if chosen.first is not None:
        wanted.append(columns.created_at >= chosen.first * _DAY_MS)
    if chosen.last is not None:
        wanted.append(columns.created_at < (chosen.last + 1) * _DAY_MS)
    return wanted


def refused_receipt(refusal: Refusal) -> Receipt:
    """A refusal as a line of the log."""
    return Receipt(
        id=refusal.id,
        key_id=refusal.key_id,
        day=refusal.created_at // _DAY_MS,
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
        service_tier=None,
        audio_input_tokens=None,
        audio_output_tokens=None,
        accepted_prediction_tokens=None,
        rejected_prediction_tokens=None,
        web_searches=None,
        web_fetches=None,
        code_runs=None,
        file_searches=None,
        other_tool_runs=None,
    )
