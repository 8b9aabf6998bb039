"""Switches of upstreams by staff and commands: drained, disabled, enabled, and what is known against them forgotten.

Each is an entry of the trail, with the state before and after; the opposite is its undoing.
"""

from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Model, Upstream
from penstock.core.routing.switches import Reach, Switch
from penstock.domain.catalog import upstream_state
from penstock.domain.catalog.catalog_store import load_document
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.domain.staff.catalog_changes import Kinds
from penstock.domain.trail import entries
from penstock.domain.trail.entries import Actor, FieldValue, Subject, TrailAction
from penstock.errors import CallerError
from penstock.store.secrets_file import Entropy

IN_WORDS: Final = {"on": "in use", "drain": "drained", "off": "disabled"}


class NoSuchUpstream(CallerError):
    """Nothing of the catalogue is meant."""

    status = 404
    code = "no_such_upstream"


def is_there(document: CatalogDocument, reach: Reach) -> bool:
    """Whether a provider, a credential of it or a model that it serves is meant."""
    row = next((row for row in document.providers if row.id == reach.provider), None)
    if row is None or (reach.credential and reach.credential not in {it.id for it in row.credentials}):
        return False
    return not reach.model or any(_serves(model, row, reach.model) for model in document.models)


def _serves(model: Model, row: Upstream, name: str) -> bool:
    return any((target.provider, target.model) == (row.id, name) for target in model.targets)


async def switch_upstream(
    conn: AsyncConnection, switch: Switch, kinds: Kinds, actor: Actor, *, now: int, entropy: Entropy
) -> Switch:
    """Say it of some upstreams; every server follows within seconds. Raises ``NoSuchUpstream``."""
    return await _say(conn, switch, "upstream_switched", kinds, actor, now=now, entropy=entropy)


async def _say(
    conn: AsyncConnection,
    switch: Switch,
    action: TrailAction,
    kinds: Kinds,
    actor: Actor,
    *,
    now: int,
    entropy: Entropy,
) -> Switch:
    if not is_there(await load_document(conn, kinds), switch.reach):
        raise NoSuchUpstream(f"no model of the catalogue is served by {switch.reach}; see penstock upstreams")
    said = {each.reach: each for each in await upstream_state.all_said(conn)}
    switch = msgspec.structs.replace(switch, changed_at=now)
    await upstream_state.say(conn, switch)
    await entries.write(
        conn,
        actor,
        action,
        Subject("upstream", str(switch.reach), str(switch.reach)),
        before=_fields(said.get(switch.reach)),
        after=_fields(switch),
        reason=switch.why if action == "upstream_switched" else "",
        now=now,
        entropy=entropy,
    )
    return switch


async def forget_health(
    conn: AsyncConnection, reach: Reach, kinds: Kinds, actor: Actor, *, now: int, entropy: Entropy
) -> Switch:
    """Have what is known against it forgotten on every server; what was said of it stays. Raises ``NoSuchUpstream``."""
    said = {each.reach: each for each in await upstream_state.all_said(conn)}.get(reach)
    switch = msgspec.structs.replace(said or Switch(reach, "on"), reset_at=now)
    return await _say(conn, switch, "upstream_reset", kinds, actor, now=now, entropy=entropy)


def _fields(switch: Switch | None) -> dict[str, FieldValue]:
    if switch is None:
        return {"state": "on"}
    return {"state": switch.state, "until": switch.until, "reset_at": switch.reset_at}
