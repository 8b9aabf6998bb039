"""Proposals: what a provider's list would become in the catalogue, beside what is there; pure, and published by a command.

For each model that a provider lists: the id by which callers would call it, its context, length, abilities and list price,
from the list itself, then from the dated list that this program ships with, then from the habits of the provider's row. What
neither says is *unverified*: such a model is taken to be able to do what it may be asked, and its provider is the judge.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from penstock.core.catalog import Capabilities, Model, ModelKind, Target, Thinks, Upstream
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.providers.known_models import KnownModel, KnownModels, ModelMode, Prices, formats_alone, mode_of
from penstock.providers.model_lists import Listed
from penstock.providers.retirements import retirement

NOTICE_DAYS = 30
"""How long before its end a model is no longer proposed, and whoever serves it is told."""

ProposalState = Literal["new", "published", "ending", "ended", "no route", "gone"]
"""``new`` can be published. ``ending``: within the notice; ``ended``: its day is over. ``no route``: neither chat nor
embeddings. ``gone``: the catalogue serves it from there, and the provider lists it no longer."""


class Proposal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of one provider. ``unverified`` names what nobody has said of it."""

    provider: str
    model: str
    """The provider's name of it."""
    id: str
    """What callers would call it, or call it now."""
    state: ProposalState
    mode: ModelMode = "chat"
    context: int | None = None
    longest: int | None = None
    prices: Prices = Prices()
    prices_from: str = ""
    ends: str = ""
    successor: str = ""
    unverified: tuple[str, ...] = ()
    entry: Model | None = None
    """What would be published."""

    @property
    def reference(self) -> str:
        """How it is named on the command line."""
        return f"{self.provider}/{self.model}"


def propose(
    document: CatalogDocument, upstream: Upstream, listed: Sequence[Listed], known: KnownModels, today: date
) -> tuple[Proposal, ...]:
    """What the list of one provider would become, in the list's order, and what of the catalogue is gone from it."""
    served = {
        target.model: model.id
        for model in document.models
        for target in model.targets
        if target.provider == upstream.id
    }
    taken = {name for model in document.models for name in (model.id, *model.aliases)}
    found: list[Proposal] = []
    for model in listed:
        row = _proposal(upstream, model, known, today, taken, served.get(model.id))
        taken.add(row.id)
        found.append(row)
    names = {model.id for model in listed}
    for name, id in served.items():
        if "*" not in name and name not in names and not any(each.startswith(f"{name}-20") for each in names):
            end = retirement(upstream.kind, name)
            day, next_one = ("", "") if end is None else (end.day, end.successor)
            found.append(Proposal(upstream.id, name, id, "gone", ends=day, successor=next_one))
    return tuple(found)


def _proposal(
    upstream: Upstream,
    listed: Listed,
    known: KnownModels,
    today: date,
    taken: set[str],
    published: str | None,
) -> Proposal:
    row = _row(upstream, listed.id, known)
    end = retirement(upstream.kind, listed.id)
    ends = listed.ends or ("" if end is None else end.day)
    successor = listed.successor or ("" if end is None else end.successor)
    mode = mode_of(listed.id, listed.word or ("" if row is None else row.mode))
    prices, source = _prices(listed, row, known, same_vendor=row is None or row.provider == upstream.kind)
    context = listed.context or (None if row is None else row.context)
    longest = listed.longest or (None if row is None else row.longest)
    id = published or _public_id(upstream.id, listed.id, taken)
    return Proposal(
        provider=upstream.id,
        model=listed.id,
        id=id,
        state=_state(published, mode, ends, end is not None, today),
        mode=mode,
        context=context,
        longest=longest,
        prices=prices,
        prices_from=source,
        ends=ends,
        successor=successor,
        unverified=_unverified(listed, row, context, longest, prices),
        entry=None
        if published or mode == "other"
        else _entry(upstream, listed, row, id, mode, context, longest, taken),
    )


def _row(upstream: Upstream, name: str, known: KnownModels) -> KnownModel | None:
    found = known.find(upstream.kind, name)
    if found is None and upstream.kind == "bedrock" and "anthropic." in name:
        found = known.find("anthropic", name.rpartition("anthropic.")[2].partition("-v1")[0])
    return found


def _public_id(provider: str, name: str, taken: set[str]) -> str:
    """The vendor's own name, which clients know; with the provider before it where that name is another model's."""
    plain = name.lower() if not any(each in name for each in "/:") else name
    return plain if plain not in taken and name not in taken else f"{provider}/{name}"


def _state(published: str | None, mode: ModelMode, ends: str, ended: bool, today: date) -> ProposalState:
    if published:
        return "published"
    if mode == "other":
        return "no route"
    if ends:
        day = date.fromisoformat(ends)
        if day <= today:
            return "ended"
        if day <= today + timedelta(days=NOTICE_DAYS):
            return "ending"
        return "new"
    return "ended" if ended else "new"


def _prices(
    listed: Listed, row: KnownModel | None, known: KnownModels, *, same_vendor: bool
) -> tuple[Prices, str]:
    """The provider's own word, else the dated list's for this very provider; a price of another's is none."""
    if listed.prices.input is not None:
        return listed.prices, "the provider's list"
    if row is None or row.input is None or not same_vendor:
        return Prices(), ""
    doubt = "" if row.agreed is not False else "; a second source differs"
    return row.prices, f"list of {known.read}{doubt}"


def _unverified(
    listed: Listed, row: KnownModel | None, context: int | None, longest: int | None, prices: Prices
) -> tuple[str, ...]:
    said = {
        "context": context is not None,
        "longest": longest is not None,
        "capabilities": listed.vision is not None or (row is not None and row.takes is not None),
        "price": prices.input is not None,
    }
    return tuple(name for name, known in said.items() if not known)


def _entry(
    upstream: Upstream,
    listed: Listed,
    row: KnownModel | None,
    id: str,
    mode: ModelMode,
    context: int | None,
    longest: int | None,
    taken: set[str],
) -> Model:
    kind: ModelKind = "embedding" if mode == "embedding" else "chat"
    spoken = {dialect for dialect, _ in upstream.speaks}
    via = tuple(name for name in formats_alone(upstream.kind, listed.id) if name in spoken)
    alias = f"{upstream.id}/{listed.id}"
    aliases = [name for name in (listed.id, alias) if name != id and name not in taken and len(name) <= 128]
    chats = mode != "embedding"
    return Model(
        id=id,
        name=(listed.name or ("" if row is None else row.name) or listed.id)[:128],
        aliases=tuple(dict.fromkeys(aliases)),
        targets=(Target(upstream.id, listed.id, via=via if chats else ()),),
        max_output_tokens=longest if chats else None,
        context_tokens=context,
        capabilities=_capabilities(upstream, listed, row) if chats else Capabilities(tools=False),
        kind=kind,
    )


def _capabilities(upstream: Upstream, listed: Listed, row: KnownModel | None) -> Capabilities:
    takes = None if row is None else row.takes
    profile = upstream.profile_of(listed.id)
    reasons = takes is None or takes.reasons
    ways: Mapping[str, Thinks] = {"adaptive": "adaptive", "effort": "adaptive", "budget": "budget"}
    return Capabilities(
        vision=_either(listed.vision, None if takes is None else takes.vision),
        documents=_either(listed.documents, None if takes is None else takes.documents),
        tools=_either(listed.tools, None if takes is None else takes.tools),
        thinking=ways.get(profile.thinking, "none") if reasons else "none",
        structured_output=takes is not None and takes.structured_output,
    )


def _either(first: bool | None, second: bool | None) -> bool:
    return first if first is not None else second if second is not None else True


def chosen(proposals: Sequence[Proposal], patterns: Sequence[str]) -> tuple[Proposal, ...]:
    """Those whose ``provider/model`` or id a shell pattern fits; a provider's id alone means all of it."""
    return tuple(
        row
        for row in proposals
        if any(
            row.provider == pattern or fnmatchcase(row.reference, pattern) or fnmatchcase(row.id, pattern)
            for pattern in patterns
        )
    )


def sensible(proposals: Sequence[Proposal], known: KnownModels, kind: str) -> tuple[Proposal, ...]:
    """What is published where nobody has chosen: models that the dated list knows by that very name, with a price.

    Snapshots (names with a date) and previews are left to whoever wants them.
    """
    found: list[Proposal] = []
    for row in proposals:
        listed = known.find(kind, row.model)
        if row.state != "new" or listed is None or row.prices.input is None or "preview" in row.model:
            continue
        if row.model.casefold() in (
            listed.model.casefold(),
            *(each.casefold() for each in listed.also if "20" not in each),
        ):
            found.append(row)
    return tuple(found)
