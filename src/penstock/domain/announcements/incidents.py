"""Incidents: what staff say about trouble, on the status page, from its beginning to its end.

What is computed from the service's own requests stays beside it and is not changed by it. An incident that is resolved may be
opened again, by another word on it. Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import CallerError, InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import incident_updates, incidents
from penstock.store.sql.schema import models as catalog_models

IncidentState = Literal["investigating", "identified", "monitoring", "resolved"]
INCIDENT_STATES: Final[tuple[IncidentState, ...]] = ("investigating", "identified", "monitoring", "resolved")
MOST_OPEN: Final = 20
TITLE_LIMIT: Final = 120
TEXT_LIMIT: Final = 2000
_MOST_MODELS: Final = 50
_BY_NAME: Final[dict[str, IncidentState]] = {state: state for state in INCIDENT_STATES}
_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(tuple[str, ...]).decode


class NoIncident(CallerError):
    """There is no incident of this id."""

    status = 404
    code = "no_such_incident"


class IncidentWord(msgspec.Struct, frozen=True):
    """What was said of an incident at one time. ``at`` is epoch milliseconds."""

    at: int
    state: IncidentState
    text: str


class Incident(msgspec.Struct, frozen=True):
    """An incident with all that was said of it, the newest first. ``models`` are public ids; none: the whole service."""

    id: str
    title: str
    models: tuple[str, ...]
    state: IncidentState
    began_at: int
    resolved_at: int | None
    words: tuple[IncidentWord, ...]


async def open_incident(
    conn: AsyncConnection,
    title: str,
    text: str,
    models: Sequence[str],
    actor: Actor,
    *,
    state: str = "investigating",
    now: int,
    entropy: Entropy,
) -> Incident:
    """Say that there is trouble. Raises ``InvalidRequest``."""
    title, text, state = _line(title), _text(text), _state(state)
    models = tuple(dict.fromkeys(models))
    if len(models) > _MOST_MODELS or any(not 0 < len(each) <= 200 for each in models):
        raise InvalidRequest(f"An incident names at most {_MOST_MODELS} models.", param="models")
    there = set(await conn.scalars(select(catalog_models.c.id).where(catalog_models.c.id.in_(models))))
    unknown = next((name for name in models if name not in there), None)
    if unknown is not None:
        raise InvalidRequest(f"There is no model {unknown[:60]!r}.", param="models")
    if state != "resolved":
        await _make_sure_of_room(conn)
    id = api_key.identifier("inc", entropy(16))
    done = now if state == "resolved" else None
    await conn.execute(
        insert(incidents).values(
            id=id, title=title, models=_pack(models).decode(), state=state, began_at=now, resolved_at=done
        )
    )
    await _say(conn, id, IncidentWord(now, state, text), entropy)
    await entries.write(
        conn,
        actor,
        "incident_opened",
        Subject("incident", id, title),
        after={"state": state, "models": ", ".join(models)},
        now=now,
        entropy=entropy,
    )
    return await incident(conn, id)


async def update_incident(
    conn: AsyncConnection, id: str, state: str, text: str, actor: Actor, *, now: int, entropy: Entropy
) -> Incident:
    """Say more about an incident; ``resolved`` ends it. Raises ``NoIncident``, ``InvalidRequest``."""
    state, text = _state(state), _text(text)
    before = await incident(conn, id)
    if before.resolved_at is not None and state != "resolved":
        await _make_sure_of_room(conn)
    ended = now if before.resolved_at is None else before.resolved_at
    await conn.execute(
        update(incidents)
        .where(incidents.c.id == id)
        .values(state=state, resolved_at=ended if state == "resolved" else None)
    )
    await _say(conn, id, IncidentWord(now, state, text), entropy)
    await entries.write(
        conn,
        actor,
        "incident_updated",
        Subject("incident", id, before.title),
        before={"state": before.state},
        after={"state": state},
        now=now,
        entropy=entropy,
    )
    return await incident(conn, id)


async def incident(conn: AsyncConnection, id: str) -> Incident:
    """One of them. Raises ``NoIncident``."""
    found = await _with_words(conn, await _rows(conn, incidents.c.id == id))
    if not found:
        raise NoIncident("There is no such incident.")
    return found[0]


async def recent_incidents(conn: AsyncConnection, *, since: int) -> list[Incident]:
    """All that are open, and those that began or ended since; the open ones first, then the newest."""
    wanted = or_(
        incidents.c.resolved_at.is_(None), incidents.c.resolved_at >= since, incidents.c.began_at >= since
    )
    found = await _with_words(conn, await _rows(conn, wanted))
    return sorted(found, key=lambda each: (each.resolved_at is not None, -each.began_at))


async def _make_sure_of_room(conn: AsyncConnection) -> None:
    count = select(func.count()).select_from(incidents).where(incidents.c.resolved_at.is_(None))
    if (await conn.execute(count)).scalar_one() >= MOST_OPEN:
        raise InvalidRequest(f"{MOST_OPEN} incidents are open; resolve one first.")


async def _rows(conn: AsyncConnection, wanted: ColumnElement[bool]) -> list[Incident]:
    columns = incidents.c
    query = (
        select(
            columns.id, columns.title, columns.models, columns.state, columns.began_at, columns.resolved_at
        )
        .where(wanted)
        .order_by(columns.began_at.desc(), columns.id)
        .limit(200)
    )
    return [
        Incident(row.id, row.title, _unpack(row.models), row.state, row.began_at, row.resolved_at, ())
        for row in await conn.execute(query)
    ]


async def _with_words(conn: AsyncConnection, found: list[Incident]) -> list[Incident]:
    columns = incident_updates.c
    query = (
        select(columns.incident_id, columns.at, columns.state, columns.text)
        .where(columns.incident_id.in_([each.id for each in found]))
        .order_by(columns.at.desc(), columns.id)
    )
    words: dict[str, list[IncidentWord]] = {}
    for row in await conn.execute(query):
        words.setdefault(row.incident_id, []).append(IncidentWord(row.at, row.state, row.text))
    return [msgspec.structs.replace(each, words=tuple(words.get(each.id, ()))) for each in found]


async def _say(conn: AsyncConnection, id: str, word: IncidentWord, entropy: Entropy) -> None:
    made = api_key.identifier("inu", entropy(16))
    await conn.execute(
        insert(incident_updates).values(id=made, incident_id=id, at=word.at, state=word.state, text=word.text)
    )


def _state(text: str) -> IncidentState:
    found = _BY_NAME.get(text)
    if found is None:
        raise InvalidRequest(f"A state is one of {', '.join(INCIDENT_STATES)}.", param="state")
    return found


def _line(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TITLE_LIMIT or not text.isprintable():
        raise InvalidRequest(f"A title is one line of 1 to {TITLE_LIMIT} characters.", param="title")
    return text


def _text(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TEXT_LIMIT:
        raise InvalidRequest(f"A text has 1 to {TEXT_LIMIT} characters.", param="text")
    return text
