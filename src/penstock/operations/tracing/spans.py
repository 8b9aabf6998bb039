"""Spans of a request: one for the request itself, and one below it for each attempt at a provider."""

from collections.abc import Callable
from typing import Final

import msgspec

from penstock.operations.logs import hide
from penstock.operations.tracing import telemetry_names as names
from penstock.operations.tracing.records import AttemptTraced, RequestTraced, span_id_of, trace_id_of

Attribute = str | int | float | bool
_NANOS: Final = 1_000_000_000
_LONGEST: Final = 256
FAULTS: Final = frozenset({"error", "upstream_error"})
"""How a request ends that has failed by our doing or a provider's."""


class VendorPlace(msgspec.Struct, frozen=True):
    """Where a provider is asked, and which vendor it is."""

    kind: str
    host: str
    port: int


VendorPlaces = Callable[[str, str], VendorPlace | None]
"""The place of a provider in a format; None where the catalogue does not have it any more."""


class SpanMade(msgspec.Struct, frozen=True):
    """One span. Times are epoch nanoseconds; ``server``: it is what we serve, else what we ask for."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    server: bool
    started: int
    ended: int
    attributes: dict[str, Attribute]
    failed: bool


def spans_of(request: RequestTraced, places: VendorPlaces, *, older_names: bool = False) -> list[SpanMade]:
    """The spans of a request, its own first. ``older_names``: what was renamed is told by its former name as well."""
    parent = request.parent
    trace = trace_id_of(request.id) if parent is None else parent.trace_id
    began = int(request.began * _NANOS)
    own = SpanMade(
        f"POST {request.route}",
        trace,
        span_id_of(request.id, 0),
        None if parent is None else parent.span_id,
        server=True,
        started=began,
        ended=began + int(request.seconds * _NANOS),
        attributes=_request_attributes(request),
        failed=request.outcome in FAULTS,
    )
    found = [own, *(_attempt(request, each, own, places) for each in request.attempts)]
    if older_names:
        for span in found:
            add_former_names(span)
    return found


def add_former_names(span: SpanMade) -> None:
    """What was renamed is told by its former name as well."""
    for name, older in names.FORMER_NAMES.items():
        if name in span.attributes:
            span.attributes[older] = span.attributes[name]


def _request_attributes(request: RequestTraced) -> dict[str, Attribute]:
    return told(
        {
            names.HTTP_METHOD: "POST",
            names.HTTP_ROUTE: request.route,
            names.HTTP_STATUS: request.status,
            names.OPERATION: names.OPERATION_NAMES.get(request.kind, request.kind),
            names.REQUEST_MODEL: request.model,
            names.REQUEST_STREAM: request.stream,
            names.REQUEST_ID: request.id,
            names.ACCOUNT_ID: request.account_id,
            names.KEY_ID: request.key_id,
            names.CLIENT: request.client,
            names.OUTCOME: request.outcome,
            names.COUNTED: request.counted,
            names.ERROR_TYPE: request.error,
        }
    )


def _attempt(request: RequestTraced, made: AttemptTraced, own: SpanMade, places: VendorPlaces) -> SpanMade:
    place = places(made.provider, made.dialect)
    kind = made.provider if place is None else place.kind
    operation = names.OPERATION_NAMES.get(request.kind, request.kind)
    attributes: dict[str, Attribute | None] = {
        names.OPERATION: operation,
        names.PROVIDER: names.PROVIDER_NAMES.get(kind, kind),
        names.REQUEST_MODEL: made.model,
        names.REQUEST_MAX_TOKENS: request.max_tokens,
        names.REQUEST_STREAM: request.stream,
        names.HTTP_STATUS: made.status,
        names.SERVER_ADDRESS: None if place is None else place.host,
        names.SERVER_PORT: None if place is None else place.port,
        names.ERROR_TYPE: made.failure,
        names.ATTEMPT: made.number,
        names.REASON: made.reason,
        names.CREDENTIAL: made.credential,
        names.UPSTREAM_FORMAT: made.dialect,
        names.UPSTREAM_REQUEST: made.upstream_request_id,
        names.MAYBE_BILLED: made.maybe_billed,
    }
    if made.first_ms is not None:
        attributes[names.FIRST_CHUNK] = (made.first_ms - made.started_ms) / 1000
    if made is request.attempts[-1]:
        attributes |= _answer_attributes(request, made)
    start = own.started
    return SpanMade(
        f"{operation} {made.model}"[:_LONGEST],
        own.trace_id,
        span_id_of(request.id, made.number),
        own.span_id,
        server=False,
        started=start + made.started_ms * 1_000_000,
        ended=start + made.ended_ms * 1_000_000,
        attributes=told(attributes),
        failed=bool(made.failure),
    )


def _answer_attributes(request: RequestTraced, made: AttemptTraced) -> dict[str, Attribute | None]:
    """What is known of the answer: that of the last attempt. All input is told together, as the conventions have it."""
    usage = request.usage
    parts = [part for part in (usage.input, usage.cache_read, usage.cache_write) if part is not None]
    return {
        names.RESPONSE_MODEL: request.answered_model or ("" if made.failure else made.model),
        names.INPUT_TOKENS: sum(parts) if parts else None,
        names.OUTPUT_TOKENS: usage.output,
        names.CACHE_READ: usage.cache_read,
        names.CACHE_WRITE: usage.cache_write,
        names.REASONING_TOKENS: usage.reasoning,
    }


def told(attributes: dict[str, Attribute | None]) -> dict[str, Attribute]:
    """What is known; texts are cut, and stripped of what looks like a credential: the name of a model may be a caller's."""
    return {
        name: hide(value[:_LONGEST]) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None and value != ""
    }
