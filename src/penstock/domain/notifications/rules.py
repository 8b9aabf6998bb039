"""Rules: which events, from which severity on, go to which webhook or mail address, at once or in the digest, and when not.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec
from sqlalchemy import Row, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.accounts.accounts import parse_email
from penstock.domain.notifications.event_kinds import SEVERITIES, is_pattern, is_severity
from penstock.domain.notifications.webhooks import webhook_named
from penstock.domain.trail import changes, entries
from penstock.domain.trail.changes import CannotUndo, Changed, KeptChange
from penstock.domain.trail.entries import Actor, FieldValue, Subject
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy
from penstock.store.sql.schema import notice_rules, webhooks

MOST_RULES: Final = 100
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_encode = msgspec.json.encode


class NoSuchRule(InvalidRequest):
    """There is no such rule."""

    status = 404
    code = "no_such_rule"


class RuleWish(msgspec.Struct, frozen=True):
    """What a rule is to say: ``webhook`` is a name or an id, ``recipient`` a mail address; one of the two."""

    event: str
    least: str = "info"
    webhook: str = ""
    recipient: str = ""
    at_once: bool = True
    quiet: str = ""


class Rule(msgspec.Struct, frozen=True):
    """A rule as it is kept."""

    id: str
    event: str
    least: str
    webhook_id: str | None
    recipient: str | None
    at_once: bool
    quiet: str
    created_at: int

    @property
    def target(self) -> tuple[str, str]:
        """Where it sends to: ``webhook`` and an id, or ``mail`` and an address."""
        return ("webhook", self.webhook_id) if self.webhook_id is not None else ("mail", self.recipient or "")

    def due_at(self, now: int, zone: tzinfo) -> int:
        """When what happens now may be told: now, or when its quiet hours are over."""
        found = _HOURS.fullmatch(self.quiet)
        if found is None:
            return now
        begin, end = (60 * int(found[at]) + int(found[at + 1]) for at in (1, 3))
        local = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)
        minute = 60 * local.hour + local.minute
        inside = begin <= minute < end if begin < end else minute >= begin or minute < end
        if not inside:
            return now
        day = local + timedelta(days=1) if minute >= end else local
        over = day.replace(hour=end // 60, minute=end % 60, second=0, microsecond=0)
        return int(over.timestamp() * 1000)


class ShownRule(msgspec.Struct, frozen=True):
    """A rule with the name of its webhook."""

    rule: Rule
    webhook: str


async def add_rule(
    conn: AsyncConnection, wish: RuleWish, actor: Actor, *, now: int, entropy: Entropy
) -> Rule:
    """Add one. Raises ``InvalidRequest``."""
    if not is_pattern(wish.event):
        raise InvalidRequest("There is no such event; * means all.", param="event")
    if not is_severity(wish.least):
        raise InvalidRequest(f"A severity is one of {', '.join(SEVERITIES)}.", param="least")
    if bool(wish.webhook) == bool(wish.recipient):
        raise InvalidRequest("A rule has either a webhook or a mail address.", param="webhook")
    if wish.quiet and (_HOURS.fullmatch(wish.quiet) is None or wish.quiet[:5] == wish.quiet[6:]):
        raise InvalidRequest("Quiet hours are such as 22:00-07:00.", param="quiet")
    webhook = await webhook_named(conn, wish.webhook) if wish.webhook else None
    recipient = parse_email(wish.recipient) if wish.recipient else None
    found = await list_rules(conn)
    if len(found) >= MOST_RULES:
        raise InvalidRequest(f"There are {MOST_RULES} rules; remove one first.")
    id = api_key.identifier("rul", entropy(16))
    webhook_id = None if webhook is None else webhook.id
    made = Rule(id, wish.event, wish.least, webhook_id, recipient, wish.at_once, wish.quiet, now)
    await conn.execute(insert(notice_rules).values(**msgspec.structs.asdict(made)))
    kept = _encode(made).decode()
    await changes.record(conn, actor, [Changed("rule", id, None, kept)], now=now, entropy=entropy)
    await entries.write(
        conn, actor, "rule_added", Subject("rule", id), after=_told(made), now=now, entropy=entropy
    )
    return made


async def list_rules(conn: AsyncConnection) -> list[ShownRule]:
    """All of those whose webhooks are in use, by their events."""
    rows = await conn.execute(
        select(*_COLUMNS, webhooks.c.name)
        .join_from(notice_rules, webhooks, notice_rules.c.webhook_id == webhooks.c.id, isouter=True)
        .where(or_(notice_rules.c.webhook_id.is_(None), webhooks.c.removed_at.is_(None)))
        .order_by(notice_rules.c.event, notice_rules.c.created_at, notice_rules.c.id)
    )
    return [ShownRule(_rule(row), row.name or "") for row in rows]


async def rule_named(conn: AsyncConnection, id: str) -> Rule:
    """One of them. Raises ``NoSuchRule``."""
    for it in await list_rules(conn):
        if it.rule.id == id:
            return it.rule
    raise NoSuchRule("There is no such rule.")


async def remove_rule(conn: AsyncConnection, rule: Rule, actor: Actor, *, now: int, entropy: Entropy) -> None:
    """Remove one. What it has sent on its way goes out."""
    await conn.execute(delete(notice_rules).where(notice_rules.c.id == rule.id))
    kept = _encode(rule).decode()
    await changes.record(conn, actor, [Changed("rule", rule.id, kept, None)], now=now, entropy=entropy)
    await entries.write(
        conn, actor, "rule_removed", Subject("rule", rule.id), before=_told(rule), now=now, entropy=entropy
    )


async def undo_rule(conn: AsyncConnection, change: KeptChange) -> None:
    """Put a rule back, or take it away again. Raises ``CannotUndo``."""
    there = select(notice_rules.c.id).where(notice_rules.c.id == change.object_id)
    if (await conn.scalar(there) is None) != (change.after is None):
        raise CannotUndo("This rule was changed since.")
    if change.before is None:
        await conn.execute(delete(notice_rules).where(notice_rules.c.id == change.object_id))
        return
    rule = msgspec.json.decode(change.before, type=Rule)
    if rule.webhook_id is not None and await _is_gone(conn, rule.webhook_id):
        raise CannotUndo("The rule's webhook is not there any more: put that back first.")
    await conn.execute(insert(notice_rules).values(**msgspec.structs.asdict(rule)))


def _rule(row: Row[*tuple[Any, ...]]) -> Rule:
    return Rule(*(getattr(row, name) for name in Rule.__struct_fields__))


async def _is_gone(conn: AsyncConnection, webhook_id: str) -> bool:
    used = select(webhooks.c.id).where(webhooks.c.id == webhook_id, webhooks.c.removed_at.is_(None))
    return await conn.scalar(used) is None


def _told(rule: Rule) -> dict[str, FieldValue]:
    """What the trail has of a rule: no address of anybody."""
    return {
        "event": rule.event,
        "least": rule.least,
        "to": rule.webhook_id or "mail",
        "at_once": rule.at_once,
        "quiet": rule.quiet,
    }


_COLUMNS = tuple(notice_rules.c[name] for name in Rule.__struct_fields__)
