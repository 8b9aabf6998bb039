"""``penstock catalog``: shows, compares, changes and exports providers, models and plans."""

import asyncio
import difflib
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
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.domain.staff import catalog_changes
from penstock.domain.staff.catalog_changes import Effect
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


Manager = Annotated[str, Parameter(name="--as")]
"""The name of a file that manages rows of the catalogue."""


@app.command
def apply(
    file: Path,
    /,
    *,
    manager: Manager = "",
    prune: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Add and update what FILE names; running servers follow within seconds. A second time it changes nothing.

    The exit status is 0 where it was applied or there was nothing to do, 1 where it cannot be.

    Example: penstock catalog apply catalog.toml --as production --prune

    Parameters
    ----------
    file
        A TOML catalogue; - reads it from stdin.
    manager
        The name of the file: it manages these rows from then on, which pages and other files no longer change.
    prune
        Also remove what FILE does not name; with --as only what that file has managed.
    dry_run
        Only show what would change.
    json
        Print {"changes": [...]}.
    """
    document = _read(file)
    effect, changes = asyncio.run(_apply(place, document, manager, prune=prune, dry_run=dry_run))
    if json:
        answer_json(_Applied(changes))
        return
    _show_effect(effect)
    if changes and dry_run:
        answer("Nothing was changed: this was a dry run.")


@app.command
def diff(
    file: Path,
    /,
    *,
    manager: Manager = "",
    prune: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> int:
    """Show what `catalog apply` would change; the exit status is 2 where that is anything, 0 where it is nothing.

    Example: penstock catalog diff catalog.toml --as production --prune

    Parameters
    ----------
    file
        A TOML catalogue; - reads it from stdin.
    manager
        The name of the file, as for `catalog apply`.
    prune
        Also what would be removed by it.
    json
        Print {"changes": [...]}.
    """
    document = _read(file)
    effect, changes = asyncio.run(_apply(place, document, manager, prune=prune, dry_run=True))
    if json:
        answer_json(_Applied(changes))
    else:
        _show_effect(effect)
    return 2 if changes else 0


@app.command(name="release")
def let_go(
    *,
    manager: Annotated[str, Parameter(name="--of")],
    json: Annotated[bool, Parameter(negative="")] = False,
    place: At = HERE,
) -> None:
    """Let go of all that a file manages, so that pages and commands change it again.

    Example: penstock catalog release --of production

    Parameters
    ----------
    manager
        The name of the file, as `catalog apply --as` had it.
    json
        Print {"changes": [...]}.
    """
    changes = asyncio.run(_release(place, manager))
    if json:
        answer_json(_Applied(changes))
    else:
        answer("\n".join(str(change) for change in changes) or f"The file {manager!r} manages nothing.")


async def _release(place: Installation, manager: str) -> list[Change]:
    async with open_installation(place) as store, store.database.transaction() as conn:
        return await catalog_changes.release(
            conn, manager, cli_actor(), now=now_ms(), entropy=secrets.token_bytes
        )


def _read(file: Path) -> CatalogDocument:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {file}: {error}") from error
    return parse(text, KINDS)


async def _apply(
    place: Installation, document: CatalogDocument, manager: str, *, prune: bool, dry_run: bool
) -> tuple[Effect, list[Change]]:
    async with open_installation(place) as store, store.database.transaction() as conn:
        effect = await catalog_changes.preview(conn, document, KINDS, prune=prune, manager=manager)
        if dry_run:
            return effect, list(effect.changes)
        return effect, await catalog_changes.apply_change(
            conn,
            document,
            KINDS,
            cli_actor(),
            prune=prune,
            manager=manager,
            now=now_ms(),
            entropy=secrets.token_bytes,
        )


def _show_effect(effect: Effect) -> None:
    """Each change in a line, with the lines that go and come below it where a row is changed."""
    if not effect.changes:
        answer("Nothing changes.")
    accounts = dict(effect.accounts)
    for change in effect.changes:
        count = accounts.get(change.id) if change.kind == "plan" else None
        answer(f"{change}" + ("" if count is None else f": {count} accounts"))
        if change.action != "updated":
            continue
        name = f"{change.kind} {change.id}"
        old, new = effect.before.get(name, ""), effect.after.get(name, "")
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm="")
        for line in lines:
            if not line.startswith(("---", "+++", "@@")):
                answer(f"  {line}")


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
