"""What the ledger is told of a call: its kind before an upstream is contacted, and its end; and what collectors are told."""

from collections.abc import Sequence

from penstock.core.dialects.prepare import translation_header
from penstock.core.failure_classes.classes import FailureClass
from penstock.domain.ledger.attempts import UNFAILED, AttemptMade
from penstock.domain.ledger.kinds import Kind, PlainEnd, Settlement
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.rows import Row
from penstock.operations.tracing.client_metrics import Asked, ClientMetrics
from penstock.operations.tracing.records import AttemptTraced, Parent, RequestTraced
from penstock.operations.tracing.spans import FAULTS
from penstock.operations.tracing.traces import Traces
from penstock.relay.call import Call
from penstock.relay.trail import Trails


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


def trace(
    traces: Traces, call: Call, made: Sequence[AttemptMade], trails: Trails, began: float, now: float
) -> None:
    """Have a call that has ended traced, if it is one that is kept. ``made`` are its attempts, where these were noted."""
    first, started = call.first_byte_at, call.started
    parent = traces.parent(call.exchange.header(b"traceparent"))
    failed = bool(made) or call.outcome in FAULTS
    if not traces.keeps(failed=failed, seconds=(now if first is None else first) - started, parent=parent):
        return
    if not made and call.attempts:
        made = (trails.lone(call, began=began, now=now),)
    traces.take(_traced(call, made, parent, now))


def measure(
    metrics: ClientMetrics, call: Call, made: Sequence[AttemptMade], began: float, now: float
) -> None:
    """Count what a call that has ended has asked of providers. ``made`` are its attempts, where these were noted."""
    kind, stream = call.standing.endpoint.kind, call.envelope.stream
    passed_on = call.selection.model.wildcard  # what it passes on is a caller's own word
    attempt, usage, first = call.attempt, call.usage, call.first_byte_at
    last = Asked(kind, attempt.provider, passed_on or attempt.model)
    for each in made:
        asked = Asked(kind, each.provider, passed_on or each.upstream_model)
        begun = each.first_ms if stream else None
        metrics.took(
            asked,
            each.lasted_ms / 1000,
            None if begun is None else (begun - each.started_ms) / 1000,
            each.failure,
        )
    if not made:
        begun_after = first - began if stream and first is not None else None
        metrics.took(last, now - began, begun_after, UNFAILED.get(call.outcome, FailureClass.OURS.value))
    parts = [part for part in (usage.input, usage.cache_read, usage.cache_write) if part is not None]
    metrics.used(last, sum(parts) if parts else None, usage.output)


def _traced(call: Call, made: Sequence[AttemptMade], parent: Parent | None, now: float) -> RequestTraced:
    standing, envelope = call.standing, call.envelope
    return RequestTraced(
        id=call.request_id,
        parent=parent,
        route=standing.endpoint.path,
        kind=standing.endpoint.kind,
        model=call.selection.model.id,
        stream=envelope.stream,
        account_id=standing.account_id,
        key_id=standing.key_id,
        client=standing.caller.client,
        began=call.now,
        seconds=now - call.started,
        status=call.status,
        outcome=call.outcome,
        error=call.error_code or "",
        counted=call.refund_reason is None,
        max_tokens=envelope.max_tokens,
        usage=call.usage,
        answered_model=call.answered_model,
        attempts=tuple(
            AttemptTraced(
                each.number,
                each.provider,
                each.credential,
                each.upstream_model,
                each.upstream_dialect,
                each.reason,
                each.failure,
                each.status,
                each.upstream_request_id,
                each.started_ms,
                each.first_ms,
                each.ended_ms,
                each.maybe_billed,
            )
            for each in made
        ),
    )
