"""The staff for its owners: who works here and in which role, and which groups of the sign-in provider give one.

A role is given and taken after the password, so that a borrowed session makes nobody an owner.
"""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.accounts import accounts
from penstock.domain.staff import membership
from penstock.domain.staff.roles import MEANING, ROLES
from penstock.errors import CallerError, Overloaded
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go, retry_headers
from penstock.site.session import read_form, signed_in, visitor_of


class StaffPages:
    """The pages under ``/admin/staff``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/staff", self.staff, "read"),
            AdminRoute("/admin/staff/set", self.give, "staff", ("POST",)),
            AdminRoute("/admin/staff/group", self.group, "staff", ("POST",)),
        ]

    async def staff(self, request: Request) -> Response:
        """Everybody of the staff."""
        return await self._page(request)

    async def give(self, request: Request) -> Response:
        """Give somebody a role, or take it away."""
        site, viewer = self._site, signed_in(request)
        form = await read_form(request)
        now, actor = site.now(), actor_of(request, viewer)
        try:
            await site.sign_in.check_password(
                viewer.user, form.exact("current"), visitor_of(request), now=now
            )
            async with site.database.transaction() as conn:
                user = await accounts.user_by_email(conn, form.text("email"))
                if form.text("role") == "none":
                    await membership.take(conn, user, actor, now=now, entropy=site.entropy)
                else:
                    await membership.give(conn, user, form.text("role"), actor, now=now, entropy=site.entropy)
        except (CallerError, Overloaded) as error:
            return await self._page(request, error)
        return go("/admin/staff", "admin-saved")

    async def group(self, request: Request) -> Response:
        """Have a group's members hold a role, or no longer."""
        site, viewer = self._site, signed_in(request)
        form = await read_form(request)
        role = form.text("role")
        try:
            async with site.database.transaction() as conn:
                await membership.map_group(
                    conn,
                    form.text("group"),
                    None if role == "none" else role,
                    actor_of(request, viewer),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return await self._page(request, error)
        return go("/admin/staff", "admin-saved")

    async def _page(self, request: Request, error: CallerError | Overloaded | None = None) -> Response:
        site, viewer = self._site, signed_in(request)
        async with site.database.connect() as conn:
            members = await membership.members(conn)
            groups = await membership.groups(conn)
        settings = self._context.operation.settings
        return site.pages.render(
            request,
            "admin/staff.html",
            {
                "rows": members,
                "groups": groups,
                "roles": ROLES,
                "meaning": MEANING,
                "claim": settings.oidc_groups_claim if settings.oidc_client else "",
                "may_change": allows(viewer, "staff"),
                "error": "" if error is None else error.message,
            },
            status=200 if error is None else error.status,
            headers=retry_headers(error),
        )
