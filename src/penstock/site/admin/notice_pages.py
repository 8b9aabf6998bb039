"""Notices for staff: incidents on the status page, and announcements above all pages."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.announcements import announcements, incidents
from penstock.domain.announcements.incidents import INCIDENT_STATES
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go
from penstock.site.notice_board import INCIDENT_DAYS
from penstock.site.session import read_form, signed_in

_DAY_MS = 86_400_000


class NoticePages:
    """The pages under ``/admin/notices``."""

    def __init__(self, context: AdminContext) -> None:
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/notices", self.notices, "read"),
            AdminRoute("/admin/notices/incidents", self.open, "announce", ("POST",)),
            AdminRoute("/admin/notices/incidents/{id}", self.update, "announce", ("POST",)),
            AdminRoute("/admin/notices/announcements", self.announce, "announce", ("POST",)),
            AdminRoute("/admin/notices/announcements/{id}/withdraw", self.withdraw, "announce", ("POST",)),
        ]

    async def notices(self, request: Request) -> Response:
        """All that is told at the moment, and the incidents of the last months."""
        site, now = self._site, self._site.now()
        async with site.database.connect() as conn:
            shown = await announcements.shown_announcements(conn, now=now)
            found = await incidents.recent_incidents(conn, since=now - INCIDENT_DAYS * _DAY_MS)
        catalog = site.catalog()
        return site.pages.render(
            request,
            "admin/notices.html",
            {
                "shown": shown,
                "incidents": found,
                "states": INCIDENT_STATES,
                "models": list(catalog.models),
                "plans": list(catalog.plans.values()),
                "may_announce": allows(signed_in(request), "announce"),
            },
        )

    async def open(self, request: Request) -> Response:
        """Tell of trouble."""
        site, form = self._site, await read_form(request)
        named = [name for name in form.text("models").replace(",", " ").split() if name]
        async with site.database.transaction() as conn:
            await incidents.open_incident(
                conn,
                form.text("title"),
                form.text("text"),
                named,
                actor_of(request, signed_in(request)),
                state=form.text("state"),
                now=site.now(),
                entropy=site.entropy,
            )
        return self._told()

    async def update(self, request: Request) -> Response:
        """Say more of an incident."""
        site, form = self._site, await read_form(request)
        async with site.database.transaction() as conn:
            await incidents.update_incident(
                conn,
                request.path_params["id"],
                form.text("state"),
                form.text("text"),
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return self._told()

    async def announce(self, request: Request) -> Response:
        """Show a banner."""
        site, form = self._site, await read_form(request)
        days = form.text("days")
        async with site.database.transaction() as conn:
            await announcements.announce(
                conn,
                form.text("text"),
                actor_of(request, signed_in(request)),
                plan_id=form.text("plan"),
                days=int(days) if days.isascii() and days.isdecimal() and len(days) < 5 else 0,
                now=site.now(),
                entropy=site.entropy,
            )
        return self._told()

    async def withdraw(self, request: Request) -> Response:
        """Take a banner away."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await announcements.withdraw(
                conn,
                request.path_params["id"],
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return self._told()

    def _told(self) -> Response:
        self._site.board.forget()
        return go("/admin/notices", "told")
