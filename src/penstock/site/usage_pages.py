"""The page of usage over time: requests and tokens by model, key or client, from two days to a year, and its file."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.core.limits import day_of
from penstock.core.neutral.usage import CLASSES, Special
from penstock.core.quoting import csv_cell
from penstock.domain.ledger import refusals, rollups
from penstock.domain.ledger.usage_report import Span, UsageRow, usage_of
from penstock.errors import DatabaseUnavailable
from penstock.site.charts import COLOURS, Stack, stacked
from penstock.site.context import SiteContext
from penstock.site.log_filters import csv_lines
from penstock.site.pages import NO_STORE, day
from penstock.site.session import signed_in

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
            sums = await rollups.sums(conn, user.id, days)
            errors = await rollups.errors(conn, user.id, days)
            refused = await refusals.by_code(conn, user.id, days)
        said, value = MEASURES[measure]
        totals = _totals(rows, group)
        series = _series(rows, group, value)
        bars = _bars(rows, group, value, series, days, length.span)
        return context.pages.render(
            request,
            "desk/usage.html",
            {
                "lengths": LENGTHS,
                "groups": GROUPS,
                "measures": {name: words for name, (words, _) in MEASURES.items()},
                "length": chosen,
                "group": group,
                "measure": measure,
                "totals": totals,
                "series": series,
                "bars": bars,
                "chart": stacked(
                    bars,
                    series,
                    None,
                    f"{said} by {length.span} and {group}; the table below has the figures.",
                ),
                "said": said,
                "sums": sums,
                "p50": rollups.percentile(sums.classes, 0.5),
                "p95": rollups.percentile(sums.classes, 0.95),
                "first_class": rollups.BOUNDS[0],
                "errors": errors,
                "refused": refused,
                "first_day": day(days.start),
                "last_day": day(days.stop - 1),
            },
        )

    async def usage_csv(self, request: Request) -> Response:
        """The figures by time and group, each in its column."""
        user = signed_in(request).user
        _, length, group, _ = self._asked(request)
        async with self._context.database.connect() as conn:
            rows = await self._rows(conn, user.id, self._days(length), length.span, group)
        names = (
            "requests", "counted", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
        )  # fmt: skip
        lines: list[list[object]] = [["start", group, *names, *CLASSES]]
        for row in rows:
            at = datetime.fromtimestamp(row.start * 3600, UTC).isoformat()
            special = row.special or Special()
            lines.append(
                [
                    at,
                    csv_cell(_named(row, group)),
                    *(getattr(row, name) for name in names),
                    *(getattr(special, name) for name in CLASSES),
                ]
            )
        headers = {**NO_STORE, "content-disposition": 'attachment; filename="usage.csv"'}
        return Response(csv_lines(lines), media_type="text/csv; charset=utf-8", headers=headers)

    def _asked(self, request: Request) -> tuple[str, Length, Group, str]:
        query = request.query_params
        chosen = query.get("length", "month")
        chosen = chosen if chosen in LENGTHS else "month"
        group = _GROUP_OF.get(query.get("by", ""), "model")
        measure = query.get("show", "requests")
        return chosen, LENGTHS[chosen], group, measure if measure in MEASURES else "requests"

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


def _named(row: UsageRow, group: Group) -> str:
    """What a row's model, key or client is called."""
    if group == "key":
        return row.key_name or "a key that is gone"
    return (row.model if group == "model" else row.client) or "-"


def _totals(rows: Sequence[UsageRow], group: Group) -> list[tuple[str, str, list[int]]]:
    """By name: what the log is filtered by for it, and requests, failures, tokens read, written and from cache."""
    found: dict[str, tuple[str, list[int]]] = {}
    for row in rows:
        word = {"model": row.model, "key": row.key_id, "client": row.client}[group] or ""
        _, sums = found.setdefault(_named(row, group), (word, [0] * 5))
        values = (row.requests, row.failed, row.input_tokens, row.output_tokens, row.cache_read_tokens)
        for at, number in enumerate(values):
            sums[at] += number
    return sorted(
        ((name, word, sums) for name, (word, sums) in found.items()), key=lambda it: (-it[2][0], it[0])
    )


def _series(rows: Sequence[UsageRow], group: Group, value: Callable[[UsageRow], int]) -> list[str]:
    """The names of the chart, the largest first; beyond the colours they are put together."""
    sums: dict[str, int] = {}
    for row in rows:
        sums[_named(row, group)] = sums.get(_named(row, group), 0) + value(row)
    names = sorted((name for name in sums if sums[name]), key=lambda name: (-sums[name], name))
    return names if len(names) <= COLOURS else [*names[: COLOURS - 1], "others"]


def _bars(
    rows: Sequence[UsageRow],
    group: Group,
    value: Callable[[UsageRow], int],
    series: Sequence[str],
    days: range,
    span: Span,
) -> list[Stack]:
    step = 24 if span == "day" else 1
    places = {name: at for at, name in enumerate(series)}
    heights = {hour: [0] * len(series) for hour in range(days.start * 24, days.stop * 24, step)}
    for row in rows:
        if number := value(row):
            heights[row.start][places.get(_named(row, group), len(series) - 1)] += number
    return [
        Stack(day(hour // 24) if step == 24 else f"{day(hour // 24)[5:]} {hour % 24:02}:00", tuple(parts))
        for hour, parts in heights.items()
    ]
