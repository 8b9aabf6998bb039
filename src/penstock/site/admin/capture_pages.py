"""Captures for staff: whose requests are kept with their content, and the content, which an owner reads for a reason."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.accounts import accounts
from penstock.domain.captures import kept, orders
from penstock.domain.captures.kept import CaptureRead
from penstock.domain.captures.orders import LONGEST_CAPTURE_DAYS
from penstock.domain.staff import search
from penstock.errors import CallerError, InvalidRequest, Overloaded
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go, retry_headers
from penstock.site.error_pages import PageNotFound
from penstock.site.session import read_form, signed_in, visitor_of

_DAY_MS = 86_400_000


class CapturePages:
    """The pages under ``/admin/captures``."""

    def __init__(self, context: AdminContext) -> None:
        self._site = context.site
        self._settings = context.operation.settings

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/captures", self.captures, "read"),
            AdminRoute("/admin/captures/begin", self.begin, "captures", ("POST",)),
            AdminRoute("/admin/captures/{id}", self.capture, "captures"),
            AdminRoute("/admin/captures/{id}/end", self.end, "captures", ("POST",)),
            AdminRoute("/admin/captures/{id}/read", self.read, "captures", ("POST",)),
        ]

    async def captures(self, request: Request) -> Response:
        """The orders, without anything of content."""
        return await self._page(request)

    async def begin(self, request: Request) -> Response:
        """Have requests of an account, or of one of its keys, kept; after the password."""
        site, viewer, form = self._site, signed_in(request), await read_form(request)
        days = form.text("days")
        try:
            await site.sign_in.check_password(
                viewer.user, form.exact("current"), visitor_of(request), now=site.now()
            )
            orders.refuse_never(self._settings.captures)
            async with site.database.transaction() as conn:
                user = await accounts.user_by_email(conn, form.text("email"))
                await orders.begin_capture(
                    conn,
                    user.id,
                    form.text("key"),
                    form.text("reason"),
                    int(days) if days.isascii() and days.isdecimal() and len(days) < 5 else 0,
                    actor_of(request, viewer),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except (CallerError, Overloaded) as error:
            return await self._page(request, error=error)
        return self._said()

    async def end(self, request: Request) -> Response:
        """Keep no more of it."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await orders.end_capture(
                conn,
                request.path_params["id"],
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return self._said()

    async def capture(self, request: Request) -> Response:
        """The requests that one order has captured."""
        return await self._order_page(request, request.path_params["id"])

    async def read(self, request: Request) -> Response:
        """One request with its content, after the reason was said."""
        site, form = self._site, await read_form(request)
        order = form.text("order")
        try:
            async with site.database.transaction() as conn:
                found = await kept.read_capture(
                    conn,
                    site.secrets_file,
                    request.path_params["id"],
                    form.text("reason"),
                    actor_of(request, signed_in(request)),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except InvalidRequest as error:
            return await self._order_page(request, order, error=error)
        return await self._order_page(request, order, found=found)

    async def _order_page(
        self,
        request: Request,
        id: str,
        *,
        found: CaptureRead | None = None,
        error: InvalidRequest | None = None,
    ) -> Response:
        site = self._site
        async with site.database.connect() as conn:
            recent = await orders.recent_orders(conn, since=self._since())
            order = next((it for it in recent if it.id == id), None)
            if order is None:
                raise PageNotFound("There is no such capture, or nothing of it is kept.")
            rows = await kept.captures_of(conn, id)
            names = await search.emails_of(conn, {order.account_id})
        return site.pages.render(
            request,
            "admin/capture.html",
            {
                "order": order,
                "rows": rows,
                "email": names.get(order.account_id, order.account_id),
                "found": found,
                "error": "" if error is None else error.message,
                "now": site.now(),
            },
            status=200 if error is None else error.status,
        )

    async def _page(self, request: Request, *, error: CallerError | Overloaded | None = None) -> Response:
        site = self._site
        async with site.database.connect() as conn:
            rows = await orders.recent_orders(conn, since=self._since())
            names = await search.emails_of(conn, {row.account_id for row in rows})
        return site.pages.render(
            request,
            "admin/captures.html",
            {
                "rows": rows,
                "names": names,
                "now": site.now(),
                "ruled_out": self._settings.captures == "never",
                "kept_days": self._settings.capture_days,
                "longest": LONGEST_CAPTURE_DAYS,
                "may_capture": allows(signed_in(request), "captures"),
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )

    def _since(self) -> int:
        return self._site.now() - self._settings.capture_days * _DAY_MS

    def _said(self) -> Response:
        self._site.board.forget()
        return go("/admin/captures", "captured")
