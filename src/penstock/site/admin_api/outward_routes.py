"""Webhooks, the rules that send events to them, what was sent, and destinations of exports, for programs."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.exports import backfills, destinations
from penstock.domain.exports.backfills import Backfill
from penstock.domain.exports.destinations import Destination, NewDestination
from penstock.domain.exports.places import DestinationWish
from penstock.domain.notifications import deliveries, rules, webhooks
from penstock.domain.notifications.deliveries import Delivery
from penstock.domain.notifications.rules import Rule, RuleWish, ShownRule
from penstock.domain.notifications.webhooks import NewWebhook, Webhook
from penstock.operations import notifier
from penstock.operations.notifier import WebhookTested
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.dispatch import (
    AdminCall,
    Bound,
    BoundApart,
    BoundOperation,
    Listed,
    Nothing,
)

Short = Annotated[str, Meta(max_length=320)]
Address = Annotated[str, Meta(max_length=2000)]


class WebhookWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook: its https address is never shown again."""

    name: Short
    url: Address
    shape: Short = "plain"


class RuleWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule, to a webhook (its name or id) or to a mail address."""

    event: Short
    least: Short = "info"
    webhook: Short = ""
    recipient: Short = ""
    at_once: bool = True
    quiet: Short = ""


class DestinationWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A destination of exports. A webhook has an address; a bucket that, a region, and the id and secret of a key; a collector
    an address, and as its secret the headers that it asks for. Files and buckets have a shape, receipts or focus.
    """

    name: Short
    kind: Short
    url: Address = ""
    region: Short = ""
    key_id: Short = ""
    secret: Address = ""
    shape: Short = "receipts"

    def __repr__(self) -> str:
        return "DestinationWanted()"


class BackfillWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time of which requests are sent again: days such as 2026-11-01, or instants; until now where it has no end."""

    begins: Short = msgspec.field(name="from")
    until: Short = ""


class SentAgain(msgspec.Struct, frozen=True):
    """It is due now."""

    queued: bool = True


class OutwardRoutes:
    """What is asked of that which goes out."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "webhook_list": Bound(self.list_webhooks, Listed[Webhook], Nothing, Nothing),
            "webhook_add": Bound(self.add_webhook, NewWebhook, Nothing, WebhookWanted),
            "webhook_test": BoundApart(self.test_webhook, WebhookTested, Nothing, Nothing),
            "webhook_remove": Bound(self.remove_webhook, Webhook, Nothing, Nothing),
            "rule_list": Bound(self.list_rules, Listed[ShownRule], Nothing, Nothing),
            "rule_add": Bound(self.add_rule, Rule, Nothing, RuleWanted),
            "rule_remove": Bound(self.remove_rule, Rule, Nothing, Nothing),
            "delivery_list": Bound(self.list_deliveries, Listed[Delivery], Nothing, Nothing),
            "delivery_again": Bound(self.again, SentAgain, Nothing, Nothing),
            "export_list": Bound(self.list_exports, Listed[Destination], Nothing, Nothing),
            "export_add": Bound(self.add_export, NewDestination, Nothing, DestinationWanted),
            "export_remove": Bound(self.remove_export, Destination, Nothing, Nothing),
            "backfill_list": Bound(self.list_backfills, Listed[Backfill], Nothing, Nothing),
            "backfill_start": Bound(self.start_backfill, Backfill, Nothing, BackfillWanted),
            "backfill_stop": Bound(self.stop_backfill, Backfill, Nothing, Nothing),
        }

    # ---- webhooks

    async def list_webhooks(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[Webhook]:
        """All of them."""
        return Listed(await webhooks.list_webhooks(conn))

    async def add_webhook(self, call: AdminCall[Nothing, WebhookWanted], conn: AsyncConnection) -> NewWebhook:
        """Add one; its secret is in this answer alone."""
        wanted = call.body
        return await webhooks.add_webhook(
            conn,
            self._site.secrets_file,
            wanted.name,
            wanted.url,
            wanted.shape,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def test_webhook(self, call: AdminCall[Nothing, Nothing]) -> WebhookTested:
        """Send a test there now."""
        site = self._site
        webhook, tested = await notifier.try_webhook(
            site.database,
            site.secrets_file,
            self._context.operation.settings,
            call.path["id"],
            now=site.clock(),
        )
        async with site.database.transaction() as conn:
            await webhooks.note_webhook_test(
                conn, webhook, call.actor, error=tested.error, now=site.now(), entropy=site.entropy
            )
        return tested

    async def remove_webhook(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Webhook:
        """Send nothing there any more."""
        found = await webhooks.webhook_named(conn, call.path["id"])
        await webhooks.remove_webhook(
            conn, found, call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return found

    # ---- rules

    async def list_rules(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[ShownRule]:
        """All of them."""
        return Listed(await rules.list_rules(conn))

    async def add_rule(self, call: AdminCall[Nothing, RuleWanted], conn: AsyncConnection) -> Rule:
        """Add one."""
        wish = RuleWish(*msgspec.structs.astuple(call.body))
        return await rules.add_rule(conn, wish, call.actor, now=self._site.now(), entropy=self._site.entropy)

    async def remove_rule(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Rule:
        """Remove one."""
        found = await rules.rule_named(conn, call.path["id"])
        await rules.remove_rule(conn, found, call.actor, now=self._site.now(), entropy=self._site.entropy)
        return found

    # ---- deliveries

    async def list_deliveries(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[Delivery]:
        """What waits, and the newest others."""
        return Listed(await deliveries.newest_deliveries(conn))

    async def again(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> SentAgain:
        """Send one again."""
        await deliveries.deliver_again(
            conn, call.path["id"], call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return SentAgain()

    # ---- exports

    async def list_exports(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[Destination]:
        """Every destination."""
        return Listed(await destinations.list_destinations(conn))

    async def add_export(
        self, call: AdminCall[Nothing, DestinationWanted], conn: AsyncConnection
    ) -> NewDestination:
        """Add one; its secret is in this answer alone."""
        return await destinations.add_destination(
            conn,
            self._site.secrets_file,
            DestinationWish(*msgspec.structs.astuple(call.body)),
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def remove_export(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Destination:
        """Export nothing there any more."""
        found = await destinations.destination_named(conn, call.path["id"])
        await destinations.remove_destination(
            conn, found, call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return found

    async def list_backfills(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[Backfill]:
        """What is sent of the past, and was."""
        return Listed(await backfills.list_backfills(conn))

    async def start_backfill(
        self, call: AdminCall[Nothing, BackfillWanted], conn: AsyncConnection
    ) -> Backfill:
        """Send what was settled of a time that is over."""
        return await backfills.start_backfill(
            conn,
            await destinations.destination_named(conn, call.path["id"]),
            call.body.begins,
            call.body.until,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )

    async def stop_backfill(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Backfill:
        """Send no more of the past."""
        found = await destinations.destination_named(conn, call.path["id"])
        return await backfills.stop_backfill(
            conn, found, call.actor, now=self._site.now(), entropy=self._site.entropy
        )
