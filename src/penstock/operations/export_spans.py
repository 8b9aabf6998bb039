"""Spans of exported receipts: one for each settled request, posted by OTLP over HTTP to whatever reads GenAI names.

It has ids that the request's own id gives, so one that comes twice is the same span; and they are others than those of the
traces that a service sends by itself, which are a sample.
"""

from collections.abc import Callable, Sequence
from typing import Final

from penstock import __version__
from penstock.core.endpoints import ENDPOINTS
from penstock.domain.exports.places import Endpoint
from penstock.domain.exports.receipt import ExportedReceipt
from penstock.operations.signed_post import NotTaken, Outward, send_outward
from penstock.operations.tracing import telemetry_names as names
from penstock.operations.tracing.records import span_id_of, trace_id_of
from penstock.operations.tracing.spans import FAULTS, Attribute, SpanMade, add_former_names, told

_KINDS: Final = {endpoint.name: endpoint.kind for endpoint in ENDPOINTS}
_NUMBER: Final = -1
"""Of the span in its trace: those of the request and its attempts count from 0."""
_NANO: Final = 1_000_000_000


async def post_spans(
    endpoint: Endpoint,
    receipts: Sequence[ExportedReceipt],
    where: Outward,
    *,
    kind_of: Callable[[str], str],
    service: str,
    older_names: bool,
    user_agent: str,
) -> None:
    """Post them. Raises ``NotTaken``. ``kind_of`` says which vendor a provider is."""
    try:
        from penstock.operations.tracing.otlp import body_of_spans  # noqa: PLC0415 - 14 MB, where it is exported so
    except ImportError:
        raise NotTaken("this carrier wants the extra: pip install 'penstock[otel]'") from None
    spans = [span_of_receipt(each, kind_of(each.provider), older_names=older_names) for each in receipts]
    body = body_of_spans(
        spans, {names.SERVICE_NAME: service, names.SERVICE_VERSION: __version__}, __version__
    )
    headers = [
        (b"content-type", b"application/x-protobuf"),
        (b"user-agent", user_agent.encode()),
        *((name.encode(), value.encode()) for name, value in endpoint.headers),
    ]
    await send_outward(endpoint.place, b"POST", endpoint.place.path, headers, body, where)


def span_of_receipt(receipt: ExportedReceipt, vendor: str, *, older_names: bool) -> SpanMade:
    """The span of one. All input is told together, as the conventions have it."""
    kind = _KINDS.get(receipt.dialect, receipt.dialect)
    operation = names.OPERATION_NAMES.get(kind, kind)
    parts = (receipt.input_tokens, receipt.cache_read_tokens, receipt.cache_write_tokens)
    known = [part for part in parts if part is not None]
    first = receipt.first_byte_ms
    cost = None if receipt.cost is None else receipt.cost / _NANO
    attributes: dict[str, Attribute | None] = {
        names.OPERATION: operation,
        names.PROVIDER: names.PROVIDER_NAMES.get(vendor, vendor),
        names.REQUEST_MODEL: receipt.upstream_model,
        names.REQUEST_STREAM: receipt.stream,
        names.RESPONSE_MODEL: receipt.answered_model or receipt.upstream_model,
        names.FIRST_CHUNK: None if first is None else first / 1000,
        names.INPUT_TOKENS: sum(known) if known else None,
        names.OUTPUT_TOKENS: receipt.output_tokens,
        names.CACHE_READ: receipt.cache_read_tokens,
        names.CACHE_WRITE: receipt.cache_write_tokens,
        names.REASONING_TOKENS: receipt.reasoning_tokens,
        names.USAGE_COST: cost,
        names.COST: cost,
        names.HTTP_STATUS: receipt.status,
        names.ERROR_TYPE: receipt.error_code,
        names.REQUEST_ID: receipt.id,
        names.ACCOUNT_ID: receipt.account,
        names.KEY_ID: receipt.key,
        names.CLIENT: receipt.client,
        names.OUTCOME: receipt.outcome,
        names.COUNTED: receipt.counted,
        names.MODEL: receipt.model,
        names.ATTEMPTS: receipt.attempts,
        names.REASON: receipt.reason,
        names.CREDENTIAL: receipt.credential,
        names.UPSTREAM_FORMAT: receipt.upstream_dialect,
        names.UPSTREAM_REQUEST: receipt.upstream_request_id,
        names.ESTIMATED: receipt.estimated,
    }
    began = receipt.created_at * 1_000_000
    span = SpanMade(
        f"{operation} {receipt.upstream_model}"[:256],
        trace_id_of(receipt.id),
        span_id_of(receipt.id, _NUMBER),
        None,
        server=False,
        started=began,
        ended=began + (receipt.total_ms or 0) * 1_000_000,
        attributes=told(attributes),
        failed=receipt.outcome in FAULTS,
    )
    if older_names:
        add_former_names(span)
    return span
