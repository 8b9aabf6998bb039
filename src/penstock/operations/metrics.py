"""Metrics for the operator: requests, tokens, upstream failures and times, in the Prometheus format.

Counting is a dictionary's business, because every request pays for it; prometheus-client writes the counts out when they
are asked for. No label ever holds anything of a request but its dialect, status, provider and public model.
"""

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from penstock.core.body import scanner
from penstock.operations.health import Health

log = logging.getLogger("penstock.operations.metrics")

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, float("inf"))
_EDGES = tuple("+Inf" if edge == float("inf") else str(edge) for edge in _SECONDS)


class _Times:
    """How many durations fell into each bucket, and their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_SECONDS)
        self.total = 0.0

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as the format has it."""
        below = 0
        found: list[tuple[str, float]] = []
        for edge, count in zip(_EDGES, self.counts, strict=True):
            below += count
            found.append((edge, below))
        return found


def _histogram(
    name: str, about: str, labels: tuple[str, str], times: Mapping[tuple[str, str], _Times]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, about, labels=labels)
    for values, each in times.items():
        family.add_metric(values, each.buckets(), each.total)
    return family


_STICKY = "sticky"
"""How the reasons begin that are about the place of a conversation."""


class Metrics(Collector):
    """The counts of one process."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._answered: dict[tuple[str, int], int] = {}
        self._outcomes: dict[tuple[str, str, str, str], int] = {}
        """By model, provider, outcome, and why that provider was asked: one sum for a request, told in two metrics."""
        self._tokens: dict[tuple[str, str], int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._failovers: dict[tuple[str, str, str], int] = {}
        self._other_models: dict[str, int] = {}
        self._first_byte: dict[str, _Times] = {}
        self._first_content: dict[tuple[str, str], _Times] = {}
        self._cached: dict[tuple[str, str], int] = {}
        self._queued: dict[tuple[str, str], _Times] = {}
        self._hedges: dict[tuple[str, str], int] = {}
        self._running = 0
        self.more: Callable[[], Iterable[Metric]] = tuple
        """What else is told, by whoever knows of upstreams."""
        self.traces: Callable[[], tuple[int, int]] | None = None
        """How many requests were traced, and how many of those that were to be are lost; None where there is no collector."""
        self.export_lags: dict[str, float] = {}
        """Seconds that each destination of exports is behind."""
        self.outbox: dict[str, tuple[int, float]] = {}
        """By kind (mail, webhook): how many messages have not gone out yet, and the age of the oldest in seconds."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, dialect: str, status: int) -> None:
        """An answer went out."""
        key = (dialect, status)
        self._answered[key] = self._answered.get(key, 0) + 1

    def entered(self) -> None:
        """A request is being relayed."""
        self._running += 1

    def settled(
        self,
        model: str,
        provider: str,
        outcome: str,
        *,
        input_tokens: int,
        output_tokens: int,
        first_byte: float | None,
        first_content: float | None = None,
        reason: str = "",
        cached_tokens: int = 0,
        by_another_model: bool = False,
    ) -> None:
        """A relayed request has ended. ``first_byte`` is in seconds after receipt, ``first_content`` after its attempt began.

        ``reason`` is why that was made at this provider; '': it was asked nothing. ``cached_tokens`` the provider has read
        from its cache. ``by_another_model``: the answer names another model than the provider was asked for.
        """
        self._running -= 1
        key = (model, provider, outcome, reason)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        if by_another_model:
            self._other_models[provider] = self._other_models.get(provider, 0) + 1
        tokens = self._tokens
        if input_tokens:
            tokens[model, "input"] = tokens.get((model, "input"), 0) + input_tokens
        if output_tokens:
            tokens[model, "output"] = tokens.get((model, "output"), 0) + output_tokens
        if first_byte is not None:
            times = self._first_byte.get(model)
            if times is None:
                times = self._first_byte[model] = _Times()
            times.note(first_byte)
        if first_content is not None:
            place = (model, provider)
            times = self._first_content.get(place)
            if times is None:
                times = self._first_content[place] = _Times()
            times.note(first_content)
        if cached_tokens:
            place = (model, provider)
            self._cached[place] = self._cached.get(place, 0) + cached_tokens

    def queued(self, model: str, seconds: float, *, served: bool) -> None:
        """A request has waited so long for a place at a provider; or in vain."""
        key = (model, "served" if served else "in vain")
        self._queued.setdefault(key, _Times()).note(seconds)

    def hedged(self, provider: str, works: bool) -> None:
        """A request was asked of another provider beside this one, which works after all, or does not."""
        key = (provider, "works" if works else "fails")
        self._hedges[key] = self._hedges.get(key, 0) + 1

    def upstream_failed(self, provider: str, code: str) -> None:
        """An attempt failed by the provider's fault."""
        key = (provider, code)
        self._failures[key] = self._failures.get(key, 0) + 1

    def failed_over(self, provider: str, to: str, found: str) -> None:
        """After a failure of this class at ``provider`` another attempt is made, at ``to``; which may be the same."""
        key = (provider, to, found)
        self._failovers[key] = self._failovers.get(key, 0) + 1

    def render(self) -> bytes:
        """All of it in the text format."""
        return generate_latest(self._registry)

    def _further_attempts(self) -> Metric:
        failovers = CounterMetricFamily(
            "penstock_failovers",
            "Further attempts by the provider that failed, the one that was asked next, and the class of the failure.",
            labels=("from", "to", "class"),
        )
        for triple, count in self._failovers.items():
            failovers.add_metric(triple, count)
        return failovers

    def _traced(self) -> Iterator[Metric]:
        if self.traces is None:
            return
        found = CounterMetricFamily(
            "penstock_traces",
            "Requests whose traces the collector has taken, or that were lost.",
            labels=("state",),
        )
        for state, count in zip(("sent", "lost"), self.traces(), strict=True):
            found.add_metric((state,), count)
        yield found

    def _choices(self) -> Iterator[Metric]:
        """Of the choice of providers, and what came of it."""
        choices = CounterMetricFamily(
            "penstock_choices", "Requests by why their last provider was asked.", labels=("reason",)
        )
        affinity = CounterMetricFamily(
            "penstock_affinity",
            "Requests of conversations: kept at their own provider, or why they have left it.",
            labels=("result",),
        )
        reasons: dict[str, int] = {}
        for (*_, reason), count in self._outcomes.items():
            if reason:
                reasons[reason] = reasons.get(reason, 0) + count
        for reason, count in reasons.items():
            choices.add_metric((reason,), count)
            if reason.startswith(_STICKY):
                affinity.add_metric((reason.removeprefix(_STICKY).removeprefix("_") or "kept",), count)
        yield choices
        yield affinity
        yield _histogram(
            "penstock_upstream_first_content_seconds",
            "From the beginning of the attempt that was answered to its first content.",
            ("model", "provider"),
            self._first_content,
        )
        yield _histogram(
            "penstock_queue_seconds",
            "Waiting for a place at a provider that takes only so many requests at once.",
            ("model", "result"),
            self._queued,
        )
        cached = CounterMetricFamily(
            "penstock_cached_tokens",
            "Tokens of prompts that providers have read from their caches.",
            labels=("model", "provider"),
        )
        for place, count in self._cached.items():
            cached.add_metric(place, count)
        yield cached
        hedges = CounterMetricFamily(
            "penstock_hedges",
            "Requests that were asked of another provider beside one that was out, by what came of that one.",
            labels=("provider", "result"),
        )
        for key, count in self._hedges.items():
            hedges.add_metric(key, count)
        yield hedges

    def collect(self) -> Iterator[Metric]:
        """The counts as prometheus-client's records."""
        answers = CounterMetricFamily(
            "penstock_requests", "Answers by dialect and status.", labels=("dialect", "status")
        )
        for (dialect, status), count in self._answered.items():
            answers.add_metric((dialect, str(status)), count)
        yield answers
        relayed = CounterMetricFamily(
            "penstock_relayed",
            "Relayed requests by model, provider and outcome.",
            labels=("model", "provider", "outcome"),
        )
        outcomes: dict[tuple[str, str, str], int] = {}
        for (model, provider, outcome, _), count in self._outcomes.items():
            outcomes[model, provider, outcome] = outcomes.get((model, provider, outcome), 0) + count
        for labels, count in outcomes.items():
            relayed.add_metric(labels, count)
        yield relayed
        tokens = CounterMetricFamily(
            "penstock_tokens", "Tokens by model and class.", labels=("model", "kind")
        )
        for pair, count in self._tokens.items():
            tokens.add_metric(pair, count)
        yield tokens
        failures = CounterMetricFamily(
            "penstock_upstream_failures",
            "Failed attempts by provider and cause.",
            labels=("provider", "code"),
        )
        for pair, count in self._failures.items():
            failures.add_metric(pair, count)
        yield failures
        yield self._further_attempts()
        others = CounterMetricFamily(
            "penstock_answers_by_another_model",
            "Answers that name another model than the provider was asked for.",
            labels=("provider",),
        )
        for provider, count in self._other_models.items():
            others.add_metric((provider,), count)
        yield others
        first = HistogramMetricFamily(
            "penstock_first_byte_seconds", "Receipt to first byte of the answer.", labels=("model",)
        )
        for model, times in self._first_byte.items():
            first.add_metric((model,), times.buckets(), times.total)
        yield first
        yield from self._choices()
        yield GaugeMetricFamily("penstock_running", "Requests being relayed now.", value=self._running)
        runs_on = GaugeMetricFamily(
            "penstock_scanner_info",
            "Which scanner of request bodies this server runs on.",
            labels=("scanner",),
        )
        runs_on.add_metric((scanner.KIND,), 1)
        yield runs_on
        yield from self._parts()
        yield from self._traced()
        yield from self._outward()
        yield from self.more()

    def _outward(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "penstock_export_lag_seconds",
            "Since when a destination of exports has not got what was settled.",
            labels=("destination",),
        )
        for name, seconds in self.export_lags.items():
            lag.add_metric((name,), seconds)
        yield lag
        due = GaugeMetricFamily(
            "penstock_outbox_due", "Messages that have not gone out yet.", labels=("kind",)
        )
        oldest = GaugeMetricFamily(
            "penstock_outbox_oldest_seconds", "How old the oldest of them is.", labels=("kind",)
        )
        for kind, (count, seconds) in self.outbox.items():
            due.add_metric((kind,), count)
            oldest.add_metric((kind,), seconds)
        yield due
        yield oldest

    def _parts(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "penstock_part_up",
            "Whether a part that this server needs works (1) or not (0).",
            labels=("part",),
        )
        failures = CounterMetricFamily(
            "penstock_part_failures", "How often a part was found to have stopped working.", labels=("part",)
        )
        for part in self._health.look():
            up.add_metric((part.name,), float(part.works))
            failures.add_metric((part.name,), part.failures)
        yield up
        yield failures
        yield GaugeMetricFamily(
            "penstock_settlements_owed",
            "Ends of requests that the database has not taken yet.",
            value=self._health.owed,
        )
        if self._health.differences is not None:
            yield GaugeMetricFamily(
                "penstock_ledger_differences",
                "Counts and sums of the last whole day that are not those of the ledger's rows.",
                value=self._health.differences,
            )


class SharedMetrics:
    """The metrics of all workers of one machine, since a scraper cannot choose which of them answers it.

    Each worker writes its own to a file every few seconds; whoever is asked adds those of the others, and says by a label
    ``worker``, a process id, whose each number is.
    """

    def __init__(self, metrics: Metrics, directory: Path, *, alone: bool) -> None:
        """``directory`` is shared by the workers; with ``alone`` there is one, and no label."""
        self._metrics = metrics
        self._directory = directory
        self._alone = alone
        self._name = str(os.getpid())

    def tell(self) -> None:
        """Let the others know."""
        if self._alone:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._directory / f"{self._name}.new"
            new.write_bytes(self._metrics.render())
            new.replace(self._directory / f"{self._name}.prom")
        except OSError as error:
            log.warning("the other workers are not told our metrics: %s", error)

    def forget(self) -> None:
        """This worker ends."""
        (self._directory / f"{self._name}.prom").unlink(missing_ok=True)

    def render(self) -> bytes:
        """All of them in the text format."""
        own = self._metrics.render()
        if self._alone:
            return own
        told = {self._name: own}
        for file in self._directory.glob("*.prom"):
            try:
                if file.stem not in told and time.time() - file.stat().st_mtime < _FRESH_SECONDS:
                    told[file.stem] = file.read_bytes()
            except FileNotFoundError:
                pass  # it has just ended
        return gathered(told)


def gathered(told: Mapping[str, bytes]) -> bytes:
    """Several renderings, by worker, as one."""
    families: dict[str, Metric] = {}
    for worker, text in sorted(told.items()):
        for family in text_string_to_metric_families(text.decode()):
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                into.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
    registry = CollectorRegistry()
    registry.register(_Gathered(tuple(families.values())))
    return generate_latest(registry)


class _Gathered(Collector):
    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


_FRESH_SECONDS = 30.0
"""Seconds without metrics after which a worker counts as gone."""
