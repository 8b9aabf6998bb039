"""Preparation of a call for its upstream, and the lane by which the upstream's answer crosses."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from penstock.core.dialects.interface import NOTHING_ASKED, Asked, Lane, Prepared, UpstreamSide
from penstock.core.dialects.lanes import Crossing, record_reasoning, stream_lane, whole_reply
from penstock.core.dialects.prepare import pass_through, passing_for, translate
from penstock.core.dialects.translation_memory import TranslationMemory, TranslationScope
from penstock.core.endpoints import Endpoint
from penstock.core.formats.streams import passed_lane
from penstock.core.neutral.events import AnyEvent, Failed, Reply
from penstock.core.neutral.fold import fold
from penstock.core.reasoning.cache import ReasoningCache, ReasoningScope
from penstock.core.routing.candidates import Attempt
from penstock.relay.call import Call
from penstock.relay.usage import note_whole

EMPTY_ANSWER = Failed("empty", "the answer has nothing in it")
"""What is wrong with an answer that could go to the caller as it is."""


@dataclass(frozen=True, slots=True)
class RequestMemories:
    """What a process remembers of earlier requests for the preparation of the next: reasoning, and translations."""

    reasoning: ReasoningCache
    translations: TranslationMemory


def prepared_for(call: Call, attempt: Attempt, memories: RequestMemories) -> Prepared:
    """The body of a call as this attempt's upstream is to get it. Raises ``InvalidRequest`` where it cannot be said there."""
    endpoint, reasoning = call.standing.endpoint, None
    if endpoint.side is not None:
        reasoning = ReasoningScope(memories.reasoning, call.standing.account_id, attempt.provider)
    upstream, strict = endpoint.upstreams[attempt.dialect], call.standing.caller.strict
    if attempt.dialect == endpoint.name and (endpoint.side is None or endpoint.side.passes):
        passing = passing_for(call.envelope, upstream, attempt.profile)
        if passing is not None:
            return pass_through(call.envelope, passing, attempt.model, attempt.profile, strict, reasoning)
    if endpoint.side is None or not isinstance(upstream, UpstreamSide):
        raise _untranslated(endpoint)
    return translate(
        call.envelope,
        (endpoint.name, endpoint.side),
        (attempt.dialect, upstream),
        attempt.model,
        attempt.profile,
        strict,
        reasoning,
        TranslationScope(memories.translations, call.standing.account_id, call.standing.key_id),
    )


def relieved(call: Call, prepared: Prepared, said: str) -> Prepared | None:
    """What was refused for reasoning in it, without that; None where there is none, or nothing may be lost.

    ``said`` is what the upstream said of it.
    """
    upstream, side = call.standing.endpoint.upstreams[call.attempt.dialect], call.standing.endpoint.side
    if not isinstance(upstream, UpstreamSide) or upstream.without_reasoning is None or side is None:
        return None
    if call.standing.caller.strict:
        return None
    try:
        found = upstream.without_reasoning(prepared.body, said)
    except (ValueError, RecursionError):  # of an odd shape, which may be what was refused
        return None
    if found is None:
        return None
    told = (replace(loss, field=side.words.get(loss.field, loss.field)) for loss in found.losses)
    return replace(prepared, body=found.body, losses=tuple(dict.fromkeys((*prepared.losses, *told))))


def lane_for(
    call: Call,
    attempt: Attempt,
    content_type: bytes,
    public: str,
    prepared: Prepared,
    keeps: int,
    clock: Callable[[], float],
) -> Lane:
    """The way of a streamed answer; ``public`` is the model's id, ``keeps`` the bytes that are kept for its end.

    ``clock`` is monotonic.
    """
    endpoint = call.standing.endpoint
    if endpoint.side is None:
        passing = endpoint.upstreams[attempt.dialect].passing
        if passing is None:
            raise _untranslated(endpoint)
        return passed_lane(passing, public, content_type)
    crossing = replace(_crossing(call, attempt, public, prepared, clock), keeps=keeps)
    return stream_lane(crossing, call.envelope, prepared, content_type)


def whole_answer(
    call: Call,
    prepared: Prepared,
    body: bytes,
    clock: Callable[[], float],
    events: list[AnyEvent] | None = None,
) -> tuple[bytes, Failed | None]:
    """An upstream's whole answer as the caller gets it, its token counts noted; or what is wrong with it.

    ``events`` is what a translated answer says, where that is known already. Where the answer is encoded anew it has
    counts in it, because the SDKs rely on them: estimates if the upstream gave none. ``EMPTY_ANSWER`` comes beside an answer
    that has nothing in it, and no reason for that.
    """
    public, attempt = call.selection.model.id, call.attempt
    endpoint = call.standing.endpoint
    upstream = endpoint.upstreams[attempt.dialect]
    if upstream.passing is not None and attempt.dialect == endpoint.name and not prepared.translated:
        out, usage, failed, answered = upstream.passing.response(body, model=public)
        if failed is None:
            if not usage.output and isinstance(upstream, UpstreamSide):
                failed = _empty(fold(upstream.decode_response(body, attempt.profile)))
            # most formats without a dialect generate no text
            writes = endpoint.side is not None or upstream.passing.writes
            generated = len(body) if writes and failed is None else 0
            note_whole(call, usage, generated, answered)
            if prepared.reasoning is not None and isinstance(upstream, UpstreamSide):
                record_reasoning(prepared.reasoning, upstream.decode_response(body, attempt.profile))
            if prepared.mark and upstream.passing.marking is not None:
                out = upstream.passing.marking.whole(out, prepared.mark)
        return out, failed
    crossing = _crossing(call, attempt, public, prepared, clock)
    asked = crossing.asked(call.envelope)
    reply = whole_reply(crossing, prepared, body, events, asked)
    if reply.failure is not None:
        return b"", reply.failure
    failed = _empty(reply)
    note_whole(call, reply.usage, 0 if failed else len(body), reply.model)
    reply = msgspec.structs.replace(reply, usage=call.usage)
    encode = crossing.caller.encode_response
    out = encode(reply, model=public, reply_id=crossing.reply_id, created=crossing.created, asked=asked)
    return out, failed


def _empty(reply: Reply) -> Failed | None:
    """``EMPTY_ANSWER`` where that is what it is. What counts its output has had something in it, shown or not."""
    said = reply.parts or reply.citations or reply.usage.output or reply.reason != "end_turn"
    return None if said or reply.failure is not None else EMPTY_ANSWER


def asked_of(call: Call, public: str) -> Asked:
    """What an error in the place of a stream's rest says of its request."""
    side = call.standing.endpoint.side
    if side is None or side.asked is None:
        return NOTHING_ASKED
    return msgspec.structs.replace(side.asked(call.envelope), model=public, created=int(call.now))


def _crossing(
    call: Call, attempt: Attempt, public: str, prepared: Prepared, clock: Callable[[], float]
) -> Crossing:
    endpoint = call.standing.endpoint
    side, upstream = endpoint.side, endpoint.upstreams[attempt.dialect]
    if side is None or not isinstance(upstream, UpstreamSide):
        raise _untranslated(endpoint)
    return Crossing(
        side,
        upstream,
        attempt.dialect == endpoint.name and not prepared.translated,
        attempt.profile,
        public,
        side.reply_id + call.request_id.removeprefix("req_"),
        int(call.now),
        clock=lambda: call.now + clock() - call.started,
    )


def _untranslated(endpoint: Endpoint) -> TypeError:
    return TypeError(f"{endpoint.name} has answers that are neither streamed nor translated")
