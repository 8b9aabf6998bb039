"""What is measured, running: the mock upstream, and Penstock with a key on a plan without narrow limits."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.bodies import Dialect, body
from bench.build import BENCH, tool
from bench.keys import COUNT, Rotation
from bench.ledger import Counts, read_counts
from bench.scenarios import SCENARIOS, Scenario

GATEWAY_CORE = 0
LOAD_CORE = 1
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"
CALLER_KEY = "sk-bench-0123456789abcdef"
"""That of the callers of a proxy; Penstock makes its own."""
EMAIL = "bench@example.com"
DESCRIPTORS = 20_000
PATHS: dict[Dialect, str] = {
    "chat": "/chat/completions",
    "messages": "/messages",
    "responses": "/responses",
}
_START_PATIENCE = 60.0
_STOP_PATIENCE = 20.0


class NotStarted(Exception):
    """A program did not come up or answered something unexpected; the text holds what it said."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that answers on a port of 127.0.0.1. ``pid`` is the root of its processes, None where nothing is counted."""

    name: str
    port: int
    base: str
    key: str
    pid: int | None
    prefix: str
    translates: bool = False
    keys: Rotation | None = None
    """Those of many callers, where it tells callers apart."""

    def model(self, scenario: Scenario) -> str:
        """The model that a caller of this subject names."""
        dialect = scenario.upstream if self.translates else scenario.caller
        return f"{self.prefix}-{dialect}{scenario.behaviour}"

    def path(self, dialect: Dialect) -> str:
        """Where requests of a dialect go."""
        return self.base + PATHS[dialect]

    def headers(self, dialect: Dialect) -> dict[str, str]:
        """What callers of a dialect send; with bearer keys in both, because nginx's map looks at one header."""
        version = {"anthropic-version": "2023-06-01"} if dialect == "messages" else {}
        return {"authorization": f"Bearer {self.key}", **version}

    def body(self, scenario: Scenario) -> bytes:
        """The request of a scenario."""
        return body(scenario.caller, scenario.size, self.model(scenario), stream=scenario.stream is not None)


@dataclass(slots=True)
class Program:
    """A child process whose output goes to a file, pinned to one core."""

    process: subprocess.Popen[bytes]
    log: Path
    name: str

    def output(self) -> str:
        """The last of what it has printed."""
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """Ask it to end, wait, and end it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run keeps its files, and which environment's Penstock it starts."""

    directory: Path
    binaries: Path
    upstream_port: int = field(default_factory=free_port)
    spin: bool = False
    """Whether the mock polls without sleeping."""


def start(
    name: str,
    command: list[str],
    core: int,
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    apart: bool = True,
) -> Program:
    """Start a program on one core with enough file descriptors, ``apart`` in a session of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            preexec_fn=lambda: pin(core, apart=apart),  # noqa: PLW1509 - the parent has one thread
        )
    return Program(process, log, name)


def pin(core: int, *, apart: bool = True) -> None:
    """Run in the child before its program: one core, enough file descriptors, and a session of our own priority.

    Linux weighs sessions first and the processes in them then, so that a priority alone would not reach across. Two that spin
    on one core stay in our session instead: ``sched_yield`` gives the core to another of the same session only.
    """
    if apart:
        os.setsid()
    weight = Path("/proc/self/autogroup")
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    if priority and weight.exists():
        weight.write_text(str(priority))
    os.sched_setaffinity(0, {core})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def session_priority(priority: int) -> Generator[None]:
    """Our own session at a priority, for what stays in it; as it was before in the end."""
    weight = Path("/proc/self/autogroup")
    if not priority or not weight.exists():
        yield
        return
    before = weight.read_text().split()[-1]
    weight.write_text(str(priority))
    try:
        yield
    finally:
        weight.write_text(before)


def ask(subject: Subject, scenario: Scenario) -> tuple[int, bytes]:
    """Send one request of a scenario and read the whole answer. Raises ``OSError`` where nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=30)
    try:
        headers = {"content-type": "application/json", **subject.headers(scenario.caller)}
        connection.request("POST", subject.path(scenario.caller), subject.body(scenario), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def first_answer(program: Program, subject: Subject, began: float) -> float:
    """Seconds from ``began`` (monotonic) until the subject has answered a request with 200. Raises ``NotStarted``."""
    answer = ""
    while time.monotonic() - began < _START_PATIENCE:
        if program.process.poll() is not None:
            raise NotStarted(f"{program.name} ended by itself:\n{program.output()}")
        try:
            status, text = ask(subject, SCENARIOS[0])
        except (OSError, http.client.HTTPException) as error:
            answer = repr(error)
        else:
            if status == 200:
                return time.monotonic() - began
            answer = f"{status} {text[:300]!r}"
        time.sleep(0.002)
    raise NotStarted(f"{program.name} does not answer ({answer}):\n{program.output()}")


@contextmanager
def upstream(place: Place) -> Generator[Subject]:
    """The mock upstream on the load's core; as a subject it is what callers get without a gateway."""
    program = start(
        "upstream",
        [str(tool("upstream")), str(place.upstream_port), UPSTREAM_KEY, *(["spin"] if place.spin else [])],
        LOAD_CORE,
        place.directory / "upstream.log",
        apart=not place.spin,
    )
    subject = Subject("direct", place.upstream_port, "/v1", UPSTREAM_KEY, None, "mock")
    try:
        first_answer(program, subject, time.monotonic())
        yield subject
    finally:
        program.stop()


def catalogue(upstream_port: int) -> str:
    """The catalogue as TOML: a provider for each dialect, a model for each behaviour, and a plan that has them all."""
    base = f"http://127.0.0.1:{upstream_port}/v1"
    lines: list[str] = []
    for dialect, auth in (("chat", "bearer"), ("messages", "x-api-key"), ("responses", "bearer")):
        lines += [
            "[[provider]]",
            f'id = "mock-{dialect}"',
            f'speaks = {{ {dialect} = "{base}" }}',
            'secret = "env:BENCH_UPSTREAM_KEY"',
            f'auth = "{auth}"',
        ]
    names = sorted(
        {(scenario.upstream, scenario.behaviour) for scenario in SCENARIOS} | {("chat", OPEN_STREAM)}
    )
    for dialect, behaviour in names:
        lines += [
            "[[model]]",
            f'id = "bench-{dialect}{behaviour}"',
            f'targets = [{{ provider = "mock-{dialect}", model = "mock-{dialect}{behaviour}" }}]',
            "max_output_tokens = 64000",
        ]
    models = ", ".join(f'"bench-{dialect}{behaviour}"' for dialect, behaviour in names)
    lines += [
        "[[plan]]",
        'id = "bench"',
        "daily_requests = 1000000000",
        "concurrent_requests = 1000",
        f"models = [{models}]",
    ]
    return "\n".join(lines) + "\n"


OPEN_STREAM = "-n9-g1000"
"""How streams behave that are held open to weigh them: one delta a second."""


@dataclass(slots=True)
class Penstock:
    """A data directory with the mock as its providers and one user; ``serve`` starts a gateway on it, as often as wanted."""

    place: Place
    key: str = ""
    keys: Rotation | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.place.directory / "data"

    def environment(self, data: Path) -> dict[str, str]:
        """Nothing of the machine's own Penstock or Python settings, and mail into a directory."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(
                ("PENSTOCK_", "PYTHON", "ANTHROPIC_", "OPENAI_", "DEEPSEEK_", "DASHSCOPE_", "MINIMAX_")
            )
        }
        return kept | {
            "PENSTOCK_DATA": str(data),
            "PENSTOCK_MAIL_URL": f"file:{self.place.directory / 'mail'}",
            "BENCH_UPSTREAM_KEY": UPSTREAM_KEY,
        }

    def command(self, *words: str) -> str:
        """Run ``penstock`` on the data directory; its standard output. Raises ``NotStarted``."""
        done = subprocess.run(
            [str(self.place.binaries / "penstock"), *words],
            env=self.environment(self.data),
            cwd=self.place.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotStarted(f"penstock {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self) -> None:
        """Make the data directory: catalogue, plan, user and key."""
        self.data.mkdir(parents=True, exist_ok=True)
        toml = self.place.directory / "catalogue.toml"
        toml.write_text(catalogue(self.place.upstream_port))
        self.command("migrate")
        self.command("catalog", "apply", str(toml))
        user = json.loads(
            self.command("user", "create", "--email", EMAIL, "--plan", "bench", "--verified", "--json")
        )
        self.key = user["key"]

    def prepare_keys(self) -> None:
        """Make the accounts of many callers, with a key each. Raises ``NotStarted``."""
        done = subprocess.run(
            [str(self.place.binaries / "python"), "-P", str(BENCH / "accounts.py"), str(COUNT)],
            env=self.environment(self.data),
            cwd=self.place.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotStarted(f"the accounts of many callers could not be made:\n{done.stderr}")
        file = self.place.directory / "keys"
        file.write_text(done.stdout)
        self.keys = Rotation(file, COUNT)

    def counts(self) -> Counts:
        """The rows and counts that the database holds."""
        return read_counts(self.data / "penstock.db")

    @contextmanager
    def serve(self) -> Generator[tuple[Subject, float]]:
        """A running gateway, and the seconds that it took from its start to its first answer."""
        port = free_port()
        began = time.monotonic()
        program = start(
            "penstock",
            [str(self.place.binaries / "penstock"), "serve", "--host", "127.0.0.1", "--port", str(port)],
            GATEWAY_CORE,
            self.place.directory / "penstock.log",
            self.environment(self.data),
        )
        subject = Subject(
            "penstock",
            port,
            "/api/v1",
            self.key,
            program.process.pid,
            "bench",
            translates=True,
            keys=self.keys,
        )
        try:
            yield subject, first_answer(program, subject, began)
        finally:
            program.stop()
