"""One-time codes: six digits by mail, which prove that whoever asks reads the mailbox.

A code is good for ten minutes and five tries, in the browser that asked for it, once. What is kept is its HMAC under the
installation's pepper: six digits are soon guessed from any hash without a secret. ``now`` is epoch milliseconds; every
function takes a connection inside a transaction.

A new code replaces the old one of its browser. What bounds guesses must not let a stranger keep the owner out, who tries
another code, in another browser: the first try of each code is always looked at, and only those after it come out of what
the address has in the day. With 20 codes and 10 such tries, a guess succeeds at most 30 times in a million a day (the
day of the clock in which its code was asked for), over however many browsers and networks. Codes are counted by address with
browser, address with network, and address.
"""

import hmac
from typing import Literal

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.core.amounts import amount
from penstock.domain.accounts.attempt_limits import (
    AttemptLimits,
    Limit,
    Spending,
    TooOften,
    give_back,
    spend_all,
)
from penstock.errors import CallerError
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.schema import one_time_codes

Purpose = Literal["verify", "reset", "new_email"]

TRIES = 5
LIFETIME_MS = 10 * 60_000

SENDS_BY_BROWSER = (
    Limit("code_sends_browser_minute", 1, 60),
    Limit("code_sends_browser_hour", 3, 3600),
    Limit("code_sends_browser_day", 5, 86_400),
)
"""Codes to an address for one browser."""
SENDS_BY_NETWORK = (
    Limit("code_sends_pair_minute", 2, 60),
    Limit("code_sends_pair_hour", 5, 3600),
    Limit("code_sends_pair_day", 8, 86_400),
)
"""Codes to an address for one network: a browser's cookie is soon thrown away."""
SENDS_BY_ADDRESS = (Limit("code_sends_hour", 12, 3600), Limit("code_sends_day", 20, 86_400))
MORE_TRIES_BY_NETWORK = Limit("code_tries_pair_day", 5, 86_400)
MORE_TRIES_BY_ADDRESS = Limit("code_tries_day", 10, 86_400)
"""Wrong tries after the first of a code."""


class WrongCode(CallerError):
    """The code is not the one that was sent, is too old, or was tried too often; the text says what to do."""

    code = "wrong_code"


class Asked(msgspec.Struct, frozen=True):
    """What a code is for. ``user_id`` None: no such code was mailed. ``password`` is a hash to be set with it."""

    id: str
    purpose: Purpose
    email: str
    email_canonical: str
    user_id: str | None
    password: str | None
    tries: int
    created_at: int
    expires_at: int


class Wish(msgspec.Struct, frozen=True):
    """A code that is asked for. ``email`` is where it goes; ``visitor`` the digest of the cookie that asks."""

    purpose: Purpose
    email: str
    canonical: str
    visitor: bytes
    network: str
    user_id: str | None
    password: str | None = None


def sends(wish: Wish, guards: AttemptLimits) -> tuple[Spending, ...]:
    """What a code costs, whether the address has an account or not."""
    browser, network = f"{wish.canonical} {wish.visitor.hex()}", f"{wish.canonical} {wish.network}"
    return (
        (guards.codes_by_all, ""),
        (guards.codes_by_network, wish.network),
        *((limit, browser) for limit in SENDS_BY_BROWSER),
        *((limit, network) for limit in SENDS_BY_NETWORK),
        *((limit, wish.canonical) for limit in SENDS_BY_ADDRESS),
    )


async def issue(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    wish: Wish,
    guards: AttemptLimits,
    *,
    now: int,
    entropy: Entropy,
) -> str:
    """Make a code, which the caller mails or not. Raises ``TooOften``, whether the address has an account or not."""
    await spend_all(conn, sends(wish, guards), now=now)
    return await make(conn, secrets_file, wish, now=now, entropy=entropy)


async def make(
    conn: AsyncConnection, secrets_file: SecretsFile, wish: Wish, *, now: int, entropy: Entropy
) -> str:
    """Make a code whose ``sends`` were spent before."""
    await withdraw(conn, wish.visitor, wish.purpose)
    id = api_key.identifier("otc", entropy(16))
    digits = _digits(entropy)
    await conn.execute(
        insert(one_time_codes).values(
            id=id,
            purpose=wish.purpose,
            email_canonical=wish.canonical,
            visitor=wish.visitor,
            user_id=wish.user_id,
            email=wish.email,
            password=wish.password,
            digest=secrets_file.digests(_bound(id, digits))[0],
            tries=0,
            created_at=now,
            expires_at=now + LIFETIME_MS,
        )
    )
    return digits


async def asked(conn: AsyncConnection, visitor: bytes, purpose: Purpose) -> Asked | None:
    """What this browser has asked a code for."""
    columns = one_time_codes.c
    row = await conn.execute(
        select(*(columns[name] for name in Asked.__struct_fields__))
        .where(columns.visitor == visitor, columns.purpose == purpose)
        .order_by(columns.created_at.desc())
        .limit(1)
    )
    found = row.one_or_none()
    return None if found is None else Asked(*found)


async def use(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    visitor: bytes,
    network: str,
    purpose: Purpose,
    digits: str,
    *,
    now: int,
) -> Asked | WrongCode | TooOften:
    """Try a code: what it was asked for, once, or why not. The transaction must be committed in either case."""
    found = await try_code(conn, secrets_file, visitor, network, purpose, digits, now=now)
    if isinstance(found, Asked):
        await take(conn, found)
    return found


async def try_code(
    conn: AsyncConnection,
    secrets_file: SecretsFile,
    visitor: bytes,
    network: str,
    purpose: Purpose,
    digits: str,
    *,
    now: int,
) -> Asked | WrongCode | TooOften:
    """What a right code was asked for, or why it is not good; ``take`` uses it up. The transaction must be committed."""
    found = await asked(conn, visitor, purpose)
    if found is None:
        return WrongCode("No code was asked for in this browser. Ask for a new one.", param="code")
    if now >= found.expires_at:
        return WrongCode("This code is more than ten minutes old. Ask for a new one.", param="code")
    if found.tries >= TRIES:
        return WrongCode("This code was tried too often. Ask for a new one.", param="code")
    more = _more_tries(found, network)
    try:
        await spend_all(conn, more, now=now)
    except TooOften:
        text = "Too many wrong codes were tried for this address. Ask for a new one."
        return TooOften(text, retry_after=60)
    # No other write transaction runs meanwhile (``Database.transaction``): what was read above still holds.
    columns = one_time_codes.c
    await conn.execute(update(one_time_codes).where(columns.id == found.id).values(tries=columns.tries + 1))
    kept = await conn.scalar(select(columns.digest).where(columns.id == found.id))
    given = secrets_file.digests(_bound(found.id, "".join(digits.split())))
    good = any(hmac.compare_digest(digest, kept or b"") for digest in given)
    if not good or found.user_id is None:
        left = TRIES - found.tries - 1
        then = f"{amount(left, 'more try', 'more tries')}." if left else "Ask for a new one."
        return WrongCode(f"This is not the code that was sent. {then}", param="code")
    await give_back(conn, more, now=now)
    return found


def _more_tries(found: Asked, network: str) -> tuple[Spending, ...]:
    """What a try costs: the first of a code nothing, because the code itself was counted."""
    if not found.tries:
        return ()
    return (
        (MORE_TRIES_BY_NETWORK, f"{found.email_canonical} {network}"),
        (MORE_TRIES_BY_ADDRESS, found.email_canonical),
    )


async def take(conn: AsyncConnection, found: Asked) -> bool:
    """Use up a right code; whether it was still there."""
    gone = await conn.execute(delete(one_time_codes).where(one_time_codes.c.id == found.id))
    return gone.rowcount == 1


async def withdraw(conn: AsyncConnection, visitor: bytes, purpose: Purpose) -> None:
    """A code that this browser asked for before is no longer good."""
    await conn.execute(
        delete(one_time_codes).where(one_time_codes.c.visitor == visitor, one_time_codes.c.purpose == purpose)
    )


async def tidy(conn: AsyncConnection, *, now: int) -> int:
    """Delete the codes that are too old; how many."""
    return (await conn.execute(delete(one_time_codes).where(one_time_codes.c.expires_at < now))).rowcount


def _digits(entropy: Entropy) -> str:
    # 64 bits over a million: what the remainder prefers is one part in 10^13.
    return f"{int.from_bytes(entropy(8)) % 1_000_000:06d}"


def _bound(id: str, digits: str) -> str:
    """A code and what it belongs to: the digest of one is of no use for another."""
    return f"one-time code|{id}|{digits}"
