"""The relay: serves admitted calls, and knows those that run."""

from penstock.core.body.envelope import Envelope
from penstock.domain.limits import RunningRequest
from penstock.errors import EndedByOwner
from penstock.exchange import Exchange
from penstock.relay.relay_parts import Front, Place, RelayParts
from penstock.relay.relayed_call import RelayedCall
from penstock.relay.standing import Standing

_ENDED = "The owner of the key has ended this request."


class Relay(RelayParts[RelayedCall]):
    """Takes calls through their states. One per process; all its state is on one event loop."""

    def begin(
        self,
        front: Front,
        exchange: Exchange,
        standing: Standing,
        envelope: Envelope,
        place: Place,
        *,
        request_id: str,
        now: float,
        started: float,
    ) -> None:
        """Serve one call from here on; ``front`` is told of its end. ``place`` is left then.

        ``now`` is epoch seconds at receipt, ``started`` the monotonic clock then.
        """
        call = RelayedCall(exchange, request_id, standing, envelope, now=now, started=started)
        call.serve(self, front, place)

    def end(self, user_id: str, request_id: str) -> bool:
        """End a running request of this user; whether there was one here. It counts, and its row says who ended it."""
        call = self.calls.get(request_id)
        if call is None or call.standing.account_id != user_id:
            return False
        call.stop(EndedByOwner(_ENDED))
        return True

    def describe(self, request_id: str) -> RunningRequest | None:
        """What runs here under this id; None where nothing does."""
        call = self.calls.get(request_id)
        if call is None:
            return None
        standing = call.standing
        return RunningRequest(
            standing.resolution.model.id, standing.key_id, standing.caller.client, call.envelope.stream
        )
