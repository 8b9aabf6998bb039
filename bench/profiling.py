"""Where the time goes: a sampling profile of a running gateway under a scenario's load."""

import collections
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.build import NotBuilt
from bench.measure import body_file, load_command, run_load
from bench.scenarios import Scenario
from bench.subjects import LOAD_CORE, Subject, pin

_RATE = 500  # samples a second


def profiler(binaries: Path) -> str:
    """Where py-spy is. Raises ``NotBuilt``."""
    places = (str(binaries), str(Path(sys.executable).parent), os.environ["PATH"])
    found = shutil.which("py-spy", path=os.pathsep.join(places))
    if found is None:
        raise NotBuilt("py-spy is not installed (.venv/bin/pip install py-spy)")
    return found


def profile(subject: Subject, scenario: Scenario, seconds: float, binaries: Path, stacks: Path) -> str:
    """Sample the gateway's stacks while a scenario runs; the costliest functions as text.

    The collapsed stacks are kept in ``stacks`` (flame graph tools read them). Time in C counts for the Python function
    that called it: with native frames py-spy cannot tell a waiting thread from a working one.
    """
    command = [
        profiler(binaries),
        "record",
        "--pid",
        str(subject.pid),
        "--format",
        "raw",
        "--output",
        str(stacks),
    ]
    command += ["--rate", str(_RATE), "--duration", str(int(seconds)), "--threads", "--function"]
    with body_file(subject.body(scenario)) as file:
        run_load(load_command(subject, scenario, file, 1.0))
        sampler = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: pin(LOAD_CORE),  # noqa: PLW1509 - the parent has one thread
        )
        time.sleep(0.5)
        before = threads(subject.pid or 0)
        result = run_load(load_command(subject, scenario, file, seconds + 0.5))
        after = threads(subject.pid or 0)
        _, said = sampler.communicate()
    if sampler.returncode:
        raise NotBuilt(f"py-spy failed: {said.decode(errors='replace')[-600:]}")
    units = int(str(result["deltas"])) if scenario.stream else int(str(result["good"]))
    spent = {thread: seconds - before.get(thread, 0.0) for thread, seconds in after.items()}
    working = {thread for thread, seconds in spent.items() if seconds > sum(spent.values()) / 50}
    lines = [f"{scenario.name}: CPU us a {scenario.unit} by thread, while being sampled (which slows it)"]
    costs = sorted(
        ((seconds * 1e6 / max(units, 1), thread) for thread, seconds in spent.items()), reverse=True
    )
    lines += [f"{cost:9.1f}  thread {thread}" for cost, thread in costs if thread in working]
    return "\n".join([*lines, "", *summary(stacks.read_text(), working)])


def threads(process: int) -> dict[int, float]:
    """CPU seconds of each thread of a process, by its id."""
    found: dict[int, float] = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


_THREAD = re.compile(r"thread \((\d+)\): (.*)")


def summary(collapsed: str, working: set[int], rows: int = 50) -> list[str]:
    """For each thread the functions with the most samples, their own and with what they call, in percent of the thread's.

    Only ``working`` threads are shown: py-spy takes some that wait for a lock for busy ones.
    """
    stacks: dict[str, list[tuple[list[str], int]]] = collections.defaultdict(list)
    for line in collapsed.splitlines():
        frames, _, count = line.rpartition(" ")
        thread, *rest = frames.split(";")
        named = _THREAD.match(thread)
        if named and int(named[1]) in working:
            stacks[named[2]].append((rest or ["?"], int(count)))
    lines: list[str] = []
    for thread, found in stacks.items():
        total = sum(count for _, count in found)
        own: collections.Counter[str] = collections.Counter()
        whole: collections.Counter[str] = collections.Counter()
        for frames, count in found:
            own[frames[-1]] += count
            whole.update(dict.fromkeys(frames, count))
        lines += [f"{thread}: {total} samples", "  own %  with callees %  function"]
        lines += [
            f"{own[name] * 100 / total:7.1f} {whole[name] * 100 / total:15.1f}  {name}"
            for name, _ in own.most_common(rows)
        ]
        lines += ["", "  own %  with callees %  the same by what they call"]
        lines += [
            f"{own[name] * 100 / total:7.1f} {n * 100 / total:15.1f}  {name}"
            for name, n in whole.most_common(rows)
        ]
        lines.append("")
    return lines
