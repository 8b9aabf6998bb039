"""Continuation of a turn that its upstream has paused, for callers whose dialect has no word for a pause.

A caller whose dialect has one gets the pause as it is and goes on itself (``CallerSide.resumes_pauses``). How such a turn
is decoded is the upstream dialect's: ``UpstreamSide.pauses``.
"""

from collections.abc import Awaitable, Callable

import msgspec

from penstock.core.dialects.interface import Lane, PausableDecoder, Prepared, UpstreamSide
from penstock.core.dialects.lanes import Translation
from penstock.core.neutral.events import AnyEvent
from penstock.core.routing import Attempt
from penstock.relay.call import Call


def continued_request(lane: Lane, prepared: Prepared) -> Prepared | None:
    """What lets the turn of a stream go on; None where it is not paused. The next answer's bytes go into the same lane."""
    if isinstance(lane, Translation) and lane.pausable is not None and lane.pausable.paused:
        return msgspec.structs.replace(prepared, body=lane.pausable.resume(prepared.body))
    return None


def paused_decoder(call: Call, attempt: Attempt, body: bytes) -> PausableDecoder | None:
    """What decodes a whole answer which may be that of a turn that has to go on; None where it cannot be."""
    side, upstream = call.endpoint.side, call.endpoint.upstreams[attempt.dialect]
    if side is None or side.resumes_pauses or not isinstance(upstream, UpstreamSide):
        return None
    pauses = upstream.pauses
    if pauses is None or pauses.mark not in body:
        return None
    return pauses.Decoder(profile=attempt.profile)


async def whole_turn(
    decoder: PausableDecoder,
    prepared: Prepared,
    body: bytes,
    max_pauses: int,
    ask: Callable[[Prepared], Awaitable[bytes]],
) -> list[AnyEvent]:
    """The events of a turn whose first whole answer is ``body``; ``ask`` gets the next ones, at most ``max_pauses``."""
    events = decoder.whole(body)
    for _ in range(max_pauses):
        if not decoder.paused:
            break
        prepared = msgspec.structs.replace(prepared, body=decoder.resume(prepared.body))
        events += decoder.whole(await ask(prepared))
    return events + decoder.finish()
