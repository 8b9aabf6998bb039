"""``penstock audit``: the trail of what staff and commands did, read, verified and taken away; and changes, undone."""

import asyncio
import secrets
import sys
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
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
from penstock.core.amounts import amount
from penstock.domain.staff import undo
from penstock.domain.trail import chain, changes, entries
from penstock.domain.trail.chain import Verdict
from penstock.domain.trail.changes import KeptChange
from penstock.domain.trail.entries import Entry, TrailFilter
from penstock.domain.trail.export import line_of
from penstock.providers.table import KINDS

app = App(name="audit", help="Show, verify and export the trail of what staff and commands did.")
_MOST = 200


@app.command(name="verify")
def verify_trail(
    *,
    from_checkpoint: Annotated[bool, Parameter(negative="")] = False,
    anchor: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> int:
    """Check that no entry of the trail was changed, moved or removed; the exit status is 1 where one was.

    What was written within the last second is not sealed yet, and not checked.

    Example: penstock audit verify

    Parameters
    ----------
    from_checkpoint
        Only what came after the newest checkpoint.
    anchor
        A number and a hash, as NUMBER:HASH, from a log or a mail: the trail must agree with it.
    json
        Print {"entries", "first", "last", "head", "unsealed", "broken", "why"}.
    """
    verdict = asyncio.run(_verify(place, _anchor(anchor), from_checkpoint=from_checkpoint))
    if json:
        answer_json(verdict)
    elif verdict.broken is not None:
        answer(f"broken at entry {verdict.broken}: {verdict.why}")
    else:
        answer(
            f"{amount(verdict.entries, 'entry', 'entries')}, {verdict.first} to {verdict.last}: as they were written."
        )
        answer(f"The last one: {verdict.last}:{verdict.head}")
        if verdict.unsealed:
            answer(f"{verdict.unsealed} are not sealed yet.")
        answer(
            "Keep that line outside this database: without it, who can write here can write all of it anew."
        )
    return 0 if verdict.broken is None else 1


def _anchor(text: str | None) -> tuple[int, bytes] | None:
    if text is None:
        return None
    number, _, digest = text.partition(":")
    try:
        return int(number), bytes.fromhex(digest)
    except ValueError:
        raise CommandError(f"{text!r} is not a number and a hash such as 812:9f0c...") from None


async def _verify(place: Installation, anchor: tuple[int, bytes] | None, *, from_checkpoint: bool) -> Verdict:
    async with open_installation(place) as store:
        async with store.database.transaction() as conn:
            # Without a server nobody else seals.
            while await chain.seal(conn):
                pass
        async with store.database.connect() as conn:
            return await chain.verify(conn, from_checkpoint=from_checkpoint, anchor=anchor)


class _Entries(msgspec.Struct):
    entries: list[Entry]


@app.command(name="list")
def show(
    *,
    actor: str = "",
    action: str = "",
    about: str = "",
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """List the newest 200 entries of the trail.

    Example: penstock audit list --action user_changed

    Parameters
    ----------
    actor
        Only of this person or command: their id or address.
    action
        Only of this action.
    about
        Only about the thing with this id.
    json
        Print {"entries": [...]}.
    """
    found = asyncio.run(_list(place, TrailFilter(actor=actor, action=action, object_id=about)))
    if json:
        answer_json(_Entries(found))
        return
    rows = [
        (
            utc_moment(it.at),
            it.actor_name,
            it.action,
            f"{it.object_kind} {it.object_name or it.object_id}".strip(),
            ", ".join(f"{name}: {_word(old)} -> {_word(new)}" for name, old, new in it.changed)[:120],
        )
        for it in found
    ]
    answer(table(("WHEN (UTC)", "WHO", "WHAT", "ABOUT", "CHANGED"), rows))


def _word(value: object) -> str:
    return "-" if value is None else str(value)


async def _list(place: Installation, chosen: TrailFilter) -> list[Entry]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return (await entries.page(conn, chosen, _MOST))[0]


class _Changes(msgspec.Struct):
    changes: list[KeptChange]


@app.command(name="changes")
def list_changes(
    *, about: str = "", json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE
) -> None:
    """List the newest 200 changes of accounts, keys and the catalogue, each with the operation by which it is undone.

    Example: penstock audit changes --about pro

    Parameters
    ----------
    about
        Only of the thing with this id.
    json
        Print {"changes": [...]}, each with what it was and what it became.
    """
    found = asyncio.run(_changes(place, about))
    if json:
        answer_json(_Changes(found))
        return
    now = now_ms()
    rows = [
        (
            utc_moment(it.at),
            it.actor_name,
            f"{it.object_kind} {it.object_id}",
            "undone" if it.undone_at is not None else "can be undone" if it.undoable(now) else "too old",
            it.operation,
        )
        for it in found
    ]
    answer(table(("WHEN (UTC)", "WHO", "ABOUT", "STATE", "OPERATION"), rows))


async def _changes(place: Installation, about: str) -> list[KeptChange]:
    async with open_installation(place) as store, store.database.connect() as conn:
        return (await changes.page(conn, object_id=about, most=_MOST))[0]


@app.command(name="undo")
def take_back(operation: str, /, *, place: At = HERE) -> None:
    """Undo all that an operation changed, where that is still as it left it.

    Example: penstock audit undo opn_4Qw...

    Parameters
    ----------
    operation
        Its id, as `audit changes` shows it.
    """
    asyncio.run(_undo(place, operation))
    answer(f"Undone: {operation}.")


async def _undo(place: Installation, operation: str) -> None:
    async with open_installation(place) as store, store.database.transaction() as conn:
        await undo.take_back(
            conn, operation, "owner", KINDS, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
        )


@app.command
def export(*, place: At = HERE) -> None:
    """Print the whole trail as JSON Lines, with its hashes; `scripts/verify_trail.py` checks such a file by itself.

    Example: penstock audit export > trail.jsonl
    """
    asyncio.run(_export(place))


async def _export(place: Installation) -> None:
    async with open_installation(place) as store:
        number = 0
        while True:
            async with store.database.connect() as conn:
                batch = await chain.sealed_after(conn, number)
            if not batch:
                return
            for entry in batch:
                sys.stdout.write(line_of(entry) + "\n")
            number = batch[-1].seq or number
