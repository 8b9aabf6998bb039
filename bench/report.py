"""A finished run as Markdown tables and as JSON."""

import json
from dataclasses import asdict, dataclass, field

from bench.gauges import Machine
from bench.measure import Memory, Reading, middle, paired_ratio
from bench.scenarios import (
    BUDGETS,
    IDLE_BUDGET_MB,
    IDLE_PEERS,
    PEERS_ONLY,
    SCENARIOS,
    START_BUDGET_SECONDS,
    START_PEERS,
    STREAM_BUDGET_KB,
    TTFT_BUDGET_MS,
    TTFT_PEERS,
    Scenario,
)

_MEASURED = "penstock"
_FLOOR = "nginx"
_TTFT_SCENARIO = "relay-paced"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the load generator saw answered, and what the gateway says it counted for the same user and day."""

    answered: int
    counted: int


@dataclass(slots=True)
class Results:
    """All that one run found. ``readings`` is by scenario, then by subject; ``seconds_to_first_answer`` by kind of start."""

    command: str
    when: str
    machine: Machine
    versions: dict[str, str]
    readings: dict[str, dict[str, list[Reading]]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    seconds_to_first_answer: dict[str, list[float]] = field(default_factory=dict)
    ledger: Ledger | None = None

    def as_json(self) -> str:
        """Every reading, unrounded."""
        return json.dumps(asdict(self), indent=1) + "\n"


def _figure(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [_row(*header), _row(*("---" for _ in header)), *(_row(*row) for row in rows)]


def _difference(value: float | None, floor: float | None) -> float | None:
    return None if value is None or floor is None else value - floor


def _costs(results: Results, scenarios: list[Scenario]) -> list[str]:
    """CPU, rate and added time of requests."""
    rows: list[list[str]] = []
    for scenario in scenarios:
        runs = results.readings[scenario.name]
        direct = middle(runs["direct"]) if "direct" in runs else None
        for name in (name for name in (_FLOOR, _MEASURED) if name in runs):
            at = middle(runs[name])
            spread = sorted(value for reading in runs[name] if (value := reading.cpu(scenario)) is not None)
            rows.append(
                [
                    scenario.name,
                    name,
                    _figure(at.cpu(scenario)),
                    f"{_figure(spread[0])}-{_figure(spread[-1])}" if spread else "-",
                    _figure(at.per_second, 0),
                    f"{at.core_use:.0%}",
                    _figure(at.latency_p50, 2),
                    _figure(at.latency_p99, 2),
                    _figure(_difference(at.latency_p50, direct.latency_p50 if direct else None), 2),
                    _figure(_difference(at.latency_p99, direct.latency_p99 if direct else None), 2),
                    str(at.failed),
                    f"{at.foreign:.2f}",
                ]
            )
    return _table(
        ["scenario", "gateway", "CPU us/request", "least-most", "requests/s", "core used", "p50 ms", "p99 ms",
         "added p50", "added p99", "failed", "foreign cores"],
        rows,
    )  # fmt: skip


def _streams(results: Results, scenarios: list[Scenario]) -> list[str]:
    """CPU a chunk, time to the first one, and how late chunks come."""
    rows: list[list[str]] = []
    for scenario in scenarios:
        runs = results.readings[scenario.name]
        direct = middle(runs["direct"]) if "direct" in runs else None
        for name in (name for name in (_FLOOR, _MEASURED) if name in runs):
            at = middle(runs[name])
            spread = sorted(value for reading in runs[name] if (value := reading.cpu(scenario)) is not None)
            rows.append(
                [
                    scenario.name,
                    name,
                    _figure(at.cpu(scenario), 2),
                    f"{_figure(spread[0])}-{_figure(spread[-1])}" if spread else "-",
                    _figure(at.per_second, 0),
                    f"{at.core_use:.0%}",
                    _figure(at.first_p50, 2),
                    _figure(at.first_p99, 2),
                    _figure(_difference(at.first_p50, direct.first_p50 if direct else None), 2),
                    _figure(at.delay_p50, 2),
                    _figure(at.delay_p99, 2),
                    str(at.failed),
                    f"{at.foreign:.2f}",
                ]
            )
    return _table(
        ["scenario", "gateway", "CPU us/chunk", "least-most", "chunks/s", "core used", "TTFT p50 ms", "TTFT p99",
         "added TTFT p50", "chunk delay p50 ms", "p99", "failed", "foreign cores"],
        rows,
    )  # fmt: skip


def _verdict(value: float, first: float, then: float) -> str:
    if value <= then:
        return "within"
    return "within the first figure" if value <= first else "over"


def _budget(results: Results, scenarios: list[Scenario]) -> list[str]:
    """Ours by nginx of the same minutes, against the budget and the peers, both by the nginx that ran beside them."""
    rows: list[list[str]] = []
    for scenario in scenarios:
        runs = results.readings[scenario.name]
        if not {_MEASURED, _FLOOR} <= runs.keys():
            continue
        ratio = paired_ratio(runs[_MEASURED], runs[_FLOOR], scenario)
        budget = BUDGETS.get(scenario.name)
        floor, peers = (budget.nginx, budget.peers) if budget else PEERS_ONLY.get(scenario.name, (None, "-"))
        there = ratio * floor if ratio and floor else None
        rows.append([
            f"{scenario.what}, us/{scenario.unit}",
            _figure(middle(runs[_MEASURED]).cpu(scenario)),
            _figure(ratio, 2),
            _figure(there, 0 if there and there > 20 else 1),
            f"{budget.first:g}, then {budget.then:g}" if budget else "-",
            _verdict(there, budget.first, budget.then) if budget and there else "-",
            f"nginx {floor:g}, {peers}" if floor else "-",
        ])  # fmt: skip
    return _table(
        ["", "here", "by nginx here", "on the peers' machine", "budget there", "", "peers there"],
        rows,
    )


def _other(results: Results) -> list[str]:
    """Time to the first token, memory and start, which do not scale with a core's speed in the same way: as measured."""
    rows: list[list[str]] = []
    runs = results.readings.get(_TTFT_SCENARIO, {})
    if {"direct", _MEASURED} <= runs.keys():
        direct = middle(runs["direct"]).first_p50
        for name in (name for name in (_FLOOR, _MEASURED) if name in runs):
            added = _difference(middle(runs[name]).first_p50, direct)
            rows.append(
                [
                    "added time to first token, 200 streams, p50 ms",
                    name,
                    _figure(added, 2),
                    f"{TTFT_BUDGET_MS:g}",
                    TTFT_PEERS,
                ]
            )
    for name, memory in results.memory.items():
        rows.append(["idle, MB resident", name, _figure(memory.idle), f"{IDLE_BUDGET_MB:g}", IDLE_PEERS])
        rows.append(
            [
                f"each of {memory.streams:,} open streams, KB",
                name,
                _figure(memory.kilobytes_a_stream),
                f"{STREAM_BUDGET_KB:g}",
                "nginx 17",
            ]
        )
        rows.append(["after they ended, MB resident", name, _figure(memory.after), "", ""])
    for kind, seconds in results.seconds_to_first_answer.items():
        typical = sorted(seconds)[len(seconds) // 2]
        rows.append(
            [
                f"{kind}, seconds to the first answer",
                _MEASURED,
                _figure(typical, 2),
                f"{START_BUDGET_SECONDS:g}",
                START_PEERS,
            ]
        )
    return _table(["", "gateway", "measured", "budget", "peers there"], rows) if rows else []


def markdown(results: Results) -> str:
    """The tables, with what is needed to repeat them."""
    machine = results.machine
    lines = [f"Command: `{results.command}`", ""]
    lines += [
        f"{results.when}; {machine.cpus} CPUs ({machine.cpu}), Linux {machine.kernel}; {_versions(results)}.",
        "",
    ]
    chosen = [scenario for scenario in SCENARIOS if scenario.name in results.readings]
    requests = [scenario for scenario in chosen if not scenario.stream]
    streams = [scenario for scenario in chosen if scenario.stream]
    if chosen:
        lines += ["### Against the budget and the peers", "", *_budget(results, chosen), ""]
    if other := _other(results):
        lines += ["### First token, memory, start", "", *other, ""]
    if requests:
        lines += ["### Requests", "", *_costs(results, requests), ""]
    if streams:
        lines += ["### Streams", "", *_streams(results, streams), ""]
    if results.ledger:
        lines += [
            f"Requests answered with 200: {results.ledger.answered:,}; counted and in the ledger: {results.ledger.counted:,}.",
            "",
        ]
    failures = {
        f"{scenario}, {name}: {reading.failure}"
        for scenario, runs in results.readings.items()
        for name, readings in runs.items()
        for reading in readings
        if reading.failure
    }
    if failures:
        lines += ["Failures:", "", *(f"- {failure}" for failure in sorted(failures)), ""]
    return "\n".join(lines)


def _versions(results: Results) -> str:
    return ", ".join(f"{name} {version}" for name, version in results.versions.items())
