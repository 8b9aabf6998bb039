"""The catalogue's revision in the database: every change of the catalogue, or of what is said of its upstreams, raises it."""

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.revisions import CATALOG
from penstock.store.sql.schema import revisions


async def raise_revision(conn: AsyncConnection) -> None:
    """Tell every server that the catalogue has changed: part of whatever transaction changes it."""
    raised = await conn.execute(
        update(revisions).where(revisions.c.subject == CATALOG).values(value=revisions.c.value + 1)
    )
    if raised.rowcount == 0:
        await conn.execute(insert(revisions).values(subject=CATALOG, value=1))
