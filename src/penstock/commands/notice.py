"""``penstock notice``: incidents on the status page and banners above the pages, as on the admin page of that name."""

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
from penstock.domain.announcements import announcements, incidents
from penstock.domain.announcements.announcements import Announcement
from penstock.domain.announcements.incidents import Incident

app = App(name="notice", help="Tell everybody of trouble on the status page, and of what is new in a banner.")

_DAY_MS = 86_400_000


class _Notices(msgspec.Struct):
    incidents: list[Incident]
    announcements: list[Announcement]


@app.command(name="list")
def show(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """List what is told: incidents of the last 90 days, and the banners that are shown.

    Example: penstock notice list

    Parameters
    ----------
    json
        Print {"incidents": [...], "announcements": [...]}.
    """
    found = asyncio.run(_list(place))
    if json:
        answer_json(found)
        return
    rows = [(it.id, it.state, utc_moment(it.began_at), it.title) for it in found.incidents]
    answer(table(("INCIDENT", "STATE", "SINCE (UTC)", "TITLE"), rows))
    if found.announcements:
        shown = [
            (it.id, it.plan_id or "everybody", utc_moment(it.shown_until), it.text)
            for it in found.announcements
        ]
        answer("")
        answer(table(("BANNER", "FOR", "UNTIL (UTC)", "TEXT"), shown))


async def _list(place: Installation) -> _Notices:
    now = now_ms()
    async with open_installation(place) as store, store.database.connect() as conn:
        return _Notices(
            await incidents.recent_incidents(conn, since=now - 90 * _DAY_MS),
            await announcements.shown_announcements(conn, now=now),
        )


@app.command(name="open")
def tell(
    title: str,
    /,
    *,
    text: str,
    state: str = "investigating",
    model: tuple[str, ...] = (),
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Open an incident on the status page.

    Example: penstock notice open "Slow answers" --text "We look into it." --model claude-haiku-4.5

    Parameters
    ----------
    title
        One line.
    text
        What is known.
    state
        investigating, identified, monitoring or resolved.
    model
        The public id of a model that it is about; may be given several times. None: the whole service.
    json
        Print the incident.
    """
    _answer(asyncio.run(_open(place, title, text, state, model)), json=json)


async def _open(place: Installation, title: str, text: str, state: str, models: tuple[str, ...]) -> Incident:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await incidents.open_incident(
            conn, title, text, models, cli_actor(), state=state, now=now_ms(), entropy=secrets.token_bytes
        )


@app.command
def update(
    incident: str,
    /,
    *,
    state: str,
    text: str,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Say more of an incident; the state resolved ends it.

    Example: penstock notice update inc_... --state resolved --text "All answers are quick again."

    Parameters
    ----------
    incident
        Its id.
    state
        investigating, identified, monitoring or resolved.
    text
        What is known now.
    json
        Print the incident.
    """
    _answer(asyncio.run(_update(place, incident, state, text)), json=json)


async def _update(place: Installation, id: str, state: str, text: str) -> Incident:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await incidents.update_incident(
            conn, id, state, text, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
        )


def _answer(incident: Incident, *, json: bool) -> None:
    if json:
        answer_json(incident)
    else:
        answer(f"{incident.id}: {incident.title}, {incident.state}.")


@app.command
def announce(
    text: str,
    /,
    *,
    days: int = 7,
    plan: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Show a banner above all pages.

    Example: penstock notice announce "New: claude-opus-4.6" --days 3

    Parameters
    ----------
    text
        What is announced.
    days
        For how many days it is shown.
    plan
        Only to accounts of this plan.
    json
        Print the announcement.
    """
    made = asyncio.run(_announce(place, text, days, plan))
    if json:
        answer_json(made)
    else:
        answer(f"{made.id}: shown until {utc_moment(made.shown_until)} (UTC).")


async def _announce(place: Installation, text: str, days: int, plan: str) -> Announcement:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await announcements.announce(
            conn, text, cli_actor(), plan_id=plan, days=days, now=now_ms(), entropy=secrets.token_bytes
        )


@app.command
def withdraw(announcement: str, /, *, place: At = HERE) -> None:
    """Show a banner no longer.

    Example: penstock notice withdraw ann_...

    Parameters
    ----------
    announcement
        Its id.
    """
    asyncio.run(_withdraw(place, announcement))
    answer(f"{announcement} is no longer shown.")


async def _withdraw(place: Installation, id: str) -> None:
    async with open_installation(place) as store, store.database.transaction() as conn:
        await announcements.withdraw(conn, id, cli_actor(), now=now_ms(), entropy=secrets.token_bytes)
