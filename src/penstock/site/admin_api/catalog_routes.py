"""Plans, models, providers and their upstreams, for programs; and the whole catalogue as a document of theirs."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.catalog import Model, Upstream
from penstock.core.routing.switches import Reach, Switch, SwitchState, named
from penstock.domain.catalog import catalog_managers, catalog_store, upstream_state
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.catalog_managers import ChangeKind
from penstock.domain.catalog.catalog_store import Change
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.staff import catalog_changes, search, upstream_switches
from penstock.domain.staff.catalog_changes import Effect
from penstock.domain.staff.upstream_switches import NoSuchUpstream
from penstock.operations.upstream_report import LegReport, report
from penstock.operations.upstream_test import Tested
from penstock.operations.upstreams import VIEWS, worker_views
from penstock.site.admin.context import AdminContext
from penstock.site.admin_api.dispatch import (
    AdminCall,
    Bound,
    BoundApart,
    BoundOperation,
    Listed,
    Nothing,
    NotThere,
)

Name = Annotated[str, Meta(max_length=128)]
Whole = Annotated[int, Meta(ge=0, le=1 << 53)]


class PlanShown(msgspec.Struct, frozen=True):
    """A plan, with how many accounts have it. ``managed_by`` is the file that manages it."""

    id: str
    name: str
    daily_requests: int
    concurrent_requests: int
    queue_seconds: int
    weight: int
    requires: tuple[str, ...]
    models: tuple[str, ...]
    accounts: int
    managed_by: str | None


class PlanPut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a plan but its id."""

    daily_requests: Whole
    concurrent_requests: Whole
    models: tuple[Name, ...]
    name: Annotated[str, Meta(max_length=100)] = ""
    queue_seconds: Whole = 0
    weight: Whole = 1
    requires: tuple[Name, ...] = ()
    reason: Annotated[str, Meta(max_length=500)] = ""


class ModelShown(msgspec.Struct, frozen=True):
    """A model: whether anything serves it, else which variables would; ``targets`` as PROVIDER:MODEL."""

    id: str
    name: str
    kind: str
    aliases: tuple[str, ...]
    targets: tuple[str, ...]
    auto: tuple[str, ...]
    context_tokens: int | None
    max_output_tokens: int | None
    plans: tuple[str, ...]
    served: bool
    needs: tuple[str, ...]
    managed_by: str | None


class ModelsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``served``: only what something serves, or only what nothing does."""

    served: bool | None = None


class ModelPatterns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shell patterns over ids, or over PROVIDER/MODEL of all that serves a model."""

    patterns: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=100)]


class CredentialShown(msgspec.Struct, frozen=True):
    """One credential of a provider: where its secret is looked for, and why it is not found."""

    id: str
    secret: str
    problem: str | None


class ProviderShown(msgspec.Struct, frozen=True):
    """A provider. Secrets are references; what is sent in headers and bodies is in ``GET /catalog`` alone."""

    id: str
    kind: str
    speaks: dict[str, str]
    auth: str
    credentials: list[CredentialShown]
    tags: tuple[str, ...]
    in_flight: int | None
    models: list[str]
    managed_by: str | None


class ProviderState(ProviderShown, frozen=True):
    """The same, with what is known of all that it serves."""

    upstreams: list[LegReport] = []


class SwitchWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which credential or model of the provider it is said ('': all), for how many seconds (null: for good), and why."""

    credential: Name = ""
    model: Annotated[str, Meta(max_length=256)] = ""
    seconds: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    why: Annotated[str, Meta(max_length=200)] = ""


class UpstreamSaid(msgspec.Struct, frozen=True):
    """What was said of which upstreams. Times are epoch milliseconds."""

    upstream: str
    state: SwitchState
    until: int | None
    why: str
    reset_at: int | None


class CatalogText(msgspec.Struct, frozen=True):
    """The whole catalogue as TOML, its revision, and which file manages which rows."""

    toml: str
    revision: int
    managed: dict[str, str]


class CatalogWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document in TOML. ``manager`` is the file that it is; ``prune`` removes what it does not name, of a file its own."""

    toml: str
    manager: Annotated[str, Meta(max_length=64)] = ""
    prune: bool = False
    reason: Annotated[str, Meta(max_length=500)] = ""


class ManagerNamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that is to let go."""

    manager: Annotated[str, Meta(max_length=64)]


class CatalogChanged(msgspec.Struct, frozen=True):
    """What was changed."""

    changes: list[Change]


class CatalogRoutes:
    """What is done with the catalogue and its upstreams."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._site = context.site
        self._kinds = context.operation.kinds

    def operations(self) -> Mapping[str, BoundOperation]:
        """Every operation by its name in the table."""
        return {
            "plan_list": Bound(self.plans, Listed[PlanShown], Nothing, Nothing),
            "plan_show": Bound(self.plan, PlanShown, Nothing, Nothing),
            "plan_put": Bound(self.put_plan, CatalogChanged, Nothing, PlanPut),
            "model_list": Bound(self.models, Listed[ModelShown], ModelsQuery, Nothing),
            "model_show": Bound(self.model, ModelShown, Nothing, Nothing),
            "model_remove": Bound(self.remove_models, CatalogChanged, Nothing, ModelPatterns),
            "catalog_export": Bound(self.export, CatalogText, Nothing, Nothing),
            "catalog_diff": Bound(self.diff, Effect, Nothing, CatalogWanted),
            "catalog_apply": Bound(self.apply, CatalogChanged, Nothing, CatalogWanted),
            "catalog_release": Bound(self.release, CatalogChanged, Nothing, ManagerNamed),
            "provider_list": Bound(self.providers, Listed[ProviderShown], Nothing, Nothing),
            "provider_show": Bound(self.provider, ProviderState, Nothing, Nothing),
            "upstream_list": Bound(self.upstreams, Listed[LegReport], Nothing, Nothing),
            "upstream_drain": Bound(self.drain, UpstreamSaid, Nothing, SwitchWanted),
            "upstream_disable": Bound(self.disable, UpstreamSaid, Nothing, SwitchWanted),
            "upstream_enable": Bound(self.enable, UpstreamSaid, Nothing, SwitchWanted),
            "upstream_reset": Bound(self.reset, UpstreamSaid, Nothing, SwitchWanted),
            "upstream_test": BoundApart(self.test, Listed[Tested], Nothing, SwitchWanted),
        }

    # ---- plans

    async def plans(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[PlanShown]:
        """Plans, in the catalogue's order."""
        return Listed(await self._plans(conn))

    async def plan(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> PlanShown:
        """One plan."""
        return _of_id(await self._plans(conn), call.path["id"], "plan")

    async def _plans(self, conn: AsyncConnection) -> list[PlanShown]:
        document = await catalog_store.load_document(conn, self._kinds)
        counts, held = await search.plan_counts(conn), await catalog_managers.managers(conn)
        return [
            PlanShown(
                it.id,
                it.name,
                it.daily_requests,
                it.concurrent_requests,
                it.queue_seconds,
                it.weight,
                it.requires,
                it.models,
                counts.get(it.id, 0),
                held.get(("plan", it.id)),
            )
            for it in document.plans
        ]

    async def put_plan(self, call: AdminCall[Nothing, PlanPut], conn: AsyncConnection) -> CatalogChanged:
        """Make a plan, or change it."""
        wanted, id = call.body, call.path["id"]
        plan = Plan(
            id=id,
            name=wanted.name or id,
            daily_requests=wanted.daily_requests,
            concurrent_requests=wanted.concurrent_requests,
            models=wanted.models,
            queue_seconds=wanted.queue_seconds,
            weight=wanted.weight,
            requires=wanted.requires,
        )
        # By way of the text that a file would have, which is where every bound of a plan is looked at.
        document = parse(dump(CatalogDocument(plans=(plan,))), self._kinds)
        return await self._apply(call, conn, document, reason=wanted.reason)

    # ---- models

    async def models(
        self, call: AdminCall[ModelsQuery, Nothing], conn: AsyncConnection
    ) -> Listed[ModelShown]:
        """Models, in the catalogue's order."""
        wanted = call.query.served
        return Listed([it for it in await self._models(conn) if wanted is None or it.served == wanted])

    async def model(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> ModelShown:
        """One model."""
        return _of_id(await self._models(conn), call.path["id"], "model")

    async def _models(self, conn: AsyncConnection) -> list[ModelShown]:
        document, held = (
            await catalog_store.load_document(conn, self._kinds),
            await catalog_managers.managers(conn),
        )
        return [self._model(it, document, held.get(("model", it.id))) for it in document.models]

    def _model(self, model: Model, document: CatalogDocument, manager: str | None) -> ModelShown:
        catalog = self._site.catalog()
        return ModelShown(
            model.id,
            model.name,
            model.kind,
            model.aliases,
            tuple(f"{target.provider}:{target.model}" for target in model.targets),
            model.auto,
            model.context_tokens,
            model.max_output_tokens,
            tuple(plan.id for plan in document.plans if model.id in plan.models),
            model.id in catalog.models and catalog.served(model),
            catalog.needs(model),
            manager,
        )

    async def remove_models(
        self, call: AdminCall[Nothing, ModelPatterns], conn: AsyncConnection
    ) -> CatalogChanged:
        """Take models out of the catalogue and of every plan."""
        return CatalogChanged(
            await catalog_changes.withdraw(
                conn,
                call.body.patterns,
                self._kinds,
                call.actor,
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        )

    # ---- the whole of it

    async def export(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> CatalogText:
        """The whole catalogue as TOML."""
        held = await catalog_managers.managers(conn)
        return CatalogText(
            await catalog_store.export_document(conn, self._kinds),
            await catalog_store.revision(conn),
            {f"{kind} {id}": name for (kind, id), name in held.items()},
        )

    async def diff(self, call: AdminCall[Nothing, CatalogWanted], conn: AsyncConnection) -> Effect:
        """What applying the document would change."""
        wanted = call.body
        document = parse(wanted.toml, self._kinds)
        return await catalog_changes.preview(
            conn, document, self._kinds, prune=wanted.prune, manager=wanted.manager
        )

    async def apply(self, call: AdminCall[Nothing, CatalogWanted], conn: AsyncConnection) -> CatalogChanged:
        """Apply the document."""
        wanted = call.body
        document = parse(wanted.toml, self._kinds)
        return await self._apply(
            call, conn, document, prune=wanted.prune, manager=wanted.manager, reason=wanted.reason
        )

    async def _apply(
        self,
        call: AdminCall[Nothing, Any],
        conn: AsyncConnection,
        document: CatalogDocument,
        *,
        prune: bool = False,
        manager: str = "",
        reason: str = "",
    ) -> CatalogChanged:
        return CatalogChanged(
            await catalog_changes.apply_change(
                conn,
                document,
                self._kinds,
                call.actor,
                prune=prune,
                manager=manager,
                reason=reason,
                now=self._site.now(),
                entropy=self._site.entropy,
            )
        )

    async def release(self, call: AdminCall[Nothing, ManagerNamed], conn: AsyncConnection) -> CatalogChanged:
        """Let go of what a file manages."""
        done = await catalog_changes.release(
            conn, call.body.manager, call.actor, now=self._site.now(), entropy=self._site.entropy
        )
        return CatalogChanged(done)

    # ---- providers

    async def providers(
        self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection
    ) -> Listed[ProviderShown]:
        """Providers, in the catalogue's order."""
        document, held = (
            await catalog_store.load_document(conn, self._kinds),
            await catalog_managers.managers(conn),
        )
        return Listed([self._provider(row, document, held) for row in document.providers])

    async def provider(self, call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> ProviderState:
        """One provider, with what is known of all that it serves."""
        document, held = (
            await catalog_store.load_document(conn, self._kinds),
            await catalog_managers.managers(conn),
        )
        row = _of_id(document.providers, call.path["id"], "provider")
        legs = await self._legs(conn, document)
        shown = self._provider(row, document, held)
        return ProviderState(
            **msgspec.structs.asdict(shown), upstreams=[leg for leg in legs if leg.provider == row.id]
        )

    def _provider(
        self, row: Upstream, document: CatalogDocument, held: Mapping[tuple[ChangeKind, str], str]
    ) -> ProviderShown:
        problem = self._context.operation.secret_problem
        pool = [(each.id, each.secret) for each in row.credentials] or [("", row.secret)]
        return ProviderShown(
            row.id,
            row.kind,
            {str(dialect): url for dialect, url in row.speaks},
            row.auth,
            [CredentialShown(id, secret, problem(secret) if secret else None) for id, secret in pool],
            row.tags,
            row.in_flight,
            [model.id for model in document.models if any(it.provider == row.id for it in model.targets)],
            held.get(("provider", row.id)),
        )

    async def upstreams(self, _call: AdminCall[Nothing, Nothing], conn: AsyncConnection) -> Listed[LegReport]:
        """Every upstream of the catalogue."""
        document = await catalog_store.load_document(conn, self._kinds)
        return Listed(list(await self._legs(conn, document)))

    async def _legs(self, conn: AsyncConnection, document: CatalogDocument) -> tuple[LegReport, ...]:
        switches = await upstream_state.all_said(conn)
        workers = worker_views(self._context.operation.settings.data / VIEWS)
        return report(document.providers, document.models, switches, workers, self._site.now())

    async def drain(self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection) -> UpstreamSaid:
        """Send no new requests there."""
        return await self._switch(call, conn, "drain")

    async def disable(self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection) -> UpstreamSaid:
        """Take it out of use."""
        return await self._switch(call, conn, "off")

    async def enable(self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection) -> UpstreamSaid:
        """Put it back into use."""
        return await self._switch(call, conn, "on")

    async def _switch(
        self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection, state: SwitchState
    ) -> UpstreamSaid:
        seconds = None if state == "on" else call.body.seconds
        until = None if seconds is None else self._site.now() + 1000 * seconds
        said = await upstream_switches.switch_upstream(
            conn,
            Switch(_reach(call), state, until, call.body.why),
            self._kinds,
            call.actor,
            now=self._site.now(),
            entropy=self._site.entropy,
        )
        return _said(said)

    async def reset(self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection) -> UpstreamSaid:
        """Forget what is known against it."""
        return _said(await self._reset(call, conn, _reach(call)))

    async def _reset(
        self, call: AdminCall[Nothing, SwitchWanted], conn: AsyncConnection, reach: Reach
    ) -> Switch:
        return await upstream_switches.forget_health(
            conn, reach, self._kinds, call.actor, now=self._site.now(), entropy=self._site.entropy
        )

    async def test(self, call: AdminCall[Nothing, SwitchWanted]) -> Listed[Tested]:
        """Send one small real request with each credential and model that is meant; what answers is asked again at once."""
        async with self._site.database.connect() as reading:
            document = await catalog_store.load_document(reading, self._kinds)
        reach = _reach(call)
        tests = await self._context.operation.try_upstreams(document, reach)
        if not tests:
            raise NoSuchUpstream(f"No model of the catalogue is served by {reach}.")
        async with self._site.database.transaction() as conn:
            for each in tests:
                if each.answers:
                    await self._reset(call, conn, named(each.upstream))
        return Listed(tests)


def _reach(call: AdminCall[Nothing, SwitchWanted]) -> Reach:
    return Reach(call.path["id"], call.body.credential, call.body.model)


def _said(switch: Switch) -> UpstreamSaid:
    return UpstreamSaid(str(switch.reach), switch.state, switch.until, switch.why, switch.reset_at)


_Identified = TypeVar("_Identified", PlanShown, ModelShown, Upstream)


def _of_id(rows: Iterable[_Identified], id: str, what: str) -> _Identified:
    found = next((row for row in rows if row.id == id), None)
    if found is None:
        raise NotThere(f"There is no such {what}.")
    return found
