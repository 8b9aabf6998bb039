"""The page of usage over time: requests, tokens and latency by model, key or client, two days to a year, and its file."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.core.limits import day_of
from penstock.core.neutral.usage import CLASSES, Special
from penstock.core.quoting import csv_cell
from penstock.domain.keys import management
from penstock.domain.ledger import refusals, rollups
from penstock.domain.ledger.latency import Times, percentile, times_of, together
from penstock.domain.ledger.usage_report import Span, UsageRow, usage_of
from penstock.errors import DatabaseUnavailable
from penstock.site.charts import COLOURS, Line, Stack, lines, stacked
from penstock.site.context import SiteContext
from penstock.site.log_filters import csv_lines
from penstock.site.pages import NO_STORE, day
from penstock.site.session import signed_in
from penstock.site.turns import in_turns

Group = Literal["model", "key", "client"]


class Length(msgspec.Struct, frozen=True):
    """How far back is looked, and in what steps."""

    name: str
    days: int
    span: Span


LENGTHS: Final = {
    "day": Length("2 days", 2, "hour"),
    "week": Length("7 days", 7, "day"),
    "month": Length("30 days", 30, "day"),
    "quarter": Length("90 days", 90, "day"),
    "year": Length("365 days", 365, "day"),
}
GROUPS: Final[tuple[tuple[Group, str], ...]] = (("model", "model"), ("key", "key"), ("client", "client"))
_GROUP_OF: Final[dict[str, Group]] = {name: name for name, _ in GROUPS}
MEASURES: Final[dict[str, tuple[str, Callable[[UsageRow], int]]]] = {
    "requests": ("requests", lambda row: row.requests),
    "read": ("tokens read", lambda row: row.input_tokens),
    "written": ("tokens written", lambda row: row.output_tokens),
    "cached": ("tokens from cache", lambda row: row.cache_read_tokens),
    "failed": ("not completed", lambda row: row.failed),
}
LATENCIES: Final[dict[str, tuple[str, Callable[[Times], tuple[int, ...]]]]] = {
    "first": ("time to the first token", lambda times: times.first),
    "whole": ("whole time", lambda times: times.whole),
}
"""Of completed requests alone, where it is the whole time."""
_SHARES: Final = (50, 95, 99)
_COLUMN_OF: Final[dict[Group, str]] = {"model": "model", "key": "key_id", "client": "client"}


class UsagePages:
    """The page, and its file."""

    def __init__(self, context: SiteContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [Route("/usage", self.usage), Route("/usage.csv", self.usage_csv)]

    async def usage(self, request: Request) -> Response:
        """A chart with its figures, and what went wrong."""
        context = self._context
        user = signed_in(request).user
        chosen, length, group, measure = self._asked(request)
        days = self._days(length)
        with suppress(DatabaseUnavailable):
            await context.refusals.flush()
        async with context.database.connect() as conn:
            rows = await self._rows(conn, user.id, days, length.span, group)
            times = await self._times(conn, user.id, days, length.span, group)
            keys = await self._key_names(conn, user.id, group)
            errors = await rollups.errors(conn, user.id, days)
            refused = await refusals.by_code(conn, user.id, days)
        spans = _spans(days, length.span)
        if measure in LATENCIES:
            said, part = LATENCIES[measure]
            names, table, chart = _lines(times, keys, part, spans, f"Half of the requests within, {said}")
        else:
            said, value = MEASURES[measure]
            names, table, chart = _stacks(
                rows,
                group,
                value,
                spans,
                f"{said} by {length.span} and {group}; the table below has the figures.",
            )
        totals, latencies = _totals(rows, group), _percentiles(times)
        return context.pages.render(
            request,
            "desk/usage.html",
            {
                "lengths": LENGTHS,
                "groups": GROUPS,
                "measures": {name: words for name, (words, _) in (*MEASURES.items(), *LATENCIES.items())},
                "length": chosen,
                "group": group,
                "measure": measure,
                "timed": measure in LATENCIES,
                "totals": totals,
                "latencies": latencies,
                "timed_names": [
                    (name, word)
                    for name, word in (*((name, word) for name, word, _ in totals), ("All", ""))
                    if word in latencies
                ],
                "series": names,
                "table": table,
                "chart": chart,
                "said": said,
                "errors": errors,
                "refused": refused,
                "first_day": day(days.start),
                "last_day": day(days.stop - 1),
            },
        )

    async def usage_csv(self, request: Request) -> Response:
        """The figures by time and group, each in its column; percentiles in milliseconds."""
        user = signed_in(request).user
        _, length, group, _ = self._asked(request)
        days = self._days(length)
        async with self._context.database.connect() as conn:
            rows = await self._rows(conn, user.id, days, length.span, group)
            times = await self._times(conn, user.id, days, length.span, group)
        names = (
            "requests", "counted", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
        )  # fmt: skip
        shares = [f"{part}_p{share}_ms" for part in ("first_token", "whole") for share in _SHARES]
        known = {(one.start, one.of): one for one in times}

        def line(row: UsageRow) -> list[object]:
            special = row.special or Special()
            one = known.get((row.start, _word(row, group)))
            return [
                datetime.fromtimestamp(row.start * 3600, UTC).isoformat(),
                csv_cell(_named(row, group)),
                *(getattr(row, name) for name in names),
                *(getattr(special, name) for name in CLASSES),
                *(percentile(part, share / 100) for part in _parts(one) for share in _SHARES),
            ]

        async def lines() -> AsyncGenerator[bytes]:
            yield csv_lines([["start", group, *names, *CLASSES, *shares]])
            async for some in in_turns(rows):
                yield csv_lines([line(row) for row in some])

        headers = {**NO_STORE, "content-disposition": 'attachment; filename="usage.csv"'}
        return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)

    def _asked(self, request: Request) -> tuple[str, Length, Group, str]:
        query = request.query_params
        chosen = query.get("length", "month")
        chosen = chosen if chosen in LENGTHS else "month"
        group = _GROUP_OF.get(query.get("by", ""), "model")
        measure = query.get("show", "requests")
        known = measure in MEASURES or measure in LATENCIES
        return chosen, LENGTHS[chosen], group, measure if known else "requests"

    def _days(self, length: Length) -> range:
        today = day_of(self._context.clock())
        return range(today - length.days + 1, today + 1)

    @staticmethod
    async def _rows(
        conn: AsyncConnection, user_id: str, days: range, span: Span, group: Group
    ) -> list[UsageRow]:
        return await usage_of(
            conn,
            user_id,
            days,
            span,
            models=group == "model",
            keys=group == "key",
            clients=group == "client",
        )

    @staticmethod
    async def _times(
        conn: AsyncConnection, user_id: str, days: range, span: Span, group: Group
    ) -> list[Times]:
        return await times_of(conn, user_id, days, 24 if span == "day" else 1, _COLUMN_OF[group])

    @staticmethod
    async def _key_names(conn: AsyncConnection, user_id: str, group: Group) -> Mapping[str, str]:
        """What keys are called, where they are what is told apart."""
        if group != "key":
            return {}
        return {key.id: key.name for key in await management.list_keys(conn, user_id)}


def _named(row: UsageRow, group: Group) -> str:
    """What a row's model, key or client is called."""
    if group == "key":
        return row.key_name or f"a key that is gone ({(row.key_id or '')[-4:]})"
    return (row.model if group == "model" else row.client) or "-"


def _word(row: UsageRow, group: Group) -> str:
    """What the log is filtered by for a row's model, key or client."""
    return {"model": row.model, "key": row.key_id, "client": row.client}[group] or ""


def _totals(rows: Sequence[UsageRow], group: Group) -> list[tuple[str, str, list[int]]]:
    """By what is told apart: its name, its word, and requests, failures, tokens read, written and from cache."""
    found: dict[str, tuple[str, list[int]]] = {}
    for row in rows:
        _, sums = found.setdefault(_word(row, group), (_named(row, group), [0] * 5))
        values = (row.requests, row.failed, row.input_tokens, row.output_tokens, row.cache_read_tokens)
        for at, number in enumerate(values):
            sums[at] += number
    return sorted(
        ((name, word, sums) for word, (name, sums) in found.items()), key=lambda it: (-it[2][0], it[0])
    )


def _percentiles(times: Sequence[Times]) -> dict[str, list[int | None]]:
    """By what is told apart, and by "" of all: within how many milliseconds the first token and the whole were there."""
    of: dict[str, list[Times]] = {}
    for one in times:
        of.setdefault(one.of, []).append(one)
    found: dict[str, list[int | None]] = {}
    for word, some in (*of.items(), ("", list(times))) if times else ():
        parts = (together(some, lambda one: one.first), together(some, lambda one: one.whole))
        found[word] = [percentile(part, share / 100) for part in parts for share in _SHARES]
    return found


def _parts(one: Times | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return ((), ()) if one is None else (one.first, one.whole)


# ---- the chart, with what its table says


Table = list[tuple[str, list[int | None]]]
"""A name of a time, and the figure of each series."""


def _spans(days: range, span: Span) -> dict[int, str]:
    """The times that are shown, as they are called, by the epoch hour of their start."""
    if span == "day":
        return {number * 24: day(number) for number in days}
    return {
        hour: f"{day(hour // 24)[5:]} {hour % 24:02}:00" for hour in range(days.start * 24, days.stop * 24)
    }


def _largest(sums: Mapping[str, int]) -> list[str]:
    """The names of the chart, the largest first; beyond the colours they are put together."""
    names = sorted((name for name in sums if sums[name]), key=lambda name: (-sums[name], name))
    return names if len(names) <= COLOURS else [*names[: COLOURS - 1], "others"]


def _stacks(
    rows: Sequence[UsageRow],
    group: Group,
    value: Callable[[UsageRow], int],
    spans: Mapping[int, str],
    said: str,
) -> tuple[list[str], Table, Markup]:
    sums: dict[str, int] = {}
    for row in rows:
        sums[_named(row, group)] = sums.get(_named(row, group), 0) + value(row)
    series = _largest(sums)
    places = {name: at for at, name in enumerate(series)}
    heights = {start: [0] * len(series) for start in spans}
    for row in rows:
        if number := value(row):
            heights[row.start][places.get(_named(row, group), len(series) - 1)] += number
    bars = [Stack(name, tuple(heights[start])) for start, name in spans.items()]
    table: Table = [(bar.name, list(bar.parts)) for bar in bars if sum(bar.parts)]
    return series, table, stacked(bars, series, None, said)


def _lines(
    times: Sequence[Times],
    keys: Mapping[str, str],
    part: Callable[[Times], tuple[int, ...]],
    spans: Mapping[int, str],
    said: str,
) -> tuple[list[str], Table, Markup]:
    """The median of each series: of many requests it moves little, so that what is seen is there."""
    sums: dict[str, int] = {}
    names = {one.of: keys.get(one.of, one.of) or "-" for one in times}
    for one in times:
        sums[one.of] = sums.get(one.of, 0) + sum(part(one))
    series = _largest(sums)
    places = {word: at for at, word in enumerate(series)}
    found: dict[tuple[int, int], list[Times]] = {}
    for one in times:
        place = places.get(one.of, len(series) - 1)
        found.setdefault((one.start, place), []).append(one)

    def median(start: int, place: int) -> int | None:
        some = found.get((start, place))
        return None if some is None else percentile(together(some, part), 0.5)

    drawn = [
        Line(names.get(word, word), tuple(median(start, at) for start in spans))
        for at, word in enumerate(series)
    ]
    table: Table = [(name, [line.values[at] for line in drawn]) for at, name in enumerate(spans.values())]
    table = [(name, values) for name, values in table if any(value is not None for value in values)]
    return [line.name for line in drawn], table, lines(list(spans.values()), drawn, said, "ms")
