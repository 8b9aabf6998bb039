"""``penstock export``: destinations to which settled requests are exported."""

import asyncio
import secrets
import sys
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
    Installation,
    answer,
    answer_json,
    cli_actor,
    now_ms,
    open_installation,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.domain.catalog.kept_keys import LONGEST_KEY
from penstock.domain.exports import destinations
from penstock.domain.exports.destinations import Destination, DestinationWish, NewDestination
from penstock.domain.notifications.signed_address import LONGEST_URL

app = App(name="export", help="Export settled requests to a webhook, to files or to a bucket.")
Json = Annotated[bool, Parameter(negative="")]


class _Destinations(msgspec.Struct):
    destinations: list[Destination]


@app.command
def add(
    name: str,
    /,
    *,
    kind: str,
    url: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    region: str = "",
    key_id: str = "",
    json: Json = False,
    place: At = HERE,
) -> None:
    """Export what is settled from now on. The signing secret of a webhook is shown now, and never again.

    The secret of a bucket's key is read from stdin.

    Example: penstock export add lake --kind file

    Parameters
    ----------
    name
        What to call it, in metrics and as the folder of its files: a-z, 0-9, _ and -.
    kind
        webhook, file or s3.
    url
        The https address of a webhook, where - reads it from stdin, unseen by others; or of a bucket, with what the names of
        objects begin with.
    region
        Of a bucket, such as eu-central-1.
    key_id
        The id of the key that may put objects there.
    json
        Print {"id", "name", "kind", "secret"}.
    """
    address = sys.stdin.readline(LONGEST_URL + 2).strip() if (kind, url) == ("webhook", "-") else url
    secret = sys.stdin.readline(LONGEST_KEY + 2).strip() if kind == "s3" else ""
    made = asyncio.run(_add(place, DestinationWish(name, kind, address, region, key_id, secret)))
    if json:
        answer_json(made)
        return
    answer(f"Added {made.name!r} ({made.id}).")
    if made.secret:
        answer(f"Secret: {made.secret}")


async def _add(place: Installation, wish: DestinationWish) -> NewDestination:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await destinations.add_destination(
            conn,
            store.secrets_file,
            wish,
            cli_actor(),
            now=now_ms(),
            entropy=secrets.token_bytes,
        )


@app.command(name="list")
def show(*, json: Json = False, place: At = HERE) -> None:
    """List the destinations, with how much has arrived there.

    Example: penstock export list

    Parameters
    ----------
    json
        Print {"destinations": [...]}.
    """
    found = asyncio.run(_list(place))
    if json:
        answer_json(_Destinations(found))
        return
    rows = [
        (
            it.name,
            it.kind,
            it.host or "-",
            str(it.delivered),
            "takes them" if it.failed_at is None else f"fails since {utc_moment(it.failed_at)}",
            it.error or "-",
            it.id,
        )
        for it in found
    ]
    answer(table(("NAME", "KIND", "HOST", "RECEIPTS", "STATE", "ERROR", "ID"), rows))


async def _list(place: Installation) -> list[Destination]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return await destinations.list_destinations(conn)


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
    gone = asyncio.run(_remove(place, name))
    if json:
        answer_json(gone)
    else:
        answer(f"Removed {gone.name!r} ({gone.id}).")


async def _remove(place: Installation, name: str) -> Destination:
    async with open_installation(place) as store, store.database.transaction() as conn:
        found = await destinations.destination_named(conn, name)
        await destinations.remove_destination(
            conn, found, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
        )
        return found
