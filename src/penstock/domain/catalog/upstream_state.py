"""What operators have said of upstreams, in the database: every server follows it with the catalogue's revision."""

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.routing.switches import Reach, Switch
from penstock.domain.catalog.catalog_revision import raise_revision
from penstock.domain.ledger.values import fit
from penstock.store.sql.database import upsert
from penstock.store.sql.schema import upstream_state

_KEY = ["provider", "credential", "model"]
_WHY = 200


async def all_said(conn: AsyncConnection) -> tuple[Switch, ...]:
    """All that was said."""
    rows = await conn.execute(select(upstream_state).order_by(*(upstream_state.c[name] for name in _KEY)))
    return tuple(
        Switch(
            Reach(row.provider, row.credential, row.model),
            row.state,
            row.until,
            row.why,
            row.changed_at,
            row.reset_at,
        )
        for row in rows
    )


async def say(conn: AsyncConnection, switch: Switch) -> None:
    """Say it, in place of what was said of the same upstreams before; every server is told."""
    before = {each.reach: each for each in await all_said(conn)}.get(switch.reach)
    if switch.reset_at is None and before is not None:
        switch = msgspec.structs.replace(switch, reset_at=before.reset_at)
    values = {
        "provider": switch.reach.provider,
        "credential": switch.reach.credential,
        "model": switch.reach.model,
        "state": switch.state,
        "until": switch.until,
        "why": fit(switch.why, _WHY),
        "changed_at": switch.changed_at,
        "reset_at": switch.reset_at,
    }
    others = [name for name in values if name not in _KEY]
    await conn.execute(upsert(conn, upstream_state, _KEY, others), values)
    await raise_revision(conn)
