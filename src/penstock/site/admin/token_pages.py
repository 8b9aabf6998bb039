"""Tokens of the admin API: listed, made after the password and shown once, ended."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.staff import tokens
from penstock.domain.staff.roles import ROLES
from penstock.domain.staff.tokens import DEFAULT_DAYS, SCOPES, BadToken, NewToken, TokenWish
from penstock.errors import CallerError, Overloaded
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go, retry_headers
from penstock.site.session import read_form, signed_in, visitor_of


class TokenPages:
    """The pages under ``/admin/tokens``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/tokens", self.tokens, "read"),
            AdminRoute("/admin/tokens/make", self.make, "staff", ("POST",)),
            AdminRoute("/admin/tokens/{id}/revoke", self.revoke, "staff", ("POST",)),
        ]

    async def tokens(self, request: Request) -> Response:
        """Every token, the newest first."""
        return await self._page(request)

    async def make(self, request: Request) -> Response:
        """Make a token that acts for who is signed in; the page that answers is the only one that shows it."""
        site, viewer = self._site, signed_in(request)
        form = await read_form(request)
        days, addresses = form.text("days"), form.text("addresses").split()
        try:
            await site.sign_in.check_password(
                viewer.user, form.exact("current"), visitor_of(request), now=site.now()
            )
            if not (days.isascii() and days.isdecimal() and len(days) < 6):
                raise BadToken("Days are a whole number.", param="days")
            wish = TokenWish(
                form.text("name"),
                form.text("role"),
                form.chosen("scope-"),
                int(days),
                tuple(addresses) or None,
            )
            async with site.database.transaction() as conn:
                made = await tokens.make_token(
                    conn,
                    site.secrets_file,
                    viewer.user,
                    wish,
                    actor_of(request, viewer),
                    longest_days=self._longest,
                    now=site.now(),
                    entropy=site.entropy,
                )
        except (CallerError, Overloaded) as error:
            return await self._page(request, error=error)
        return await self._page(request, made=made)

    async def revoke(self, request: Request) -> Response:
        """End a token."""
        site, viewer = self._site, signed_in(request)
        await read_form(request)
        try:
            async with site.database.transaction() as conn:
                token = await tokens.token_named(conn, request.path_params["id"], now=site.now())
                await tokens.revoke_token(
                    conn, token, actor_of(request, viewer), now=site.now(), entropy=site.entropy
                )
        except CallerError as error:
            return await self._page(request, error=error)
        return go("/admin/tokens", "revoked")

    @property
    def _longest(self) -> int:
        return self._context.operation.settings.admin_token_days

    async def _page(
        self,
        request: Request,
        *,
        made: NewToken | None = None,
        error: CallerError | Overloaded | None = None,
    ) -> Response:
        site, viewer = self._site, signed_in(request)
        async with site.database.connect() as conn:
            rows = await tokens.list_tokens(conn)
        return site.pages.render(
            request,
            "admin/tokens.html",
            {
                "rows": rows,
                "now": site.now(),
                "made": made,
                "roles": ROLES,
                "role": viewer.user.role,
                "scopes": SCOPES,
                "days": min(DEFAULT_DAYS, self._longest),
                "longest": self._longest,
                "may_change": allows(viewer, "staff"),
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )
