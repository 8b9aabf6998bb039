"""Pages of the dashboard: overview, the first minute, requests and their receipts, live slots, the plan."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from penstock.core.limits import day_of, reset_of
from penstock.domain.accounts import accounts, audit, plan_wishes
from penstock.domain.accounts.accounts import User
from penstock.domain.keys import management
from penstock.domain.ledger import attempts, history, latency, refusals, request_log, request_order, rollups
from penstock.domain.ledger.history import NoSuchRequest, Receipt, RunsYet
from penstock.domain.ledger.refusals import Refusal
from penstock.domain.ledger.request_log import Filter
from penstock.domain.ledger.rollups import DayOfModel
from penstock.domain.limits import RunningRequest
from penstock.domain.mail import messages, outbox
from penstock.domain.staff.roles import may
from penstock.errors import DatabaseUnavailable, InvalidRequest
from penstock.site.charts import COLOURS, Stack, stacked
from penstock.site.context import SiteContext, go
from penstock.site.explanations import ATTEMPT_WORDS, BILLED_BY, limit_of, remedy_for
from penstock.site.first_key import SHOWN_MS, may_see_first_key
from penstock.site.log_filters import OUTCOMES, csv_head, csv_lines, csv_row, filter_of, query_of
from penstock.site.pages import NO_STORE, day
from penstock.site.session import address_of, read_form, signed_in
from penstock.site.snippets import first_commands
from penstock.site.turns import in_turns

RANGES = {"7": 7, "30": 30, "90": 90}
"""The ranges of the overview, in days."""


class DashboardPages:
    """The pages of an account."""

    def __init__(self, context: SiteContext, mail_queued: Callable[[], None]) -> None:
        """``mail_queued`` is called after a mail was queued."""
        self._context = context
        self._mail_queued = mail_queued

    def routes(self) -> list[Route]:
        """Every route, by hand."""
        return [
            Route("/dashboard", self.overview),
            Route("/welcome", self.welcome),
            Route("/requests", self.requests),
            Route("/requests.csv", self.requests_csv),
            Route("/requests/{id}", self.receipt),
            Route("/slots", self.slots),
            Route("/slots/end", self.end_slot, methods=["POST"]),
            Route("/plan", self.plan),
            Route("/plan/ask", self.ask_plan, methods=["POST"]),
        ]

    # ---- overview

    async def overview(self, request: Request) -> Response:
        """Today, and the days before it."""
        context = self._context
        viewer = signed_in(request)
        user, plan = viewer.user, context.plan(viewer.user.plan_id)
        today = day_of(context.clock())
        length = RANGES.get(request.query_params.get("days", ""), 7)
        days = range(today - length + 1, today + 1)
        await context.gate.refresh(user.id, context.clock())
        await self._flush_refusals()
        async with context.database.connect() as conn:
            used = await history.used_on(conn, user.id, today)
            by_day = await rollups.by_day(conn, user.id, days)
            sums = await rollups.sums(conn, user.id, days)
            first = await latency.first_classes(conn, user.id, days)
            errors = await rollups.errors(conn, user.id, days)
            refused = await refusals.by_code(conn, user.id, days)
            keys = await management.working_keys(conn, user.id, now=context.now())
        series = _series(by_day)
        bars = _bars(by_day, series, days)
        return context.pages.render(
            request,
            "desk/overview.html",
            {
                "plan": plan,
                "used": used,
                "reset_at": reset_of(today),
                "running": len(context.gate.running(user.id)),
                "length": length,
                "ranges": tuple(RANGES),
                "sums": sums,
                "errors": errors,
                "refused": refused,
                "p50": latency.percentile(first, 0.5),
                "p95": latency.percentile(first, 0.95),
                "series": series,
                "bars": bars,
                "chart": stacked(
                    bars,
                    series,
                    plan.daily_requests,
                    f"Counted requests by day and model, {length} days; the table below has the figures.",
                ),
                "keys": keys,
                "commands": first_commands(
                    f"{context.pages.origin(request)}/api/v1", "sk-ps-YOUR-KEY", self._model(user)
                ),
            },
        )

    # ---- the first minute

    async def welcome(self, request: Request) -> Response:
        """A command, until the first request has come; with the key where this browser has just verified the address."""
        context = self._context
        viewer = signed_in(request)
        user = viewer.user
        key = None
        await self._flush_refusals()
        async with context.database.connect() as conn:
            first = await history.first_request(conn, user.id, outcome="completed")
            tried = None if first else await _newest(conn, user.id)
            refused = None
            if tried is not None and tried.state == "refused":
                refused = await refusals.find(conn, user.id, tried.id)
        if first is None and may_see_first_key(request, context, viewer):
            key = await self._first_key(request, user)
        base = f"{context.pages.origin(request)}/api/v1"
        return context.pages.render(
            request,
            "desk/welcome.html",
            {
                "first": first,
                "tried": tried,
                "refused": refused,
                "remedy": remedy_for(tried.error_code) if tried else None,
                "key": key,
                "commands": first_commands(base, key or "sk-ps-YOUR-KEY", self._model(user)),
            },
        )

    async def _first_key(self, request: Request, user: User) -> str | None:
        """The key that was made at sign-up, unless it was used or is not kept. The page asks every two seconds: noted once."""
        context, now = self._context, self._context.now()
        async with context.database.connect() as conn:
            keys = await management.working_keys(conn, user.id, now=now)
            if not keys or not keys[-1].kept or keys[-1].last_used_at is not None:
                return None
            key = await management.reveal_key(conn, context.secrets_file, user.id, keys[-1].id)
            noted = await audit.was_noted(conn, user.id, "key_shown", keys[-1].name, since=now - SHOWN_MS)
        if not noted:
            async with context.database.transaction() as conn:
                await audit.note(
                    conn,
                    user.id,
                    "key_shown",
                    keys[-1].name,
                    address_of(request),
                    now=now,
                    entropy=context.entropy,
                )
        return key

    def _model(self, user: User) -> str | None:
        offered = self._context.catalog().offered(user.plan_id, kind="chat")
        return offered[0].id if offered else None

    # ---- requests

    async def requests(self, request: Request) -> Response:
        """The log, filtered."""
        context = self._context
        user = signed_in(request).user
        id = request.query_params.get("id", "").strip()
        if id:
            return go(f"/requests/{quote(id[:80], safe='')}")
        chosen = filter_of(request, providers=context.providers_told)
        await self._flush_refusals()
        async with context.database.connect() as conn:
            listed = request_order.page if chosen.order else request_log.page
            rows, cursor = await listed(conn, user.id, chosen)
            totals = await request_log.totals(conn, user.id, chosen)
            choices = await request_log.choices(conn, user.id)
            keys = await management.list_keys(conn, user.id)
        return context.pages.render(
            request,
            "desk/requests.html",
            {
                "rows": rows,
                "newest": query_of(request, before=""),
                "older": query_of(request, before=cursor) if cursor else "",
                "by_time": query_of(request, before="", sort=""),
                "sorted": {order: query_of(request, before="", sort=order) for order in request_order.ORDERS},
                "most_listed": request_order.MOST_LISTED,
                "turned": query_of(request, before="", sort="" if chosen.oldest else "oldest"),
                "file": query_of(request, before="", sort=""),
                "chosen": chosen,
                "given": request.query_params,
                "filtered": bool(query_of(request, before="", sort="")),
                "totals": totals,
                "choices": choices,
                "outcomes": OUTCOMES,
                "keys": {key.id: "Playground" if key.of_playground else key.name for key in keys},
                "key_choices": [(key.id, key.name) for key in keys if not key.of_playground],
                "tell_providers": context.providers_told,
            },
        )

    async def requests_csv(self, request: Request) -> Response:
        """All that is filtered, as a file that is written while it is read."""
        context = self._context
        user = signed_in(request).user
        chosen = filter_of(request, providers=context.providers_told)
        await self._flush_refusals()
        async with context.database.connect() as conn:
            keys = {key.id: key.name for key in await management.list_keys(conn, user.id)}
            first = await request_log.page(conn, user.id, chosen, request_log.ROWS_OF_A_FILE)
        return StreamingResponse(
            self._lines(user.id, chosen, first, keys),
            media_type="text/csv; charset=utf-8",
            headers={**NO_STORE, "content-disposition": 'attachment; filename="requests.csv"'},
        )

    async def _lines(
        self, user_id: str, chosen: Filter, first: tuple[list[Receipt], str], keys: Mapping[str, str]
    ) -> AsyncGenerator[bytes]:
        """The file's lines, a few at a time: others have their turn between them, and nothing is kept."""
        told = self._context.providers_told
        rows, cursor = first
        yield csv_lines([csv_head(told)])
        while rows:
            async for some in in_turns(rows):
                yield csv_lines([csv_row(row, keys, told) for row in some])
            if not cursor:
                return
            chosen = msgspec.structs.replace(chosen, before=cursor)
            async with self._context.database.connect() as conn:
                rows, cursor = await request_log.page(conn, user_id, chosen, request_log.ROWS_OF_A_FILE)

    async def receipt(self, request: Request) -> Response:
        """One request: what counted and why."""
        context = self._context
        user = signed_in(request).user
        id: str = request.path_params["id"]
        await context.gate.refresh(user.id, context.clock())
        await self._flush_refusals()
        async with context.database.connect() as conn:
            try:
                row = await history.receipt(conn, user.id, id)
            except NoSuchRequest:
                refused = await refusals.find(conn, user.id, id)
                if refused is not None:
                    return await self._refusal(request, conn, refused)
                if any(lease.request_id == id for lease in context.gate.running(user.id)):
                    raise RunsYet(
                        "This request is running. Its receipt is here once it has ended, or has run for some seconds."
                    ) from None
                raise
            made = await attempts.find(conn, id, row.day) if row.attempts else ()
            keys = {key.id: key for key in await management.list_keys(conn, user.id)}
            hour = row.created_at // rollups.HOUR_MS
            before = await history.counted_by(conn, user.id, row.day, hour)
        return context.pages.render(
            request,
            "desk/receipt.html",
            {
                "special": [(said, count) for name, said in BILLED_BY if (count := getattr(row, name))],
                "row": row,
                "key": keys.get(row.key_id),
                "before": before,
                "hour": hour * rollups.HOUR_MS,
                "counting": _why(row),
                "tell_providers": context.providers_told,
                "attempts": [(attempt, ATTEMPT_WORDS.get(attempt.failure, "")) for attempt in made],
                "operator": may(user.role, "read"),
            },
        )

    async def _refusal(self, request: Request, conn: AsyncConnection, refusal: Refusal) -> Response:
        """A request that was refused: which limit it was, if it was one, and what to do."""
        keys = {key.id: key for key in await management.list_keys(conn, refusal.user_id)}
        return self._context.pages.render(
            request,
            "desk/refused.html",
            {
                "row": refusal,
                "key": keys.get(refusal.key_id),
                "limit": await limit_of(conn, refusal),
                "remedy": remedy_for(refusal.code),
                "now": self._context.now(),
            },
        )

    async def _flush_refusals(self) -> None:
        """What was refused a moment ago is on the page. A page without it is better than none."""
        with suppress(DatabaseUnavailable):
            await self._context.refusals.flush()
            await self._context.attempts.flush()

    # ---- live slots

    async def slots(self, request: Request) -> Response:
        """What runs now."""
        context = self._context
        user = signed_in(request).user
        await context.gate.refresh(user.id, context.clock())
        held = context.gate.running(user.id)
        now = context.clock()
        rows: list[tuple[str, int, RunningRequest | None]] = []
        async with context.database.connect() as conn:
            for lease in held:
                told = context.gate.described(lease.request_id)
                if told is None:  # it runs on another server, whose row is there after some seconds
                    row = await history.find(conn, user.id, lease.request_id)
                    told = (
                        None if row is None else RunningRequest(row.model, row.key_id, row.client, row.stream)
                    )
                rows.append((lease.request_id, int((now - lease.since) * 1000), told))
            keys = {key.id: key.name for key in await management.list_keys(conn, user.id)} if rows else {}
        return context.pages.render(
            request, "desk/slots.html", {"rows": rows, "keys": keys, "plan": context.plan(user.plan_id)}
        )

    async def end_slot(self, request: Request) -> Response:
        """End one of one's own requests."""
        user = signed_in(request).user
        form = await read_form(request)
        ended = await self._context.gate.end(user.id, form.text("id"))
        return go("/slots", "ended" if ended else "")

    # ---- the plan

    async def plan(self, request: Request) -> Response:
        """The plan, and the others."""
        context = self._context
        user = signed_in(request).user
        async with context.database.connect() as conn:
            wish = await plan_wishes.wish_of(conn, user.id)
            operators = await accounts.admins(conn)
        catalog = context.catalog()
        models = {model.id for model in catalog.models.values() if catalog.served(model)}
        return context.pages.render(
            request,
            "desk/plan.html",
            {
                "plans": list(catalog.plans.values()),
                "plan": context.plan(user.plan_id),
                "wish": wish,
                "operators": bool(operators),
                "models": models,
            },
        )

    async def ask_plan(self, request: Request) -> Response:
        """Ask the operator for another plan."""
        context, now = self._context, self._context.now()
        user = signed_in(request).user
        form = await read_form(request)
        wanted = context.catalog().plans.get(form.text("plan"))
        if wanted is None or wanted.id == user.plan_id:
            raise InvalidRequest("There is no such plan to ask for.", param="plan")
        async with context.database.transaction() as conn:
            await plan_wishes.set_wish(conn, user.id, wanted.id, now=now)
            admins = await accounts.admins(conn)
            for admin in admins:
                mail = messages.plan_asked(context.sign_in.rules.brand, admin, user.email, wanted.id)
                await outbox.queue(conn, context.secrets_file, mail, now=now, entropy=context.entropy)
            address = "" if request.client is None else request.client.host
            await audit.note(
                conn, user.id, "plan_asked", wanted.id, address, now=now, entropy=context.entropy
            )
        self._mail_queued()
        return go("/plan", "asked" if admins else "asked-nobody")


async def _newest(conn: AsyncConnection, user_id: str) -> Receipt | None:
    """The account's newest request that has ended, or was refused."""
    rows, _ = await request_log.page(conn, user_id, Filter())
    return next((row for row in rows if row.state != "open"), None)


def _series(by_day: Sequence[DayOfModel]) -> list[str]:
    """The models of the chart, the most used first; beyond the colours they are put together."""
    totals: dict[str, int] = {}
    for row in by_day:
        totals[row.model] = totals.get(row.model, 0) + row.requests
    names = sorted(totals, key=lambda name: (-totals[name], name))
    return names if len(names) <= COLOURS else [*names[: COLOURS - 1], "others"]


def _bars(by_day: Sequence[DayOfModel], series: Sequence[str], days: range) -> list[Stack]:
    places = {name: at for at, name in enumerate(series)}
    heights = {number: [0] * len(series) for number in days}
    for row in by_day:
        heights[row.day][places.get(row.model, len(series) - 1)] += row.requests
    return [Stack(day(number), tuple(parts)) for number, parts in heights.items()]


_REASONS = {
    "no_output": "The provider failed before it gave any output, or gave none, so the request was taken back.",
    "provider_refused": "The provider refused the request as invalid, so it was taken back.",
    "not_sent": "The request was never sent to a provider, so it was taken back.",
    "internal_error": "A fault of this service ended it, so it was taken back.",
}


def _why(row: history.Receipt) -> str:
    """Why a request counted, or did not."""
    if row.state == "refused":
        return "It was refused before a provider was asked, so it does not count."
    if not row.counted:
        return _REASONS.get(row.refund_reason or "", "It was taken back.")
    if row.state == "open":
        return "It is running. A request counts from when a provider is asked."
    if row.outcome == "client_gone":
        return "A provider was asked; that the caller left does not give the request back."
    if row.outcome == "ended_by_owner":
        return "A provider was asked; that you ended it does not give the request back."
    if row.outcome == "aborted":
        return "A provider was asked, and then the server died; it is counted because output may have come."
    if row.outcome == "upstream_error":
        return "The provider broke off after it had given output."
    return "A provider was asked, and gave an answer."
