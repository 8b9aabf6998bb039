"""``penstock webhook``: where events of the staff are sent to, by which rules, and what became of them."""

import asyncio
import secrets
import sys
import time
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    acting,
    answer,
    answer_json,
    answer_one,
    cli_actor,
    in_transaction,
    now_ms,
    open_installation,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.domain.notifications import deliveries, rules, webhooks
from penstock.domain.notifications.deliveries import Delivery
from penstock.domain.notifications.rules import Rule, RuleWish, ShownRule
from penstock.domain.notifications.signed_address import LONGEST_URL
from penstock.domain.notifications.webhooks import NewWebhook, Webhook
from penstock.operations import notifier
from penstock.operations.first_start import Store
from penstock.operations.notifier import WebhookTested

app = App(name="webhook", help="Send events to webhooks and mail addresses, by rules.")
Json = Annotated[bool, Parameter(negative="")]


class _Webhooks(msgspec.Struct):
    webhooks: list[Webhook]


class _Rules(msgspec.Struct):
    rules: list[ShownRule]


class _Deliveries(msgspec.Struct):
    deliveries: list[Delivery]


@app.command
def add(
    name: str,
    url: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    shape: str = "plain",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Add a webhook. Its signing secret is shown now, and never again.

    Example: penstock webhook add pager - < address.txt

    Parameters
    ----------
    name
        What to call it.
    url
        Its https address; - reads it from stdin, unseen by others.
    shape
        plain, slack, discord or teams.
    json
        Print {"id", "name", "host", "shape", "secret"}.
    """
    address = sys.stdin.readline(LONGEST_URL + 2).strip() if url == "-" else url

    async def added(store: Store, conn: AsyncConnection) -> NewWebhook:
        return await webhooks.add_webhook(
            conn, store.secrets_file, name, address, shape, cli_actor(), **acting()
        )

    made = in_transaction(place, added)
    said = f"Added {made.name!r} ({made.id}) at {made.host}. It gets nothing before a rule says so."
    answer_one(made, said, f"Secret: {made.secret}", json=json)


@app.command(name="list")
def show(*, json: Json = False, place: At = HERE) -> None:
    """List the webhooks. Neither paths nor secrets are shown.

    Example: penstock webhook list

    Parameters
    ----------
    json
        Print {"webhooks": [...]}.
    """
    found = in_transaction(place, lambda _, conn: webhooks.list_webhooks(conn))
    if json:
        answer_json(_Webhooks(found))
        return
    rows = [(it.name, it.host, it.shape, it.created_by, utc_moment(it.created_at), it.id) for it in found]
    answer(table(("NAME", "HOST", "SHAPE", "BY", "SINCE (UTC)", "ID"), rows))


@app.command(name="test")
def try_it(name: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Send a test to a webhook now, and say what became of it.

    Example: penstock webhook test pager

    Parameters
    ----------
    name
        Its name or its id.
    json
        Print {"webhook", "taken", "status", "error"}.
    """
    tested = asyncio.run(_try(place, name))
    if json:
        answer_json(tested)
    elif tested.taken:
        answer(f"{tested.webhook} took it: {tested.status}.")
    if not tested.taken:
        raise CommandError(f"the webhook did not take it: {tested.error}")


async def _try(place: Installation, name: str) -> WebhookTested:
    async with open_installation(place) as store:
        webhook, tested = await notifier.try_webhook(
            store.database, store.secrets_file, store.settings, name, now=time.time()
        )
        async with store.database.transaction() as conn:
            await webhooks.note_webhook_test(
                conn, webhook, cli_actor(), error=tested.error, now=now_ms(), entropy=secrets.token_bytes
            )
        return tested


@app.command
def remove(name: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Send nothing to a webhook any more. `penstock audit undo` puts it back.

    Example: penstock webhook remove pager

    Parameters
    ----------
    name
        Its name or its id.
    json
        Print the webhook.
    """

    async def removed(_: Store, conn: AsyncConnection) -> Webhook:
        found = await webhooks.webhook_named(conn, name)
        await webhooks.remove_webhook(conn, found, cli_actor(), **acting())
        return found

    gone = in_transaction(place, removed)
    answer_one(gone, f"Removed {gone.name!r} ({gone.id}).", json=json)


@app.command(name="rules")
def show_rules(*, json: Json = False, place: At = HERE) -> None:
    """List the rules: which events go where.

    Example: penstock webhook rules

    Parameters
    ----------
    json
        Print {"rules": [...]}.
    """
    found = in_transaction(place, lambda _, conn: rules.list_rules(conn))
    if json:
        answer_json(_Rules(found))
        return
    rows = [
        (
            it.rule.event,
            it.rule.least,
            it.webhook or it.rule.recipient or "",
            "at once" if it.rule.at_once else "digest",
            it.rule.quiet or "-",
            it.rule.id,
        )
        for it in found
    ]
    answer(table(("EVENT", "FROM", "TO", "WHEN", "QUIET", "ID"), rows))


@app.command(name="add-rule")
def make_rule(
    event: str,
    /,
    *,
    webhook: str = "",
    mail: str = "",
    least: str = "info",
    digest: Annotated[bool, Parameter(negative="")] = False,
    quiet: str = "",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Send an event to a webhook or to a mail address.

    Example: penstock webhook add-rule "*" --webhook pager --least critical

    Parameters
    ----------
    event
        Its name, what stands before its point (such as provider_key), or * for all.
    webhook
        The webhook's name or id.
    mail
        A mail address, in place of a webhook.
    least
        info, warning or critical: what is less is not sent.
    digest
        Once a day, with the digest, in place of at once.
    quiet
        Hours that are waited for, such as 22:00-07:00, in the zone of report_zone.
    json
        Print the rule.
    """
    wish = RuleWish(event, least, webhook, mail, not digest, quiet)
    made = in_transaction(place, lambda _, conn: rules.add_rule(conn, wish, cli_actor(), **acting()))
    answer_one(made, f"Added the rule {made.id}.", json=json)


@app.command(name="remove-rule")
def drop_rule(rule: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Remove a rule. `penstock audit undo` puts it back.

    Example: penstock webhook remove-rule rul_...

    Parameters
    ----------
    rule
        Its id.
    json
        Print the rule.
    """

    async def removed(_: Store, conn: AsyncConnection) -> Rule:
        found = await rules.rule_named(conn, rule)
        await rules.remove_rule(conn, found, cli_actor(), **acting())
        return found

    gone = in_transaction(place, removed)
    answer_one(gone, f"Removed the rule {gone.id}.", json=json)


@app.command(name="deliveries")
def show_deliveries(*, json: Json = False, place: At = HERE) -> None:
    """List what waits to be sent, and the newest others.

    Example: penstock webhook deliveries

    Parameters
    ----------
    json
        Print {"deliveries": [...]}.
    """
    found = in_transaction(place, lambda _, conn: deliveries.newest_deliveries(conn))
    if json:
        answer_json(_Deliveries(found))
        return
    rows = [
        (it.state, it.event, it.target, utc_moment(it.created_at), str(it.tries), it.error or "-", it.id)
        for it in found
    ]
    answer(table(("STATE", "EVENT", "TO", "MADE (UTC)", "TRIES", "ERROR", "ID"), rows))


@app.command
def resend(delivery: str, /, *, place: At = HERE) -> None:
    """Send a delivery again, whether it waits, has arrived or was given up; the running server does it.

    Example: penstock webhook resend msg_...

    Parameters
    ----------
    delivery
        Its id.
    """
    in_transaction(place, lambda _, conn: deliveries.deliver_again(conn, delivery, cli_actor(), **acting()))
    answer(f"{delivery} is sent again.")
