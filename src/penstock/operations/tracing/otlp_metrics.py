"""Metrics by OTLP over HTTP, as OpenTelemetry's own package encodes and sends them. Loaded where they are on alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from penstock.operations.tracing.client_metrics import HistogramTold


class OtlpMetrics:
    """Sends metrics to one collector, added up since this was made; the environment has no part in it."""

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
        self._exporter = OTLPMetricExporter(
            endpoint=endpoint, headers=dict(headers), timeout=timeout, session=session
        )
        self._resource = Resource(dict(service))
        self._scope = InstrumentationScope("penstock", version)
        self._began = time.time_ns()

    def __call__(self, found: Sequence[HistogramTold]) -> bool:
        """Whether the collector has taken them."""
        now = time.time_ns()
        units = {each.name: each.unit for each in found}
        metrics = [
            Metric(
                name,
                None,
                unit,
                Histogram(
                    [self._point(each, now) for each in found if each.name == name],
                    AggregationTemporality.CUMULATIVE,
                ),
            )
            for name, unit in units.items()
        ]
        scoped = ScopeMetrics(self._scope, metrics, "")
        data = MetricsData([ResourceMetrics(self._resource, [scoped], "")])
        export = cast("Callable[[MetricsData], MetricExportResult]", self._exporter.export)
        return export(data) is MetricExportResult.SUCCESS

    def _point(self, each: HistogramTold, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            dict(each.labels),
            self._began,
            now,
            sum(each.counts),
            each.sum,
            each.counts,
            each.bounds,
            min=each.least,
            max=each.most,
        )
