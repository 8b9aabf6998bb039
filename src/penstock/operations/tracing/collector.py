"""The collector that the settings name: what sends traces and metrics to it, for as long as the service runs."""

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec

from penstock import __version__
from penstock.domain.catalog.catalog import Catalog
from penstock.errors import OperatorError
from penstock.operations.metrics import Metrics
from penstock.operations.tracing import telemetry_names as names
from penstock.operations.tracing.client_metrics import ClientMetrics, MetricsExport
from penstock.operations.tracing.traces import Sampling, SpanExport, Traces
from penstock.settings import Settings


class Telling(msgspec.Struct, frozen=True):
    """What is told of requests that have ended: their traces, and metrics of what providers were asked. None: it is off."""

    traces: Traces | None
    client_metrics: ClientMetrics | None


@contextmanager
def tracing(
    settings: Settings, catalog: Callable[[], Catalog], boot: str, metrics: Metrics
) -> Generator[Telling]:
    """What tells collectors of requests until the end. ``boot`` names this process.

    Raises ``OperatorError`` where the extra is not installed, or a header is none.
    """
    with (
        _traces(settings, catalog, boot, metrics) as traces,
        _client_metrics(settings, catalog, boot) as client_metrics,
    ):
        yield Telling(traces, client_metrics)


@contextmanager
def _traces(
    settings: Settings, catalog: Callable[[], Catalog], boot: str, metrics: Metrics
) -> Generator[Traces | None]:
    if not settings.otel_endpoint:
        yield None
        return
    sampling = Sampling(
        settings.otel_sample,
        settings.otel_slow,
        settings.otel_trust_callers,
        settings.otel_queue,
        settings.otel_names,
    )
    traces = Traces(sampling, _span_export(settings, boot), catalog, random.random)
    metrics.traces = traces.counts
    with traces.running():
        yield traces


@contextmanager
def _client_metrics(
    settings: Settings, catalog: Callable[[], Catalog], boot: str
) -> Generator[ClientMetrics | None]:
    if not settings.otel_metrics_endpoint:
        yield None
        return

    def vendor_of(provider: str) -> str:
        upstream = catalog().upstreams.get(provider)
        return provider if upstream is None else upstream.kind

    made = ClientMetrics(vendor_of, settings.otel_metrics_seconds)
    with made.running(_metrics_export(settings, boot)):
        yield made


def _span_export(settings: Settings, boot: str) -> SpanExport:
    try:
        from penstock.operations.tracing.otlp import OtlpExport  # noqa: PLC0415 - 14 MB, where there is a collector
    except ImportError as error:
        raise _extra_wanted("otel_endpoint") from error
    return OtlpExport(
        settings.otel_endpoint,
        _headers(settings),
        timeout=settings.otel_timeout,
        service=_service(settings, boot),
        version=__version__,
    )


def _metrics_export(settings: Settings, boot: str) -> MetricsExport:
    try:
        from penstock.operations.tracing.otlp_metrics import OtlpMetrics  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise _extra_wanted("otel_metrics_endpoint") from error
    return OtlpMetrics(
        settings.otel_metrics_endpoint,
        _headers(settings),
        timeout=settings.otel_timeout,
        service=_service(settings, boot),
        version=__version__,
    )


def _extra_wanted(setting: str) -> OperatorError:
    return OperatorError(f"{setting} is set: install the extra, pip install 'penstock[otel]'")


def _headers(settings: Settings) -> dict[str, str]:
    headers: dict[str, str] = {}
    for header in settings.otel_headers:
        name, sign, value = header.partition("=")
        if not sign or not name.strip():
            raise OperatorError("otel_headers: write NAME=VALUE")
        headers[name.strip()] = value.strip()
    return headers


def _service(settings: Settings, boot: str) -> dict[str, str]:
    return {
        names.SERVICE_NAME: settings.brand,
        names.SERVICE_VERSION: __version__,
        names.SERVICE_INSTANCE: boot,
    }
