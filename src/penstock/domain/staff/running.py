"""Requests of anybody that run, ended by staff."""

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.limits import Gate
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, Subject
from penstock.store.secrets_file import Entropy


async def end_request(
    conn: AsyncConnection, gate: Gate, account: str, id: str, actor: Actor, *, now: int, entropy: Entropy
) -> bool:
    """End a running request of this account, on whichever server it runs; whether there was one."""
    ended = await gate.end(account, id)
    await entries.write(
        conn,
        actor,
        "request_ended",
        Subject("request", id),
        after={"account": account, "ran": ended},
        now=now,
        entropy=entropy,
    )
    return ended
