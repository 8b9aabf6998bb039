"""The measuring itself: one run of the load generator against one subject, pairs of runs, memory and time to start."""

import json
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from bench.bodies import body
from bench.build import tool
from bench.gauges import busy_seconds, cpu_seconds, rss_bytes
from bench.scenarios import SCENARIOS, Scenario
from bench.subjects import (
    GATEWAY_CORE,
    LOAD_CORE,
    OPEN_STREAM,
    NotStarted,
    Penstock,
    Subject,
    ask,
    first_answer,
    free_port,
    pin,
    start,
)

OPEN_STREAMS = 1000
_OPENING_SECONDS = 3.0
_SETTLING_SECONDS = 2.5
_WARM_SECONDS = 1.0
_SEEN_SECONDS = 60.0
"""At most, for each of many keys to be used once."""
_ENDS = {("chat", True): "[DONE]", ("messages", True): "message_stop", ("responses", True): "}}\n\n"}
"""What the last 64 bytes of a stream hold."""
_MARKS = {
    ("chat", True): (b"chat.completion.chunk", b"[DONE]"),
    ("messages", True): (b"content_block_delta", b"message_stop"),
    ("responses", True): (b"response.output_text.delta", b"response.completed"),
    ("chat", False): (b'"choices"',),
    ("messages", False): (b'"stop_reason"',),
    ("responses", False): (b'"output_text"',),
}
"""What an answer in a dialect, streamed or whole, holds for certain."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One run. CPU is the subject's, in microseconds a request and a chunk; latencies are in milliseconds.

    ``foreign`` is what else ran on the gateway's core, ``load_use`` how busy the load's core was, both in cores: with much
    of the first, or the second near 1, the run says little.
    """

    good: int
    failed: int
    failure: str
    per_second: float
    cpu_request: float | None
    cpu_chunk: float | None
    core_use: float
    foreign: float
    load_use: float
    latency_p50: float
    latency_p99: float
    first_p50: float | None
    first_p99: float | None
    delay_p50: float | None
    delay_p99: float | None

    def cpu(self, scenario: Scenario) -> float | None:
        """CPU microseconds for what the scenario counts."""
        return self.cpu_chunk if scenario.stream else self.cpu_request


@contextmanager
def body_file(content: bytes) -> Generator[str]:
    """The body in a file, as the load generator wants it."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(content)
        file.flush()
        yield file.name


def load_command(
    subject: Subject, scenario: Scenario, file: str, seconds: float, *, spin: bool = False
) -> list[str]:
    """How the load generator is called for a scenario."""
    keys = subject.keys if scenario.many_keys else None
    command = [
        str(tool("load")),
        "--port",
        str(subject.port),
        "--path",
        subject.path(scenario.caller),
        "--body",
        file,
    ]
    for name, value in subject.headers(scenario.caller).items():
        if keys and name == "authorization":
            continue
        command += ["--header", f"{name}: {value}"]
    command += [
        "--connections",
        str(scenario.connections),
        "--seconds",
        str(seconds),
        "--ramp",
        str(scenario.ramp_ms),
    ]
    command += ["--end", _ENDS.get((scenario.caller, scenario.stream is not None), "}")]
    if scenario.stream:
        command += ["--deltas", str(scenario.stream.deltas)]
    if scenario.rate:
        command += ["--rate", str(scenario.rate)]
    if keys:
        command += ["--keys", str(keys.file), "--first-key", str(keys.first), "--requests", str(keys.count)]
    if spin:
        command.append("--spin")
    return command


def run_load(command: list[str]) -> dict[str, object]:
    """Run the load generator on its core, in the mock's session if it spins; what it prints. Raises ``CalledProcessError``."""
    apart = "--spin" not in command
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: pin(LOAD_CORE, apart=apart),
    )
    return json.loads(done.stdout)


def check(subject: Subject, scenario: Scenario) -> None:
    """One answer, looked at: whole, in the caller's dialect, with the upstream's text. Raises ``NotStarted``."""
    status, text = ask(subject, scenario)
    streams = scenario.stream is not None
    marks = (*_MARKS[scenario.caller, streams], b"t=0" if streams else b"The quick brown fox")
    missing = [mark for mark in marks if mark not in text]
    if status != 200 or missing:
        raise NotStarted(
            f"{subject.name} answers {scenario.name} with {status}, {missing} missing: {text[:600]!r}"
        )


def run_once(subject: Subject, scenario: Scenario, seconds: float, *, spin: bool = False) -> Reading:
    """Load a subject for some seconds and read the clocks before and after. Keys in turn have rested when it begins."""
    keys = subject.keys if scenario.many_keys else None
    if keys:
        time.sleep(keys.rest(time.monotonic()))
    with body_file(subject.body(scenario)) as file:
        command = load_command(subject, scenario, file, seconds, spin=spin)
        gateway, load, began = busy_seconds(GATEWAY_CORE), busy_seconds(LOAD_CORE), time.monotonic()
        before = cpu_seconds(subject.pid) if subject.pid else 0.0
        result = run_load(command)
        used = cpu_seconds(subject.pid) - before if subject.pid else 0.0
        elapsed = time.monotonic() - began
        foreign = (busy_seconds(GATEWAY_CORE) - gateway - used) / elapsed
    good, deltas, failed = (int(str(result[name])) for name in ("good", "deltas", "failed"))
    if keys:
        keys.used(good + failed, time.monotonic())
    return Reading(
        good=good,
        failed=failed,
        failure=str(result["first_failure"]),
        per_second=(deltas or good) / float(str(result["seconds"])),
        cpu_request=used * 1e6 / good if subject.pid and good else None,
        cpu_chunk=used * 1e6 / deltas if subject.pid and deltas else None,
        core_use=used / elapsed,
        foreign=max(0.0, foreign),
        load_use=(busy_seconds(LOAD_CORE) - load) / elapsed,
        latency_p50=_milliseconds(result, "latency", "p50") or 0.0,
        latency_p99=_milliseconds(result, "latency", "p99") or 0.0,
        first_p50=_milliseconds(result, "first_delta", "p50"),
        first_p99=_milliseconds(result, "first_delta", "p99"),
        delay_p50=_milliseconds(result, "delay", "p50"),
        delay_p99=_milliseconds(result, "delay", "p99"),
    )


def _milliseconds(result: dict[str, object], what: str, quantile: str) -> float | None:
    found = result.get(what)
    return float(cast("dict[str, float]", found)[quantile]) / 1000 if found else None


def run_paired(
    subjects: Sequence[Subject],
    scenario: Scenario,
    seconds: float,
    repetitions: int,
    answered: Counter[str],
    *,
    spin: bool = False,
) -> dict[str, list[Reading]]:
    """Runs of a scenario in turn (A B A B ...), so that the n-th readings of two subjects are of the same minute.

    Every answer, those of the check and of the warm-up included, is added to ``answered`` under the subject's name.
    """
    readings: dict[str, list[Reading]] = {subject.name: [] for subject in subjects}
    for subject in subjects:
        check(subject, scenario)
        answered[subject.name] += 1 + _warm(subject, scenario, spin=spin)
    for _ in range(repetitions):
        for subject in subjects:
            reading = run_once(subject, scenario, seconds, spin=spin)
            answered[subject.name] += reading.good
            readings[subject.name].append(reading)
    return readings


def _warm(subject: Subject, scenario: Scenario, *, spin: bool) -> int:
    """Load a subject before it is measured, until it has seen each of many keys; the answers that it gave."""
    keys = subject.keys if scenario.many_keys else None
    if keys is None:
        return run_once(subject, scenario, _WARM_SECONDS, spin=spin).good
    if keys.warm:
        return 0
    keys.warm = True
    return run_once(subject, replace(scenario, rate=0.0, connections=64), _SEEN_SECONDS, spin=spin).good


def median(values: Sequence[float | None]) -> float | None:
    """The median of what there is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def middle(readings: Sequence[Reading]) -> Reading:
    """The medians of each field over the repetitions; sums of the counts."""
    fields = ("cpu_request", "cpu_chunk", "first_p50", "first_p99", "delay_p50", "delay_p99")
    plain = ("per_second", "core_use", "foreign", "load_use", "latency_p50", "latency_p99")
    values = {name: median([getattr(reading, name) for reading in readings]) for name in fields}
    values |= {name: statistics.median(getattr(reading, name) for reading in readings) for name in plain}
    return replace(
        readings[0],
        good=sum(reading.good for reading in readings),
        failed=sum(reading.failed for reading in readings),
        failure=next((reading.failure for reading in readings if reading.failure), ""),
        **values,
    )


def first_token_added(readings: Sequence[Reading], direct: Sequence[Reading]) -> float | None:
    """The median over the pairs of what a gateway adds to the time to the first token, p50, in milliseconds."""
    pairs = [(a.first_p50, b.first_p50) for a, b in zip(readings, direct, strict=True)]
    return median([a - b if a is not None and b is not None else None for a, b in pairs])


def paired_ratio(ours: Sequence[Reading], floor: Sequence[Reading], scenario: Scenario) -> float | None:
    """The median over the pairs of our CPU by the floor's."""
    pairs = [(a.cpu(scenario), b.cpu(scenario)) for a, b in zip(ours, floor, strict=True)]
    return median([a / b if a and b else None for a, b in pairs])


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes idle, with all streams open, and after they ended; kilobytes for each open stream."""

    idle: float
    with_streams: float
    after: float
    kilobytes_a_stream: float
    streams: int


def weigh(subject: Subject) -> Memory:
    """Hold many streams open and look at resident memory. Raises ``NotStarted`` if one of them failed."""
    if subject.pid is None:
        raise NotStarted("only a gateway can be weighed")
    time.sleep(_SETTLING_SECONDS)
    idle = rss_bytes(subject.pid)
    request = body("chat", "small", f"{subject.prefix}-chat{OPEN_STREAM}", stream=True)
    with body_file(request) as file:
        scenario = replace(SCENARIOS[0], connections=OPEN_STREAMS, ramp_ms=int(_OPENING_SECONDS * 1000))
        command = [
            *load_command(subject, scenario, file, _OPENING_SECONDS + 1),
            "--requests",
            str(OPEN_STREAMS),
        ]
        command += ["--deltas", "9", "--end", "[DONE]"]
        load = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: pin(LOAD_CORE),  # noqa: PLW1509 - the parent has one thread
        )
        time.sleep(_OPENING_SECONDS + _SETTLING_SECONDS)
        held = rss_bytes(subject.pid)
        output, _ = load.communicate()
    result = json.loads(output)
    if result["good"] != OPEN_STREAMS:
        raise NotStarted(
            f"{subject.name} held {result['good']} of {OPEN_STREAMS} streams: {result['first_failure']}"
        )
    time.sleep(_SETTLING_SECONDS)
    after = rss_bytes(subject.pid)
    return Memory(idle / 1e6, held / 1e6, after / 1e6, (held - idle) / OPEN_STREAMS / 1e3, OPEN_STREAMS)


def warm_start(serve: Callable[[], AbstractContextManager[tuple[Subject, float]]]) -> float:
    """Seconds from starting a gateway whose data is there to its first answer from the upstream."""
    with serve() as (_subject, seconds):
        return seconds


_PRINTED_KEY = re.compile(rb"sk-ps-[0-9A-Za-z]{20,}")
_COLD_PATIENCE = 60.0


def cold_start(penstock: Penstock, data: Path) -> float:
    """Seconds from the very first start, on an empty directory and without settings, to an answer with the printed key."""
    port = free_port()
    log = penstock.place.directory / "cold.log"
    began = time.monotonic()
    program = start(
        "penstock",
        [str(penstock.place.binaries / "penstock"), "serve", "--host", "127.0.0.1", "--port", str(port)],
        GATEWAY_CORE,
        log,
        penstock.environment(data),
    )
    try:
        while not (key := _PRINTED_KEY.search(log.read_bytes())):
            if program.process.poll() is not None or time.monotonic() - began > _COLD_PATIENCE:
                raise NotStarted(f"no key was printed at the first start:\n{program.output()}")
            time.sleep(0.002)
        subject = FirstCaller("penstock", port, "/api/v1", key.group().decode(), program.process.pid, "")
        return first_answer(program, subject, began)
    finally:
        program.stop()


class FirstCaller(Subject):
    """Asks for a model of the default catalogue."""

    def model(self, scenario: Scenario) -> str:
        """The smallest default model, whatever the scenario."""
        del scenario
        return "claude-haiku-4.5"
