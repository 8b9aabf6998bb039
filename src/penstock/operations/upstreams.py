"""What this process knows of upstreams, for the operator: told in a file, in metrics, and by alerts.

Each worker writes what it knows to a file of its own every few seconds, and ``penstock upstreams`` reads all of them. The
operator's word comes the other way, with the catalogue's revision: what is to be forgotten is forgotten here.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from penstock.core.catalog import Model
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.candidates import UpstreamKey
from penstock.core.routing.health import Health
from penstock.core.routing.snapshot import LegView, Snapshot, taken
from penstock.core.routing.switches import Reach
from penstock.domain.catalog.catalog_store import CatalogSource
from penstock.domain.notifications.staff_events import Condition

log = logging.getLogger("penstock.operations.upstreams")

VIEWS = "upstreams"
"""Of the data directory: where each worker tells what it knows."""
_ERRORS_KEPT = 3
_FRESH_SECONDS = 30.0
"""Seconds without a word after which a worker counts as gone."""
_ALL_OUT_SECONDS = 60.0
"""How long all upstreams of a model are out before the operator is told."""
_SCARCE, _SCARCE_SECONDS = 0.05, 300.0
"""Below which part of its limits, and for how long, an upstream is told of."""
_LABELS = ("provider", "model", "credential")


class FailureSeen(msgspec.Struct, frozen=True):
    """A failed attempt, as the provider has told of it; ``at`` in epoch milliseconds."""

    at: int
    failure: str
    status: int | None
    message: str | None
    upstream_request_id: str | None


class FailuresOfLeg(msgspec.Struct, frozen=True):
    """How often each kind of failure was met at one upstream since the process began, and the last few."""

    provider: str
    model: str
    credential: str
    counts: dict[str, int]
    last: tuple[FailureSeen, ...]


class UpstreamFailures:
    """The failures of this process. Counted when they happen, which is rare."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` gives epoch seconds."""
        self._now = now
        self._seen: dict[UpstreamKey, tuple[dict[str, int], deque[FailureSeen]]] = {}

    def note(
        self,
        key: UpstreamKey,
        failure: str,
        status: int | None,
        message: str | None,
        upstream_request_id: str | None,
    ) -> None:
        """An attempt there has failed."""
        counts, last = self._seen.setdefault(key, ({}, deque(maxlen=_ERRORS_KEPT)))
        counts[failure] = counts.get(failure, 0) + 1
        last.append(FailureSeen(int(self._now() * 1000), failure, status, message, upstream_request_id))

    def heard(
        self, key: UpstreamKey, upstream_request_id: str | None, status: int | None, message: str
    ) -> None:
        """What the provider has said of an attempt that failed a moment ago has come after all."""
        _, last = self._seen[key]
        for at in range(len(last) - 1, -1, -1):
            it = last[at]
            if it.message is None and (it.status, it.upstream_request_id) == (status, upstream_request_id):
                last[at] = msgspec.structs.replace(it, message=message)
                return

    def all(self) -> tuple[FailuresOfLeg, ...]:
        """All that were met."""
        return tuple(
            FailuresOfLeg(*key, dict(counts), tuple(last)) for key, (counts, last) in self._seen.items()
        )

    def of(self, key: UpstreamKey) -> dict[str, int]:
        """How often each kind was met there."""
        return self._seen[key][0] if key in self._seen else {}


class WorkerView(msgspec.Struct, frozen=True):
    """What one worker knows, at ``at`` in epoch milliseconds."""

    worker: int
    at: int
    snapshot: Snapshot
    failures: tuple[FailuresOfLeg, ...]


class Alert(msgspec.Struct, frozen=True):
    """What the operator is told, once an hour for each cause. ``kind`` and ``about`` name the cause."""

    kind: str
    about: str
    text: str
    mailed: bool = True
    """Else the log alone has it, because another mail tells of the same."""
    cause: str = ""
    """The class of the failure, where there is one."""
    leg: tuple[str, str] | None = None
    """The provider and its model, where it is about one."""


class UpstreamWatch:
    """Follows the operator's word, and tells what is known. One per process."""

    def __init__(
        self,
        *,
        health: Health,
        failures: UpstreamFailures,
        catalog: CatalogSource,
        directory: Path,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, ``now`` gives epoch seconds; ``directory`` is shared by the workers."""
        self._health = health
        self._failures = failures
        self._catalog = catalog
        self._directory = directory
        self._clock = clock
        self._now = now
        self._began = int(now() * 1000)
        self._resets: dict[Reach, int] = {}
        self._out_since: dict[str, float] = {}
        self._found: list[Alert] = []
        self._low_since: dict[UpstreamKey, float] = {}

    def look(self) -> list[Alert]:
        """Forget what is to be forgotten, tell what is known; what the operator has to hear of."""
        self._follow()
        self._tell()
        self._found = self._alerts() if self._health.abnormal else []
        if not self._health.abnormal:
            self._out_since.clear()
            self._low_since.clear()
        return self._found

    def conditions(self) -> list[Condition]:
        """What lasts of what was found last, and the circuits that are open, as the staff are told of it."""
        if not self._health.abnormal:
            return []
        # the names behind a wildcard are callers' words
        named = {
            (target.provider, target.model)
            for model in self._catalog.current.models.values()
            for target in model.targets
        }
        found = [
            Condition(_event_of(it), it.about, it.text)
            for it in self._found
            if it.leg is None or it.leg in named
        ]
        for view in taken(self._health, self._clock()).legs:
            # what is heard of another process, that one tells of
            is_open = any(circuit.state == "open" and not circuit.heard for circuit in view.circuits[:2])
            if is_open and (view.provider, view.model) in named:
                where = f"{view.provider}/{view.model}"
                text = f"{where} fails too often, and is left alone for a while"
                found.append(Condition("target.circuit_opened", where, text))
        return list({(it.event, it.object): it for it in found}.values())

    def forget(self) -> None:
        """This worker ends."""
        (self._directory / f"{os.getpid()}.json").unlink(missing_ok=True)

    def _follow(self) -> None:
        for switch in self._catalog.switches:
            reset_at = switch.reset_at
            if reset_at is not None and reset_at > self._resets.get(switch.reach, self._began):
                self._resets[switch.reach] = reset_at
                count = self._health.reset(switch.reach.means, self._clock())
                log.info("forgotten what was known of %s", switch.reach, extra={"rows": count})

    def _tell(self) -> None:
        view = WorkerView(
            os.getpid(),
            int(self._now() * 1000),
            taken(self._health, self._clock()),
            self._failures.all(),
        )
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._directory / f"{os.getpid()}.new"
            new.write_bytes(msgspec.json.encode(view))
            new.replace(self._directory / f"{os.getpid()}.json")
        except OSError as error:
            log.warning("what is known of upstreams cannot be told: %s", error)

    # ---- alerts

    def _alerts(self) -> list[Alert]:
        now = self._clock()
        found: list[Alert] = []
        views = {(view.provider, view.model, view.credential): view for view in taken(self._health, now).legs}
        switched_off: set[tuple[str, str]] = set()
        for view in views.values():
            if view.circuits[2].state == "off":
                switched_off.add((view.provider, view.credential))
        for provider, credential in sorted(switched_off):
            name = f"{provider}/{credential}" if credential else provider
            cause = next(
                view.last_class
                for view in views.values()
                if (view.provider, view.credential) == (provider, credential)
            )
            found.append(
                # operations/provider_refusals.py mails of it, with what the provider has said
                Alert(
                    "credential_off",
                    name,
                    f"The credential of {name} is not taken any more ({cause}).",
                    mailed=False,
                    cause=cause,
                )
            )
        found += self._models_out(views, now)
        found += self._nearly_used_up(views, now)
        return found

    def _nearly_used_up(self, views: dict[UpstreamKey, LegView], now: float) -> Iterator[Alert]:
        for key, view in views.items():
            scarce = sorted(kind for kind, ratio in view.headroom.items() if ratio < _SCARCE)
            if not scarce:
                self._low_since.pop(key, None)
            elif now - self._low_since.setdefault(key, now) > _SCARCE_SECONDS:
                provider, model, credential = key
                name = f"{provider}/{credential}:{model}" if credential else f"{provider}:{model}"
                kinds = ", ".join(scarce)
                text = f"{name} is near the end of its limits ({kinds}) for minutes."
                yield Alert("headroom", name, text, leg=(provider, model))

    def _models_out(self, views: dict[UpstreamKey, LegView], now: float) -> Iterator[Alert]:
        catalog = self._catalog.current
        for model in catalog.models.values():
            legs = [
                view
                for target in model.targets
                for view in views.values()
                if (view.provider, view.model) == (target.provider, target.model)
            ]
            known = {(view.provider, view.model) for view in legs}
            targets = {(it.provider, it.model) for it in model.targets if it.provider in catalog.upstreams}
            if not legs or known != targets or any(leg.until <= now for leg in legs):
                self._out_since.pop(model.id, None)
                continue
            since = self._out_since.setdefault(model.id, now)
            if now - since > _ALL_OUT_SECONDS:
                causes = ", ".join(sorted({leg.last_class for leg in legs}))
                yield Alert("model_out", model.id, f"All providers of {model.id} are out ({causes}).")

    # ---- metrics

    def metrics(self) -> Iterator[Metric]:
        """What is known, as prometheus-client's records."""
        return upstream_metrics(self._health, self._failures, self._catalog.current.models, self._clock())


def upstream_metrics(
    health: Health, failures: UpstreamFailures, models: Mapping[str, Model], now: float
) -> Iterator[Metric]:
    """What is known, as prometheus-client's records; the labels are the catalogue's words and our own."""
    attempts = CounterMetricFamily(
        "penstock_upstream_attempts",
        "Attempts that have ended, by the class of their failure; empty for those that were answered.",
        labels=(*_LABELS, "class"),
    )
    state = GaugeMetricFamily(
        "penstock_upstream_state", "1 for the state that it is in.", labels=(*_LABELS, "state")
    )
    hinted = GaugeMetricFamily(
        "penstock_upstream_hinted",
        "1 where another process has met what keeps it out, and this one has not.",
        labels=_LABELS,
    )
    running = GaugeMetricFamily("penstock_upstream_inflight", "Attempts that run now.", labels=_LABELS)
    most = GaugeMetricFamily(
        "penstock_upstream_limit",
        "How many attempts may run at once, as the catalogue says or as was learned, where that is limited.",
        labels=_LABELS,
    )
    headroom = GaugeMetricFamily(
        "penstock_upstream_headroom_ratio",
        "What is left of its limits, by what its answers say.",
        labels=(*_LABELS, "kind"),
    )
    named = {(target.provider, target.model) for model in models.values() for target in model.targets}
    for view in taken(health, now).legs:
        if (view.provider, view.model) not in named:
            continue  # of a wildcard: its callers choose the names, and there may be any number
        labels = (view.provider, view.model, view.credential)
        failed = failures.of(labels)
        answered = view.asked - view.in_flight - sum(failed.values())
        attempts.add_metric((*labels, ""), max(answered, 0))
        for failure, count in failed.items():
            attempts.add_metric((*labels, failure), count)
        state.add_metric((*labels, view.state(now)), 1)
        hinted.add_metric(labels, view.hinted(now))
        running.add_metric(labels, view.in_flight)
        if view.most is not None:
            most.add_metric(labels, view.most)
        for kind, ratio in view.headroom.items():
            headroom.add_metric((*labels, kind), ratio)
    yield attempts
    yield state
    yield hinted
    yield running
    yield most
    yield headroom
    tokens = GaugeMetricFamily(
        "penstock_retry_tokens", "What a model's budget for second attempts holds.", labels=("model",)
    )
    for model, left in health.budgets():
        if model in models:
            tokens.add_metric((model,), left)
    yield tokens


_EVENTS = {"model_out": "model.out", "headroom": "target.near_limit"}
"""What the staff are told of for each kind of alert; a credential that is off is two, by its cause."""


def _event_of(alert: Alert) -> str:
    if alert.kind in _EVENTS:
        return _EVENTS[alert.kind]
    spent = alert.cause == FailureClass.QUOTA.value
    return "provider_key.out_of_money" if spent else "provider_key.refused"


def worker_views(directory: Path) -> list[WorkerView]:
    """What the workers that run on this machine have told last, the newest first."""
    found: list[WorkerView] = []
    for file in directory.glob("*.json"):
        try:
            if time.time() - file.stat().st_mtime < _FRESH_SECONDS:
                found.append(msgspec.json.decode(file.read_bytes(), type=WorkerView))
        except (OSError, msgspec.DecodeError):
            continue  # it has just ended, or is of another version
    return sorted(found, key=lambda view: view.at, reverse=True)
