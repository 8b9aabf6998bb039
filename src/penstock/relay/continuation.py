"""Continuation of a turn that its upstream has paused, for callers whose dialect has no word for a pause.

A caller whose dialect has one gets the pause as it is and goes on itself (``CallerSide.resumes_pauses``). How such a turn
is decoded is the upstream dialect's: ``UpstreamSide.pauses``.
"""

import msgspec

from penstock.core.dialects.interface import Lane, PausableDecoder, Prepared, UpstreamSide
from penstock.core.dialects.lanes import Translation
from penstock.core.neutral.events import AnyEvent
from penstock.core.routing.candidates import Attempt
from penstock.relay.call import Call


def continued_request(lane: Lane, prepared: Prepared) -> Prepared | None:
    """What lets the turn of a stream go on; None where it is not paused. The next answer's bytes go into the same lane."""
    if isinstance(lane, Translation) and lane.pausable is not None and lane.pausable.paused:
        return msgspec.structs.replace(prepared, body=lane.pausable.resume(prepared.body))
    return None


def paused_decoder(call: Call, attempt: Attempt, body: bytes) -> PausableDecoder | None:
    """What decodes a whole answer which may be that of a turn that has to go on; None where it cannot be."""
    endpoint = call.standing.endpoint
    side, upstream = endpoint.side, endpoint.upstreams[attempt.dialect]
    if side is None or side.resumes_pauses or not isinstance(upstream, UpstreamSide):
        return None
    pauses = upstream.pauses
    if pauses is None or pauses.mark not in body:
        return None
    return pauses.Decoder(profile=attempt.profile)


class WholeTurn:
    """A turn whose answers are whole, one after the other, until it is not paused any more."""

    __slots__ = ("_decoder", "_left", "events")

    def __init__(self, decoder: PausableDecoder, max_pauses: int) -> None:
        self._decoder = decoder
        self._left = max_pauses
        self.events: list[AnyEvent] = []
        """What the answers so far say."""

    @property
    def answered(self) -> str:
        """The model that the answers name."""
        return self._decoder.answered

    def take(self, prepared: Prepared, body: bytes) -> Prepared | None:
        """Take the next answer, which ``prepared`` had asked for: what to ask next, or None where the turn is over."""
        decoder = self._decoder
        self.events += decoder.whole(body)
        if decoder.paused and self._left:
            self._left -= 1
            return msgspec.structs.replace(prepared, body=decoder.resume(prepared.body))
        self.events += decoder.finish()
        return None
