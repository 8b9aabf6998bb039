"""The record of a request, gathered while it runs, and the ledger's rows that are made from it."""

from penstock.core.dialects.prepare import translation_header
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage
from penstock.core.routing import Attempt
from penstock.domain.ledger.ledger import OpenRow, Settlement
from penstock.errors import CallerError, EndedByOwner, OurError, PenstockError
from penstock.relay.call import Call
from penstock.relay.router import Selection


class Record:
    """What the ledger will record of a request when it ends."""

    __slots__ = (
        "answered_model",
        "attempt",
        "attempts",
        "choice",
        "contacted",
        "day",
        "error_code",
        "estimated",
        "first_byte_at",
        "losses",
        "outcome",
        "refund_reason",
        "resumed",
        "sent_at",
        "status",
        "usage",
    )

    def __init__(self, choice: Selection, day: int) -> None:
        self.choice = choice
        self.attempt = choice.attempts[0]
        self.day = day
        self.attempts = 0
        self.resumed = 0
        """How often the upstream has paused its turn and was asked to go on."""
        self.sent_at = 0.0
        """When the first attempt began, on the monotonic clock."""
        self.contacted = False
        self.outcome = "error"
        self.status: int | None = None
        self.error_code: str | None = None
        self.refund_reason: str | None = None
        self.usage = Usage()
        self.estimated = False
        self.answered_model: str | None = None
        """The model that the answer names, where it is another than the attempt's."""
        self.first_byte_at: float | None = None
        self.losses: tuple[Loss, ...] = ()

    def begin(self, attempt: Attempt, losses: tuple[Loss, ...], now: float) -> None:
        """The next attempt is made; what the last one reported is not of the answer that the caller gets."""
        if not self.attempts:
            self.sent_at = now
        self.attempt = attempt
        self.attempts += 1
        self.resumed = 0
        self.losses = losses
        self.usage = Usage()
        self.estimated = False
        self.answered_model = None
        self.first_byte_at = None

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


def open_row(call: Call, record: Record) -> OpenRow:
    """The ledger's row of a request that is about to be sent."""
    attempt = record.attempt
    return OpenRow(
        id=call.request_id,
        user_id=call.principal.user_id,
        key_id=call.principal.key_id,
        day=record.day,
        created_at=int(call.now * 1000),
        dialect=call.endpoint.name,
        model=record.choice.model.id,
        requested_model=call.envelope.model[:128],
        stream=call.envelope.stream,
        client=call.client,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
    )


def settlement(call: Call, record: Record, now: float) -> Settlement:
    """The settlement of a request that has ended, for the ledger. ``now`` is of the monotonic clock."""
    attempt = record.attempt
    first = record.first_byte_at
    return Settlement(
        id=call.request_id,
        status=record.status,
        outcome=record.outcome,
        counted=record.refund_reason is None,
        refund_reason=record.refund_reason,
        error_code=record.error_code,
        usage=record.usage,
        estimated=record.estimated,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
        attempts=record.attempts,
        first_byte_ms=None if first is None else int((first - call.started) * 1000),
        total_ms=int((now - call.started) * 1000),
        translation=translation_header(record.losses) if record.losses else None,
        answered_model=record.answered_model,
    )
