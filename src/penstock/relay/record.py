"""What the ledger is told of a call: its kind before an upstream is contacted, and how it has ended."""

from penstock.core.dialects.prepare import translation_header
from penstock.domain.ledger.kinds import Kind, PlainEnd, Settlement
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.rows import Row
from penstock.relay.call import Call


def kind_of(call: Call) -> Kind:
    """What the call has in common with others of its caller."""
    attempt, standing = call.attempt, call.standing
    return Kind(
        dialect=standing.endpoint.name,
        model=call.selection.model.id,
        requested_model=call.envelope.model,
        stream=call.envelope.stream,
        client=standing.caller.client,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
        credential=attempt.key[2] or None,
    )


def settle(ledger: Ledger, row: Row, call: Call, now: float) -> None:
    """Tell the ledger how the call has ended. ``now`` is of the monotonic clock."""
    first, started = call.first_byte_at, call.started
    first_byte_ms = None if first is None else int((first - started) * 1000)
    total_ms = int((now - started) * 1000)
    plain = call.outcome == "completed" and call.attempts == 1 and not call.losses
    if plain and not call.estimated and call.answered_model is None and call.refund_reason is None:
        ledger.settle_plainly(row, PlainEnd(call.usage, first_byte_ms, total_ms))
        return
    attempt = call.attempt
    settlement = Settlement(
        id=call.request_id,
        status=call.status,
        outcome=call.outcome,
        counted=call.refund_reason is None,
        refund_reason=call.refund_reason,
        error_code=call.error_code,
        usage=call.usage,
        estimated=call.estimated,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
        attempts=call.attempts,
        first_byte_ms=first_byte_ms,
        total_ms=total_ms,
        translation=translation_header(call.losses) if call.losses else None,
        answered_model=call.answered_model,
        credential=attempt.key[2] or None,
        reason=call.route or None,
    )
    ledger.settle(settlement)
