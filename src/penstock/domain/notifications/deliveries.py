"""Deliveries: what goes to webhooks and mail addresses, kept from the transaction that wants it said until it has arrived.

What is said is sealed. It is tried again for about four hours, can be sent again for thirty days, and is then forgotten. Where
a target has had its hour's worth, or a rule says digest, it waits for a letter that says several things at once. Every function
takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

import logging
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, case, delete, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.mail import outbox
from penstock.domain.mail.messages import staff_letter
from penstock.domain.notifications.event_kinds import EVENT_KINDS, Severity, fits, reaches
from penstock.domain.notifications.letters import Letter, Told, letter_of
from penstock.domain.notifications.rules import ShownRule, list_rules
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.errors import InvalidRequest
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile, SecretsFileError
from penstock.store.sql.schema import deliveries
from penstock.store.sql.schema import outbox as outbox_table

log = logging.getLogger("penstock.domain.notifications")

TRIES: Final = 10
"""Attempts after which a delivery is given up: about four hours after the first."""
KEEP_MS: Final = 30 * 86_400_000
_FIRST_RETRY: Final = 30_000
_HOUR_MS: Final = 3_600_000
_LONGEST_WAIT_MS: Final = 30 * _HOUR_MS
"""Quiet hours are shorter than a day, and the tries take four hours: who was made before is of no other hour."""
_SHOWN_AT_ONCE: Final = 50
_decode = msgspec.json.Decoder(Letter).decode


class Custom(msgspec.Struct, frozen=True):
    """What the operator has set: the zone of quiet hours, and how many messages a target gets in an hour."""

    zone: tzinfo
    per_hour: int
    brand: str


class Delivery(msgspec.Struct, frozen=True):
    """A delivery as it may be shown. ``target`` is a webhook's id, or a mail address."""

    id: str
    kind: str
    target: str
    event: str
    bundle: str
    created_at: int
    due_at: int | None
    tries: int
    sent_at: int | None
    error: str | None

    @property
    def state(self) -> str:
        """In a word: ``sent``, ``waits``, ``collected`` or ``given up``."""
        if self.sent_at is not None:
            return "sent"
        if self.due_at is not None:
            return "waits"
        return "collected" if self.bundle else "given up"


class DueLetter(msgspec.Struct, frozen=True):
    """One that was taken up, and is due again at ``held_until`` unless it is reported as sent."""

    id: str
    kind: str
    target: str
    letter: Letter
    tries: int
    held_until: int


class Backlog(msgspec.Struct, frozen=True):
    """What waits to go out: how many, and since when the oldest is due; None where nothing waits."""

    mails: int
    mails_since: int | None
    webhooks: int
    webhooks_since: int | None


async def fan_out(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    told: Told,
    custom: Custom,
    *,
    now: int,
    entropy: Entropy,
) -> int:
    """Have an event said wherever a rule wants it; how many deliveries. One for each target, by the rule that is soonest."""
    soonest = _soonest(await list_rules(conn), told.event, told.severity, custom.zone, now)
    letter = Letter(told.event, now, (told,))
    for (kind, target), due in soonest.items():
        held = due is not None and await _said_lately(conn, target, due) >= custom.per_hour
        bundle = "digest" if due is None else "hour" if held else ""
        when = None if bundle else due
        await _keep(conn, secrets_file, kind, target, letter, bundle, now=now, due_at=when, entropy=entropy)
    return len(soonest)


async def bundle_hours(
    conn: AsyncConnection, secrets_file: SecretsFile, custom: Custom, *, now: int, entropy: Entropy
) -> int:
    """Put what a target did not get for its limit into one letter, once the oldest of it is an hour old.

    What quiet hours hold back goes on waiting, until they are over.
    """
    columns = deliveries.c
    waiting = await conn.execute(
        select(columns.kind, columns.target, columns.event, func.min(columns.created_at))
        .where(columns.bundle == "hour", columns.sent_at.is_(None))
        .group_by(columns.kind, columns.target, columns.event)
    )
    rows = waiting.all()
    rules = await list_rules(conn) if rows else []
    found: dict[tuple[str, str], _Hour] = {}
    for kind, target, event, oldest in rows:
        due = _soonest(rules, event, _severity_of(event), custom.zone, now).get((kind, target))
        if due is not None and due > now:
            continue
        known = found.get((kind, target), _Hour((), oldest))
        found[kind, target] = _Hour((*known.events, event), min(known.oldest, oldest))
    count = 0
    for (kind, target), hour in found.items():
        if hour.oldest <= now - _HOUR_MS:
            these = (columns.bundle == "hour", columns.event.in_(hour.events))
            count += await _bundle(
                conn, secrets_file, kind, target, these, "summary", now=now, entropy=entropy
            )
    return count


async def bundle_digests(
    conn: AsyncConnection, secrets_file: SecretsFile, *, now: int, entropy: Entropy
) -> int:
    """Put what rules want in the digest into one letter for each target."""
    waiting = (
        select(deliveries.c.kind, deliveries.c.target)
        .where(deliveries.c.bundle == "digest", deliveries.c.sent_at.is_(None))
        .distinct()
    )
    count = 0
    for kind, target in (await conn.execute(waiting)).all():
        these = (deliveries.c.bundle == "digest",)
        count += await _bundle(
            conn, secrets_file, kind, target, these, "digest.daily", now=now, entropy=entropy
        )
    return count


async def due_targets(conn: AsyncConnection, *, now: int) -> list[tuple[str, str]]:
    """The targets, each with its kind, to which something is due: most of the time there is none, and looking does not hold
    up those who write."""
    columns = deliveries.c
    rows = await conn.execute(select(columns.kind, columns.target).where(columns.due_at <= now).distinct())
    return [(kind, target) for kind, target in rows]


async def take_due(
    conn: AsyncConnection, secrets_file: SecretsFile, to: tuple[str, str], *, now: int, hold_ms: int
) -> DueLetter | None:
    """Take up what has been due to a target for longest, for ``hold_ms``: no other server takes it before that is over.

    None where there is none, or another server was first, or it does not open: that is tried again as one that was not taken
    is, and holds up none of the others. One at a time, because what waits behind a slow one would be taken by others as well.
    """
    columns = deliveries.c
    kind, target = to
    row = (
        await conn.execute(
            select(columns.id, columns.sealed, columns.tries, columns.due_at)
            .where(columns.kind == kind, columns.target == target, columns.due_at <= now)
            .order_by(columns.due_at, columns.id)
            .limit(1)
        )
    ).first()
    if row is None:
        return None
    id, sealed, tries, due_at = row
    held_until = now + hold_ms
    ours = await conn.execute(
        update(deliveries)
        .where(columns.id == id, columns.due_at == due_at)
        .values(due_at=held_until, tries=tries + 1)
    )
    if ours.rowcount != 1:
        return None
    letter = await _opened(conn, secrets_file, id, sealed, held_until, tries=tries + 1, now=now)
    return None if letter is None else DueLetter(id, kind, target, letter, tries + 1, held_until)


async def delivered(conn: AsyncConnection, due: DueLetter, *, now: int) -> None:
    """It has arrived."""
    await conn.execute(
        update(deliveries).where(deliveries.c.id == due.id).values(sent_at=now, due_at=None, error=None)
    )


async def hand_to_mail(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    due: DueLetter,
    custom: Custom,
    *,
    now: int,
    entropy: Entropy,
) -> None:
    """What goes to a mail address goes on in the outbox of mails, in this transaction."""
    mail = staff_letter(custom.brand, due.target, due.letter.event, due.letter.lines())
    await outbox.queue(conn, secrets_file, mail, now=now, entropy=entropy)
    await delivered(conn, due, now=now)


async def delivery_failed(
    conn: AsyncConnection, due: DueLetter, error: str, *, lasting: bool, now: int
) -> None:
    """It was not taken; ``lasting``: and never will be. The error has no word of the receiver's."""
    await _note_failure(conn, due.id, due.held_until, error, tries=TRIES if lasting else due.tries, now=now)


async def newest_deliveries(conn: AsyncConnection) -> list[Delivery]:
    """Those that wait first, then the newest others."""
    columns = deliveries.c
    rows = await conn.execute(
        select(*_SHOWN)
        .order_by(columns.due_at.is_(None), columns.created_at.desc(), columns.id)
        .limit(_SHOWN_AT_ONCE)
    )
    return [Delivery(*row) for row in rows]


async def deliver_again(conn: AsyncConnection, id: str, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Have one be sent at once, whether it waits, was sent or was given up. Raises ``InvalidRequest``."""
    done = await conn.execute(
        update(deliveries)
        .where(deliveries.c.id == id, or_(deliveries.c.bundle == "", deliveries.c.sent_at.is_not(None)))
        .values(due_at=now, sent_at=None, given_up_at=None, tries=0, error=None, bundle="")
    )
    if done.rowcount != 1:
        raise InvalidRequest("There is no such delivery, or it waits to be said with others.", param="id")
    await entries.write(conn, actor, "delivery_sent_again", Subject("delivery", id), now=now, entropy=entropy)


async def failing_targets(conn: AsyncConnection, *, since: int) -> list[str]:
    """The ids of webhooks that have refused something three times, or lost it, and taken nothing after that."""
    columns = deliveries.c
    arrived = (
        select(columns.target, func.max(columns.sent_at).label("at"))
        .where(columns.sent_at.is_not(None), columns.bundle == "")  # what was said with others may not have
        .group_by(columns.target)
        .subquery()
    )
    rows = await conn.scalars(
        select(columns.target)
        .distinct()
        .join_from(deliveries, arrived, columns.target == arrived.c.target, isouter=True)
        .where(
            columns.kind == "webhook",
            columns.created_at >= since,
            columns.sent_at.is_(None),
            or_(columns.tries >= 3, and_(columns.tries > 0, columns.given_up_at.is_not(None))),
            or_(arrived.c.at.is_(None), arrived.c.at < columns.created_at),
        )
        .order_by(columns.target)
    )
    return list(rows)


async def backlog(conn: AsyncConnection, *, now: int) -> Backlog:
    """What is due and has not gone out: the mails, and what goes to webhooks. What quiet hours hold is not due."""
    of_mails = outbox_table.c
    mails = await conn.execute(
        select(func.count(), func.min(of_mails.created_at)).where(of_mails.due_at.is_not(None))
    )
    columns = deliveries.c
    # Less what it has waited between its tries, when it was due first; where it is in hand that is too early.
    first = columns.due_at - _FIRST_RETRY * (literal(1).bitwise_lshift(columns.tries) - 1)
    since = case((first > columns.created_at, first), else_=columns.created_at)
    letters = await conn.execute(
        select(func.count(), func.min(since)).where(
            or_(columns.due_at <= now, columns.tries > 0), columns.due_at.is_not(None)
        )
    )
    return Backlog(*mails.one(), *letters.one())


async def tidy_deliveries(conn: AsyncConnection, *, now: int) -> None:
    """Forget what is so old that nobody sends it again."""
    await conn.execute(
        delete(deliveries).where(deliveries.c.created_at < now - KEEP_MS, deliveries.c.due_at.is_(None))
    )


class _Hour(msgspec.Struct, frozen=True):
    """What may be said to a target by now of what it did not get for its limit: the events, and when the oldest was."""

    events: tuple[str, ...]
    oldest: int


def _soonest(
    rules: Sequence[ShownRule], event: str, severity: str, zone: tzinfo, now: int
) -> dict[tuple[str, str], int | None]:
    """When each target that a rule names is told of such an event, by the rule that is soonest; None: in the digest."""
    soonest: dict[tuple[str, str], int | None] = {}
    for shown in rules:
        rule = shown.rule
        if not fits(rule.event, event) or not reaches(rule.least, severity):
            continue
        due = rule.due_at(now, zone) if rule.at_once else None
        known = soonest.get(rule.target)
        soonest[rule.target] = due if known is None else known if due is None else min(due, known)
    return soonest


def _severity_of(event: str) -> Severity:
    """An event's; of one that this version does not know, the least."""
    kind = EVENT_KINDS.get(event)
    return "info" if kind is None else kind.severity


async def _said_lately(conn: AsyncConnection, target: str, due: int) -> int:
    """How many a target gets in the hour before ``due``, with those that it has not taken and will get when it does."""
    columns = deliveries.c
    said = func.coalesce(columns.sent_at, columns.due_at)
    query = select(func.count()).where(
        columns.target == target,
        columns.created_at > due - _LONGEST_WAIT_MS,
        columns.bundle == "",
        or_(
            and_(said > due - _HOUR_MS, said <= due),
            and_(columns.due_at.is_not(None), columns.tries > 0),
        ),
        columns.event.not_in(("summary", "digest.daily")),
    )
    return await conn.scalar(query) or 0


async def _bundle(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    kind: str,
    target: str,
    these: Sequence[ColumnElement[bool]],
    event: str,
    *,
    now: int,
    entropy: Entropy,
) -> int:
    columns = deliveries.c
    rows = await conn.execute(
        select(columns.id, columns.sealed)
        .where(columns.kind == kind, columns.target == target, columns.sent_at.is_(None), *these)
        .order_by(columns.created_at, columns.id)
    )
    told: list[Told] = []
    ids: list[str] = []
    for id, sealed in rows.all():
        letter = await _opened(conn, secrets_file, id, sealed, None, tries=TRIES, now=now)
        if letter is not None:
            ids.append(id)
            told += letter.told
    if not ids:
        return 0
    await _mark_said(conn, ids, now)
    letter = letter_of(event, told, at=now)
    await _keep(conn, secrets_file, kind, target, letter, "", now=now, due_at=now, entropy=entropy)
    return 1


async def _opened(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    id: str,
    sealed: bytes,
    held_until: int | None,
    *,
    tries: int,
    now: int,
) -> Letter | None:
    """What is said; None where it does not open, which is written down as a failure."""
    try:
        return _decode(secrets_file.unseal(sealed, _about(id)))
    except (SecretsFileError, msgspec.MsgspecError) as error:
        log.error("a message to staff cannot be opened: %s", error)  # noqa: TRY400 - the text says it all
        await _note_failure(conn, id, held_until, f"cannot be opened: {error}", tries=tries, now=now)
        return None


async def _note_failure(
    conn: AsyncConnection, id: str, held_until: int | None, error: str, *, tries: int, now: int
) -> None:
    """With the last of its tries it is given up; otherwise the next waits from now on, however long this one took.

    Where another server has it by now, that says how it went.
    """
    if tries >= TRIES:
        then: dict[str, int | str | None] = {"due_at": None, "bundle": "", "given_up_at": now}
    else:
        then = {"due_at": now + (_FIRST_RETRY << (tries - 1))}
    await conn.execute(
        update(deliveries)
        .where(deliveries.c.id == id, deliveries.c.due_at == held_until)
        .values(error=error[:200], **then)
    )


async def _mark_said(conn: AsyncConnection, ids: Sequence[str], now: int) -> None:
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        await conn.execute(update(deliveries).where(deliveries.c.id.in_(part)).values(sent_at=now))


async def _keep(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    kind: str,
    target: str,
    letter: Letter,
    bundle: str,
    *,
    now: int,
    due_at: int | None,
    entropy: Entropy,
) -> None:
    id = api_key.identifier("msg", entropy(16))
    await conn.execute(
        insert(deliveries).values(
            id=id,
            kind=kind,
            target=target,
            event=letter.event,
            sealed=secrets_file.seal(msgspec.json.encode(letter), _about(id), entropy),
            bundle=bundle,
            created_at=now,
            due_at=due_at,
            tries=0,
        )
    )


def _about(id: str) -> bytes:
    return f"deliveries|{id}|sealed".encode()


SEALED_DELIVERIES: Final = SealedColumn(deliveries.c.sealed, (deliveries.c.id,), _about)


_SHOWN = tuple(deliveries.c[name] for name in Delivery.__struct_fields__)
