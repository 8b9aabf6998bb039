"""Wishes: what the body of a request asks of the choice, of providers and of further models; it is for us, and goes no further.

``provider`` asks of the choice of a provider, ``models`` (OpenRouter's name) and ``fallbacks`` (Anthropic's) name models that
may answer in place of the first. A model that OpenRouter alone serves gets them as they are, since they mean the
same there; so do names that are not of our catalogue, which are then the provider's own.
"""

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.routing.preferences import Preference, read_preference, with_tags
from penstock.domain.catalog.catalog import Resolution
from penstock.errors import InvalidRequest
from penstock.relay.router import Router
from penstock.relay.standing import Standing

_AGGREGATOR = "openrouter"
_PREFERRED = "provider"
_LISTED = ("models", "fallbacks")
_MOST_MODELS = 8


class Wishes(msgspec.Struct, frozen=True, gc=False):
    """What is asked, and the request without it."""

    envelope: Envelope
    preference: Preference | None
    models: tuple[Resolution, ...] = ()


class _Named(msgspec.Struct):
    model: str


_names = msgspec.json.Decoder(list[str | _Named]).decode


def wishes_of(envelope: Envelope, standing: Standing, router: Router) -> Wishes | None:
    """What a body asks; None where that is nothing. Only a body that was decoded can.

    Raises ``InvalidRequest``, and what speaks against a model that is named.
    """
    fields, endpoint = envelope.decoded, standing.endpoint
    if fields is None or not router.preferences:
        return None
    listed = [name for name in _LISTED if name in fields]
    prefers = _PREFERRED in fields
    if not listed and not prefers:
        return None
    if endpoint.kind == "embedding":
        if listed:
            said = "The vectors of different models do not mix: an embedding model has no fallback."
            raise InvalidRequest(said, param=listed[0])
        return None
    if _at_openrouter(standing, router):
        return None
    models = _models([bytes(fields[name]) for name in listed], standing, router)
    taken = [*([_PREFERRED] if prefers else ()), *(listed if models is not None else ())]
    if not taken:
        return None
    caller = standing.caller
    preference = caller.asker.preference
    if prefers:
        asked = read_preference(bytes(fields[_PREFERRED]), _PREFERRED)
        if asked is not None:
            tags = () if preference is None else preference.requires
            preference = with_tags(asked, tags)
    return Wishes(_without(envelope, taken), preference, models or ())


def _at_openrouter(standing: Standing, router: Router) -> bool:
    providers = {target.provider for model in standing.resolution.candidates for target in model.targets}
    return router.kinds_of(providers) == {_AGGREGATOR}


def _models(lists: list[bytes], standing: Standing, router: Router) -> tuple[Resolution, ...] | None:
    """The models that are named, without the first one; None where that is not for us to say."""
    try:
        entries = [each for raw in lists for each in _names(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    caller, found = standing.caller, dict[str, Resolution]()
    for name in [each if isinstance(each, str) else each.model for each in entries]:
        resolution = router.stand_in(name, caller.plan.id, caller.allowed, standing.endpoint.kind)
        if resolution is None:
            return None
        if resolution.model.id != standing.resolution.model.id:
            found[resolution.model.id] = resolution
    return tuple(found.values())[:_MOST_MODELS]


def _without(envelope: Envelope, taken: list[str]) -> Envelope:
    body = envelope.encode(envelope.model, drop=tuple(taken))
    fields = {name: value for name, value in envelope.fields.items() if name not in taken}
    return msgspec.structs.replace(envelope, body=body, decoded=fields, spans=None)
