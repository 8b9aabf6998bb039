"""Two builds of Penstock and nginx beside each other, in turn on one core: what a change costs.

``python -m bench.pair BEFORE AFTER`` takes the ``bin`` folders of two environments in which Penstock is installed. Every
figure is the median of the runs; *by nginx* and *after by before* are medians over the pairs of the same minute.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.build import BUILD
from bench.measure import middle, paired_ratio, run_paired, weigh
from bench.scenarios import SCENARIOS
from bench.subjects import LOAD_CORE, Penstock, Place, Subject, nginx, upstream

_NAMES = ("before", "after")


def main(arguments: list[str]) -> int:
    """Print the table; 1 where a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.pair", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--only", default="pass-small,translate-chat,translate-messages,pass-large,relay-paced"
    )
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    run = BUILD / "pair"
    shutil.rmtree(run, ignore_errors=True)
    os.sched_setaffinity(0, {LOAD_CORE})
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    failed = 0
    with ExitStack() as stack:
        first = _place(run / "before", options.before)
        stack.enter_context(upstream(first))
        places = [first, _place(run / "after", options.after, first.upstream_port)]
        gateways = [_gateway(stack, name, place) for name, place in zip(_NAMES, places, strict=True)]
        for gateway in gateways:
            print(f"{gateway.name}: {weigh(gateway).idle:.1f} MB idle", flush=True)
        floor = stack.enter_context(nginx(first))
        print(
            "| CPU us a request or chunk | nginx | before | by nginx | after | by nginx | after by before |"
        )
        print("|---|---|---|---|---|---|---|")
        for scenario in (each for each in SCENARIOS if each.name in wanted):
            runs = run_paired([floor, *gateways], scenario, options.seconds, options.reps, Counter())
            failed += sum(reading.failed for readings in runs.values() for reading in readings)
            base, old, new = runs[floor.name], runs["before"], runs["after"]
            cells = [
                middle(base).cpu(scenario), middle(old).cpu(scenario), paired_ratio(old, base, scenario),
                middle(new).cpu(scenario), paired_ratio(new, base, scenario), paired_ratio(new, old, scenario),
            ]  # fmt: skip
            shown = " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells)
            print(f"| {scenario.what} | {shown} |", flush=True)
    return 1 if failed else 0


def _place(directory: Path, binaries: Path, port: int | None = None) -> Place:
    directory.mkdir(parents=True)
    place = Place(directory, binaries.absolute())
    return place if port is None else replace(place, upstream_port=port)


def _gateway(stack: ExitStack, name: str, place: Place) -> Subject:
    penstock = Penstock(place)
    penstock.prepare()
    subject, _ = stack.enter_context(penstock.serve())
    return replace(subject, name=name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
