"""``python -m bench``: measure Penstock beside nginx on one core and print tables (``bench/README.md`` says how)."""

import argparse
import datetime as dt
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.build import BUILD, ROOT, NotBuilt, environment
from bench.gauges import machine
from bench.ledger import Counts, settled
from bench.measure import cold_start, middle, run_paired, warm_start, weigh
from bench.profiling import profile
from bench.proxies import PEERS, nginx, nginx_binary
from bench.report import Results, markdown
from bench.scenarios import PATH, SCENARIOS, Scenario
from bench.subjects import LOAD_CORE, NotStarted, Penstock, Place, Subject, session_priority, upstream

_EXTRAS = ("memory", "start")
_STARTS = 3


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 0, or 1 where the machine lacks something or a program failed."""
    options = _parser().parse_args(arguments)
    if (os.cpu_count() or 1) < 2:
        sys.exit("Two cores are needed: one for the gateway, one for the load.")
    try:
        results = _measure(options, arguments)
    except (NotBuilt, NotStarted) as error:
        print(error, file=sys.stderr)
        return 1
    if options.profile:
        return 0
    text = markdown(results)
    print(text)
    if options.json:
        Path(options.json).write_text(results.as_json())
    if options.markdown:
        Path(options.markdown).write_text(text)
    failed = [
        reading
        for runs in results.readings.values()
        for readings in runs.values()
        for reading in readings
        if reading.failed
    ]
    differ = any(not ledger.agrees for ledger in results.ledgers.values())
    return 1 if failed or differ else 0


def _parser() -> argparse.ArgumentParser:
    names = [*(scenario.name for scenario in SCENARIOS), *_EXTRAS]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Penstock beside nginx on one core.",
        epilog="Scenarios: " + "; ".join(f"{scenario.name} ({scenario.what})" for scenario in SCENARIOS),
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        type=_names,
        default=names,
        help=f"some of: {', '.join(names)}; `path` is all that the request path is judged by",
    )
    parser.add_argument(
        "--spin",
        action="store_true",
        help="mock and callers poll without sleeping, so that a gateway never wakes them",
    )
    parser.add_argument(
        "--peers", action="store_true", help="HAProxy and Envoy as well, where they are installed"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run (3)")
    parser.add_argument("--reps", type=int, default=5, help="runs of each gateway in each scenario (5)")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="measure with this interpreter and the run-time lock instead of .venv",
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of all that is started; -15 keeps neighbours out (root)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every reading there")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there")
    parser.add_argument(
        "--profile", action="store_true", help="sample stacks with py-spy instead of measuring"
    )
    return parser


def _names(text: str) -> list[str]:
    known = {*(scenario.name for scenario in SCENARIOS), *_EXTRAS}
    names = [each for name in text.split(",") for each in ((*PATH, "memory") if name == "path" else (name,))]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return names


def _measure(options: argparse.Namespace, arguments: Sequence[str]) -> Results:
    binaries = environment(options.python)
    run = BUILD / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    os.sched_setaffinity(0, {LOAD_CORE})
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    place = Place(run, binaries, spin=options.spin)
    results = Results(
        command=_command(arguments),
        when=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine(),
        versions=_versions(binaries, peers=options.peers),
        peers="spin" if options.spin else "plain",
    )
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in options.only]
    penstock = Penstock(place)
    with session_priority(options.nice), upstream(place) as direct:
        penstock.prepare()
        if any(scenario.many_keys for scenario in scenarios):
            penstock.prepare_keys()
        if options.profile:
            _profile(penstock, scenarios, options.seconds)
            return results
        if "start" in options.only:
            _time_starts(penstock, results)
        if "memory" in options.only:
            _weigh_all(penstock, results)
        if scenarios:
            _run_scenarios(penstock, direct, scenarios, options, results)
    return results


def _command(arguments: Sequence[str]) -> str:
    """How to run the same again, without where its results were written."""
    kept = list(arguments)
    for name in ("--json", "--markdown"):
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    return "make bench" + (f' ARGS="{shlex.join(kept)}"' if kept else "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _time_starts(penstock: Penstock, results: Results) -> None:
    directories = [penstock.place.directory / f"cold-{number}" for number in range(_STARTS + 1)]
    cold = [cold_start(penstock, directory) for directory in directories]
    warm = [warm_start(penstock.serve) for _ in range(_STARTS)]
    # the first of all compiled the bytecode and brought the files into memory
    results.seconds_to_first_answer = {"first start, empty directory": cold[1:], "later start": warm}
    for kind, seconds in results.seconds_to_first_answer.items():
        _say(f"{kind}: {', '.join(f'{value:.2f}' for value in seconds)} s")


def _weigh_all(penstock: Penstock, results: Results) -> None:
    with penstock.serve() as (subject, _seconds):
        results.memory[subject.name] = weigh(subject)
    if nginx_binary():
        with nginx(penstock.place) as subject:
            results.memory[subject.name] = weigh(subject)
    for name, memory in results.memory.items():
        _say(f"{name}: {memory.idle:.1f} MB idle, {memory.kilobytes_a_stream:.1f} KB a stream")


def _run_scenarios(
    penstock: Penstock,
    direct: Subject,
    scenarios: list[Scenario],
    options: argparse.Namespace,
    results: Results,
) -> None:
    answered: Counter[str] = Counter()
    before = penstock.counts()
    with ExitStack() as stack:
        subject, _seconds = stack.enter_context(penstock.serve())
        answered[subject.name] += 1  # the one that told that it had started
        subjects = [direct]
        if nginx_binary() is None:
            _say(
                "nginx is not installed: Penstock is measured alone, and figures of two machines cannot be compared"
            )
        else:
            subjects.append(stack.enter_context(nginx(penstock.place)))
        for name, (binary, proxy) in PEERS.items() if options.peers else ():
            if binary() is None:
                _say(f"{name} is not installed, and left out")
            else:
                subjects.append(stack.enter_context(proxy(penstock.place)))
        for scenario in scenarios:
            _run(penstock, before, [*subjects, subject], scenario, options, results, answered)


def _run(
    penstock: Penstock,
    before: Counts,
    subjects: list[Subject],
    scenario: Scenario,
    options: argparse.Namespace,
    results: Results,
    answered: Counter[str],
) -> None:
    runs = run_paired(subjects, scenario, options.seconds, options.reps, answered, spin=options.spin)
    results.readings[scenario.name] = runs
    ledger = settled(penstock.counts, before, answered["penstock"])
    results.ledgers[scenario.name] = ledger
    parts: list[str] = []
    for name, readings in runs.items():
        cpu = middle(readings).cpu(scenario)
        failed = sum(reading.failed for reading in readings)
        parts.append(f"{name} {f'{cpu:.1f} us' if cpu else ''}{f' ({failed} FAILED)' if failed else ''}")
    _say(f"{scenario.name} ({results.peers}): {', '.join(parts)}; {ledger}")


def _profile(penstock: Penstock, scenarios: list[Scenario], seconds: float) -> None:
    with penstock.serve() as (subject, _seconds):
        for scenario in scenarios:
            stacks = BUILD / f"{scenario.name}.stacks"
            print(profile(subject, scenario, seconds, penstock.place.binaries, stacks))
            print(f"stacks: {stacks.relative_to(ROOT)}\n")


_ASK_VERSIONS = """
import json, platform
from importlib.metadata import version
names = ("penstock", "uvloop", "httptools", "msgspec")
python = f"{platform.python_version()} ({platform.python_compiler()})"
print(json.dumps({"CPython": python} | {name: version(name) for name in names}))
"""


def _versions(binaries: Path, *, peers: bool) -> dict[str, str]:
    done = subprocess.run(
        [str(binaries / "python"), "-c", _ASK_VERSIONS], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=9"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if commit.returncode == 0:
        found["penstock"] += f" at {commit.stdout.strip()}"
    if binary := nginx_binary():
        shown = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False)
        found["nginx"] = shown.stderr.rpartition("/")[2].strip()
    for name, (where, _) in PEERS.items() if peers else ():
        if binary := where():
            option = {"haproxy": "-v", "envoy": "--version"}[name]
            shown = subprocess.run([binary, option], capture_output=True, text=True, check=False)
            version = re.search(r"\d+\.\d+\.\d+", shown.stdout)
            found[name] = version[0] if version else "of an unknown version"
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
