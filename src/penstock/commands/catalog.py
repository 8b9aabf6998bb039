"""``penstock catalog``: shows, changes and exports providers, models and plans."""

import asyncio
import secrets
import sys
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
    cli_actor,
    now_ms,
    open_installation,
    table,
    tell,
)
from penstock.commands.options import At
from penstock.core.catalog import ModelKind
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.catalog_store import CatalogSource, Change
from penstock.domain.catalog.toml_document import parse
from penstock.domain.staff import catalog_changes
from penstock.operations.control import ServerState, ask_server
from penstock.operations.first_start import Store
from penstock.operations.kept_keys import KeptKeys
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import environment

app = App(name="catalog", help="Show, change and export the catalogue: providers, models and plans.")


class _Model(msgspec.Struct):
    id: str
    served: bool
    plans: list[str]
    needs: tuple[str, ...]
    kind: ModelKind


class _Plan(msgspec.Struct):
    id: str
    daily_requests: int
    concurrent_requests: int
    models: tuple[str, ...]


class _Catalogue(msgspec.Struct):
    revision: int
    simulated: bool
    models: list[_Model]
    plans: list[_Plan]
    server: int | None = None
    """The process that was asked; None where none runs here."""


class _Applied(msgspec.Struct):
    changes: list[Change]


@app.command
def show(*, json: Annotated[bool, Parameter(negative="")] = False, place: At = HERE) -> None:
    """Show the models and plans, and what serves them: as the running server has it, else as this shell would have it.

    Example: penstock catalog show

    Parameters
    ----------
    json
        Print it as JSON.
    """
    catalog, state = asyncio.run(_current(place))
    plans = list(catalog.plans.values())
    simulated = catalog.simulated if state is None else state.simulated
    models = [
        _Model(
            id=model.id,
            served=catalog.served(model) if state is None else model.id in state.served,
            plans=[plan.id for plan in plans if model.id in plan.models],
            needs=() if catalog.served(model) and not simulated else catalog.needs(model),
            kind=model.kind,
        )
        for model in catalog.models.values()
    ]
    if json:
        limits = [
            _Plan(plan.id, plan.daily_requests, plan.concurrent_requests, plan.models) for plan in plans
        ]
        server = None if state is None else state.pid
        answer_json(_Catalogue(catalog.revision, simulated, models, limits, server))
        return
    how = "by the simulator" if simulated else "yes"
    if state is None:
        tell(
            "penstock: no server runs on this data directory; this is what one started in this shell would serve"
        )
    rows = [(m.id, m.kind, how if m.served else "no", ", ".join(m.plans), ", ".join(m.needs)) for m in models]
    answer(table(("MODEL", "KIND", "SERVED", "PLANS", "A KEY IN"), rows))
    if any(model.needs for model in models):
        answer("SERVED goes by the keys that this shell has; a server that runs has those of its own start.")
    answer("")
    limits = [(plan.id, f"{plan.daily_requests:,}", str(plan.concurrent_requests)) for plan in plans]
    answer(table(("PLAN", "REQUESTS A DAY", "AT ONCE"), limits))


async def _current(place: Installation) -> tuple[Catalog, ServerState | None]:
    """The catalogue, with the secrets of the running server where one runs here, and what that server says."""
    async with open_installation(place) as store:
        state = await ask_server(store.settings.data, "state", ServerState)
        here = Secrets(environment())

        def available(reference: str) -> bool:
            return here.has(reference) if state is None else state.secrets.get(reference, not reference)

        kept = KeptKeys(store.secrets_file, here)
        source = CatalogSource(store.database, KINDS, available, opened=kept.open)
        await source.refresh()
        return source.current, state


@app.command
def apply(
    file: Path,
    /,
    *,
    prune: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Add and update what FILE names; running servers follow within seconds.

    Example: penstock catalog apply catalog.toml

    Parameters
    ----------
    file
        A TOML catalogue; - reads it from stdin.
    prune
        Also remove what FILE does not name.
    json
        Print {"changes": [...]}.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {file}: {error}") from error
    changes = asyncio.run(_apply(place, text, prune=prune))
    if json:
        answer_json(_Applied(changes))
    else:
        answer("\n".join(str(change) for change in changes) or "Nothing changes.")


async def _apply(place: Installation, text: str, *, prune: bool) -> list[Change]:
    document = parse(text, KINDS)
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await catalog_changes.apply_change(
            conn, document, KINDS, cli_actor(), prune=prune, now=now_ms(), entropy=secrets.token_bytes
        )


@app.command
def export(*, place: At = HERE) -> None:
    """Print the whole catalogue as TOML, to be edited and applied.

    Example: penstock catalog export > catalog.toml
    """
    sys.stdout.write(asyncio.run(_export(place)))


async def _export(place: Installation) -> str:
    async with open_installation(place) as store:
        return await _exported(store)


async def _exported(store: Store) -> str:
    async with store.database.connect() as conn:
        return await catalog_store.export_document(conn, KINDS)
