"""``penstock export``: destinations to which settled requests are exported."""

import sys
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.commands.installation import (
    HERE,
    acting,
    answer,
    answer_json,
    answer_one,
    cli_actor,
    in_transaction,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.domain.catalog.kept_keys import LONGEST_KEY
from penstock.domain.exports import backfills, destinations
from penstock.domain.exports.backfills import Backfill
from penstock.domain.exports.destinations import Destination, NewDestination
from penstock.domain.exports.places import DestinationWish
from penstock.domain.notifications.signed_address import LONGEST_URL
from penstock.operations.first_start import Store

app = App(
    name="export", help="Export settled requests to a webhook, to files, to a bucket or to a collector."
)
Json = Annotated[bool, Parameter(negative="")]


class _Destinations(msgspec.Struct):
    destinations: list[Destination]


class _Backfills(msgspec.Struct):
    backfills: list[Backfill]


@app.command
def add(
    name: str,
    /,
    *,
    kind: str,
    url: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    region: str = "",
    key_id: str = "",
    shape: str = "receipts",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Export what is settled from now on. The signing secret of a webhook is shown now, and never again.

    The secret of a bucket's key, and the headers of a collector (NAME=VALUE,NAME=VALUE; an empty line for none), are read
    from stdin.

    Example: penstock export add lake --kind file

    Parameters
    ----------
    name
        What to call it, in metrics and as the folder of its files: a-z, 0-9, _ and -.
    kind
        webhook, file, s3 or otlp.
    url
        The https address of a webhook, where - reads it from stdin, unseen by others; of a bucket, with what the names of
        objects begin with; or of a collector, all of it.
    region
        Of a bucket, such as eu-central-1.
    key_id
        The id of the key that may put objects there.
    shape
        receipts, or focus: files and objects are CSV in the columns of FOCUS 1.3.
    json
        Print {"id", "name", "kind", "secret"}.
    """
    address = sys.stdin.readline(LONGEST_URL + 2).strip() if (kind, url) == ("webhook", "-") else url
    secret = sys.stdin.readline(LONGEST_KEY + 2).strip() if kind in ("s3", "otlp") else ""
    wish = DestinationWish(name, kind, address, region, key_id, secret, shape)

    async def added(store: Store, conn: AsyncConnection) -> NewDestination:
        return await destinations.add_destination(conn, store.secrets_file, wish, cli_actor(), **acting())

    made = in_transaction(place, added)
    shown = f"Secret: {made.secret}" if made.secret else ""
    answer_one(made, f"Added {made.name!r} ({made.id}).", shown, json=json)


@app.command(name="list")
def show(*, json: Json = False, place: At = HERE) -> None:
    """List the destinations, with how much has arrived there.

    Example: penstock export list

    Parameters
    ----------
    json
        Print {"destinations": [...]}.
    """
    found = in_transaction(place, lambda _, conn: destinations.list_destinations(conn))
    if json:
        answer_json(_Destinations(found))
        return
    rows = [
        (
            it.name,
            it.kind,
            it.shape,
            it.host or "-",
            str(it.delivered),
            "takes them" if it.failed_at is None else f"fails since {utc_moment(it.failed_at)}",
            it.error or "-",
            it.id,
        )
        for it in found
    ]
    answer(table(("NAME", "KIND", "SHAPE", "HOST", "RECEIPTS", "STATE", "ERROR", "ID"), rows))


@app.command
def remove(name: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Export nothing there any more. `penstock audit undo` puts it back, from then on.

    Example: penstock export remove lake

    Parameters
    ----------
    name
        Its name or its id.
    json
        Print the destination.
    """

    async def removed(_: Store, conn: AsyncConnection) -> Destination:
        found = await destinations.destination_named(conn, name)
        await destinations.remove_destination(conn, found, cli_actor(), **acting())
        return found

    gone = in_transaction(place, removed)
    answer_one(gone, f"Removed {gone.name!r} ({gone.id}).", json=json)


@app.command
def backfill(
    name: str,
    /,
    *,
    begins: Annotated[str, Parameter(name="--from")],
    until: str = "",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Send a destination what was settled of a time that is over, beside what is settled now; the running server does it.

    Example: penstock export backfill lake --from 2026-11-01 --until 2026-12-01

    Parameters
    ----------
    name
        Its name or its id.
    begins
        A day such as 2026-11-01 (from 00:00 UTC), or an instant such as 2026-11-01T12:00:00Z.
    until
        The same, where it ends; without it, now.
    json
        Print the backfill.
    """

    async def started(_: Store, conn: AsyncConnection) -> Backfill:
        found = await destinations.destination_named(conn, name)
        return await backfills.start_backfill(conn, found, begins, until, cli_actor(), **acting())

    made = in_transaction(place, started)
    span = f"{utc_moment(made.begins_at)} to {utc_moment(made.ends_at)}"
    answer_one(
        made, f"{name} gets what came from {span} (UTC); `penstock export backfills` says how far.", json=json
    )


@app.command(name="backfills")
def show_backfills(*, json: Json = False, place: At = HERE) -> None:
    """List what destinations are sent of the past, and were in the last 30 days.

    Example: penstock export backfills

    Parameters
    ----------
    json
        Print {"backfills": [...]}.
    """

    async def listed(_: Store, conn: AsyncConnection) -> tuple[list[Backfill], dict[str, str]]:
        found = await destinations.list_destinations(conn)
        return await backfills.list_backfills(conn), {it.id: it.name for it in found}

    found, names = in_transaction(place, listed)
    if json:
        answer_json(_Backfills(found))
        return
    rows = [
        (
            names[it.destination_id],
            utc_moment(it.begins_at),
            utc_moment(it.ends_at),
            str(it.delivered),
            "on its way" if it.done_at is None else "stopped" if it.stopped else "all sent",
            it.id,
        )
        for it in found
    ]
    answer(table(("TO", "FROM (UTC)", "UNTIL (UTC)", "RECEIPTS", "STATE", "ID"), rows))


@app.command(name="stop-backfill")
def stop_backfill(name: str, /, *, json: Json = False, place: At = HERE) -> None:
    """Send no more of the past there; what has arrived stays.

    Example: penstock export stop-backfill lake

    Parameters
    ----------
    name
        The destination's name or id.
    json
        Print the backfill.
    """

    async def stopped(_: Store, conn: AsyncConnection) -> Backfill:
        found = await destinations.destination_named(conn, name)
        return await backfills.stop_backfill(conn, found, cli_actor(), **acting())

    gone = in_transaction(place, stopped)
    answer_one(gone, f"Stopped after {gone.delivered} receipts.", json=json)
