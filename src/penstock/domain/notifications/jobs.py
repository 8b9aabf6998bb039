"""Jobs: work that one server does at a time, held by a lease in the database, and up to when it was done.

Every function takes a connection inside a transaction; times are epoch milliseconds.
"""

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.database import upsert
from penstock.store.sql.schema import jobs


async def take_job(conn: AsyncConnection, name: str, holder: str, *, lease_ms: int, now: int) -> int | None:
    """Hold a job for so long; gives up to when it was done, None where another server holds it.

    Who takes it for the first time finds that it was done until now.
    """
    first = {"name": name, "holder": holder, "held_until": 0, "done_at": now}
    await conn.execute(upsert(conn, jobs, ["name"], []), first)
    ours = await conn.execute(
        update(jobs)
        .where(jobs.c.name == name, or_(jobs.c.holder == holder, jobs.c.held_until < now))
        .values(holder=holder, held_until=now + lease_ms)
    )
    if ours.rowcount != 1:
        return None
    return await done_until(conn, name)


async def note_done(conn: AsyncConnection, name: str, *, at: int) -> None:
    """Somebody has done a job outside of the servers."""
    row = {"name": name, "holder": "", "held_until": 0, "done_at": at}
    await conn.execute(upsert(conn, jobs, ["name"], ["done_at"]), row)


async def held_elsewhere(conn: AsyncConnection, name: str, holder: str, *, now: int) -> bool:
    """Whether another server holds a job: most servers find that, and need not write to know it."""
    held = select(jobs.c.name).where(jobs.c.name == name, jobs.c.holder != holder, jobs.c.held_until >= now)
    return await conn.scalar(held) is not None


async def done_until(conn: AsyncConnection, name: str) -> int | None:
    """Up to when a job was done; None where nobody has begun with it."""
    return await conn.scalar(select(jobs.c.done_at).where(jobs.c.name == name))


async def job_done(conn: AsyncConnection, name: str, *, before: int, at: int) -> bool:
    """It is done up to ``at``; False where somebody has done it since it was done up to ``before``."""
    ours = await conn.execute(
        update(jobs).where(jobs.c.name == name, jobs.c.done_at == before).values(done_at=at)
    )
    return ours.rowcount == 1
