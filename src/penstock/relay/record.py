"""The ledger's rows of a call: the one that is written before an upstream is contacted, and the one that settles it."""

from penstock.core.dialects.prepare import translation_header
from penstock.domain.ledger.ledger import OpenRow, Settlement
from penstock.relay.call import Call


def open_row(call: Call) -> OpenRow:
    """The ledger's row of a request that is about to be sent."""
    attempt = call.attempt
    return OpenRow(
        id=call.request_id,
        user_id=call.standing.user_id,
        key_id=call.standing.key_id,
        day=call.day,
        created_at=int(call.now * 1000),
        dialect=call.standing.endpoint.name,
        model=call.selection.model.id,
        requested_model=call.envelope.model[:128],
        stream=call.envelope.stream,
        client=call.standing.caller.client,
        provider=attempt.provider,
        upstream_model=attempt.model,
        upstream_dialect=attempt.dialect,
    )


def settlement(call: Call, now: float) -> Settlement:
    """The settlement of a request that has ended, for the ledger. ``now`` is of the monotonic clock."""
    attempt = call.attempt
    first = call.first_byte_at
    return Settlement(
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
        first_byte_ms=None if first is None else int((first - call.started) * 1000),
        total_ms=int((now - call.started) * 1000),
        translation=translation_header(call.losses) if call.losses else None,
        answered_model=call.answered_model,
    )
