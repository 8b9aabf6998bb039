"""Preparation of a call for its upstream, and the lane by which the upstream's answer crosses."""

import msgspec
from msgspec.structs import replace

from penstock.core.dialects.interface import Lane, Prepared, UpstreamSide
from penstock.core.dialects.lanes import Crossing, record_reasoning, stream_lane, whole_reply
from penstock.core.dialects.prepare import pass_through, prepare
from penstock.core.neutral.events import AnyEvent, Failed
from penstock.core.reasoning.cache import ReasoningCache, ReasoningScope
from penstock.core.routing.candidates import Attempt
from penstock.relay.call import Call
from penstock.relay.usage import note_whole


def prepared_for(call: Call, attempt: Attempt, cache: ReasoningCache) -> Prepared:
    """The body of a call as this attempt's upstream is to get it. Raises ``InvalidRequest`` where it cannot be said there."""
    endpoint, reasoning = call.standing.endpoint, None
    if endpoint.side is not None:
        reasoning = ReasoningScope(cache, call.standing.user_id, attempt.provider)
    if attempt.dialect == endpoint.name:
        passing = endpoint.upstreams[attempt.dialect].passing
        if passing is not None:
            return pass_through(
                call.envelope, passing, attempt.model, attempt.profile, call.standing.caller.strict, reasoning
            )
    return prepare(
        call.envelope,
        caller=endpoint.name,
        upstream=attempt.dialect,
        model=attempt.model,
        profile=attempt.profile,
        strict=call.standing.caller.strict,
        reasoning=reasoning,
    )


def lane_for(
    call: Call, attempt: Attempt, content_type: bytes, public: str, prepared: Prepared, keeps: int
) -> Lane:
    """The way of a streamed answer; ``public`` is the model's id, ``keeps`` the bytes that are kept for its end."""
    crossing = replace(_crossing(call, attempt, public), keeps=keeps)
    return stream_lane(crossing, call.envelope, prepared, content_type)


def whole_answer(
    call: Call, prepared: Prepared, body: bytes, events: list[AnyEvent] | None = None
) -> tuple[bytes, Failed | None]:
    """An upstream's whole answer as the caller gets it, its token counts noted; or what is wrong with it.

    ``events`` is what a translated answer says, where that is known already. Where the answer is encoded anew it has
    counts in it, because the SDKs rely on them: estimates if the upstream gave none.
    """
    public, attempt = call.selection.model.id, call.attempt
    endpoint = call.standing.endpoint
    upstream = endpoint.upstreams[attempt.dialect]
    if upstream.passing is not None and attempt.dialect == endpoint.name:
        out, usage, failed, answered = upstream.passing.response(body, model=public)
        if failed is None:
            # a format without a dialect generates no text
            note_whole(call, usage, 0 if endpoint.side is None else len(body), answered)
            if prepared.reasoning is not None and isinstance(upstream, UpstreamSide):
                record_reasoning(prepared.reasoning, upstream.decode_response(body, attempt.profile))
        return out, failed
    crossing = _crossing(call, attempt, public)
    reply = whole_reply(crossing, prepared, body, events)
    if reply.failure is not None:
        return b"", reply.failure
    note_whole(call, reply.usage, len(body), reply.model)
    reply = msgspec.structs.replace(reply, usage=call.usage)
    encode = crossing.caller.encode_response
    return encode(reply, model=public, reply_id=crossing.reply_id, created=crossing.created), None


def _crossing(call: Call, attempt: Attempt, public: str) -> Crossing:
    endpoint = call.standing.endpoint
    side, upstream = endpoint.side, endpoint.upstreams[attempt.dialect]
    if side is None or not isinstance(upstream, UpstreamSide):
        raise TypeError(f"{endpoint.name} has answers that are neither streamed nor translated")
    return Crossing(
        side,
        upstream,
        attempt.dialect == endpoint.name,
        attempt.profile,
        public,
        side.reply_id + call.request_id.removeprefix("req_"),
        int(call.now),
    )
