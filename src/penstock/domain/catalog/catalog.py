"""The catalogue as one immutable snapshot: which name means which model, for whom, and what serves it.

The database is the truth; ``catalog_store`` reads it into a ``Catalog`` whenever its revision has changed. Lookups are
dictionary lookups, so the request path pays nothing for aliases.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from penstock.core.catalog import ANY, Model, ModelKind, Target, Upstream, is_wildcard, passed_on
from penstock.core.endpoints import paths_of
from penstock.core.limits import KeyLimits, key_subject
from penstock.core.memo import Memo
from penstock.core.routing.candidates import UpstreamKey, Upstreams
from penstock.core.routing.switches import Switch, switch_of
from penstock.errors import InvalidRequest, ModelNotFound, ModelNotOnPlan, ModelRetired, NoProvider

ModelFamily = Literal["haiku", "sonnet", "opus"]
MODEL_FAMILIES: Mapping[ModelFamily, tuple[ModelFamily, ...]] = {
    "haiku": ("haiku", "sonnet", "opus"),
    "sonnet": ("sonnet", "haiku", "opus"),
    "opus": ("opus", "sonnet", "haiku"),
}
"""For each family of Claude, where a model is looked for when the plan has none of it: the nearest one first."""

_MAX_REMEMBERED = 4096
_DATE = re.compile(r"-20\d{6}$")
_PASSED_ON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
"""What may stand for a wildcard's ``*``: what may be an id."""
_LONGEST_NAME_SHOWN = 100
_LONGEST_NAME_KEPT = 256


class Plan(msgspec.Struct, frozen=True):
    """What a user may do: requests a UTC day, requests at once, seconds a request may wait for its turn, and models.

    ``weight`` is the share of a provider's places that its users have where these are scarce; ``requires`` are the tags
    without which no provider gets a request of theirs.
    ``own`` is there where a key has narrower limits than its account: then the numbers are the key's.
    """

    id: str
    name: str
    daily_requests: int
    concurrent_requests: int
    models: tuple[str, ...]
    queue_seconds: int = 0
    weight: int = 1
    requires: tuple[str, ...] = ()
    own: KeyLimits | None = None

    def for_key(self, user_id: str, key_id: str, daily: int | None, concurrent: int | None) -> "Plan":
        """The plan as a key has it whose own limits these are; None is no limit of its own."""
        return msgspec.structs.replace(
            self,
            daily_requests=self.daily_requests if daily is None else min(daily, self.daily_requests),
            concurrent_requests=self.concurrent_requests
            if concurrent is None
            else min(concurrent, self.concurrent_requests),
            own=KeyLimits(key_subject(user_id, key_id), self.daily_requests, self.concurrent_requests),
        )

    @property
    def of_account(self) -> "Plan":
        """The plan itself, whatever a key has of it."""
        own = self.own
        if own is None:
            return self
        return msgspec.structs.replace(
            self, daily_requests=own.account_daily, concurrent_requests=own.account_concurrent, own=None
        )


class Resolution(msgspec.Struct, frozen=True):
    """What a name means for a caller.

    ``alias`` is True when the model's id is not what was asked for. ``candidates`` are the models that may serve it: the
    model itself, or for an ``auto`` model those of its list that the plan has and that are served, in the list's order.
    """

    model: Model
    alias: bool
    candidates: tuple[Model, ...]


class Catalog:
    """One revision of the catalogue, with what is set up to serve it.

    ``simulated`` is True when no model has a real provider that is set up: then every model is served by the simulator.
    Otherwise real and simulated are mixed only where a target names a simulator.
    """

    __slots__ = (
        "_aliases",
        "_as_written",
        "_globs",
        "_held",
        "_known",
        "_members",
        "_offered",
        "_passed_on",
        "_providers",
        "_wildcards",
        "models",
        "plans",
        "retired",
        "revision",
        "simulated",
        "switches",
        "upstreams",
    )

    def __init__(
        self,
        *,
        providers: Sequence[Upstream],
        models: Sequence[Model],
        plans: Sequence[Plan],
        available: Callable[[str], bool],
        simulator: Upstream,
        revision: int = 0,
        switches: Sequence[Switch] = (),
        today: str = "",
    ) -> None:
        """``available`` tells whether a secret's reference leads to a secret; ``simulator`` is the built-in one.

        ``switches`` are those of the operator's that keep requests away now. ``today`` (``YYYY-MM-DD``) says whose end has
        come.
        """
        self.revision = revision
        self.retired: Mapping[str, Model] = {model.id: model for model in models if has_ended(model, today)}
        """The models whose end has come: they are served no more, and whoever asks for one is told what follows."""
        models = [model for model in models if model.id not in self.retired]
        self._providers = {row.id: row for row in providers}
        upstreams = {
            row.id: _set_up(row, simulator, available)
            for row in providers
            if any(available(secret) for secret in row.secrets)
        }
        real = {row.id for row in upstreams.values() if row.kind != "simulator"}
        self.simulated = not any(target.provider in real for model in models for target in model.targets)
        self._as_written = {model.id: model for model in models}
        if self.simulated:
            upstreams.setdefault(simulator.id, simulator)
            models = [_simulated(model, upstreams, simulator.id) for model in models]
        self.switches = tuple(switches)
        self.upstreams = Upstreams(upstreams.values(), self.is_switched if switches else None)
        self.models: Mapping[str, Model] = {model.id: model for model in models}
        self.plans: Mapping[str, Plan] = {plan.id: plan for plan in plans}
        self._members = {plan.id: frozenset(plan.models) for plan in plans}
        self._wildcards = [model for model in models if is_wildcard(model.id)]
        self._passed_on: Memo[str, Model] = Memo(_MAX_REMEMBERED)
        self._aliases: dict[str, str] = {}
        self._globs: list[tuple[str, str]] = []
        for model in models:
            for alias in model.aliases:
                if is_glob(alias):
                    self._globs.append((alias, model.id))
                else:
                    self._aliases.setdefault(alias, model.id)
        self._known: Memo[tuple[str, str, frozenset[str] | None, ModelKind | None], Resolution] = Memo(
            _MAX_REMEMBERED
        )
        self._offered: Memo[tuple[str, frozenset[str] | None, ModelKind | None], tuple[Model, ...]] = Memo(
            _MAX_REMEMBERED
        )
        self._held: Memo[tuple[str, frozenset[str] | None], frozenset[str]] = Memo(_MAX_REMEMBERED)

    def is_switched(self, key: UpstreamKey) -> bool:
        """Whether the operator keeps requests away from this upstream."""
        return switch_of(self.switches, key) is not None

    # ---- what is served, and to whom

    def served(self, model: Model) -> bool:
        """Whether a provider of the model is set up; for an ``auto`` model, whether one of its list is served."""
        if model.auto:
            return any(self.served(self.models[name]) for name in model.auto if name in self.models)
        return any(target.provider in self.upstreams for target in model.targets)

    def offered(
        self, plan_id: str, allowed: frozenset[str] | None = None, kind: ModelKind | None = None
    ) -> tuple[Model, ...]:
        """The served models of a plan in the catalogue's order, narrowed to a key's own list where it has one.

        ``kind`` narrows them to one kind; None: all of them. A wildcard is none of them: it is no name that can be called.
        """
        found = self._offered.get((plan_id, allowed, kind))
        if found is None:
            members = self._members.get(plan_id, frozenset())
            found = tuple(
                model
                for model in self.models.values()
                if model.id in members
                and not is_wildcard(model.id)
                and (allowed is None or model.id in allowed)
                and kind in (None, model.kind)
                and self.served(model)
            )
            self._offered.keep((plan_id, allowed, kind), found)
        return found

    def plan_trouble(self, plan_id: str) -> str | None:
        """Why whoever is put on this plan can do nothing with it, for the operator; None where that is not so."""
        if plan_id not in self.plans:
            return f"new people would be on the plan {plan_id}, which is not in the catalogue"
        passes_on = any(
            model.id in self._members[plan_id] and self.served(model) for model in self._wildcards
        )
        if not passes_on and not self.offered(plan_id, kind="chat"):
            return f"new people are on the plan {plan_id}, none of whose chat models is served"
        return None

    def references(self) -> tuple[str, ...]:
        """The references of all providers' secrets, each once; '' is none."""
        named = (secret for row in self._providers.values() for secret in row.secrets)
        return tuple(dict.fromkeys(secret for secret in named if secret))

    def needs(self, model: Model) -> tuple[str, ...]:
        """The environment variables of which any one would have the model served by a real provider."""
        model = self._as_written.get(model.listed, model)
        if model.auto:
            members = [self.models[name] for name in model.auto if name in self.models]
            return tuple(dict.fromkeys(name for member in members for name in self.needs(member)))
        rows = [self._providers[t.provider] for t in model.targets if t.provider in self._providers]
        secrets = [secret for row in rows for secret in row.secrets]
        return tuple(dict.fromkeys(s.removeprefix("env:") for s in secrets if s.startswith("env:")))

    # ---- what a name means

    def resolve(
        self,
        name: str,
        plan_id: str,
        allowed: frozenset[str] | None = None,
        kind: ModelKind | None = None,
    ) -> Resolution:
        """What ``name`` means for a caller of this plan whose key may use ``allowed`` (None: all of the plan).

        ``kind`` is which models the caller's route calls (None: it calls none); a model of another kind is an
        ``InvalidRequest`` that names the right route.

        An id of the catalogue comes before an exact alias, that before a pattern, and that before the families of
        Claude: any other ``claude-*`` id with haiku, sonnet or opus in it means the best model of that family (the
        first in the catalogue) that the caller has, or of the nearest family that the caller has any of. A wildcard passes on
        what is none of the catalogue's ids and aliases. Raises
        ``ModelNotFound`` (``ModelRetired`` of one whose end has come), ``ModelNotOnPlan`` or ``NoProvider``, each saying what
        would do.
        """
        key = (name, plan_id, allowed, kind)
        known = self._known.get(key)
        if known is None:
            known = self._resolve(name, plan_id, allowed, kind)
            if len(name) > _LONGEST_NAME_KEPT:
                return known
            self._known.keep(key, known)
        return known

    def _resolve(
        self, name: str, plan_id: str, allowed: frozenset[str] | None, kind: ModelKind | None
    ) -> Resolution:
        model = self._named(name)
        if model is None:
            self._refuse_retired(name)
            model = self._of_family(name, plan_id, allowed)
        if model is None:
            raise ModelNotFound(self.not_found(name, plan_id, allowed, kind), param="model")
        if kind not in (None, model.kind):
            raise InvalidRequest(_other_route(model), param="model")
        if model.listed not in self._members.get(plan_id, frozenset()):
            raise ModelNotOnPlan(self._not_on_plan(model, plan_id), param="model")
        if allowed is not None and allowed.isdisjoint((model.id, model.listed)):
            raise ModelNotOnPlan(
                f"This key may not use {model.id}; its own list of models leaves it out.", param="model"
            )
        candidates = self._candidates(model, plan_id)
        if not candidates:
            raise NoProvider(self._not_served(model), param="model")
        return Resolution(model, name != model.id, candidates)

    def holds(self, name: str, plan_id: str, allowed: frozenset[str] | None = None) -> bool:
        """Whether a name that goes to a provider as it is means a model of this plan and key.

        That is what a provider calls one of them, or its id unless a provider calls another model that; with or without
        a date, and with dots or dashes. Aliases and families are ours alone: a provider would take them for what they say.
        """
        key = (plan_id, allowed)
        held = self._held.get(key)
        if held is None:
            held = self._names_held(self._members.get(plan_id, frozenset()), allowed)
            held = self._held.keep(key, held)
        return _plain(name) in held

    def _names_held(self, members: frozenset[str], allowed: frozenset[str] | None) -> frozenset[str]:
        held = members if allowed is None else members & allowed
        own: set[str] = set()
        others: set[str] = set()
        for model in self._as_written.values():
            names = own if model.id in held else others
            names.update(_plain(target.model) for target in model.targets)
        return frozenset(own | ({_plain(model_id) for model_id in held} - others))

    def _named(self, name: str) -> Model | None:
        found = self.models.get(name)
        if found is not None and not is_wildcard(name):
            return found
        alias = self._aliases.get(name)
        if alias is None:
            alias = next((model_id for pattern, model_id in self._globs if fnmatchcase(name, pattern)), None)
        return self._of_wildcard(name) if alias is None else self.models[alias]

    def _refuse_retired(self, name: str) -> None:
        """Raise ``ModelRetired`` where the name means a model whose end has come."""
        for model in self.retired.values():
            if name == model.id or any(fnmatchcase(name, alias) for alias in model.aliases):
                raise retired_error(model.id, model.sunset, model.successor)

    def _of_wildcard(self, name: str) -> Model | None:
        """What the wildcard with the longest beginning makes of a name; None where no wildcard begins so."""
        known = self._passed_on.get(name)
        if known is not None:
            return known
        fits = [
            model
            for model in self._wildcards
            if name.startswith(model.id[:-1]) and _PASSED_ON.fullmatch(name[len(model.id) - 1 :])
        ]
        if not fits:
            return None
        return self._passed_on.keep(name, passed_on(max(fits, key=lambda model: len(model.id)), name))

    def _of_family(self, name: str, plan_id: str, allowed: frozenset[str] | None) -> Model | None:
        family = model_family(name)
        if family is None:
            return None
        offered = self.offered(plan_id, allowed, "chat")
        for near in MODEL_FAMILIES[family]:
            for model in offered:
                if model_family(model.id) == near:
                    return model
        return None

    def _candidates(self, model: Model, plan_id: str) -> tuple[Model, ...]:
        if not model.auto:
            return (model,) if self.served(model) else ()
        # A key that lists the auto model lists what it may choose: the plan alone narrows that.
        offered = {entry.id: entry for entry in self.offered(plan_id) if not entry.auto}
        names = dict.fromkeys((*model.auto, *(name for rule in model.rules for name in rule.use)))
        return tuple(offered[name] for name in names if name in offered)

    # ---- what the errors say

    def not_found(
        self, name: str, plan_id: str, allowed: frozenset[str] | None, kind: ModelKind | None
    ) -> str:
        """What whoever asks for a model is told that there is not."""
        shown = name if len(name) <= _LONGEST_NAME_SHOWN else name[:_LONGEST_NAME_SHOWN] + "..."
        offered = ", ".join(model.id for model in self.offered(plan_id, allowed, kind)) or "none"
        return f'There is no model "{shown}". The models of your plan ({plan_id}): {offered}.'

    def _not_on_plan(self, model: Model, plan_id: str) -> str:
        plans = ", ".join(plan.id for plan in self.plans.values() if model.listed in self._members[plan.id])
        where = f"it is on: {plans}" if plans else "it is on no plan"
        if plans and not self.served(model):
            where = "no provider serves it, on any plan"
        return f"{model.id} is not on your plan ({plan_id}); {where}."

    def _not_served(self, model: Model) -> str:
        needs = self.needs(model)
        if not needs:
            return f"No provider is set up for {model.id}."
        return f"No provider is set up for {model.id}. One of these settings would enable it: {', '.join(needs)}."


def has_ended(model: Model, today: str) -> bool:
    """Whether the end of a model has come on this day (``YYYY-MM-DD``)."""
    return bool(model.sunset) and model.sunset <= today


def retired_error(model: str, day: str, successor: str) -> ModelRetired:
    """What whoever asks for a model is told once it has ended."""
    then = f" {successor} takes its place." if successor else " Choose another one from the list of models."
    return ModelRetired(f"{model} is served no more since {day}.{then}", day=day, successor=successor)


_VOWELS = ("a", "e", "i", "o", "u")


def _other_route(model: Model) -> str:
    article = "an" if model.kind.startswith(_VOWELS) else "a"
    routes = " or ".join(f"POST {path}" for path in paths_of(model.kind))
    return f"{model.id} is {article} {model.kind} model, which this route does not call; use {routes}."


def _plain(name: str) -> str:
    """A name without its date, and with dashes for dots: vendors call one model by all of these."""
    return _DATE.sub("", name).replace(".", "-")


def is_glob(alias: str) -> bool:
    """Whether an alias is a shell pattern."""
    return any(sign in alias for sign in "*?[")


def model_family(name: str) -> ModelFamily | None:
    """The family that a Claude id belongs to by its words; None for any other id."""
    if name.startswith("claude-"):
        for family in MODEL_FAMILIES:
            if family in name:
                return family
    return None


def _set_up(row: Upstream, simulator: Upstream, available: Callable[[str], bool]) -> Upstream:
    """The row with those of its credentials that are there; a simulator without a URL of its own is the built-in one."""
    if row.credentials:
        there = tuple(each for each in row.credentials if available(each.secret))
        row = msgspec.structs.replace(row, credentials=there)
    if row.kind == "simulator" and not row.speaks:
        return msgspec.structs.replace(row, speaks=simulator.speaks)
    return row


def _simulated(model: Model, upstreams: Mapping[str, Upstream], simulator: str) -> Model:
    if model.auto or any(target.provider in upstreams for target in model.targets):
        return model
    name = ANY if is_wildcard(model.id) else model.id
    return msgspec.structs.replace(model, targets=(Target(simulator, name),))
