"""The catalogue in the database: applied idempotently, exported, and read again whenever its revision has changed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import Select, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.amounts import amount
from penstock.core.catalog import (
    AutoRule,
    Capabilities,
    Credential,
    DialectName,
    Fallback,
    Model,
    Price,
    Target,
    Upstream,
    with_profile_values,
)
from penstock.core.profile import DEFAULT_PROFILE
from penstock.core.revision import Revision
from penstock.core.routing.switches import Switch
from penstock.domain.accounts import day_mails
from penstock.domain.catalog.catalog import Catalog, Plan, has_ended
from penstock.domain.catalog.catalog_managers import (
    ChangeKind,
    ManagedElsewhere,
    is_manager,
    managed_text,
    managers,
    set_manager,
)
from penstock.domain.catalog.catalog_revision import raise_revision
from penstock.domain.catalog.reach_fields import kept, parted
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, check
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.catalog.upstream_state import all_said
from penstock.domain.revisions import CATALOG
from penstock.store.sql.database import Database
from penstock.store.sql.schema import models as models_table
from penstock.store.sql.schema import plans as plans_table
from penstock.store.sql.schema import providers as providers_table
from penstock.store.sql.schema import revisions, users


class Change(msgspec.Struct, frozen=True):
    """One thing that applying a document did. ``fields`` names what an update changed."""

    kind: ChangeKind
    id: str
    action: Literal["added", "updated", "removed", "moved", "managed", "released"]
    """``managed``: a file takes care of it from now on; ``released``: none does any more."""
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{self.action} {self.kind} {self.id}"
        return f"{what} ({', '.join(self.fields)})" if self.fields else what


class _Serving(msgspec.Struct, omit_defaults=True):
    """The ``targets`` column: where a model is served, or what it chooses from, and how."""

    targets: tuple[Target, ...] = ()
    auto: tuple[str, ...] = ()
    sticky: bool = True
    rules: tuple[AutoRule, ...] = ()
    most_usd_per_million: Price | None = None
    fallback: tuple[Fallback, ...] = ()
    sunset: str = ""
    successor: str = ""


class _ProviderChoice(msgspec.Struct, omit_defaults=True):
    """The ``choice`` column of a provider: what of it makes a difference to whether it is chosen."""

    tags: tuple[str, ...] = ()
    in_flight: int | None = None


class _PlanChoice(msgspec.Struct, omit_defaults=True):
    """The same of a plan."""

    weight: int = 1
    requires: tuple[str, ...] = ()


CatalogRow = Upstream | Model | Plan
_Row = TypeVar("_Row", Upstream, Model, Plan)

_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_serving = msgspec.json.Decoder(_Serving).decode
_decode_provider_choice = msgspec.json.Decoder(_ProviderChoice).decode
_decode_plan_choice = msgspec.json.Decoder(_PlanChoice).decode
_decode_capabilities = msgspec.json.Decoder(Capabilities).decode
_decode_habits = msgspec.json.Decoder(dict[str, object]).decode
_decode_credentials = msgspec.json.Decoder(tuple[Credential, ...]).decode
_decode_speaks = msgspec.json.Decoder(dict[DialectName, str]).decode


def default_catalog() -> str:
    """The catalogue of a new installation, as TOML."""
    return files("penstock.domain.catalog").joinpath("default_catalog.toml").read_text("utf-8")


# ---- reading


async def load_document(conn: AsyncConnection, kinds: Mapping[str, Upstream]) -> CatalogDocument:
    """The whole catalogue, in its order; ``kinds`` (the provider table) gives each provider its profile."""
    providers: list[Upstream] = []
    for row in await conn.execute(_in_order(providers_table)):
        known, choice = kinds.get(row.kind), _decode_provider_choice(row.choice or "{}")
        habits, reach, sign_in = parted(_decode_habits(row.profile))
        upstream = Upstream(
            id=row.id,
            kind=row.kind,
            speaks=tuple(_decode_speaks(row.speaks).items()),
            auth=row.auth,
            secret=row.secret,
            profile=DEFAULT_PROFILE if known is None else known.profile,
            model_profiles=() if known is None else known.model_profiles,
            reach=reach,
            sign_in=sign_in,
            credentials=() if row.credentials is None else _decode_credentials(row.credentials),
            tags=choice.tags,
            in_flight=choice.in_flight,
        )
        providers.append(with_profile_values(upstream, habits))
    models: list[Model] = []
    for row in await conn.execute(_in_order(models_table)):
        serving = _decode_serving(row.targets)
        models.append(
            Model(
                id=row.id,
                name=row.name,
                aliases=_decode_names(row.aliases),
                targets=serving.targets,
                auto=serving.auto,
                sticky=serving.sticky,
                rules=serving.rules,
                most_usd_per_million=serving.most_usd_per_million,
                fallback=serving.fallback,
                sunset=serving.sunset,
                successor=serving.successor,
                max_output_tokens=row.max_output_tokens,
                context_tokens=row.context_tokens,
                capabilities=_decode_capabilities(row.capabilities),
                created_at=row.created_at,
                kind=row.kind,
            )
        )
    plans: list[Plan] = []
    for row in await conn.execute(_in_order(plans_table)):
        share = _decode_plan_choice(row.choice or "{}")
        plans.append(
            Plan(
                id=row.id,
                name=row.name,
                daily_requests=row.daily_requests,
                concurrent_requests=row.concurrent_requests,
                models=_decode_names(row.models),
                queue_seconds=row.queue_seconds,
                weight=share.weight,
                requires=share.requires,
            )
        )
    return CatalogDocument(tuple(providers), tuple(models), tuple(plans))


def _in_order(table: Table) -> Select[*tuple[Any, ...]]:
    return select(table).order_by(table.c.position, table.c.id)


async def revision(conn: AsyncConnection) -> int:
    """The counter that every change of the catalogue raises; 0 before the first."""
    value = await conn.scalar(select(revisions.c.value).where(revisions.c.subject == CATALOG))
    return int(value or 0)


async def export_document(conn: AsyncConnection, kinds: Mapping[str, Upstream]) -> str:
    """The whole catalogue as TOML; applied to an empty database it gives the same catalogue."""
    return dump(await load_document(conn, kinds))


# ---- changing


async def apply_document(
    conn: AsyncConnection,
    document: CatalogDocument,
    kinds: Mapping[str, Upstream],
    now_ms: int,
    *,
    prune: bool = False,
    manager: str = "",
) -> list[Change]:
    """Add and update what ``document`` names, in its order; with ``prune`` also remove all that it does not name.

    ``manager`` is the name of the file, which manages the rows of the document from then on, and prunes its own alone.
    The revision is raised in the same transaction, if anything changed. A second call with the same document changes
    nothing. Raises ``CatalogError`` when a name refers to nothing, or a plan that users have would be removed, and
    ``ManagedElsewhere``.
    """
    before = await load_document(conn, kinds)
    after, changes = await plan_changes(conn, before, document, prune=prune, manager=manager)
    if not changes:
        return []
    await _keep_used_plans(
        conn, [change.id for change in changes if (change.kind, change.action) == ("plan", "removed")]
    )
    await _write(conn, providers_table, before.providers, after.providers, _provider_values)
    await _write(
        conn, models_table, before.models, after.models, lambda row, at: _model_values(row, at, now_ms)
    )
    await _write(conn, plans_table, before.plans, after.plans, _plan_values)
    daily = {plan.id: plan.daily_requests for plan in before.plans}
    raised = [
        plan.id for plan in after.plans if plan.daily_requests > daily.get(plan.id, plan.daily_requests)
    ]
    if raised:
        await day_mails.limit_raised(conn, users.c.plan_id.in_(raised))
    for change in changes:
        if change.action == "managed":
            await set_manager(conn, change.kind, change.id, manager)
    await raise_revision(conn)
    return changes


async def plan_changes(
    conn: AsyncConnection,
    before: CatalogDocument,
    document: CatalogDocument,
    *,
    prune: bool,
    manager: str = "",
) -> tuple[CatalogDocument, list[Change]]:
    """The catalogue after ``document``, and what leads to it from ``before``. Raises ``CatalogError``."""
    held = await managers(conn)
    if manager and not is_manager(manager):
        raise CatalogError([f"{manager!r}: the name of a file has 1 to 64 letters, digits and ._-"])
    if manager:
        after = merge(
            _without_own(before, document, held, manager) if prune else before, document, prune=False
        )
    else:
        after = merge(before, document, prune=prune)
    check(document, after)
    changes = difference(before, after)
    strange = [
        (change, name)
        for change in changes
        if change.action != "moved" and (name := held.get((change.kind, change.id), manager)) != manager
    ]
    if strange:
        raise ManagedElsewhere([managed_text(change.kind, change.id, name) for change, name in strange])
    if manager:
        named: list[tuple[ChangeKind, str]] = [
            (kind, row.id) for kind, rows in _by_kind(document) for row in rows
        ]
        others = [(*key, name) for key in named if (name := held.get(key, manager)) != manager]
        if others:
            raise ManagedElsewhere([managed_text(*other) for other in others])
        changes += [Change(kind, id, "managed") for kind, id in named if (kind, id) not in held]
    return after, changes


def _by_kind(document: CatalogDocument) -> tuple[tuple[ChangeKind, Sequence[CatalogRow]], ...]:
    return ("provider", document.providers), ("model", document.models), ("plan", document.plans)


def _without_own(
    before: CatalogDocument,
    document: CatalogDocument,
    held: Mapping[tuple[ChangeKind, str], str],
    manager: str,
) -> CatalogDocument:
    """The catalogue without what the file managed and does not name any more."""
    named = {(kind, row.id) for kind, rows in _by_kind(document) for row in rows}
    gone = {key for key, name in held.items() if name == manager and key not in named}
    return CatalogDocument(
        tuple(row for row in before.providers if ("provider", row.id) not in gone),
        tuple(row for row in before.models if ("model", row.id) not in gone),
        tuple(row for row in before.plans if ("plan", row.id) not in gone),
    )


async def release_rows(conn: AsyncConnection, manager: str) -> list[Change]:
    """Let go of all that a file manages: from then on it is changed by pages and commands."""
    released = [
        Change(kind, id, "released") for (kind, id), name in (await managers(conn)).items() if name == manager
    ]
    for change in released:
        await set_manager(conn, change.kind, change.id, None)
    if released:
        await raise_revision(conn)
    return released


async def offer_local(
    conn: AsyncConnection, found: Mapping[str, Sequence[str]], kinds: Mapping[str, Upstream], now_ms: int
) -> list[Change]:
    """Add the models of servers found on this machine (provider id -> their names), as ``ollama/NAME``, to every plan.

    Every plan, since they cost nothing by the request and the plans' own limits hold for them; an operator who wants it
    otherwise edits the plans, and what is in the catalogue already is left as it is.
    """
    before = await load_document(conn, kinds)
    known = {model.id for model in before.models}
    models = tuple(
        Model(id=public, name=f"{name} ({provider})", targets=(Target(provider, name),))
        for provider, names in found.items()
        for name in names
        if (public := f"{provider}/{name}") not in known and len(public) <= 128
    )
    if not models:
        return []
    new = tuple(model.id for model in models)
    there = {row.id for row in before.providers}
    held = await managers(conn)
    document = CatalogDocument(
        providers=tuple(kinds[provider] for provider in found if provider not in there),
        models=models,
        plans=tuple(
            msgspec.structs.replace(plan, models=plan.models + new)
            for plan in before.plans
            if ("plan", plan.id) not in held
        ),
    )
    return await apply_document(conn, document, kinds, now_ms)


def merge(before: CatalogDocument, document: CatalogDocument, *, prune: bool) -> CatalogDocument:
    """The catalogue after ``document``: its rows in place of those of the same id, in its order."""
    kept = CatalogDocument() if prune else before
    created = {model.id: model.created_at for model in before.models}
    models = tuple(
        msgspec.structs.replace(model, created_at=created.get(model.id, model.created_at))
        for model in document.models
    )
    return CatalogDocument(
        providers=_ordered(kept.providers, document.providers),
        models=_ordered(kept.models, models),
        plans=_ordered(kept.plans, document.plans),
    )


def _ordered(before: tuple[_Row, ...], named: tuple[_Row, ...]) -> tuple[_Row, ...]:
    """The rows of before, the named ones in their places in the named order; new ones stand beside their neighbours."""
    there = {row.id for row in before}
    names = {row.id for row in named}
    queue = iter([row for row in named if row.id in there])
    order = [next(queue) if row.id in names else row for row in before]
    following = next((row.id for row in named if row.id in there), None)
    at = len(order) if following is None else [row.id for row in order].index(following)
    for row in named:
        if row.id in there:
            at = [entry.id for entry in order].index(row.id)
        else:
            order.insert(at, row)
        at += 1
    return tuple(order)


def difference(before: CatalogDocument, after: CatalogDocument) -> list[Change]:
    """What leads from one catalogue to the other."""
    return [
        *_changes("provider", before.providers, after.providers),
        *_changes("model", before.models, after.models),
        *_changes("plan", before.plans, after.plans),
    ]


_FIELD_NAMES = {"habits": "profile"}
_FOLLOWING = frozenset({"profile", "model_profiles"})
"""What follows from other fields of a row."""


def _changes(kind: ChangeKind, before: Sequence[CatalogRow], after: Sequence[CatalogRow]) -> list[Change]:
    old, new = {row.id: row for row in before}, {row.id: row for row in after}
    changes: list[Change] = []
    for row in after:
        was = old.get(row.id)
        if was is None:
            changes.append(Change(kind, row.id, "added"))
            continue
        fields = tuple(
            _FIELD_NAMES.get(name, name)
            for name in row.__struct_fields__
            if name not in _FOLLOWING and getattr(was, name) != getattr(row, name)
        )
        if fields:
            changes.append(Change(kind, row.id, "updated", fields))
    changes += [Change(kind, row.id, "removed") for row in before if row.id not in new]
    was_order = [row.id for row in before if row.id in new]
    is_order = [row.id for row in after if row.id in old]
    changes += [Change(kind, b, "moved") for a, b in zip(was_order, is_order, strict=True) if a != b]
    return changes


async def _keep_used_plans(conn: AsyncConnection, removed: Sequence[str]) -> None:
    if not removed:
        return
    rows = await conn.execute(
        select(users.c.plan_id, func.count()).where(users.c.plan_id.in_(removed)).group_by(users.c.plan_id)
    )
    problems = [
        f'plan "{plan}" cannot be removed: {amount(count, "user has", "users have")} it'
        for plan, count in rows
    ]
    if problems:
        raise CatalogError(problems)


async def _write(
    conn: AsyncConnection,
    table: Table,
    before: Sequence[_Row],
    after: Sequence[_Row],
    values: Callable[[_Row, int], dict[str, str | int | None]],
) -> None:
    old = {row.id: (row, at) for at, row in enumerate(before)}
    new = {row.id for row in after}
    gone = [row.id for row in before if row.id not in new]
    if gone:
        await conn.execute(delete(table).where(table.c.id.in_(gone)))
    for at, row in enumerate(after):
        if row.id not in old:
            await conn.execute(insert(table).values(values(row, at)))
        elif old[row.id] != (row, at):
            await conn.execute(update(table).where(table.c.id == row.id).values(values(row, at)))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _provider_values(row: Upstream, position: int) -> dict[str, str | int | None]:
    return {
        "id": row.id,
        "speaks": _json(dict(row.speaks)),
        "secret": row.secret,
        "auth": row.auth,
        "kind": row.kind,
        "profile": _json({**dict(row.habits), **kept(row)}),
        "choice": _json(_ProviderChoice(row.tags, row.in_flight)),
        "position": position,
        "credentials": _json(row.credentials) if row.credentials else None,
    }


def _model_values(model: Model, position: int, now_ms: int) -> dict[str, str | int | None]:
    return {
        "id": model.id,
        "name": model.name,
        "aliases": _json(model.aliases),
        "targets": _json(
            _Serving(
                model.targets,
                model.auto,
                model.sticky,
                model.rules,
                model.most_usd_per_million,
                model.fallback,
                model.sunset,
                model.successor,
            )
        ),
        "max_output_tokens": model.max_output_tokens,
        "context_tokens": model.context_tokens,
        "capabilities": _json(model.capabilities),
        "kind": model.kind,
        "position": position,
        "created_at": model.created_at or now_ms,
    }


def _plan_values(plan: Plan, position: int) -> dict[str, str | int | None]:
    return {
        "id": plan.id,
        "name": plan.name,
        "daily_requests": plan.daily_requests,
        "concurrent_requests": plan.concurrent_requests,
        "queue_seconds": plan.queue_seconds,
        "models": _json(plan.models),
        "choice": _json(_PlanChoice(plan.weight, plan.requires)),
        "position": position,
    }


# ---- following

OpenKeys = Callable[[AsyncConnection, Sequence[Upstream]], Awaitable[bool]]
"""Opens the kept keys of these providers; False where it has to be tried again."""


class CatalogSource:
    """Holds the current ``Catalog`` of a server; ``refresh`` follows the database, at the cost of one tiny query."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Upstream],
        available: Callable[[str], bool],
        simulator_url: str | None = None,
        revision: Revision | None = None,
        *,
        now: Callable[[], float] = time.time,
        opened: OpenKeys | None = None,
    ) -> None:
        """``available`` tells whether a secret's reference leads to a secret (``Secrets.has``).

        ``simulator_url`` is where the built-in simulator listens; None leaves the address that the table has. ``revision``
        advances when ``current`` is another one. ``now`` gives epoch seconds, by which the operator's switches end. ``opened``
        has the kept keys of the catalogue that was read opened, before ``available`` is asked for them.
        """
        self._opened = opened
        self._turn = asyncio.Lock()
        self._whole = True
        self._now = now
        self._advances = revision or Revision()
        self._database = database
        self._kinds = kinds
        self._available = available
        simulator = kinds["simulator"]
        if simulator_url is not None:
            speaks = tuple((dialect, simulator_url) for dialect, _ in simulator.speaks)
            simulator = msgspec.structs.replace(simulator, speaks=speaks)
        self._simulator = simulator
        self._document = CatalogDocument()
        self._usable: frozenset[str] = frozenset()
        self.switches: tuple[Switch, ...] = ()
        """All that operators have said of upstreams."""
        self._holding: tuple[Switch, ...] = ()
        self._ended: frozenset[str] = frozenset()
        self.current = self._build(CatalogDocument(), 0)

    def get(self) -> Catalog:
        """The current catalogue, for those who are handed a function."""
        return self.current

    async def refresh(self, at: int | None = None) -> bool:
        """Read the catalogue again if its revision or what is set up has changed; True if ``current`` is a new one.

        ``at`` is the revision where it was read already. Raises ``DatabaseUnavailable``; ``current`` stays as it was then.
        """
        async with self._turn:  # what was read first is not put over what was read later
            return await self._refresh(at)

    async def _refresh(self, at: int | None) -> bool:
        document, switches = self._document, self.switches
        if at is None or at != self.current.revision or not self._whole:
            async with self._database.connect() as conn:
                at = await revision(conn)
                if at != self.current.revision or not self._whole:
                    document = await load_document(conn, self._kinds)
                    switches = await all_said(conn)
                    if self._opened is not None:
                        self._whole = await self._opened(conn, document.providers)
        usable = frozenset(
            secret for row in document.providers for secret in row.secrets if self._available(secret)
        )
        now, today = int(self._now() * 1000), self._today()
        holding = tuple(switch for switch in switches if switch.holds(now))
        ended = frozenset(model.id for model in document.models if has_ended(model, today))
        seen = (self.current.revision, self._usable, self._holding, self._ended)
        if seen == (at, usable, holding, ended):
            return False
        self._document, self._usable, self._ended = document, usable, ended
        self.switches, self._holding = switches, holding
        self.current = self._build(document, at)
        self._advances.advance()
        return True

    def _build(self, document: CatalogDocument, at: int) -> Catalog:
        return Catalog(
            providers=document.providers,
            models=document.models,
            plans=document.plans,
            available=self._usable.__contains__,
            simulator=self._simulator,
            revision=at,
            switches=self._holding,
            today=self._today(),
        )

    def _today(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%d")
