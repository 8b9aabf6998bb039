"""OTLP over HTTP: spans as OpenTelemetry's own package encodes and sends them. Loaded where traces are on, and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from penstock.operations.tracing.spans import SpanMade

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_FINE: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)


class OtlpExport:
    """Sends spans to one collector; the environment's proxies and variables have no part in it."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        service: Mapping[str, str],
        version: str,
    ) -> None:
        """``endpoint`` is the whole address; ``service`` says who we are, by OpenTelemetry's names."""
        session = requests.Session()
        session.trust_env = False
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, headers=dict(headers), timeout=timeout, session=session
        )
        self._resource = Resource(dict(service))
        self._scope = InstrumentationScope("penstock", version)

    def __call__(self, spans: Sequence[SpanMade]) -> bool:
        """Whether the collector has taken them."""
        return (
            self._exporter.export([_readable(span, self._resource, self._scope) for span in spans])
            is SpanExportResult.SUCCESS
        )


def body_of_spans(spans: Sequence[SpanMade], service: Mapping[str, str], version: str) -> bytes:
    """The body of a request that carries these spans; ``service`` says who we are, by OpenTelemetry's names."""
    resource, scope = Resource(dict(service)), InstrumentationScope("penstock", version)
    return encode_spans([_readable(span, resource, scope) for span in spans]).SerializeToString()


def _readable(span: SpanMade, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(span.trace_id, span.parent_id, is_remote=span.server, trace_flags=_SAMPLED)
    return ReadableSpan(
        span.name,
        SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED),
        parent,
        resource,
        span.attributes,
        kind=SpanKind.SERVER if span.server else SpanKind.CLIENT,
        status=_FAILED if span.failed else _FINE,
        start_time=span.started,
        end_time=span.ended,
        instrumentation_scope=scope,
    )
