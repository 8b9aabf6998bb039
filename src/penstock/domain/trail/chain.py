"""The chain of the trail: entries are numbered and hashed, each with the one before it, so that no edit goes unseen.

Writers add entries without a number. A sealer gives them theirs, about once a second, and

    hash = SHA-256(hash of the one before ‖ canonical bytes)

where the canonical bytes are a version byte and a JSON array of the entry's fields in a fixed order, with ``personal`` in the
place of what is personal. So the newest second is not sealed yet. What somebody who owns the database writes anew from one
entry on to the end is found by an anchor alone that lies elsewhere: checkpoints are for that, and go to the log each day.

Entries that a retention removes are the first ones; the checkpoint of the last of them is where the rest goes on from.
"""

import hashlib
from typing import Final

import msgspec
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.trail.entries import COLUMNS, SYSTEM, Entry, Subject, personal_digest, read, write
from penstock.store.secrets_file import Entropy
from penstock.store.sql.database import upsert, upsert_adding
from penstock.store.sql.schema import revisions, trail, trail_checkpoints

SUBJECT: Final = "trail"
"""The row in ``revisions`` with the number of the last sealed entry; who seals holds its lock."""
GENESIS: Final = bytes(32)
SEALED_AT_ONCE: Final = 500
READ_AT_ONCE: Final = 200
_VERSION: Final = b"\x01"
_pack = msgspec.json.Encoder().encode


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the chain had come to at a moment (epoch milliseconds): the number of its last entry, and that one's hash."""

    seq: int
    at: int
    hash: bytes
    entries: int


class Verdict(msgspec.Struct, frozen=True):
    """What a look at the whole chain has found. ``broken`` is the number of the first entry that is not as it was."""

    entries: int
    first: int
    last: int
    head: str
    unsealed: int
    broken: int | None = None
    why: str = ""


def canonical(entry: Entry) -> bytes:
    """What is hashed of an entry."""
    return _VERSION + _pack(
        (
            entry.id,
            entry.at,
            entry.actor_kind,
            entry.actor_id,
            entry.on_behalf_of,
            entry.action,
            entry.object_kind,
            entry.object_id,
            entry.before,
            entry.after,
            entry.reason,
            entry.request_id,
            entry.result,
            entry.personal.hex(),
        )
    )


def link(before: bytes, entry: Entry) -> bytes:
    """The hash of an entry that follows one with the hash ``before``."""
    return hashlib.sha256(before + canonical(entry)).digest()


async def any_unsealed(conn: AsyncConnection) -> bool:
    """Whether an entry waits for its number."""
    return await conn.scalar(select(trail.c.id).where(trail.c.seq.is_(None)).limit(1)) is not None


async def seal(conn: AsyncConnection, *, most: int = SEALED_AT_ONCE) -> int:
    """Number and hash the entries that are not yet; how many. One process does it at a time."""
    if not await any_unsealed(conn):
        return 0
    # Whoever else seals waits here until this transaction has ended, and then sees what it wrote.
    await conn.execute(
        upsert_adding(conn, revisions, ("subject",), ("value",)), {"subject": SUBJECT, "value": 0}
    )
    number, last = await _head(conn)
    rows = await conn.execute(
        select(*COLUMNS).where(trail.c.seq.is_(None)).order_by(trail.c.at, trail.c.id).limit(most)
    )
    done = 0
    for entry in [read(row) for row in rows]:
        number, last, done = number + 1, link(last, entry), done + 1
        await conn.execute(update(trail).where(trail.c.id == entry.id).values(seq=number, hash=last))
    await conn.execute(update(revisions).where(revisions.c.subject == SUBJECT).values(value=number))
    return done


async def _head(conn: AsyncConnection) -> tuple[int, bytes]:
    row = (
        await conn.execute(
            select(trail.c.seq, trail.c.hash)
            .where(trail.c.seq.is_not(None))
            .order_by(trail.c.seq.desc())
            .limit(1)
        )
    ).one_or_none()
    if row is not None:
        return int(row[0]), bytes(row[1])
    newest = await newest_checkpoint(conn)
    return (0, GENESIS) if newest is None else (newest.seq, newest.hash)


async def newest_checkpoint(conn: AsyncConnection) -> Checkpoint | None:
    """The last checkpoint that was made."""
    row = (
        await conn.execute(select(*_CHECKPOINT).order_by(trail_checkpoints.c.seq.desc()).limit(1))
    ).one_or_none()
    return None if row is None else Checkpoint(*row)


async def make_checkpoint(conn: AsyncConnection, *, now: int) -> Checkpoint | None:
    """Note where the chain has come to; None where nothing is sealed."""
    number, last = await _head(conn)
    if number == 0:
        return None
    made = Checkpoint(number, now, last, number)
    await conn.execute(upsert(conn, trail_checkpoints, ("seq",), ()), msgspec.structs.asdict(made))
    return made


async def prune(conn: AsyncConnection, *, before: int, now: int, entropy: Entropy) -> int:
    """Remove the sealed entries from before a time (epoch milliseconds), behind a checkpoint; how many.

    They are the first ones of the chain: one that is younger than ``before`` ends it.
    """
    youngest = await conn.scalar(
        select(func.min(trail.c.seq)).where(or_(trail.c.at >= before, trail.c.seq.is_(None)))
    )
    wanted = trail.c.seq.is_not(None) if youngest is None else trail.c.seq < youngest
    last = (
        await conn.execute(
            select(trail.c.seq, trail.c.hash)
            .where(wanted, trail.c.at < before)
            .order_by(trail.c.seq.desc())
            .limit(1)
        )
    ).one_or_none()
    if last is None:
        return 0
    at = Checkpoint(int(last[0]), now, bytes(last[1]), int(last[0]))
    await conn.execute(upsert(conn, trail_checkpoints, ("seq",), ()), msgspec.structs.asdict(at))
    gone = (await conn.execute(delete(trail).where(trail.c.seq <= at.seq))).rowcount
    subject = Subject("trail", str(at.seq))
    await write(
        conn,
        SYSTEM,
        "trail_pruned",
        subject,
        after={"entries": gone, "through": at.seq},
        now=now,
        entropy=entropy,
    )
    return gone


async def verify(
    conn: AsyncConnection, *, from_checkpoint: bool = False, anchor: tuple[int, bytes] | None = None
) -> Verdict:
    """Walk the chain. ``from_checkpoint`` begins at the newest checkpoint; ``anchor`` is a number and a hash from elsewhere."""
    marks = {mark.seq: mark.hash for mark in await _checkpoints(conn)}
    if anchor is not None:
        marks[anchor[0]] = anchor[1]
    unsealed = await conn.scalar(select(func.count()).select_from(trail).where(trail.c.seq.is_(None))) or 0
    reached = await conn.scalar(select(revisions.c.value).where(revisions.c.subject == SUBJECT)) or 0
    number, last, first, broken = await _beginning(conn, marks, from_checkpoint=from_checkpoint)
    seen = 0
    while broken is None:
        batch = await sealed_after(conn, number)
        if not batch:
            break
        for entry in batch:
            broken = _fault(entry, number + 1, last, marks)
            if broken is not None:
                break
            number, last, seen = number + 1, entry.hash or b"", seen + 1
    if broken is None:
        owed = max([reached, *marks])
        if owed > number:
            broken = (number + 1, "the end of the trail is missing")
    return Verdict(
        entries=seen,
        first=first,
        last=number,
        head=last.hex(),
        unsealed=unsealed,
        broken=None if broken is None else broken[0],
        why="" if broken is None else broken[1],
    )


async def sealed_after(conn: AsyncConnection, seq: int) -> list[Entry]:
    """The sealed entries that come after one, some at a time."""
    rows = await conn.execute(
        select(*COLUMNS).where(trail.c.seq > seq).order_by(trail.c.seq).limit(READ_AT_ONCE)
    )
    return [read(row) for row in rows]


_Fault = tuple[int, str]


async def _beginning(
    conn: AsyncConnection, marks: dict[int, bytes], *, from_checkpoint: bool
) -> tuple[int, bytes, int, _Fault | None]:
    """The number and hash that the first entry to look at follows, that entry's number, and what is wrong with it."""
    start = max(marks, default=0) if from_checkpoint else None
    if start is not None:
        return start, marks.get(start, GENESIS), start + 1, None
    first = await conn.scalar(select(func.min(trail.c.seq)))
    if first is None:
        pruned = max(marks, default=0)
        return pruned, marks.get(pruned, GENESIS), pruned + 1, None
    if first == 1:
        return 0, GENESIS, 1, None
    if first - 1 in marks:
        return first - 1, marks[first - 1], first, None
    return 0, GENESIS, 1, (1, "the first entries are missing, and no checkpoint stands for them")


def _fault(entry: Entry, number: int, last: bytes, marks: dict[int, bytes]) -> _Fault | None:
    if entry.seq != number:
        return number, "an entry is missing"
    if entry.salt is None:
        erased = entry.actor_name.startswith("deleted ") or entry.object_name.startswith("deleted ")
        if not erased or entry.address or entry.agent:
            return number, "what is personal was taken out, and something else put in"
    elif entry.personal != personal_digest(
        entry.salt, entry.actor_name, entry.address, entry.agent, entry.object_name
    ):
        return number, "a name or an address was changed"
    if entry.hash != link(last, entry):
        return number, "the entry was changed, or stands in another place"
    if number in marks and marks[number] != entry.hash:
        return number, "it is not what the checkpoint says"
    return None


async def _checkpoints(conn: AsyncConnection) -> list[Checkpoint]:
    return [Checkpoint(*row) for row in await conn.execute(select(*_CHECKPOINT))]


_CHECKPOINT = tuple(trail_checkpoints.c[name] for name in Checkpoint.__struct_fields__)


async def erase_person(conn: AsyncConnection, user_id: str) -> int:
    """Take a person who is deleted out of the trail; the chain goes on to hold. How many entries named them."""
    called = f"deleted user {hashlib.sha256(user_id.encode()).hexdigest()[:8]}"
    mine = (trail.c.object_kind.in_(("user", "staff"))) & (trail.c.object_id == user_id)
    about = await conn.execute(
        update(trail).where(mine).values(object_name=called, salt=None, address="", agent="")
    )
    by = await conn.execute(
        update(trail)
        .where(trail.c.actor_id == user_id)
        .values(actor_name=called, salt=None, address="", agent="")
    )
    return about.rowcount + by.rowcount
