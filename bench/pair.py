"""Two builds of Penstock and nginx beside each other, in turn on one core: what a change costs.

``python -m bench.pair BEFORE AFTER`` takes the ``bin`` folders of two environments in which Penstock is installed. Every
figure is the median of the runs; *by nginx*, *after by before* and the first tokens added are medians over the pairs of the
same minute.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.build import BUILD
from bench.ledger import Counts, settled
from bench.measure import first_token_added, middle, paired_ratio, run_paired, weigh
from bench.proxies import nginx
from bench.scenarios import PATH, SCENARIOS, Scenario
from bench.subjects import LOAD_CORE, Penstock, Place, Subject, session_priority, upstream

_NAMES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Gateway:
    """One of the two, running, and what its database held when the measurement began."""

    penstock: Penstock
    subject: Subject
    held: Counts


def main(arguments: list[str]) -> int:
    """Print the tables; 1 where a request failed, or answers, rows and counts differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.pair", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--only", default="path", help="scenarios; `path` (the default) is all that is judged"
    )
    parser.add_argument("--spin", action="store_true", help="mock and callers poll without sleeping")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args(arguments)
    names = [each for name in options.only.split(",") for each in (PATH if name == "path" else (name,))]
    if unknown := set(names) - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in names]
    run = BUILD / "pair"
    shutil.rmtree(run, ignore_errors=True)
    os.sched_setaffinity(0, {LOAD_CORE})
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    first = _place(Place(run / "before", options.before.absolute(), spin=options.spin))
    after = replace(first, directory=run / "after", binaries=options.after.absolute())
    with ExitStack() as stack:
        stack.enter_context(session_priority(options.nice))
        direct = stack.enter_context(upstream(first))
        many_keys = any(scenario.many_keys for scenario in scenarios)
        gateways = [
            _gateway(stack, name, _place(place), many_keys=many_keys)
            for name, place in zip(_NAMES, (first, after), strict=True)
        ]
        floor = stack.enter_context(nginx(first))
        return _compare(direct, floor, gateways, scenarios, options)


def _compare(
    direct: Subject,
    floor: Subject,
    gateways: list[Gateway],
    scenarios: list[Scenario],
    options: argparse.Namespace,
) -> int:
    failed = 0
    agree = True
    answered: Counter[str] = Counter()
    first_tokens: list[str] = []
    ledgers: list[str] = []
    how = "spin" if options.spin else "plain"
    print(
        f"\n| CPU us a request or chunk ({how}) | nginx | before | by nginx | after | by nginx | after by before |"
    )
    print("|---|---|---|---|---|---|---|")
    for scenario in scenarios:
        subjects = [floor, *(gateway.subject for gateway in gateways)]
        if scenario.paced:
            subjects.insert(0, direct)
        runs = run_paired(subjects, scenario, options.seconds, options.reps, answered, spin=options.spin)
        failed += sum(reading.failed for readings in runs.values() for reading in readings)
        base, old, new = runs[floor.name], runs["before"], runs["after"]
        cells = [
            middle(base).cpu(scenario), middle(old).cpu(scenario), paired_ratio(old, base, scenario),
            middle(new).cpu(scenario), paired_ratio(new, base, scenario), paired_ratio(new, old, scenario),
        ]  # fmt: skip
        print(_row(scenario.what, cells), flush=True)
        if scenario.paced:
            added = [first_token_added(each, runs[direct.name]) for each in (base, old, new)]
            first_tokens.append(_row(scenario.what, added))
        for gateway in gateways:
            name = gateway.subject.name
            ledger = settled(gateway.penstock.counts, gateway.held, answered[name])
            agree = agree and ledger.agrees
            ledgers.append(f"- {scenario.name}, {name}: {ledger}")
    if first_tokens:
        print(f"\n| first token added, p50 ms ({how}) | nginx | before | after |\n|---|---|---|---|")
        print("\n".join(first_tokens))
    print("\nFrom the beginning to the end of each scenario:\n")
    print("\n".join(ledgers))
    print(f"\nRequests that failed: {failed}")
    return 1 if failed or not agree else 0


def _row(what: str, cells: list[float | None]) -> str:
    return f"| {what} | {' | '.join('-' if cell is None else f'{cell:.2f}' for cell in cells)} |"


def _place(place: Place) -> Place:
    place.directory.mkdir(parents=True, exist_ok=True)
    return place


def _gateway(stack: ExitStack, name: str, place: Place, *, many_keys: bool) -> Gateway:
    penstock = Penstock(place)
    penstock.prepare()
    if many_keys:
        penstock.prepare_keys()
    subject, _ = stack.enter_context(penstock.serve())
    memory = weigh(subject)
    print(f"{name}: {memory.idle:.1f} MB idle, {memory.kilobytes_a_stream:.1f} KB a stream", flush=True)
    # what was asked until now: the one that told that it had started, and the streams that were weighed
    begun = settled(penstock.counts, Counts(0, 0), 1 + memory.streams)
    return Gateway(penstock, replace(subject, name=name), Counts(begun.rows, begun.counted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
