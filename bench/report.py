"""A finished run as Markdown tables and as JSON."""

import json
from dataclasses import asdict, dataclass, field

from bench.gauges import Machine
from bench.ledger import Ledger
from bench.measure import Memory, Reading, first_token_added, middle, paired_ratio
from bench.scenarios import (
    BUDGETS,
    FIRST_TOKEN_TARGET_MS,
    IDLE_BUDGET_MB,
    IDLE_PEERS,
    IDLE_TARGET_MB,
    PEERS_ONLY,
    SCENARIOS,
    START_BUDGET_SECONDS,
    START_PEERS,
    STREAM_BUDGET_KB,
    STREAM_TARGET_KB,
    TARGETS,
    TRANSLATED_CHUNK_MORE,
    TTFT_BUDGET_MS,
    TTFT_PEERS,
    Scenario,
    Target,
)

_MEASURED = "penstock"
_FLOOR = "nginx"
_TTFT_SCENARIO = "relay-paced"
_PEERS_SAID = {"plain": ", asleep between events", "spin": ", polling for 100 ms after each event"}
_SHOWN = (_FLOOR, "haproxy", "envoy", _MEASURED)


@dataclass(slots=True)
class Results:
    """All that a run found. ``readings`` is by scenario, then by subject; ``seconds_to_first_answer`` by kind of start."""

    command: str
    when: str
    machine: Machine
    versions: dict[str, str]
    peers: str
    """How mock and callers waited: ``plain`` (asleep) or ``spin``."""
    readings: dict[str, dict[str, list[Reading]]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    seconds_to_first_answer: dict[str, list[float]] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    """By scenario, each from the beginning of the whole run to the end of that scenario."""

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
        for name in (name for name in _SHOWN if name in runs):
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
        for name in (name for name in _SHOWN if name in runs):
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
    for scenario in (scenario for scenario in SCENARIOS if scenario.paced):
        runs = results.readings.get(scenario.name, {})
        if "direct" not in runs:
            continue
        budget, peers = (f"{TTFT_BUDGET_MS:g}", TTFT_PEERS) if scenario.name == _TTFT_SCENARIO else ("", "")
        what = f"{scenario.name}: added time to first token, p50 ms"
        rows += [
            [what, name, _figure(first_token_added(runs[name], runs["direct"]), 2), budget, peers]
            for name in _SHOWN
            if name in runs
        ]
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


def _targets(results: Results) -> list[str]:
    """What the request path must reach by nginx, with peers that spin, and what it reached."""
    found: list[tuple[str, float | None, Target]] = []
    ratios = {
        name: paired_ratio(runs[_MEASURED], runs[_FLOOR], scenario)
        for scenario in SCENARIOS
        if {_MEASURED, _FLOOR} <= (runs := results.readings.get(name := scenario.name, {})).keys()
    }
    relayed = ratios.get(_TTFT_SCENARIO)
    for scenario in (scenario for scenario in SCENARIOS if scenario.name in ratios):
        target = TARGETS.get(scenario.name)
        if target is None and scenario.paced and scenario.translated and relayed:
            target = Target(relayed * TRANSLATED_CHUNK_MORE, relayed)
        if target:
            found.append((f"{scenario.what}, by nginx", ratios[scenario.name], target))
    runs = results.readings.get(_TTFT_SCENARIO, {})
    if {"direct", _MEASURED} <= runs.keys():
        added = first_token_added(runs[_MEASURED], runs["direct"])
        found.append(("first token added, 200 relayed streams, ms", added, FIRST_TOKEN_TARGET_MS))
    if memory := results.memory.get(_MEASURED):
        found.append(("idle, MB resident", memory.idle, IDLE_TARGET_MB))
        found.append(("a stream, KB", memory.kilobytes_a_stream, STREAM_TARGET_KB))
    rows = [
        [what, _figure(value, 2), _figure(target.most, 2), _figure(target.aim, 2), _reached(value, target)]
        for what, value, target in found
    ]
    return _table(["", "measured", "at most", "aim", ""], rows) if rows else []


def _reached(value: float | None, target: Target) -> str:
    if value is None:
        return "-"
    if value <= target.aim:
        return "at the aim"
    return "reached" if value <= target.most else "not reached"


def markdown(results: Results) -> str:
    """The tables, with what is needed to repeat them."""
    machine = results.machine
    lines = [f"Command: `{results.command}`", ""]
    lines += [
        f"{results.when}; {machine.cpus} CPUs ({machine.cpu}), Linux {machine.kernel}; {_versions(results)}.",
        "",
        f"Mock and callers: *{results.peers}*{_PEERS_SAID[results.peers]}.",
        "",
    ]
    how = results.peers
    chosen = [scenario for scenario in SCENARIOS if scenario.name in results.readings]
    requests = [scenario for scenario in chosen if not scenario.stream]
    streams = [scenario for scenario in chosen if scenario.stream]
    if results.peers == "spin" and (targets := _targets(results)):
        lines += [f"### Against what the request path must reach ({how})", "", *targets, ""]
    if chosen:
        lines += [f"### Against the budget and the peers ({how})", "", *_budget(results, chosen), ""]
    if other := _other(results):
        lines += [f"### First token, memory, start ({how})", "", *other, ""]
    if requests:
        lines += [f"### Requests ({how})", "", *_costs(results, requests), ""]
    if streams:
        lines += [f"### Streams ({how})", "", *_streams(results, streams), ""]
    if results.ledgers:
        lines += [
            "Answers with 200, rows in the database and the day's counts, from the beginning to the end of each scenario:",
            "",
            *(f"- {name}: {ledger}" for name, ledger in results.ledgers.items()),
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
