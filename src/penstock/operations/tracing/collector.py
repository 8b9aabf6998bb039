"""The collector that the settings name: what sends traces to it, for as long as the service runs."""

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager

from penstock import __version__
from penstock.domain.catalog.catalog import Catalog
from penstock.errors import OperatorError
from penstock.operations.metrics import Metrics
from penstock.operations.tracing import telemetry_names as names
from penstock.operations.tracing.traces import Sampling, SpanExport, Traces
from penstock.settings import Settings


@contextmanager
def tracing(
    settings: Settings, catalog: Callable[[], Catalog], boot: str, metrics: Metrics
) -> Generator[Traces | None]:
    """What traces requests until the end; None where no collector is named. ``boot`` names this process.

    Raises ``OperatorError`` where the extra is not installed, or a header is none.
    """
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
    traces = Traces(sampling, _export(settings, boot), catalog, random.random)
    metrics.traces = traces.counts
    with traces.running():
        yield traces


def _export(settings: Settings, boot: str) -> SpanExport:
    try:
        from penstock.operations.tracing.otlp import OtlpExport  # noqa: PLC0415 - 14 MB, where there is a collector
    except ImportError as error:
        raise OperatorError(
            "otel_endpoint is set: install the extra, pip install 'penstock[otel]'"
        ) from error
    headers: dict[str, str] = {}
    for header in settings.otel_headers:
        name, sign, value = header.partition("=")
        if not sign or not name.strip():
            raise OperatorError("otel_headers: write NAME=VALUE")
        headers[name.strip()] = value.strip()
    service = {
        names.SERVICE_NAME: settings.brand,
        names.SERVICE_VERSION: __version__,
        names.SERVICE_INSTANCE: boot,
    }
    return OtlpExport(
        settings.otel_endpoint, headers, timeout=settings.otel_timeout, service=service, version=__version__
    )
