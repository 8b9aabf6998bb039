"""``python -m bench.stores``: one server on SQLite and memory beside one on PostgreSQL and Redis, and a long run of either."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# asyncpg has no types

import argparse
import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import linear_regression, median

import asyncpg

from bench.build import BUILD, environment
from bench.gauges import rss_bytes
from bench.measure import body_file, load_command, middle, run_paired, weigh
from bench.scenarios import SCENARIOS, Scenario
from bench.subjects import LOAD_CORE, Penstock, Place, Subject, pin, upstream

_MEASURED = ("pass-one", "pass-small", "relay-paced")
_SAMPLE_SECONDS = 10.0
_SETTLED = 0.3
"""The part of a long run after which its memory is that of a server that has been running."""


@dataclass(slots=True)
class Grown(Penstock):
    """Penstock on stores that several servers can share."""

    stores: dict[str, str] = field(default_factory=dict[str, str])

    def environment(self, data: Path) -> dict[str, str]:
        """With the stores."""
        return Penstock.environment(self, data) | self.stores


@contextmanager
def _database(server: str) -> Generator[str]:
    """A database of our own, dropped in the end."""
    name = f"penstock_bench_{secrets.token_hex(4)}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute(f"CREATE DATABASE {name}"))
    try:
        yield f"{server}/{name}"
    finally:
        asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)"))


def _compare(subjects: list[Subject], seconds: float, reps: int) -> None:
    print(
        "| scenario (plain) | embedded, CPU us | PostgreSQL and Redis, CPU us | more | p50 ms | p50 ms | p99 ms | p99 ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    answered: Counter[str] = Counter()
    for scenario in (one for one in SCENARIOS if one.name in _MEASURED):
        runs = run_paired(subjects, scenario, seconds, reps, answered)
        (own, shared) = (middle(readings) for readings in runs.values())
        pairs = zip(*runs.values(), strict=True)
        more = median((b.cpu(scenario) or 0) - (a.cpu(scenario) or 0) for a, b in pairs)
        row = (scenario.name, own.cpu(scenario) or 0, shared.cpu(scenario) or 0, more)
        late = ("first_p50", "first_p99") if scenario.stream else ("latency_p50", "latency_p99")
        times = [getattr(reading, name) for name in late for reading in (own, shared)]
        failed = own.failed + shared.failed
        told = " | ".join(
            [f"{scenario.name} ({failed} FAILED)" if failed else row[0], *(f"{n:.1f}" for n in row[1:])]
        )
        print(f"| {told} | {' | '.join(f'{n:.2f}' for n in times)} |", flush=True)


def _weigh(subjects: list[Subject]) -> None:
    print("\n| | MB idle | MB with 1,000 streams | KB a stream | MB after |\n|---|---|---|---|---|")
    for subject in subjects:
        memory = weigh(subject)
        print(
            f"| {subject.name} | {memory.idle:.1f} | {memory.with_streams:.1f} | {memory.kilobytes_a_stream:.1f} | "
            f"{memory.after:.1f} |",
            flush=True,
        )


def _soak(subject: Subject, requests: int) -> None:
    """So many requests without a pause; resident memory every ten seconds, and the slope of its later part."""
    scenario: Scenario = next(one for one in SCENARIOS if one.name == "pass-small")
    with body_file(subject.body(scenario)) as file:
        command = [*load_command(subject, scenario, file, 86_400), "--requests", str(requests)]
        began = time.monotonic()
        load = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: pin(LOAD_CORE),  # noqa: PLW1509 - the parent has one thread
        )
        samples: list[tuple[float, float]] = []
        while True:
            assert subject.pid is not None
            samples.append((time.monotonic() - began, rss_bytes(subject.pid) / 1e6))
            try:
                output, _ = load.communicate(timeout=_SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    seconds = time.monotonic() - began
    result = json.loads(output)
    later = [sample for sample in samples if sample[0] >= _SETTLED * seconds]
    slope = linear_regression([at for at, _ in later], [size for _, size in later]).slope
    good, failed = int(result["good"]), int(result["failed"])
    print(f"\n{subject.name}: {good:,} requests answered, {failed} failed, in {seconds:,.0f} s")
    print(f"resident MB every {_SAMPLE_SECONDS:.0f} s: {', '.join(f'{size:.1f}' for _, size in samples)}")
    per_million = slope * seconds / requests * 1e6
    print(
        f"slope after the first {_SETTLED:.0%}: {slope * 3600:+.2f} MB an hour, {per_million:+.2f} MB a million requests"
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description=__doc__)
    parser.add_argument("--postgresql", default="postgresql://postgres@127.0.0.1:5432", metavar="URL")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", metavar="URL")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run (3)")
    parser.add_argument("--reps", type=int, default=5, help="pairs of runs (5)")
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="so many requests to each, instead")
    parser.add_argument("--only", choices=("embedded", "shared"), help="soak one of them")
    options = parser.parse_args(arguments)
    run = BUILD / "stores"
    shutil.rmtree(run, ignore_errors=True)
    place = Place(run / "embedded", environment(None))
    beside = replace(place, directory=run / "shared")
    for one in (place, beside):
        one.directory.mkdir(parents=True)
    with ExitStack() as stack:
        stack.enter_context(upstream(place))
        stores = {
            "PENSTOCK_DATABASE_URL": stack.enter_context(_database(options.postgresql)),
            "PENSTOCK_REDIS_URL": options.redis,
            "PENSTOCK_REDIS_PREFIX": f"bench:{secrets.token_hex(4)}:",
        }
        subjects: list[Subject] = []
        for name, penstock in (("embedded", Penstock(place)), ("shared", Grown(beside, stores=stores))):
            if options.only in (None, name):
                penstock.prepare()
                subject, _ = stack.enter_context(penstock.serve())
                subjects.append(replace(subject, name=name))
        if options.soak:
            for subject in subjects:
                _soak(subject, options.soak)
            return
        _weigh(subjects)
        print()
        _compare(subjects, options.seconds, options.reps)


if __name__ == "__main__":
    main(sys.argv[1:])
