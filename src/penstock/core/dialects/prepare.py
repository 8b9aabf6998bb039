"""Preparation of a request for one upstream: passed through where that speaks the caller's dialect, translated elsewhere.

Passed through: the caller's bytes with another model id. Translated: decoded into the neutral form, then encoded. What
does not cross is a ``Loss``; each is told in ``X-Penstock-Translation``, and with ``X-Penstock-Strict: 1`` the first one
refuses the request instead.
"""

import re
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope, too_deep
from penstock.core.body.request_parts import request_parts
from penstock.core.dialects.interface import (
    CallerSide,
    Passing,
    PassRequest,
    Prepared,
    UpstreamFormat,
    UpstreamSide,
)
from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.dialects.translation_memory import TranslationScope
from penstock.core.neutral.request import MOST_LOSSES, Loss, Request
from penstock.core.profile import Profile, extra_fields
from penstock.core.reasoning.cache import ReasoningScope, restore_reasoning
from penstock.core.reasoning.maker import maker_mark, own_again
from penstock.core.tools.names import fit_tool_names
from penstock.errors import InvalidRequest

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

_SEARCH = "web_search"
_SERVER_TOOLS = frozenset({"tools", "mcp_servers", "container"})
"""Fields by which a profile may offer tools that the upstream runs itself."""


def prepare(
    envelope: Envelope,
    *,
    caller: str,
    upstream: str,
    model: str,
    profile: Profile,
    strict: bool = False,
    reasoning: ReasoningScope | None = None,
    memory: TranslationScope | None = None,
) -> Prepared:
    """The body for ``model`` (the upstream's own id), from the dialect ``caller`` to the dialect ``upstream``.

    ``reasoning`` has the reasoning that this provider's models did for this caller, ``memory`` what was translated for its
    account before; the result is the same without that.

    Deterministic. Raises ``InvalidRequest`` where the request cannot be said there, and with ``strict`` where it cannot
    be said in full.
    """
    side = upstream_side(upstream)
    passing = passing_for(envelope, side, profile) if caller == upstream else None
    if passing is not None:
        return pass_through(envelope, passing, model, profile, strict, reasoning)
    sides = (caller, caller_side(caller)), (upstream, side)
    return translate(envelope, *sides, model, profile, strict, reasoning, memory)


def passing_for(envelope: Envelope, upstream: UpstreamFormat, profile: Profile) -> Passing | None:
    """How a request passes through to an upstream of the caller's dialect; None where it is translated all the same."""
    passing = upstream.passing
    if passing is not None and passing.declines is not None and passing.declines(envelope, profile):
        return None
    return passing


def translate(
    envelope: Envelope,
    caller: tuple[str, CallerSide],
    upstream: tuple[str, UpstreamSide],
    model: str,
    profile: Profile,
    strict: bool,
    reasoning: ReasoningScope | None,
    memory: TranslationScope | None,
) -> Prepared:
    """The request as an upstream of another dialect has it, or of the same that cannot get it as it is.

    ``caller`` and ``upstream`` with their names, under which ``memory`` keeps what they say.
    """
    try:
        prepared = _translated(envelope, caller, upstream, model, profile, reasoning, memory)
    except RecursionError as error:
        raise too_deep() from error
    return _completed(_told_of_cost(prepared, envelope), profile, strict=strict)


def pass_through(
    envelope: Envelope,
    passing: Passing,
    model: str,
    profile: Profile,
    strict: bool,
    reasoning: ReasoningScope | None,
) -> Prepared:
    """The caller's own body for ``model``, with what has to differ. Raises ``InvalidRequest``."""
    try:
        prepared = passing.request(envelope, model, profile, reasoning)
    except RecursionError as error:
        raise too_deep() from error
    prepared = _told_of_cost(prepared, envelope)
    if (strict or profile.extra_body) and envelope.rules.form is None:
        return _completed(prepared, profile, strict=strict)
    return prepared


def passed_plainly(write: Callable[[Envelope, str], bytes]) -> PassRequest:
    """How such requests are passed on; ``write`` gives the body for the upstream's own name of the model."""

    def request(
        envelope: Envelope,
        model: str,
        profile: Profile,  # noqa: ARG001 - as PassRequest calls it
        reasoning: ReasoningScope | None = None,  # noqa: ARG001 - likewise
    ) -> Prepared:
        return Prepared(write(envelope, model))

    return request


def _told_of_cost(prepared: Prepared, envelope: Envelope) -> Prepared:
    """The same with the losses of what was left out because of its cost."""
    if not envelope.left_out:
        return prepared
    lost = tuple(Loss(name, "dropped") for name in envelope.left_out[:MOST_LOSSES])
    return msgspec.structs.replace(prepared, losses=(*lost, *prepared.losses))


def _completed(prepared: Prepared, profile: Profile, *, strict: bool) -> Prepared:
    """What goes to the upstream with the fields that its profile adds; with ``strict`` nothing may be lost."""
    if profile.extra_body:
        fields = _fields(prepared.body)
        more = {name: raw for name, raw in extra_fields(profile.extra_body).items() if name not in fields}
        may_pause = prepared.may_pause or not _SERVER_TOOLS.isdisjoint(more)
        prepared = msgspec.structs.replace(prepared, body=_encode(fields | more), may_pause=may_pause)
    if strict and prepared.losses:
        loss = prepared.losses[0]
        raise InvalidRequest(
            f"{_told(loss)}: this cannot be carried to the model in full, and X-Penstock-Strict asks for that.",
            param=loss.field,
        )
    return prepared


def _translated(
    envelope: Envelope,
    calling: tuple[str, CallerSide],
    called: tuple[str, UpstreamSide],
    model: str,
    profile: Profile,
    reasoning: ReasoningScope | None,
    memory: TranslationScope | None,
) -> Prepared:
    (caller_name, caller), (upstream_name, upstream) = calling, called
    if memory is not None and not memory.takes(envelope):
        memory = None
    if memory is None:
        request, lost = caller.decode_request(envelope.body)
    else:
        request, lost = _decoded(envelope, caller_name, caller, memory)
    if request.web_search:
        request = _searching(request, caller, upstream, profile, lost)
    request, names = fit_tool_names(request)
    mark = "" if reasoning is None else maker_mark(reasoning.provider)
    if mark:
        request = own_again(request, mark, native=profile.native_anthropic)
    limit = caller.call_id_limit
    if not upstream.wants_reasoning:
        limit = None
    if reasoning is not None and limit is not None:
        reasoning = msgspec.structs.replace(reasoning, limit=limit)
        request = restore_reasoning(request, reasoning)
    if memory is None or upstream.encode_remembered is None:
        body, more = upstream.encode_request(request, model=model, profile=profile)
    else:
        shelf = memory.encoded(upstream_name, model, profile)
        body, more = upstream.encode_remembered(request, model=model, profile=profile, shelf=shelf)
    told: Iterable[Loss] = ()
    if lost or more:
        words = caller.words
        # an encoder does not know who called, and names a field as Chat does
        told = (Loss(words.get(loss.field, loss.field), loss.outcome) for loss in (*lost, *more))
    keeping = reasoning if limit is not None and request.tools else None
    hides = request.thinking is not None and request.thinking.shown is False
    marks = upstream.passing is not None and upstream.passing.marking is not None
    return Prepared(
        body,
        tuple(dict.fromkeys(told)),
        names,
        keeping,
        hides,
        may_pause=request.web_search,
        translated=True,
        mark=mark if marks and not profile.native_anthropic else "",
    )


def _decoded(
    envelope: Envelope, caller_name: str, caller: CallerSide, memory: TranslationScope
) -> tuple[Request, list[Loss]]:
    """The request; of one that goes on from an earlier one only the end is decoded."""
    if caller.decode_remembered is not None:
        parts = request_parts(envelope)
        if parts is not None:
            try:
                return caller.decode_remembered(parts, memory.decoded(caller_name))
            except (InvalidRequest, ValueError, RecursionError):
                pass  # the long way says what is wrong, and where
    return caller.decode_request(envelope.body)


def _searching(
    request: Request, caller: CallerSide, upstream: UpstreamSide, profile: Profile, lost: list[Loss]
) -> Request:
    """The request with what becomes of its offer of the provider's own web search: it is the upstream's, or left out."""
    param = caller.search_field
    field = "tools.web_search" if param == "tools" else param
    taken = any(tool.name == _SEARCH for tool in request.tools)
    if profile.web_search == "mapped" and upstream.searches and not taken:
        lost.append(Loss(field, "mapped"))
        return request
    choice = request.tool_choice
    forced = choice is not None and (
        (choice.mode == "tool" and choice.name == _SEARCH and not taken)
        or (choice.mode == "any" and not request.tools)
    )
    if profile.web_search == "refused" or forced:
        raise InvalidRequest(
            f"{param}: the provider's web_search is not available with this model.", param=param
        )
    lost.append(Loss(field, "dropped"))
    return msgspec.structs.replace(request, web_search=False)


def translation_header(losses: Iterable[Loss]) -> str:
    """The value of ``X-Penstock-Translation``: ``top_k=dropped; temperature=clamped(1.7->1)``, printable ASCII only."""
    told = list(dict.fromkeys(_told(loss) for loss in losses))
    rest = len(told) - _MAX_TOLD
    return "; ".join(told[:_MAX_TOLD]) + (f"; and {rest} more" if rest > 0 else "")


_MAX_TOLD = 40
_MAX_WORD = 80
_UNTELLABLE = re.compile(r"[^A-Za-z0-9_.()<>\[\]-]")


def _told(loss: Loss) -> str:
    # a field's name may be anything that a caller wrote
    return f"{_UNTELLABLE.sub('?', loss.field[:_MAX_WORD])}={_UNTELLABLE.sub('?', loss.outcome[:_MAX_WORD])}"
