"""``penstock export``: destinations to which settled requests are exported."""

import asyncio
import secrets
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
from penstock.domain.exports import destinations
from penstock.domain.exports.destinations import Destination, NewDestination

app = App(name="export", help="Export settled requests to a webhook or to files.")
Json = Annotated[bool, Parameter(negative="")]


class _Destinations(msgspec.Struct):
    destinations: list[Destination]


@app.command
def add(name: str, /, *, kind: str, url: str = "", json: Json = False, place: At = HERE) -> None:
    """Export what is settled from now on. The signing secret of a webhook is shown now, and never again.

    Example: penstock export add lake --kind file

    Parameters
    ----------
    name
        What to call it, in metrics and as the folder of its files: a-z, 0-9, _ and -.
    kind
        webhook or file.
    url
        The https address of a webhook.
    json
        Print {"id", "name", "kind", "secret"}.
    """
    made = asyncio.run(_add(place, name, kind, url))
    if json:
        answer_json(made)
        return
    answer(f"Added {made.name!r} ({made.id}).")
    if made.secret:
        answer(f"Secret: {made.secret}")


async def _add(place: Installation, name: str, kind: str, url: str) -> NewDestination:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await destinations.add_destination(
            conn,
            store.secrets_file,
            name,
            kind,
            url,
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
