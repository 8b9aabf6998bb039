"""Notifications for staff: webhooks, the rules that send events to them, what was sent; and the destinations of exports."""

from starlette.requests import Request
from starlette.responses import Response

from penstock.domain.exports import backfills, destinations
from penstock.domain.exports.destinations import (
    CARRIERS,
    MOST_DESTINATIONS,
    NewDestination,
)
from penstock.domain.exports.places import DestinationWish
from penstock.domain.exports.shapes import LINE_SHAPES
from penstock.domain.notifications import deliveries, rules, staff_events, webhooks
from penstock.domain.notifications.event_kinds import EVENT_KINDS, SEVERITIES
from penstock.domain.notifications.letters import SHAPES
from penstock.domain.notifications.rules import RuleWish
from penstock.domain.notifications.webhooks import NewWebhook
from penstock.errors import CallerError
from penstock.operations import notifier
from penstock.operations.notifier import WebhookTested
from penstock.site.admin.access import AdminRoute, actor_of, allows
from penstock.site.admin.context import AdminContext
from penstock.site.context import go
from penstock.site.session import read_form, signed_in


class NotificationPages:
    """The pages under ``/admin/notifications`` and ``/admin/exports``."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def pages(self) -> list[AdminRoute]:
        """Every page, by hand."""
        there = "/admin/notifications"
        return [
            AdminRoute(there, self.notifications, "read"),
            AdminRoute(f"{there}/webhooks", self.add_webhook, "mail", ("POST",)),
            AdminRoute(f"{there}/webhooks/{{id}}/test", self.test_webhook, "mail", ("POST",)),
            AdminRoute(f"{there}/webhooks/{{id}}/remove", self.remove_webhook, "mail", ("POST",)),
            AdminRoute(f"{there}/rules", self.add_rule, "mail", ("POST",)),
            AdminRoute(f"{there}/rules/{{id}}/remove", self.remove_rule, "mail", ("POST",)),
            AdminRoute(f"{there}/deliveries/{{id}}/again", self.again, "mail", ("POST",)),
            AdminRoute("/admin/exports", self.exports, "read"),
            AdminRoute("/admin/exports/add", self.add_export, "export", ("POST",)),
            AdminRoute("/admin/exports/{id}/remove", self.remove_export, "export", ("POST",)),
            AdminRoute("/admin/exports/{id}/backfill", self.start_backfill, "export", ("POST",)),
            AdminRoute("/admin/exports/{id}/backfill/stop", self.stop_backfill, "export", ("POST",)),
        ]

    # ---- webhooks, rules, deliveries

    async def notifications(self, request: Request) -> Response:
        """Where events go, and what was sent."""
        return await self._page(request)

    async def add_webhook(self, request: Request) -> Response:
        """Add a webhook; the page that answers is the only one that shows its secret."""
        site, viewer, form = self._site, signed_in(request), await read_form(request)
        try:
            async with site.database.transaction() as conn:
                made = await webhooks.add_webhook(
                    conn,
                    site.secrets_file,
                    form.text("name"),
                    form.text("url"),
                    form.text("shape"),
                    actor_of(request, viewer),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return await self._page(request, error=error)
        return await self._page(request, made=made)

    async def test_webhook(self, request: Request) -> Response:
        """Send a test, and say what became of it."""
        site, viewer = self._site, signed_in(request)
        await read_form(request)
        webhook, tested = await notifier.try_webhook(
            site.database,
            site.secrets_file,
            self._context.operation.settings,
            request.path_params["id"],
            now=site.clock(),
        )
        async with site.database.transaction() as conn:
            await webhooks.note_webhook_test(
                conn,
                webhook,
                actor_of(request, viewer),
                error=tested.error,
                now=site.now(),
                entropy=site.entropy,
            )
        return await self._page(request, tested=tested)

    async def remove_webhook(self, request: Request) -> Response:
        """Send nothing there any more."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await webhooks.remove_webhook(
                conn,
                await webhooks.webhook_named(conn, request.path_params["id"]),
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/notifications", "outward-removed")

    async def add_rule(self, request: Request) -> Response:
        """Say where an event goes."""
        site, form = self._site, await read_form(request)
        target = form.text("target")
        wish = RuleWish(
            form.text("event"),
            form.text("least"),
            "" if target == "mail" else target,
            form.text("recipient") if target == "mail" else "",
            form.text("when") != "digest",
            form.text("quiet"),
        )
        try:
            async with site.database.transaction() as conn:
                await rules.add_rule(
                    conn, wish, actor_of(request, signed_in(request)), now=site.now(), entropy=site.entropy
                )
        except CallerError as error:
            return await self._page(request, error=error)
        return go("/admin/notifications", "rule-added")

    async def remove_rule(self, request: Request) -> Response:
        """Take a rule away."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await rules.remove_rule(
                conn,
                await rules.rule_named(conn, request.path_params["id"]),
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/notifications", "outward-removed")

    async def again(self, request: Request) -> Response:
        """Send a delivery again."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await deliveries.deliver_again(
                conn,
                request.path_params["id"],
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/notifications", "sent-again")

    async def _page(
        self,
        request: Request,
        *,
        made: NewWebhook | None = None,
        tested: WebhookTested | None = None,
        error: CallerError | None = None,
    ) -> Response:
        site, settings = self._site, self._context.operation.settings
        async with site.database.connect() as conn:
            hooks = await webhooks.list_webhooks(conn)
            said = await rules.list_rules(conn)
            sent = await deliveries.newest_deliveries(conn)
            lasting = await staff_events.lasting_events(conn)
        kinds = EVENT_KINDS.values()
        return site.pages.render(
            request,
            "admin/notifications.html",
            {
                "webhooks": hooks,
                "rules": said,
                "deliveries": sent,
                "lasting": lasting,
                "names": {it.id: it.name for it in hooks},
                "kinds": list(kinds),
                "groups": list(dict.fromkeys(it.name.partition(".")[0] for it in kinds)),
                "severities": SEVERITIES,
                "shapes": SHAPES,
                "zone": settings.report_zone,
                "digest_at": settings.digest_at,
                "made": made,
                "tested": tested,
                "error": "" if error is None else error.message,
                "may_change": allows(signed_in(request), "mail"),
            },
            status=200 if error is None else error.status,
        )

    # ---- exports

    async def exports(self, request: Request) -> Response:
        """Where settled requests go."""
        return await self._exports(request)

    async def add_export(self, request: Request) -> Response:
        """Add a destination; the page that answers is the only one that shows its secret."""
        site, form = self._site, await read_form(request)
        try:
            async with site.database.transaction() as conn:
                made = await destinations.add_destination(
                    conn,
                    site.secrets_file,
                    DestinationWish(
                        form.text("name"),
                        form.text("kind"),
                        form.text("url"),
                        form.text("region"),
                        form.text("key_id"),
                        form.exact("secret"),
                        form.text("shape") or "receipts",
                    ),
                    actor_of(request, signed_in(request)),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return await self._exports(request, error=error)
        return await self._exports(request, made=made)

    async def remove_export(self, request: Request) -> Response:
        """Export nothing there any more."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await destinations.remove_destination(
                conn,
                await destinations.destination_named(conn, request.path_params["id"]),
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/exports", "outward-removed")

    async def start_backfill(self, request: Request) -> Response:
        """Send what was settled of a time that is over."""
        site, form = self._site, await read_form(request)
        try:
            async with site.database.transaction() as conn:
                await backfills.start_backfill(
                    conn,
                    await destinations.destination_named(conn, request.path_params["id"]),
                    form.text("from"),
                    form.text("until"),
                    actor_of(request, signed_in(request)),
                    now=site.now(),
                    entropy=site.entropy,
                )
        except CallerError as error:
            return await self._exports(request, error=error)
        return go("/admin/exports", "backfill-started")

    async def stop_backfill(self, request: Request) -> Response:
        """Send no more of the past."""
        site = self._site
        await read_form(request)
        async with site.database.transaction() as conn:
            await backfills.stop_backfill(
                conn,
                await destinations.destination_named(conn, request.path_params["id"]),
                actor_of(request, signed_in(request)),
                now=site.now(),
                entropy=site.entropy,
            )
        return go("/admin/exports", "backfill-stopped")

    async def _exports(
        self, request: Request, *, made: NewDestination | None = None, error: CallerError | None = None
    ) -> Response:
        site = self._site
        async with site.database.connect() as conn:
            found = await destinations.list_destinations(conn)
            past = await backfills.list_backfills(conn)
        return site.pages.render(
            request,
            "admin/exports.html",
            {
                "destinations": found,
                "backfills": past,
                "names": {it.id: it.name for it in found},
                "carriers": CARRIERS,
                "shapes": tuple(LINE_SHAPES),
                "most": MOST_DESTINATIONS,
                "made": made,
                "error": "" if error is None else error.message,
                "may_change": allows(signed_in(request), "export"),
            },
            status=200 if error is None else error.status,
        )
