"""``penstock notice``: incidents on the status page and banners above the pages, as on the admin page of that name."""

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
    now_ms,
    table,
    utc_moment,
)
from penstock.commands.options import At
from penstock.domain.announcements import announcements, incidents
from penstock.domain.announcements.announcements import Announcement
from penstock.domain.announcements.incidents import Incident
from penstock.operations.first_start import Store

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
    now = now_ms()

    async def told(_: Store, conn: AsyncConnection) -> _Notices:
        return _Notices(
            await incidents.recent_incidents(conn, since=now - 90 * _DAY_MS),
            await announcements.shown_announcements(conn, now=now),
        )

    found = in_transaction(place, told)
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

    async def opened(_: Store, conn: AsyncConnection) -> Incident:
        return await incidents.open_incident(conn, title, text, model, cli_actor(), state=state, **acting())

    _answer(in_transaction(place, opened), json=json)


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

    async def updated(_: Store, conn: AsyncConnection) -> Incident:
        return await incidents.update_incident(conn, incident, state, text, cli_actor(), **acting())

    _answer(in_transaction(place, updated), json=json)


def _answer(incident: Incident, *, json: bool) -> None:
    answer_one(incident, f"{incident.id}: {incident.title}, {incident.state}.", json=json)


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

    async def announced(_: Store, conn: AsyncConnection) -> Announcement:
        return await announcements.announce(conn, text, cli_actor(), plan_id=plan, days=days, **acting())

    made = in_transaction(place, announced)
    answer_one(made, f"{made.id}: shown until {utc_moment(made.shown_until)} (UTC).", json=json)


@app.command
def withdraw(announcement: str, /, *, place: At = HERE) -> None:
    """Show a banner no longer.

    Example: penstock notice withdraw ann_...

    Parameters
    ----------
    announcement
        Its id.
    """
    in_transaction(place, lambda _, conn: announcements.withdraw(conn, announcement, cli_actor(), **acting()))
    answer(f"{announcement} is no longer shown.")
