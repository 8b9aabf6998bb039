"""Attempt limits: how often something was tried in a period, counted for all servers under a digest of who or what tried.

A period is a whole number of seconds since the epoch's beginning, so a burst over its edge may have twice the limit; the
limits are chosen with that in mind. Every function takes a connection inside a transaction.
"""

import hashlib
from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.amounts import amount
from penstock.errors import LimitReached
from penstock.settings import Settings
from penstock.store.sql.database import tally
from penstock.store.sql.schema import tallies


class Limit(msgspec.Struct, frozen=True):
    """At most ``most`` in ``seconds``, under a name of its own."""

    kind: str
    most: int
    seconds: int


class TooOften(LimitReached):
    """Tried more often than the limit; ``retry_after`` is when the period ends."""


Spending = tuple[Limit, str]
"""A limit and the subject that it is counted for."""


async def spend_all(conn: AsyncConnection, spendings: Sequence[Spending], *, now: int) -> None:
    """Count one try for each. Raises ``TooOften``; where that ends the transaction, none is counted."""
    for limit, subject in spendings:
        await spend(conn, limit, subject, now=now)


async def give_back(conn: AsyncConnection, spendings: Sequence[Spending], *, now: int) -> None:
    """Take back one try for each: what it was counted for did not come about. ``now`` is as it was for ``spend``."""
    columns = tallies.c
    for limit, subject in spendings:
        period, _ = _period(limit, now)
        mine = (
            columns.kind == limit.kind,
            columns.subject == _digest(subject),
            columns.period == period,
            columns.count > 0,
        )
        await conn.execute(update(tallies).where(*mine).values(count=columns.count - 1))


async def spend(conn: AsyncConnection, limit: Limit, subject: str, *, now: int) -> None:
    """Count one try of ``subject``. ``now`` is epoch milliseconds. Raises ``TooOften`` when there were enough already."""
    period, ends_at = _period(limit, now)
    row = {
        "kind": limit.kind,
        "subject": _digest(subject),
        "period": period,
        "count": 1,
        "ends_at": ends_at,
    }
    count = await conn.scalar(tally(conn, tallies, ("kind", "subject", "period"), "count"), row)
    if count is None or count > limit.most:
        seconds = max(1, (ends_at - now + 999) // 1000)
        raise TooOften(f"Too many tries. Try again in {_spoken(seconds)}.", retry_after=seconds)


async def spent(conn: AsyncConnection, limit: Limit, subject: str, *, now: int) -> int:
    """How many tries there were in this period."""
    period, _ = _period(limit, now)
    count = await conn.scalar(
        select(tallies.c.count).where(
            tallies.c.kind == limit.kind, tallies.c.subject == _digest(subject), tallies.c.period == period
        )
    )
    return count or 0


async def forget(conn: AsyncConnection, limit: Limit, subject: str) -> None:
    """The subject has shown that it may: its tries are taken back."""
    await conn.execute(
        delete(tallies).where(tallies.c.kind == limit.kind, tallies.c.subject == _digest(subject))
    )


async def tidy(conn: AsyncConnection, *, now: int) -> int:
    """Delete the counts of periods that are over; how many."""
    if not await conn.scalar(select(func.count()).where(tallies.c.ends_at < now)):
        return 0
    return (await conn.execute(delete(tallies).where(tallies.c.ends_at < now))).rowcount


def _period(limit: Limit, now: int) -> tuple[int, int]:
    period = now // 1000 // limit.seconds
    return period, (period + 1) * limit.seconds * 1000


def _digest(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()


def _spoken(seconds: int) -> str:
    if seconds < 120:
        return amount(seconds, "second")
    return amount(-(-seconds // 60), "minute") if seconds < 7200 else amount(-(-seconds // 3600), "hour")


_QUARTER, _HOUR, _DAY = 900, 3600, 86_400


class AttemptLimits(msgspec.Struct, frozen=True):
    """The limits, each with the subject it is counted for."""

    sign_ins_by_pair: Limit
    """An address and a network together: others can still sign in to the address."""
    sign_ins_by_network: Limit
    password_checks: Limit
    """A user who is signed in, right passwords included: each costs a hash."""
    sign_ups_by_network: Limit
    codes_by_network: Limit
    codes_by_all: Limit
    second_factors: tuple[Limit, Limit]
    """A user, in the quarter of an hour and in the day."""


def attempt_limits_of(settings: Settings) -> AttemptLimits:
    """What the settings say."""
    return AttemptLimits(
        sign_ins_by_pair=Limit("sign_in_pair", settings.sign_in_tries, _QUARTER),
        sign_ins_by_network=Limit("sign_in_network", settings.sign_in_tries_network, _QUARTER),
        password_checks=Limit("password_checks", settings.sign_in_tries_network, _QUARTER),
        sign_ups_by_network=Limit("sign_ups_network", settings.sign_ups_network, _HOUR),
        codes_by_network=Limit("code_sends_network", settings.codes_network, _HOUR),
        codes_by_all=Limit("code_sends_all", settings.codes_all, _HOUR),
        second_factors=(
            Limit("second_factor", settings.second_factor_tries, _QUARTER),
            Limit("second_factor_day", settings.second_factor_tries_day, _DAY),
        ),
    )
