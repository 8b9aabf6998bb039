"""Requests for staff: one box that finds accounts, keys and requests; those of a day; and the receipt as staff see it."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from penstock.core.limits import day_of
from penstock.domain.accounts import accounts
from penstock.domain.captures.kept import order_behind
from penstock.domain.keys import management
from penstock.domain.ledger import refusals
from penstock.domain.staff import search
from penstock.domain.staff.search import RequestFilter
from penstock.errors import InvalidRequest
from penstock.site.admin.access import AdminRoute
from penstock.site.admin.context import AdminContext
from penstock.site.admin.provider_view import credentials_shown
from penstock.site.context import go
from penstock.site.error_pages import PageNotFound
from penstock.site.explanations import ATTEMPT_WORDS, remedy_for
from penstock.site.session import read_form

OUTCOMES = ("completed", "failed", "upstream_error", "error", "client_gone", "ended_by_owner", "running")


class RequestPages:
    """The pages under ``/admin/requests``, and the search."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/search", self.search, "read", ("POST",)),
            AdminRoute("/admin/requests", self.requests, "read"),
            AdminRoute("/admin/requests/{id}", self.receipt, "read"),
        ]

    async def search(self, request: Request) -> Response:
        """What was typed, in the body of a form: a full key stands in no address."""
        site = self._site
        form = await read_form(request)
        text = form.text("q")[:400]
        await site.refusals.flush()
        async with site.database.connect() as conn:
            hits = await search.find(conn, site.secrets_file, text)
        if len(hits) == 1:
            return go(hits[0].path)
        return site.pages.render(request, "admin/search.html", {"hits": hits, "typed": bool(text)})

    async def requests(self, request: Request) -> Response:
        """The requests of one day, the newest first."""
        site, query = self._site, request.query_params
        today = day_of(site.clock())
        outcome = query.get("outcome", "")
        chosen = RequestFilter(
            day=_day(query.get("day", ""), today),
            user_id=query.get("account", "")[:40],
            outcome=outcome if outcome in OUTCOMES else "",
            provider=query.get("provider", "")[:64],
            model=query.get("model", "")[:128],
            before=query.get("before", ""),
        )
        catalog = site.catalog()
        async with site.database.connect() as conn:
            rows, cursor = await search.requests_of_day(conn, chosen)
            names = await search.emails_of(conn, {row.user_id for row in rows} | {chosen.user_id} - {""})
        kept = {name: value for name, value in query.items() if name != "before" and value}
        return site.pages.render(
            request,
            "admin/requests.html",
            {
                "rows": rows,
                "names": names,
                "chosen": chosen,
                "date": _date(chosen.day),
                "outcomes": OUTCOMES,
                "providers": sorted(
                    {target.provider for model in catalog.models.values() for target in model.targets}
                ),
                "models": list(catalog.models),
                "newest": urlencode(kept),
                "older": urlencode({**kept, "day": _date(chosen.day), "before": cursor}) if cursor else "",
            },
        )

    async def receipt(self, request: Request) -> Response:
        """One request of anybody."""
        site = self._site
        id: str = request.path_params["id"]
        await site.refusals.flush()
        await site.attempts.flush()
        async with site.database.connect() as conn:
            row = await search.find_request(conn, id)
            refused = None if row is not None else await refusals.find_any(conn, id)
            found = row or refused
            if found is None:
                raise PageNotFound(
                    "There is no such request. One that runs is here once it has run for some seconds."
                )
            user = await accounts.user_by_id(conn, found.user_id)
            keys = {key.id: key for key in await management.list_keys(conn, found.user_id)}
            captured = await order_behind(conn, id)
            made = [] if row is None else await search.attempts_of(conn, row)
            shown = await credentials_shown(conn, self._context.operation.kinds) if made else {}
        code = refused.code if refused is not None else None if row is None else row.error_code
        return site.pages.render(
            request,
            "admin/receipt.html",
            {
                "row": row,
                "refused": refused,
                "id": id,
                "user": user,
                "user_id": found.user_id,
                "key": keys.get(found.key_id),
                "captured": captured,
                "attempts": [
                    (it, shown.get((it.provider, it.credential), ""), ATTEMPT_WORDS.get(it.failure, ""))
                    for it in made
                ],
                "remedy": remedy_for(code) if code else None,
            },
        )


def _day(text: str, today: int) -> int:
    if not text:
        return today
    try:
        return day_of(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise InvalidRequest("This is not a day.", param="day") from None


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
