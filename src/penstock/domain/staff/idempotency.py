"""Idempotency keys of the admin API: the answer to a write is kept, sealed, and given again to who sends the same once more.

The claim is a row, so that of two requests at one moment one acts. Where the write is one transaction, claim and answer are
part of it: there is no moment at which the one is kept and the other is not. ``now`` is epoch milliseconds.
"""

from typing import Final

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.errors import CallerError
from penstock.store.sealed import SealedColumn
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import upsert
from penstock.store.sql.schema import idempotency


class KeyReused(CallerError):
    """The idempotency key came with another request before."""

    status = 422
    code = "idempotency_key_reused"


class StillRunning(CallerError):
    """The request with this idempotency key has not been answered."""

    status = 409
    code = "still_running"


class KeptAnswer(msgspec.Struct, frozen=True):
    """An answer that was given before."""

    status: int
    body: bytes


class Claimed(msgspec.Struct, frozen=True):
    """Which answer is meant: of this token, under this key, to the request with this digest."""

    token_id: str
    key: str
    digest: bytes


async def claim(
    conn: AsyncConnection, secrets_file: SecretsFile, wanted: Claimed, *, now: int, keep_ms: int
) -> KeptAnswer | None:
    """Claim the key; the answer of before where there is one. Raises ``KeyReused``, ``StillRunning``."""
    columns = idempotency.c
    mine = (columns.token_id == wanted.token_id) & (columns.key == wanted.key)
    await conn.execute(delete(idempotency).where(mine, columns.created_at < now - keep_ms))
    fresh = await conn.execute(
        upsert(conn, idempotency, ("token_id", "key"), ()),
        {"token_id": wanted.token_id, "key": wanted.key, "digest": wanted.digest, "created_at": now},
    )
    if fresh.rowcount == 1:
        return None
    row = (await conn.execute(select(columns.digest, columns.status, columns.sealed).where(mine))).one()
    if row.digest != wanted.digest:
        raise KeyReused(
            "This Idempotency-Key was sent before with another request. Take a new key for what is new, "
            "and send the old one only with the same method, address and body."
        )
    if row.status is None:
        raise StillRunning(
            "The request with this Idempotency-Key has not been answered: it still runs, or its server was stopped in it. "
            "Look at what it was to change before you send it under a new key."
        )
    return KeptAnswer(row.status, secrets_file.unseal(row.sealed, _about(wanted)))


async def keep_answer(
    conn: AsyncConnection, secrets_file: SecretsFile, wanted: Claimed, answer: KeptAnswer, entropy: Entropy
) -> None:
    """Keep what was answered; the key has been claimed."""
    await conn.execute(
        update(idempotency)
        .where(idempotency.c.token_id == wanted.token_id, idempotency.c.key == wanted.key)
        .values(status=answer.status, sealed=secrets_file.seal(answer.body, _about(wanted), entropy))
    )


async def give_up(conn: AsyncConnection, wanted: Claimed) -> None:
    """Forget the claim: it came to nothing, and may be tried again."""
    await conn.execute(
        delete(idempotency).where(
            idempotency.c.token_id == wanted.token_id,
            idempotency.c.key == wanted.key,
            idempotency.c.status.is_(None),
        )
    )


async def tidy_answers(conn: AsyncConnection, *, before: int) -> None:
    """Forget the answers from before that time."""
    await conn.execute(delete(idempotency).where(idempotency.c.created_at < before))


def _about(wanted: Claimed) -> bytes:
    """What a sealed answer is bound to."""
    return _about_answer(wanted.token_id, wanted.key)


def _about_answer(token_id: str, key: str) -> bytes:
    return b"idempotency|%b|%b" % (token_id.encode(), key.encode())


SEALED_ANSWERS: Final = SealedColumn(
    idempotency.c.sealed, (idempotency.c.token_id, idempotency.c.key), _about_answer
)
