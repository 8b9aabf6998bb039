"""Where the time goes: a sampling profile of a running gateway under a scenario's load."""

import collections
import os
import shutil
import subprocess
import time
from pathlib import Path

from bench.build import NotBuilt
from bench.measure import body_file, load_command, run_load
from bench.scenarios import Scenario
from bench.subjects import LOAD_CORE, Subject

_RATE = 500  # samples a second


def profiler(binaries: Path) -> str:
    """Where py-spy is. Raises ``NotBuilt``."""
    found = shutil.which("py-spy", path=f"{binaries}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise NotBuilt("py-spy is not installed (.venv/bin/pip install py-spy)")
    return found


def profile(subject: Subject, scenario: Scenario, seconds: float, binaries: Path, stacks: Path) -> str:
    """Sample the gateway's stacks while a scenario runs; the costliest functions as text.

    The collapsed stacks are kept in ``stacks`` (flame graph tools read them).
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
    command += ["--rate", str(_RATE), "--duration", str(int(seconds)), "--native", "--nolineno"]
    with body_file(subject.body(scenario)) as file:
        sampler = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),  # noqa: PLW1509 - the parent has one thread
        )
        time.sleep(0.5)
        run_load(load_command(subject, scenario, file, seconds + 0.5))
        _, said = sampler.communicate()
    if sampler.returncode:
        raise NotBuilt(f"py-spy failed: {said.decode(errors='replace')[-600:]}")
    return summary(stacks.read_text(), scenario.name)


def summary(collapsed: str, title: str, rows: int = 45) -> str:
    """The functions with the most samples of their own, and with what they call, in percent."""
    own: collections.Counter[str] = collections.Counter()
    whole: collections.Counter[str] = collections.Counter()
    total = 0
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    lines = [f"{title}: {total} samples", "  own %  with callees %  function"]
    lines += [
        f"{own[name] * 100 / total:7.1f} {whole[name] * 100 / total:15.1f}  {name}"
        for name, _ in own.most_common(rows)
    ]
    lines.append("with callees:")
    lines += [
        f"{own[name] * 100 / total:7.1f} {n * 100 / total:15.1f}  {name}"
        for name, n in whole.most_common(rows)
    ]
    return "\n".join(lines)
