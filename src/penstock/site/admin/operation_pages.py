"""The service for staff: what runs now, mails, settings with where each comes from, and the work behind the scenes."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.notifications.jobs import done_until
from penstock.domain.notifications.watch import BACKUP
from penstock.domain.staff import mails, running, search
from penstock.domain.trail import chain
from penstock.settings.describe import rows as setting_rows
from penstock.settings.describe import shown_value
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go
from penstock.site.session import read_form, signed_in


class OperationPages:
    """The pages under ``/admin/live``, ``/admin/mail``, ``/admin/settings`` and ``/admin/jobs``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        return [
            AdminRoute("/admin/live", self.live, "read"),
            AdminRoute("/admin/live/end", self.end, "verify", ("POST",)),
            AdminRoute("/admin/mail", self.mail, "read"),
            AdminRoute("/admin/mail/again", self.again, "mail", ("POST",)),
            AdminRoute("/admin/mail/test", self.test, "mail", ("POST",)),
            AdminRoute("/admin/settings", self.settings, "read"),
            AdminRoute("/admin/jobs", self.jobs, "read"),
        ]

    # ---- what runs

    async def live(self, request: Request) -> Response:
        """The requests that this process serves now, the oldest first."""
        site = self._site
        rows = sorted(self._context.operation.running(), key=lambda it: it.since)
        async with site.database.connect() as conn:
            names = await search.emails_of(conn, {it.account_id for it in rows[:200]})
        return site.pages.render(
            request,
            "admin/live.html",
            {
                "rows": rows[:200],
                "more": max(0, len(rows) - 200),
                "names": names,
                "now": site.clock(),
                "may_end": allows(signed_in(request), "verify"),
            },
        )

    async def end(self, request: Request) -> Response:
        """End a running request of anybody."""
        site, viewer = self._site, signed_in(request)
        form = await read_form(request)
        async with site.database.transaction() as conn:
            ended = await running.end_request(
                conn,
                site.gate,
                form.text("account"),
                form.text("id"),
                actor_of(request, viewer),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/live", "ended" if ended else "")

    # ---- mails

    async def mail(self, request: Request) -> Response:
        """Mails that wait, that failed, and the newest that went out."""
        site, viewer = self._site, signed_in(request)
        async with site.database.connect() as conn:
            waiting = await mails.waiting(conn)
            newest = await mails.newest(conn)
        return site.pages.render(
            request,
            "admin/mail.html",
            {
                "waiting": waiting,
                "newest": newest,
                "printed": self._context.operation.settings.mail_url == "console:",
                "may_send": allows(viewer, "mail"),
                "now": site.now(),
            },
        )

    async def again(self, request: Request) -> Response:
        """Try a mail once more now."""
        site, viewer = self._site, signed_in(request)
        form = await read_form(request)
        async with site.database.transaction() as conn:
            await mails.try_again(
                conn, form.text("id"), actor_of(request, viewer), now=site.now(), entropy=site.entropy
            )
        self._context.operation.mail_queued()
        return go("/admin/mail", "mail-queued")

    async def test(self, request: Request) -> Response:
        """Mail oneself, to see whether mails arrive."""
        site, viewer = self._site, signed_in(request)
        await read_form(request)
        async with site.database.transaction() as conn:
            await mails.queue_test(
                conn,
                site.secrets_file,
                site.sign_in.rules.brand,
                viewer.user.email,
                actor_of(request, viewer),
                now=site.now(),
                entropy=site.entropy,
            )
        self._context.operation.mail_queued()
        return go("/admin/mail", "mail-queued")

    # ---- settings

    async def settings(self, request: Request) -> Response:
        """Every setting: its value, where that comes from, and what it is."""
        operation = self._context.operation
        found = [
            (row, shown_value(operation.settings, row.name), operation.origins.get(row.name, ""))
            for row in setting_rows()
        ]
        only = request.query_params.get("only", "")
        return self._site.pages.render(
            request,
            "admin/settings.html",
            {"rows": [it for it in found if only != "set" or it[2]], "only": only, "of_all": len(found)},
        )

    # ---- behind the scenes

    async def jobs(self, request: Request) -> Response:
        """The parts of the service, and the work that it does by itself."""
        site, operation = self._site, self._context.operation
        async with site.database.connect() as conn:
            mark = await chain.newest_checkpoint(conn)
            unsealed = await chain.any_unsealed(conn)
            backup_at = await done_until(conn, BACKUP)
        return site.pages.render(
            request,
            "admin/jobs.html",
            {
                "parts": operation.health.look(),
                "owed": operation.health.owed,
                "differences": operation.health.differences,
                "mark": mark,
                "unsealed": unsealed,
                "backup_at": backup_at,
                "late": sorted(operation.health.jobs.late()),
                "settings": operation.settings,
            },
        )
