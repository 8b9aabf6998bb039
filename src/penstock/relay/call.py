"""One admitted call: who calls, what for, where the answer goes, and what the ledger will record of it when it ends."""

from penstock.core.body.envelope import Envelope
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage
from penstock.core.routing.candidates import Attempt
from penstock.errors import CallerError, EndedByOwner, OurError, PenstockError
from penstock.exchange import Exchange
from penstock.relay.router import Selection
from penstock.relay.standing import Standing


class Call:
    """One admitted request and its record. ``relay/relayed_call.py`` has the states that it goes through."""

    __slots__ = (
        "answered_model",
        "attempt",
        "attempts",
        "contacted",
        "day",
        "envelope",
        "error_code",
        "estimated",
        "exchange",
        "first_byte_at",
        "losses",
        "now",
        "outcome",
        "refund_reason",
        "request_id",
        "resumed",
        "route",
        "selection",
        "sent_at",
        "standing",
        "started",
        "status",
        "usage",
    )

    attempt: Attempt
    """What is tried now, or was last."""
    selection: Selection
    """The model that serves the call and the attempts to make; known once a slot is held."""

    def __init__(
        self,
        exchange: Exchange,
        request_id: str,
        standing: Standing,
        envelope: Envelope,
        *,
        now: float,
        started: float,
    ) -> None:
        """``now`` is epoch seconds at receipt, ``started`` the monotonic clock then."""
        self.exchange = exchange
        self.request_id = request_id
        self.standing = standing
        self.envelope = envelope
        self.now = now
        self.started = started
        self.day = 0
        self.attempts = 0
        self.resumed: int = 0
        """How often the upstream has paused its turn and was asked to go on."""
        self.sent_at = 0.0
        """When the first attempt began, on the monotonic clock."""
        self.contacted = False
        self.outcome = "error"
        self.status: int | None = None
        self.error_code: str | None = None
        self.refund_reason: str | None = None
        self.usage = _NOTHING
        self.estimated = False
        self.answered_model: str | None = None
        """The model that the answer names, where it is another than the attempt's."""
        self.first_byte_at: float | None = None
        self.losses: tuple[Loss, ...] = ()
        self.route = ""
        """Why the last attempt was made where it was."""

    def begin_attempt(self, attempt: Attempt, losses: tuple[Loss, ...], now: float) -> None:
        """The next attempt is made; what the last one reported is not of the answer that the caller gets."""
        if not self.attempts:
            self.sent_at = now
        else:
            self.resumed = 0
            self.usage = _NOTHING
            self.estimated = False
            self.answered_model = None
            self.first_byte_at = None
        self.attempt = attempt
        self.attempts += 1
        self.losses = losses

    def had_nothing(self) -> None:
        """The caller gets an answer with nothing in it: it takes nothing from its day."""
        self.refund_reason = "no_output"

    def broke(self, error: PenstockError, *, output: bool) -> None:
        """The upstream failed or refused, or we stopped. Refunded unless the caller had ``output`` of it."""
        self.error_code = error.code
        self.status = 200
        if isinstance(error, EndedByOwner):
            self.outcome = "ended_by_owner"
            return
        if isinstance(error, CallerError):
            self.outcome, self.refund_reason = "refused", "provider_refused"
            return
        if isinstance(error, OurError):
            self.outcome = "error"
            self.refund_reason = None if output else error.code
            return
        self.outcome = "upstream_error"
        if not output:
            self.refund_reason = "no_output"


_NOTHING = Usage()
