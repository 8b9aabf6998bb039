"""Metrics of what we ask of providers, by the conventions for generative AI: added up in memory, sent by a thread of its own.

They are OpenTelemetry's counterpart of what ``/metrics`` tells, for those who gather everything by OTLP. Every attempt counts,
not a sample; who called is in none of it.
"""

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Final

import msgspec

from penstock.operations.tracing import telemetry_names as names

log = logging.getLogger("penstock.operations.tracing")

TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
SECOND_BOUNDS: Final = tuple(round(0.01 * 2**power, 2) for power in range(14))
_MOST_SERIES: Final = 2_000
"""Series of one process at most; what is more is told as one of the model ``other``."""
_OTHER: Final = "other"
_LAST_SECONDS: Final = 2.0

Labels = tuple[tuple[str, str], ...]


class Asked(msgspec.Struct, frozen=True):
    """What an attempt is told by: the kind of model, the provider, and the model there."""

    kind: str
    provider: str
    model: str


class HistogramTold(msgspec.Struct, frozen=True):
    """One series of a metric as it stands. ``counts`` has one more than ``bounds``."""

    name: str
    unit: str
    labels: Labels
    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float
    least: float
    most: float


MetricsExport = Callable[[Sequence[HistogramTold]], bool]
"""Sends all series; whether the collector has taken them. Waits as long as that takes."""


class _Series:
    __slots__ = ("bounds", "counts", "least", "most", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = self.most = 0.0
        self.least = inf

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)


class ClientMetrics:
    """Adds up what attempts have taken and used. One per process; counted on the event loop, sent by a thread."""

    def __init__(self, vendor_of: Callable[[str], str], every: float) -> None:
        """``vendor_of`` says which vendor a provider is; all is sent ``every`` so many seconds."""
        self._vendor_of = vendor_of
        self._every = every
        self._series: dict[tuple[str, str, Asked, str], _Series] = {}
        self._ended = threading.Event()
        self._refused = False

    # ---- on the way of requests

    def took(self, asked: Asked, seconds: float, first: float | None, failure: str) -> None:
        """An attempt is over; ``first`` is when its first content came, of a stream that had any."""
        self._of(names.METRIC_DURATION, "s", asked, failure, SECOND_BOUNDS).add(seconds)
        if first is not None:
            self._of(names.METRIC_FIRST_CHUNK, "s", asked, "", SECOND_BOUNDS).add(first)

    def used(self, asked: Asked, input_tokens: int | None, output_tokens: int | None) -> None:
        """An answer has used so many, of which some are unknown."""
        if input_tokens is not None:
            self._of(names.METRIC_TOKENS, "{token}", asked, "input", TOKEN_BOUNDS).add(input_tokens)
        if output_tokens is not None:
            self._of(names.METRIC_TOKENS, "{token}", asked, "output", TOKEN_BOUNDS).add(output_tokens)

    def _of(self, name: str, unit: str, asked: Asked, word: str, bounds: Sequence[float]) -> _Series:
        key = name, unit, asked, word
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= _MOST_SERIES and asked.model != _OTHER:
                return self._of(name, unit, msgspec.structs.replace(asked, model=_OTHER), word, bounds)
            found = self._series[key] = _Series(bounds)
        return found

    # ---- beside it

    def told(self) -> list[HistogramTold]:
        """Every series, as it stands."""
        return [
            HistogramTold(
                name,
                unit,
                self._labels(name, asked, word),
                it.bounds,
                tuple(it.counts),
                it.sum,
                it.least,
                it.most,
            )
            for (name, unit, asked, word), it in list(self._series.items())
        ]

    def _labels(self, name: str, asked: Asked, word: str) -> Labels:
        vendor = self._vendor_of(asked.provider)
        labels = [
            (names.OPERATION, names.OPERATION_NAMES.get(asked.kind, asked.kind)),
            (names.PROVIDER, names.PROVIDER_NAMES.get(vendor, vendor)),
            (names.REQUEST_MODEL, asked.model),
        ]
        if word:
            labels.append((names.TOKEN_TYPE if name == names.METRIC_TOKENS else names.ERROR_TYPE, word))
        return tuple(labels)

    @contextmanager
    def running(self, export: MetricsExport) -> Generator[None]:
        """All series are sent from a thread, every so often and at the end."""
        thread = threading.Thread(target=self._run, args=(export,), name="client metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(_LAST_SECONDS)

    def _run(self, export: MetricsExport) -> None:
        while not self._ended.wait(self._every):
            self._send(export)
        self._send(export)

    def _send(self, export: MetricsExport) -> None:
        found = self.told()
        if not found:
            return
        taken = export(found)
        if taken == self._refused:
            self._refused = not taken
            if self._refused:
                log.warning("the collector does not take metrics")
            else:
                log.info("the collector takes metrics again")
