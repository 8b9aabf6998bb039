"""What is counted for the operator: requests, tokens, upstream failures and times, in the Prometheus format.

Children are made once and kept, because looking one up by its labels costs more than counting. No label ever holds
anything of a request but its dialect, status, provider and public model.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "penstock_requests", "Answers by dialect and status.", ("dialect", "status"), registry=self._registry
        )
        self._outcomes = Counter(
            "penstock_relayed", "Relayed requests by model, provider and outcome.", ("model", "provider", "outcome"),
            registry=self._registry,
        )
        self._tokens = Counter(
            "penstock_tokens", "Tokens by model and class.", ("model", "kind"), registry=self._registry
        )
        self._failures = Counter(
            "penstock_upstream_failures", "Failed attempts by provider and cause.", ("provider", "code"),
            registry=self._registry,
        )
        self._first_byte = Histogram(
            "penstock_first_byte_seconds", "Receipt to first byte of the answer.", ("model",), buckets=_SECONDS,
            registry=self._registry,
        )
        self._running = Gauge("penstock_running", "Requests being relayed now.", registry=self._registry)
        self._answered: dict[tuple[str, int], Counter] = {}
        self._settled: dict[tuple[str, str, str], Counter] = {}
        self._counted: dict[tuple[str, str], Counter] = {}
        self._timed: dict[str, Histogram] = {}

    def answered(self, dialect: str, status: int) -> None:
        """An answer went out."""
        child = self._answered.get((dialect, status))
        if child is None:
            child = self._answered[dialect, status] = self._requests.labels(dialect, str(status))
        child.inc()

    def entered(self) -> None:
        """A request is being relayed."""
        self._running.inc()

    def settled(
        self, model: str, provider: str, outcome: str, *, input_tokens: int, output_tokens: int, first_byte: float | None
    ) -> None:
        """A relayed request has ended. ``first_byte`` is in seconds after receipt."""
        self._running.dec()
        key = (model, provider, outcome)
        child = self._settled.get(key)
        if child is None:
            child = self._settled[key] = self._outcomes.labels(*key)
        child.inc()
        if input_tokens:
            self._token(model, "input").inc(input_tokens)
        if output_tokens:
            self._token(model, "output").inc(output_tokens)
        if first_byte is not None:
            timed = self._timed.get(model)
            if timed is None:
                timed = self._timed[model] = self._first_byte.labels(model)
            timed.observe(first_byte)

    def upstream_failed(self, provider: str, code: str) -> None:
        """An attempt failed by the provider's fault."""
        self._failures.labels(provider, code).inc()

    def render(self) -> bytes:
        """All of it in the text format."""
        return generate_latest(self._registry)

    def _token(self, model: str, kind: str) -> Counter:
        child = self._counted.get((model, kind))
        if child is None:
            child = self._counted[model, kind] = self._tokens.labels(model, kind)
        return child
