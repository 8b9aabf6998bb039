"""How often an installation has been started, over all its servers: the first start is told more."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.store.sql.database import upsert
from penstock.store.sql.schema import revisions

_STARTS = "starts"
"""The row of ``revisions`` that counts starts of the server."""


async def count_start(conn: AsyncConnection) -> bool:
    """Count this start; whether it is the first."""
    before = await conn.scalar(select(revisions.c.value).where(revisions.c.subject == _STARTS))
    await conn.execute(
        upsert(conn, revisions, ("subject",), ("value",)), {"subject": _STARTS, "value": (before or 0) + 1}
    )
    return before is None
