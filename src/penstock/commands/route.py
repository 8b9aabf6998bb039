"""``penstock route explain``: who would be asked for a model, and why; or who was asked for a request."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from penstock.commands.installation import (
    HERE,
    CommandError,
    Installation,
    answer,
    answer_json,
    open_installation,
    table,
)
from penstock.commands.options import At
from penstock.core.amounts import amount
from penstock.core.body.envelope import read_body
from penstock.core.catalog import Model
from penstock.core.endpoints import ENDPOINTS, Endpoint
from penstock.core.routing.board import Board
from penstock.core.routing.choice import NOTHING, Need, fitted
from penstock.core.routing.explanation import Explanation, LegExplained, explained
from penstock.core.routing.health import Health
from penstock.core.routing.snapshot import lay
from penstock.core.routing.switches import Reach, named
from penstock.domain.accounts import accounts
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.catalog_store import CatalogSource
from penstock.domain.ledger import attempts
from penstock.domain.ledger.attempts import TrailOfRequest
from penstock.operations.first_start import Store
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.upstreams import VIEWS, worker_views
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import environment

app = App(name="route", help="Explain who would be asked for a model, and who was.")

_ESTIMATE = 1.1
"""How many tokens a prompt is taken for, by its estimate; as the router does."""


class _Explained(msgspec.Struct):
    model: str
    dialect: str
    workers: int
    prompt: int
    asked: int
    features: list[str]
    legs: tuple[LegExplained, ...]
    switched: list[str]
    reasons: dict[str, float]
    first: str
    after: dict[str, str]


@app.command(name="explain")
def explain_route(
    request_id: str = "",
    /,
    *,
    model: str = "",
    user: Annotated[str, Parameter(name="--as")] = "",
    body: Path | None = None,
    dialect: str = "chat",
    without: tuple[str, ...] = (),
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Say who would be asked for a model now, with what odds, and who after each kind of failure; or who was asked.

    The rule of choice is the server's own, over what its busiest worker on this machine knows. With a request's id its
    attempts are told, with the providers' own words; there are none where the first was answered.

    Example: penstock route explain --model claude-sonnet-4.6 --without anthropic/a

    Parameters
    ----------
    request_id
        The id of a request that was made, in place of a model.
    model
        The model as a caller writes it.
    user
        For this account: its plan decides what the name means.
    body
        A file with the request's JSON; without it a small request is meant.
    dialect
        The endpoint that is called: chat, messages, responses or embeddings.
    without
        As if this upstream were not there: PROVIDER[/CREDENTIAL][:MODEL]; more than one may be given.
    json
        Print one JSON object.
    """
    if bool(request_id) == bool(model):
        raise CommandError("name a model with --model, or give a request's id")
    if request_id:
        _show_made(asyncio.run(_made(place, request_id)), json=json)
        return
    try:
        left_out = [named(text) for text in without]
        given = None if body is None else body.read_bytes()
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None
    _show(asyncio.run(_explain(place, model, user, given, dialect, left_out)), json=json)


async def _explain(
    place: Installation, name: str, email: str, body: bytes | None, dialect: str, without: list[Reach]
) -> _Explained:
    endpoint = next((each for each in ENDPOINTS if each.name == dialect), None)
    if endpoint is None:
        known = ", ".join(dict.fromkeys(each.name for each in ENDPOINTS))
        raise CommandError(f"there is no endpoint {dialect!r}; there are {known}")
    async with open_installation(place) as store:
        secrets = Secrets(environment())
        kept = KeptKeys(store.secrets_file, secrets)
        source = CatalogSource(store.database, KINDS, secrets.has, opened=kept.open)
        await source.refresh()
        catalog = source.current
        model = await _model(store, catalog, name, email)
        workers = worker_views(store.settings.data / VIEWS)
    envelope = None if body is None else read_body(body, endpoint.caller.body)
    group = catalog.upstreams.group(model, endpoint.name, endpoint.upstreams)
    board = Board(group, Health())
    now = time.monotonic()
    if workers:
        busiest = max(workers, key=lambda worker: sum(leg.asked for leg in worker.snapshot.legs))
        lay(busiest.snapshot, board)
        now = busiest.snapshot.now
    need = NOTHING
    if envelope is not None:
        asked = envelope.max_tokens or 0
        need = Need(envelope.features(), int(envelope.estimate_input() * _ESTIMATE), asked)
    everybody = [entry[0] for _, entries_ in board.tiers for entry in entries_]
    left_out = [each for each in everybody if any(reach.means(each.key) for reach in without)]
    found = (
        explained(board, fitted(board, need) or need, now, left_out)
        if group.size
        else Explanation((), {}, "", {})
    )
    return _Explained(
        model=model.id,
        dialect=endpoint.name,
        workers=len(workers),
        prompt=need.prompt,
        asked=need.asked,
        features=sorted(need.features),
        legs=found.legs,
        switched=_switched(catalog, model, endpoint),
        reasons=found.reasons,
        first=found.first,
        after=found.after,
    )


async def _model(store: Store, catalog: Catalog, name: str, email: str) -> Model:
    """What the name means: for an account, or for the first plan that has it."""
    plans = list(catalog.plans)
    if email:
        async with store.database.connect() as conn:
            plans = [(await accounts.user_by_email(conn, email)).plan_id]
    members = [plan for plan in plans if any(model.id == name for model in catalog.offered(plan))] or plans
    resolution = catalog.resolve(name, members[0])
    if not resolution.model.auto:
        return resolution.model
    # the first that is served; which one a request gets depends on what is in it
    return resolution.candidates[0]


def _switched(catalog: Catalog, model: Model, endpoint: Endpoint) -> list[str]:
    """What the operator keeps out of use, of those that serve the model."""
    if not catalog.switches:
        return []
    providers = {target.provider for target in model.targets}
    return [
        f"{switch.reach}: {switch.state}{f' ({switch.why})' if switch.why else ''}"
        for switch in catalog.switches
        if switch.reach.provider in providers and endpoint.upstreams
    ]


def _show(found: _Explained, *, json: bool) -> None:
    if json:
        answer_json(found)
        return
    asked = found.asked or "any number of"
    answer(
        f"{found.model}, called as {found.dialect}: about {amount(found.prompt, 'token')}, {asked} asked for"
    )
    rows = [
        (
            str(leg.tier),
            f"{leg.provider}{'/' if leg.credential else ''}{leg.credential}:{leg.model}",
            leg.dialect,
            f"{leg.weight:g}",
            f"{leg.odds:.0%}",
            leg.kept_out,
        )
        for leg in found.legs
    ]
    answer(table(("TIER", "UPSTREAM", "FORMAT", "WEIGHT", "ODDS", "KEPT OUT"), rows))
    for line in found.switched:
        answer(f"The operator has said: {line}")
    reasons = ", ".join(f"{reason} {share:.0%}" for reason, share in found.reasons.items())
    answer(f"First: {found.first or 'nobody'} ({reasons or 'there is nobody'})")
    following: dict[str, list[str]] = {}
    for failure, name in found.after.items():
        following.setdefault(name, []).append(failure)
    answer(
        table(
            ("THEN", "AFTER"),
            [(name or "nobody else", ", ".join(kinds)) for name, kinds in following.items()],
        )
    )
    if not found.workers:
        answer("No server runs on this machine with this data directory: all are taken to be healthy.")


async def _made(place: Installation, request_id: str) -> TrailOfRequest:
    async with open_installation(place) as store, store.database.connect() as conn:
        found = await attempts.trail(conn, request_id)
    if found is None:
        raise CommandError(f"there is no request {request_id!r}")
    return found


def _show_made(found: TrailOfRequest, *, json: bool) -> None:
    if json:
        answer_json(found)
        return
    credential = f"/{found.credential}" if found.credential else ""
    answer(
        f"{found.id}: {found.model}, {found.outcome or 'running'} by {found.provider}{credential} "
        f"after {amount(found.attempts, 'attempt')}"
    )
    rows = [
        (
            str(each.number),
            f"{each.provider}{'/' if each.credential else ''}{each.credential}:{each.upstream_model}",
            each.reason,
            f"{each.started_ms} ms",
            f"{each.lasted_ms} ms",
            each.failure or "answered",
            f"{each.status or '-'} {each.message or ''} {each.upstream_request_id or ''}".rstrip(),
        )
        for each in found.made
    ]
    if rows:
        answer(table(("#", "UPSTREAM", "WHY", "AFTER", "TOOK", "CAME TO", "IN ITS WORDS"), rows))
