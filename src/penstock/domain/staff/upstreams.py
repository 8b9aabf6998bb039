"""What staff say of upstreams, by whatever way: drained, disabled, enabled, their failures forgotten; all in the trail.

Every function takes a connection inside a transaction; ``now`` is epoch milliseconds.
"""

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.routing.switches import Reach, Switch, SwitchState
from penstock.domain.catalog import catalog_store, upstream_state
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.domain.staff.catalog_changes import Kinds
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, FieldValue, Subject, TrailAction
from penstock.errors import InvalidRequest
from penstock.store.secrets_file import Entropy


class NoSuchUpstream(InvalidRequest):
    """No model of the catalogue is served there."""

    status = 404
    code = "no_such_upstream"


async def switch_upstream(
    conn: AsyncConnection, wanted: Switch, kinds: Kinds, actor: Actor, *, now: int, entropy: Entropy
) -> Switch:
    """Say it of these upstreams, in place of what was said before; servers follow. Raises ``NoSuchUpstream``."""
    return await _say(conn, wanted, "upstream_switched", kinds, actor, now=now, entropy=entropy)


async def reset_upstream(
    conn: AsyncConnection, reach: Reach, kinds: Kinds, actor: Actor, *, now: int, entropy: Entropy
) -> Switch:
    """What is known against them is forgotten; what was said of them stays. Raises ``NoSuchUpstream``."""
    said = await _said(conn, reach) or Switch(reach, "on")
    wanted = msgspec.structs.replace(said, reset_at=now)
    return await _say(conn, wanted, "upstream_reset", kinds, actor, now=now, entropy=entropy)


async def _say(
    conn: AsyncConnection,
    wanted: Switch,
    action: TrailAction,
    kinds: Kinds,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> Switch:
    document = await catalog_store.load_document(conn, kinds)
    if not _serves(document, wanted.reach):
        raise NoSuchUpstream(f"no model of the catalogue is served by {wanted.reach}; see penstock upstreams")
    before = await _said(conn, wanted.reach)
    wanted = msgspec.structs.replace(wanted, changed_at=now)
    await upstream_state.say(conn, wanted)
    old, new = entries.difference(_shown(before or Switch(wanted.reach, "on")), _shown(wanted))
    name = str(wanted.reach)
    await entries.write(
        conn,
        actor,
        action,
        Subject("upstream", name, name),
        before=old,
        after=new,
        reason=wanted.why if action == "upstream_switched" else "",
        now=now,
        entropy=entropy,
    )
    return wanted


async def _said(conn: AsyncConnection, reach: Reach) -> Switch | None:
    return {switch.reach: switch for switch in await upstream_state.all_said(conn)}.get(reach)


def _shown(switch: Switch) -> dict[str, FieldValue]:
    state: SwitchState = switch.state
    return {"state": state, "until": switch.until, "reset_at": switch.reset_at}


def _serves(document: CatalogDocument, reach: Reach) -> bool:
    rows = {row.id: row for row in document.providers}
    return any(
        reach.means((row.id, target.model, credential))
        for model in document.models
        for target in model.targets
        if (row := rows.get(target.provider)) is not None
        for credential in ([each.id for each in row.credentials] or [""])
    )
