"""The catalogue as a TOML document: read with every mistake named by its place, checked, and written back.

The format is described in ``docs/providers.md``. A document may be partial: what it does not name stays as it is.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from penstock.core.base_url import split_base_url
from penstock.core.catalog import (
    ANY,
    KEPT,
    STRAIGHT,
    UNMIXED,
    Auth,
    AutoRule,
    Capabilities,
    Credential,
    DialectName,
    Fallback,
    Feature,
    Model,
    ModelKind,
    Price,
    Target,
    Upstream,
    When,
    is_same_model,
    is_wildcard,
    with_profile_values,
)
from penstock.core.endpoints import ENDPOINTS, FORMATS, formats_of
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.reach_fields import ReachEntry, reach_of, wrong_reach, wrong_sign_in
from penstock.errors import OperatorError

ModelId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,126}[A-Za-z0-9._:/@+*-]?$")]
RowId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Alias = Annotated[str, Meta(min_length=1, max_length=128)]
AtLeastOne = Annotated[int, Meta(ge=1, le=2**53)]
NotNegative = Annotated[int, Meta(ge=0, le=2**31 - 1)]
QueueSeconds = Annotated[int, Meta(ge=0, le=600)]
Places = Annotated[int, Meta(ge=1, le=1_000_000)]
Tag = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Label = Annotated[str, Meta(max_length=100)]

_SECRET = re.compile(r"^(|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|kept:[a-z0-9._-]+/pvk_[A-Za-z0-9]+)$")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?$", re.DOTALL)


class CatalogError(OperatorError):
    """A document that cannot be applied. ``problems`` has one line each, beginning with the place in the file."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class CatalogDocument(msgspec.Struct, frozen=True):
    """A whole catalogue, or a part of one, in its order."""

    providers: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    plans: tuple[Plan, ...] = ()


class _TargetEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    provider: RowId
    model: Annotated[str, Meta(min_length=1, max_length=256)]
    priority: NotNegative = 0
    weight: NotNegative = 1
    via: tuple[DialectName, ...] = ()
    lacks: tuple[Feature, ...] = ()
    context_tokens: AtLeastOne | None = None
    max_output_tokens: AtLeastOne | None = None
    in_flight: Places | None = None
    tags: tuple[Tag, ...] = ()
    price: Price | None = None


class _CredentialEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: RowId
    secret: str
    weight: NotNegative = 1
    group: RowId | Literal[""] = ""


class _ProviderEntry(ReachEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: RowId
    kind: str = ""
    speaks: dict[DialectName, str] | None = None
    secret: str | None = None
    auth: Auth | None = None
    profile: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    credentials: tuple[_CredentialEntry, ...] = ()
    tags: tuple[Tag, ...] = ()
    in_flight: Places | None = None


class _ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: ModelId
    name: Annotated[str, Meta(max_length=128)] = ""
    aliases: tuple[Alias, ...] = ()
    targets: tuple[_TargetEntry, ...] = ()
    auto: tuple[ModelId, ...] = ()
    max_output_tokens: AtLeastOne | None = None
    context_tokens: AtLeastOne | None = None
    capabilities: Capabilities = Capabilities()
    kind: str = "chat"
    sticky: bool = True
    rules: tuple[AutoRule, ...] = ()
    most_usd_per_million: Price | None = None
    fallback: tuple[Fallback, ...] = ()
    sunset: date | None = None
    successor: ModelId | Literal[""] = ""


class _PlanEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: RowId
    daily_requests: AtLeastOne
    concurrent_requests: Annotated[int, Meta(ge=1, le=1_000_000)]
    models: tuple[ModelId, ...]
    name: Label = ""
    queue_seconds: QueueSeconds = 0
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    requires: tuple[Tag, ...] = ()


_MODEL_KINDS: Mapping[str, ModelKind] = {row.kind: row.kind for row in ENDPOINTS}
_SECTIONS = ("provider", "model", "plan")
# Which struct the dictionaries under a key are, so that a misspelt key is found wherever it stands.
_STRUCTS: Mapping[str, type[msgspec.Struct]] = {
    "provider": _ProviderEntry,
    "credentials": _CredentialEntry,
    "profile": Profile,
    "model": _ModelEntry,
    "plan": _PlanEntry,
    "targets": _TargetEntry,
    "capabilities": Capabilities,
    "rules": AutoRule,
    "when": When,
    "fallback": Fallback,
    "price": Price,
    "most_usd_per_million": Price,
}

_Entry = TypeVar("_Entry", bound=msgspec.Struct)


# ---- reading


def parse(text: str, kinds: Mapping[str, Upstream]) -> CatalogDocument:
    """Read a document; what a provider leaves out comes from its row in ``kinds`` (the provider table).

    Raises ``CatalogError`` with everything that is wrong in the text by itself; whether names refer to something is
    checked when it is applied.
    """
    try:
        raw = cast("dict[str, object]", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogError([f"not TOML: {error}"]) from error
    problems = list(_unknown_keys("", raw, _SECTIONS))
    for section in _SECTIONS:
        value = raw.get(section, [])
        if not isinstance(value, list):
            problems.append(f"{section}: write [[{section}]], with two brackets")
        else:
            for index, entry in enumerate(cast("list[object]", value)):
                problems.extend(_misspelt(f"{section}[{index}]", entry, _STRUCTS[section]))
    if problems:
        raise CatalogError(problems)
    providers = _entries("provider", raw, _ProviderEntry, problems)
    models = _entries("model", raw, _ModelEntry, problems)
    plans = _entries("plan", raw, _PlanEntry, problems)
    document = CatalogDocument(
        providers=tuple(_provider(f"provider[{i}]", entry, kinds, problems) for i, entry in providers),
        models=tuple(_model(f"model[{i}]", entry, problems) for i, entry in models),
        plans=tuple(_plan(entry) for _, entry in plans),
    )
    for section, rows in (
        ("provider", document.providers),
        ("model", document.models),
        ("plan", document.plans),
    ):
        seen: dict[str, int] = {}
        for index, row in enumerate(rows):
            first = seen.setdefault(row.id, index)
            if first != index:
                problems.append(f'{section}[{index}].id: "{row.id}" is already {section}[{first}]')
    if problems:
        raise CatalogError(problems)
    return document


def _entries(
    section: str, raw: Mapping[str, object], kind: type[_Entry], problems: list[str]
) -> list[tuple[int, _Entry]]:
    entries: list[tuple[int, _Entry]] = []
    for index, value in enumerate(cast("list[object]", raw.get(section, []))):
        try:
            entries.append((index, msgspec.convert(value, kind)))
        except msgspec.ValidationError as error:
            problems.append(_told(f"{section}[{index}]", error))
    return entries


def _told(path: str, error: msgspec.ValidationError) -> str:
    found = _PATH.match(str(error))
    what, where = (found["what"], found["where"] or "") if found else (str(error), "")
    return f"{path}{where}: {what[:1].lower()}{what[1:]}"


def _misspelt(path: str, value: object, kind: type[msgspec.Struct]) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    entry = cast("dict[str, object]", value)
    yield from _unknown_keys(path + ".", entry, kind.__struct_fields__)
    for key, inner in entry.items():
        if key not in kind.__struct_fields__ or key not in _STRUCTS:
            continue
        if isinstance(inner, list):
            for index, item in enumerate(cast("list[object]", inner)):
                yield from _misspelt(f"{path}.{key}[{index}]", item, _STRUCTS[key])
        else:
            yield from _misspelt(f"{path}.{key}", inner, _STRUCTS[key])


def _unknown_keys(path: str, entry: Mapping[str, object], known: Iterable[str]) -> Iterator[str]:
    names = list(known)
    for key in entry:
        if key not in names:
            yield f"{path}{key}: unknown key{_meant(key, names)}"


def _meant(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _provider(
    path: str, entry: _ProviderEntry, kinds: Mapping[str, Upstream], problems: list[str]
) -> Upstream:
    kind = entry.kind or (entry.id if entry.id in kinds else "custom")
    row = kinds.get(kind)
    if row is None and entry.kind:
        problems.append(f'{path}.kind: unknown kind "{kind}"{_meant(kind, kinds)}')
    speaks: dict[DialectName, str] = {}
    if row is not None and entry.speaks is None and kind != "simulator":  # which has no address of its own
        speaks = dict(row.speaks)
    if entry.speaks is not None:
        speaks = {dialect: url.rstrip("/") for dialect, url in entry.speaks.items()}
    for dialect, url in speaks.items():
        if dialect not in FORMATS:
            problems.append(f'{path}.speaks: unknown dialect "{dialect}"{_meant(dialect, FORMATS)}')
        if not _is_base_url(url):
            problems.append(f"{path}.speaks.{dialect}: not an http or https URL without query: {url!r}")
    if not speaks and kind != "simulator":
        problems.append(f"{path}.speaks: required: the base URL of each dialect that it speaks")
    secret = entry.secret if entry.secret is not None else (row.secret if row is not None else "")
    if entry.credentials:
        problems += _wrong_credentials(path, entry)
        secret = ""
    elif not _SECRET.match(secret):
        problems.append(f'{path}.secret: write "env:NAME" or "file:PATH" ("" for none), never the key itself')
    upstream = Upstream(
        id=entry.id,
        kind=kind,
        speaks=tuple(speaks.items()),
        auth=entry.auth or (row.auth if row is not None else "bearer"),
        secret=secret,
        profile=row.profile if row is not None else DEFAULT_PROFILE,
        model_profiles=row.model_profiles if row is not None else (),
        reach=reach_of(entry, STRAIGHT if row is None else row.reach),
        sign_in=entry.sign_in,
        credentials=tuple(Credential(it.id, it.secret, it.weight, it.group) for it in entry.credentials),
        tags=entry.tags,
        in_flight=entry.in_flight,
    )
    problems.extend(_wrong_kept(path, upstream))
    problems.extend(wrong_reach(path, upstream.reach))
    problems.extend(wrong_sign_in(path, upstream.auth, upstream.sign_in, secret))
    try:
        return with_profile_values(upstream, entry.profile)
    except msgspec.ValidationError as error:
        problems.append(_told(f"{path}.profile", error))
        return upstream


def _wrong_kept(path: str, row: Upstream) -> Iterator[str]:
    """A key that was entered for one provider is never sent to another."""
    for reference in row.references:
        if reference.startswith(KEPT) and not reference.startswith(f"{KEPT}{row.id}/"):
            yield f"{path}.secret: {reference} was entered for another provider; enter the key for this one"


def _wrong_credentials(path: str, entry: _ProviderEntry) -> Iterator[str]:
    if entry.secret:
        yield f"{path}.secret: a provider has one secret or several credentials, not both"
    for place, credential in enumerate(entry.credentials):
        if credential.id in [other.id for other in entry.credentials[:place]]:
            yield f'{path}.credentials[{place}].id: "{credential.id}" is said twice'
        if not credential.secret or not _SECRET.match(credential.secret):
            yield f'{path}.credentials[{place}].secret: write "env:NAME" or "file:PATH", never the key itself'


def _is_base_url(url: str) -> bool:
    try:
        split_base_url(url)
    except ValueError:
        return False
    return True


def _model(path: str, entry: _ModelEntry, problems: list[str]) -> Model:
    if entry.auto and entry.targets:
        problems.append(f"{path}.auto: a model has targets or chooses among others, not both")
    if not entry.auto and not entry.targets:
        problems.append(f"{path}.targets: required: at least one place where the model is served")
    if entry.id in entry.auto:
        problems.append(f"{path}.auto[{entry.auto.index(entry.id)}]: a model cannot choose itself")
    if not entry.auto and (entry.rules or entry.most_usd_per_million):
        problems.append(f"{path}.auto: required: rules and prices are of a model that chooses among others")
    kind = _MODEL_KINDS.get(entry.kind)
    if kind is None:
        known = ", ".join(f'"{kind}"' for kind in _MODEL_KINDS)
        problems.append(f'{path}.kind: unknown kind "{entry.kind}"; write one of {known}')
    return Model(
        id=entry.id,
        name=entry.name or entry.id,
        aliases=entry.aliases,
        targets=tuple(
            Target(
                t.provider,
                t.model,
                t.priority,
                t.weight,
                t.via,
                t.lacks,
                t.context_tokens,
                t.max_output_tokens,
                t.in_flight,
                t.tags,
                t.price,
            )
            for t in entry.targets
        ),
        auto=entry.auto,
        max_output_tokens=entry.max_output_tokens,
        context_tokens=entry.context_tokens,
        capabilities=entry.capabilities,
        kind=kind or "chat",
        sticky=entry.sticky,
        rules=entry.rules,
        most_usd_per_million=entry.most_usd_per_million,
        fallback=entry.fallback,
        sunset="" if entry.sunset is None else entry.sunset.isoformat(),
        successor=entry.successor,
    )


def _plan(entry: _PlanEntry) -> Plan:
    return Plan(
        id=entry.id,
        name=entry.name or entry.id,
        daily_requests=entry.daily_requests,
        concurrent_requests=entry.concurrent_requests,
        models=entry.models,
        queue_seconds=entry.queue_seconds,
        weight=entry.weight,
        requires=entry.requires,
    )


# ---- checking


def check(document: CatalogDocument, whole: CatalogDocument) -> None:
    """See that the names in ``document`` refer to rows of ``whole``, the catalogue as it will be.

    Raises ``CatalogError``.
    """
    providers = {row.id: row for row in whole.providers}
    models = {row.id: row for row in whole.models}
    owners: dict[str, list[str]] = {}
    for model in whole.models:
        for alias in model.aliases:
            owners.setdefault(alias, []).append(model.id)
    problems: list[str] = []
    for index, model in enumerate(document.models):
        path = f"model[{index}]"
        problems.extend(_wrong_targets(path, model, providers))
        problems.extend(_wrong_choice(path, model, models))
        problems.extend(_unpriced(path, model, models))
        problems.extend(_wrong_successor(path, model, models))
        problems.extend(_wrong_names(path, model, models, owners))
        problems.extend(_wrong_wildcard(path, model))
        if model.kind in UNMIXED:
            problems.extend(_mixed_models(path, model))
    for index, plan in enumerate(document.plans):
        for place, name in enumerate(plan.models):
            if name not in models:
                problems.append(
                    f'plan[{index}].models[{place}]: unknown model "{name}"{_meant(name, models)}'
                )
            elif name in plan.models[:place]:
                problems.append(f'plan[{index}].models[{place}]: "{name}" is said twice')
    if problems:
        raise CatalogError(problems)


def _wrong_wildcard(path: str, model: Model) -> Iterator[str]:
    """A wildcard passes on one name for each of its targets, and stands for no other name itself."""
    if not is_wildcard(model.id):
        for place, target in enumerate(model.targets):
            if ANY in target.model:
                yield f'{path}.targets[{place}].model: "{ANY}" stands for what the id of a wildcard ends with ("openai/*")'
        return
    if model.id.count(ANY) > 1 or not model.id[:-1].endswith("/"):
        yield f'{path}.id: write a wildcard as a beginning, a slash and one "*", such as "openai/*"'
    if model.aliases or model.auto:
        yield f"{path}: a wildcard has targets, and neither aliases nor auto"
    if not model.chats:
        yield f"{path}.kind: a wildcard is for chat: name each embedding model, since vectors of different ones do not mix"
    for place, target in enumerate(model.targets):
        if target.model.count(ANY) != 1:
            yield f'{path}.targets[{place}].model: write "*" once, for what the caller writes in its place'


def _mixed_models(path: str, model: Model) -> Iterator[str]:
    """Where a model would be more than one model, though answers of different models cannot be compared."""
    why = UNMIXED[model.kind]
    if model.auto:
        yield f"{path}.auto: {_article(model.kind)} model cannot choose among others: {why}"
    if model.fallback:
        yield f"{path}.fallback: {_article(model.kind)} model has none: {why}"
    for place, target in enumerate(model.targets):
        first = model.targets[0].model
        if not is_same_model(target.model, first):
            yield (
                f'{path}.targets[{place}].model: "{target.model}" is another model than "{first}"; '
                f"all targets of {_article(model.kind)} model are the same one, because {why}"
            )


def _article(kind: ModelKind) -> str:
    return f"an {kind}" if kind.startswith(("a", "e", "i", "o", "u")) else f"a {kind}"


def _wrong_choice(path: str, model: Model, models: Mapping[str, Model]) -> Iterator[str]:
    lists = [("auto", model.auto)]
    lists += [(f"rules[{number}].use", rule.use) for number, rule in enumerate(model.rules)]
    lists += [(f"fallback[{number}].model", (each.model,)) for number, each in enumerate(model.fallback)]
    for where, names in lists:
        for place, name in enumerate(names):
            at = f"{path}.{where}" if where.startswith("fallback") else f"{path}.{where}[{place}]"
            if name not in models:
                yield f'{at}: unknown model "{name}"{_meant(name, models)}'
            elif is_wildcard(name):
                yield f'{at}: "{name}" is a wildcard; name a model'
            elif models[name].auto:
                yield f'{at}: "{name}" itself chooses among others'
            elif models[name].kind != model.kind:
                yield f'{at}: "{name}" is {_article(models[name].kind)} model'
            elif name == model.id:
                yield f"{at}: a model does not stand in for itself"


def _wrong_successor(path: str, model: Model, models: Mapping[str, Model]) -> Iterator[str]:
    name = model.successor
    if is_wildcard(model.id) and (model.sunset or name):
        yield f"{path}.sunset: a wildcard has neither an end nor a successor; name the model"
    elif name and name not in models:
        yield f'{path}.successor: unknown model "{name}"{_meant(name, models)}'
    elif name == model.id:
        yield f"{path}.successor: a model does not follow itself"
    elif name and models[name].kind != model.kind:
        yield f'{path}.successor: "{name}" is {_article(models[name].kind)} model'


def _unpriced(path: str, model: Model, models: Mapping[str, Model]) -> Iterator[str]:
    """Where an ``auto`` model may cost only so much, and nobody has said what one of its list costs."""
    if model.most_usd_per_million is None:
        return
    for name in dict.fromkeys((*model.auto, *(each for rule in model.rules for each in rule.use))):
        if name in models and not any(target.price for target in models[name].targets):
            yield f'{path}.most_usd_per_million: no target of "{name}" has a price, so it would never be chosen'


def _wrong_names(
    path: str, model: Model, models: Mapping[str, Model], owners: Mapping[str, list[str]]
) -> Iterator[str]:
    for place, alias in enumerate(model.aliases):
        other = next((owner for owner in owners[alias] if owner != model.id), None)
        if alias == model.id or alias in model.aliases[:place]:
            yield f'{path}.aliases[{place}]: "{alias}" is said twice'
        elif alias in models:
            yield f'{path}.aliases[{place}]: "{alias}" is the id of another model'
        elif other is not None:
            yield f'{path}.aliases[{place}]: "{alias}" is already an alias of "{other}"'
    for owner in owners.get(model.id, ()):
        if owner != model.id:
            yield f'{path}.id: "{model.id}" is an alias of "{owner}"'


def _wrong_targets(path: str, model: Model, providers: Mapping[str, Upstream]) -> Iterator[str]:
    for place, target in enumerate(model.targets):
        row = providers.get(target.provider)
        if row is None:
            meant = _meant(target.provider, providers)
            yield f'{path}.targets[{place}].provider: unknown provider "{target.provider}"{meant}'
            continue
        spoken = [dialect for dialect, _ in row.speaks]
        formats = formats_of(model.kind)
        if spoken and formats.keys().isdisjoint(spoken):
            yield (
                f'{path}.targets[{place}].provider: "{target.provider}" does not speak {" or ".join(formats)}, '
                f"which {model.kind} models are called in; give its base URL in the provider's speaks"
            )
        for dialect in target.via:
            if dialect not in FORMATS:
                yield f'{path}.targets[{place}].via: unknown dialect "{dialect}"{_meant(dialect, FORMATS)}'
            elif spoken and dialect not in spoken:
                yield f'{path}.targets[{place}].via: "{target.provider}" does not speak {dialect}'
            elif dialect not in formats:
                yield f"{path}.targets[{place}].via: {model.kind} models are not called in {dialect}"
