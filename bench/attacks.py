"""``python -m bench.attacks``: what a well-behaved user feels beside each of four attacks, from one network and from twenty.

A server with its default settings runs on one core; the mock upstream (50 ms), the well-behaved user and, in a process of
their own, the attackers share the other one. The user asks 40 times a second, 1.5 KB each, whether the last answer has come
or not; each three seconds somebody signs in and somebody else has a small request's tokens counted. Phases with nobody else
and phases beside an attack take turns, so that each attack has a baseline of the same minute. Everybody comes by a proxy
that the server trusts, which is how there are networks.

The bounds: p99 at most 250 ms worse than alone, and nobody but the attackers is answered 503.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from bench.bodies import body
from bench.gauges import cpu_seconds, rss_bytes
from bench.subjects import LOAD_CORE, NotStarted, Penstock, Place, pin, upstream

BOUND = 0.25
"""Seconds that the p99 may be worse beside an attack."""
MODEL = "bench-chat"
_UPSTREAM_MODEL = "mock-chat-d50"
_RATE = 40.0
_EVERY = 3.0
"""Seconds between two sign-ins, and between two counts of tokens."""
_PATIENCE = 60.0
_PASSWORD = "a long enough phrase"
_PERSON = "person@example.com"
_NETWORKS = 20
_ACCOUNTS = 20
_ANNOUNCED = 32 * 1024 * 1024
_COUNTED = 7_000_000
_FIELDS = 99_000
_LOOK, _IDLE = 1.0, 0.05
"""Seconds between two looks at what the server does after an attack, and the share of a core that is nothing."""
_IDLE_CONNECTION = 30.0
"""Seconds after which a connection is not used again: the server closes it after 75, perhaps while it is written to."""
_LEAD = 1.0
"""Seconds for which an attack runs before the phase beside it begins."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to harm others: ``name`` is the finding's, ``what`` what the attackers do."""

    name: str
    what: str


ATTACKS = (
    Attack("H2", "18 accounts, 2 bodies announced at 32 MiB each, a byte a second"),
    Attack("H3", "40 connections that sign up as fast as they can"),
    Attack("M3", "token counts of 7 MB: 7 at a time of one account, 2 at a time of each of 20"),
    Attack("M9", "bodies with 99,000 unknown fields: one at a time of each account (1, 20)"),
)


# ---- HTTP, as far as it is needed


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    head: bytes
    body: bytes


_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie: ([^;\r]+)", re.IGNORECASE)
_TOKEN = re.compile(rb'name="form_token" value="([^"]+)"')


class Connection:
    """One connection, kept alive where the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer. Raises ``OSError`` or ``EOFError`` where there is none."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        reader, writer = self._reader, self._writer
        try:
            writer.write(request)
            # refused before all of it was sent, the answer may be there
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            content = await (reader.readexactly(int(length[1])) if length else reader.read())
        except (OSError, EOFError):
            self.close()
            raise
        if _CLOSE.search(head) or length is None:
            self.close()
        return Answer(int(head[9:12]), head, content)

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def request_bytes(method: str, path: str, network: str, content: bytes = b"", **headers: str) -> bytes:
    """A request that a proxy passes on for somebody in ``network``."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"x-forwarded-for: {network}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    if method == "POST":
        lines.append(f"content-length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def api_request(path: str, key: str, network: str, content: bytes) -> bytes:
    """A request of the data plane."""
    headers = {"authorization": f"Bearer {key}", "content_type": "application/json"}
    return request_bytes("POST", f"/api/v1{path}", network, content, **headers)


class Browser:
    """Somebody with a browser in one network: a cookie, and the token of the forms."""

    def __init__(self, port: int, network: str) -> None:
        self._connection = Connection(port)
        self._network = network
        self._cookie = ""
        self._token = ""

    async def open(self, path: str) -> Answer:
        """Look at a page."""
        answer = await self._connection.ask(request_bytes("GET", path, self._network, cookie=self._cookie))
        return self._seen(answer)

    async def post(self, path: str, **fields: str) -> Answer:
        """Send a form of a page that was opened."""
        content = urlencode({"form_token": self._token, **fields}).encode()
        headers = {
            "cookie": self._cookie,
            "content_type": "application/x-www-form-urlencoded",
            "sec_fetch_site": "same-origin",
        }
        return self._seen(
            await self._connection.ask(request_bytes("POST", path, self._network, content, **headers))
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _seen(self, answer: Answer) -> Answer:
        if cookie := _COOKIE.search(answer.head):
            self._cookie = cookie[1].decode()
        if token := _TOKEN.search(answer.body):
            self._token = token[1].decode()
        return answer


# ---- the well-behaved


@dataclass(slots=True)
class Phase:
    """What the well-behaved saw in one phase. Times in seconds."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    sign_ins: list[tuple[int, float]] = field(default_factory=list)
    """The status of each, 0 for none, and how long it took."""
    counts: list[tuple[int, float]] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """A quantile of all requests, those that failed included."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class WellBehaved:
    """The user, somebody who signs in, and somebody who counts; each phase from networks that nobody came from before."""

    def __init__(self, port: int, key: str, counter_key: str) -> None:
        self._port = port
        self._request = body("chat", "small", MODEL, stream=False)
        self._key = key
        self._counter_key = counter_key
        self._free: list[tuple[float, Connection]] = []
        """What is kept alive, and since when it is idle."""

    async def phase(self, number: int, seconds: float) -> Phase:
        """Ask, sign in and count for so long."""
        seen = Phase()
        network = f"203.0.113.{number % 250 + 1}"
        request = api_request("/chat/completions", self._key, network, self._request)
        asking: set[asyncio.Task[None]] = set()
        begin = time.monotonic()
        others = [
            asyncio.create_task(self._now_and_then(begin + seconds, lambda: self._sign_in(seen, network))),
            asyncio.create_task(self._now_and_then(begin + seconds, lambda: self._count(seen, network))),
        ]
        for number_of in range(int(seconds * _RATE)):
            due = begin + number_of / _RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._ask(seen, request, due))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking, *others)
        return seen

    async def _ask(self, seen: Phase, request: bytes, due: float) -> None:
        idle_since, connection = self._free.pop() if self._free else (0.0, Connection(self._port))
        if time.monotonic() - idle_since > _IDLE_CONNECTION:
            connection.close()
        status = "none"
        try:
            async with asyncio.timeout(_PATIENCE):
                status = str((await connection.ask(request)).status)
        except (OSError, EOFError) as error:  # a timeout is one
            status = type(error).__name__
            connection.close()
        self._free.append((time.monotonic(), connection))
        seen.times.append(time.monotonic() - due)
        seen.statuses[status] += 1

    async def _now_and_then(self, end: float, act: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < end:
            due = time.monotonic() + _EVERY
            await act()
            await asyncio.sleep(max(0.0, min(due, end) - time.monotonic()))

    async def _sign_in(self, seen: Phase, network: str) -> None:
        browser = Browser(self._port, network)
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, EOFError):
            async with asyncio.timeout(_PATIENCE):
                await browser.open("/signin")
                status = (await browser.post("/signin", email=_PERSON, password=_PASSWORD)).status
        browser.close()
        seen.sign_ins.append((status, time.monotonic() - began))

    async def _count(self, seen: Phase, network: str) -> None:
        connection = Connection(self._port)
        asked = json.dumps(
            {"model": MODEL, "messages": [{"role": "user", "content": "Hello there"}]}
        ).encode()
        began = time.monotonic()
        status = 0
        with contextlib.suppress(OSError, EOFError):
            async with asyncio.timeout(_PATIENCE):
                request = api_request("/messages/count_tokens", self._counter_key, network, asked)
                status = (await connection.ask(request)).status
        connection.close()
        seen.counts.append((status, time.monotonic() - began))


# ---- the attackers, in a process of their own


@dataclass(frozen=True, slots=True)
class Orders:
    """What one phase of an attack is: from how many networks, and which, with which keys."""

    attack: str
    port: int
    networks: list[str]
    keys: list[str]


class Attackers:
    """One attack, until it is cancelled; ``statuses`` is what the attackers were answered."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._network = itertools.cycle(orders.networks)
        self.statuses: Counter[str] = Counter()

    async def run(self) -> None:
        """Attack."""
        many = len(self._orders.networks) > 1
        match self._orders.attack:
            case "H2":
                await asyncio.gather(
                    *(self._drip(key, next(self._network)) for key in self._orders.keys[:18] for _ in "12")
                )
            case "H3":
                await asyncio.gather(*(self._sign_up(number, next(self._network)) for number in range(40)))
            case "M3":
                content = _body_of(_COUNTED)
                keys = self._orders.keys if many else self._orders.keys[:1]
                each = [key for key in keys for _ in range(2 if many else 7)]
                await asyncio.gather(*(self._repeat("/messages/count_tokens", key, content) for key in each))
            case "M9":
                content = _body_with_fields(_FIELDS)
                keys = self._orders.keys if many else self._orders.keys[:1]
                await asyncio.gather(*(self._repeat("/messages", key, content) for key in keys))
            case _:
                raise LookupError(self._orders.attack)

    async def _drip(self, key: str, network: str) -> None:
        request = api_request("/chat/completions", key, network, b"").replace(
            b"content-length: 0", b"content-length: %d" % _ANNOUNCED
        )
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._orders.port)
                answer = asyncio.ensure_future(reader.read(200))
                writer.write(request + b"{")
                while not answer.done():
                    await asyncio.wait([answer], timeout=1.0)
                    writer.write(b" ")
                self.statuses[(await answer)[9:12].decode() or "closed"] += 1
                writer.close()
            except OSError as error:
                self.statuses[type(error).__name__] += 1
            await asyncio.sleep(0.05)

    async def _sign_up(self, number: int, network: str) -> None:
        browser = Browser(self._orders.port, network)
        await browser.open("/signup")
        for turn in itertools.count():
            address = f"a{number}-{turn}-{os.getpid()}@example.net"
            await self._told(browser.post("/signup", email=address, password=_PASSWORD))

    async def _repeat(self, path: str, key: str, content: bytes) -> None:
        connection = Connection(self._orders.port)
        request = api_request(path, key, next(self._network), content)
        while True:
            await self._told(connection.ask(request))

    async def _told(self, answer: Awaitable[Answer]) -> None:
        try:
            self.statuses[str((await answer).status)] += 1
        except (OSError, EOFError) as error:
            self.statuses[type(error).__name__] += 1
            await asyncio.sleep(0.05)


def _body_of(size: int) -> bytes:
    """A Messages request of blanks, the dearest text there is to count."""
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": " " * size}]}).encode()


def _body_with_fields(fields: int) -> bytes:
    root = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps(root | {f"f{number}": 1 for number in range(fields)}, separators=(",", ":")).encode()


async def _attack(orders: Orders) -> None:
    """Attack until standard input is closed; then tell what was answered."""
    attackers = Attackers(orders)
    work = asyncio.create_task(attackers.run())
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
    failure = work.exception() if work.done() and not work.cancelled() else None
    print(
        json.dumps({**attackers.statuses, **({"attack failed": repr(failure)} if failure else {})}),
        flush=True,
    )
    os._exit(0)  # connections are left as they are


@contextmanager
def attacking(orders: Orders, told: Counter[str]) -> Generator[None]:
    """The attackers at work; ``told`` gets what they were answered."""
    command = [sys.executable, "-m", "bench.attacks", "--orders", json.dumps(asdict(orders))]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: pin(LOAD_CORE),  # noqa: PLW1509 - the parent has one thread
    )
    try:
        yield
    finally:
        answered, _ = child.communicate()
    told.update(json.loads(answered))


# ---- the server


@dataclass(slots=True)
class AttackedServer(Penstock):
    """A server with default settings, but that the attackers' proxy is trusted, with accounts for both sides."""

    attackers: list[str] = field(default_factory=list)
    counter_key: str = ""

    def environment(self, data: Path) -> dict[str, str]:
        """As ``Penstock`` has it, with a proxy."""
        return Penstock.environment(self, data) | {
            "PENSTOCK_TRUSTED_PROXIES": "127.0.0.1",
            "PENSTOCK_SIGNUP_PLAN": "attackers",
            "PENSTOCK_LOG_LEVEL": "error",
        }

    def prepare(self) -> None:
        """Make the data directory, the catalogue and the accounts."""
        self.data.mkdir(parents=True, exist_ok=True)
        file = self.place.directory / "catalogue.toml"
        file.write_text(
            _CATALOGUE.format(port=self.place.upstream_port, model=MODEL, upstream=_UPSTREAM_MODEL)
        )
        self.command("migrate")
        self.command("catalog", "apply", str(file))
        self.key = self._account("user@example.com", "bench")
        self.counter_key = self._account("counter@example.com", "bench")
        self.attackers = [self._account(f"attacker{n}@example.com", "attackers") for n in range(_ACCOUNTS)]

    def _account(self, email: str, plan: str) -> str:
        told = self.command("user", "create", "--email", email, "--plan", plan, "--verified", "--json")
        return str(json.loads(told)["key"])

    async def person(self, port: int) -> None:
        """Somebody with a password, who signs up as people do. Raises ``NotStarted``."""
        browser = Browser(port, "198.51.100.200")
        await browser.open("/signup")
        await browser.post("/signup", email=_PERSON, password=_PASSWORD)
        deadline = time.monotonic() + _PATIENCE
        while not (mails := list((self.place.directory / "mail").glob("*.eml"))):
            if time.monotonic() > deadline:
                raise NotStarted("no code was mailed")
            await asyncio.sleep(0.1)
        await browser.open("/verify")
        code = re.search(r"^\s*([0-9]{3} ?[0-9]{3})\s*$", mails[0].read_text(), re.MULTILINE)
        answer = await browser.post("/verify", code=code[1] if code else "")
        if answer.status != 303:
            raise NotStarted(f"the code was answered with {answer.status}")
        browser.close()


_CATALOGUE = """
[[provider]]
id = "mock-chat"
speaks = {{ chat = "http://127.0.0.1:{port}/v1" }}
secret = "env:BENCH_UPSTREAM_KEY"
[[model]]
id = "{model}"
targets = [{{ provider = "mock-chat", model = "{upstream}" }}]
max_output_tokens = 64000
[[plan]]
id = "bench"
daily_requests = 1000000000
concurrent_requests = 1000
models = ["{model}"]
[[plan]]
id = "attackers"
daily_requests = 1000000000
concurrent_requests = 1
models = ["{model}"]
"""


# ---- the run


@dataclass(slots=True)
class Result:
    """One attack from one or twenty networks: the phases alone and beside it, and what the attackers were told."""

    attack: Attack
    networks: int
    alone: list[Phase] = field(default_factory=list)
    beside: list[Phase] = field(default_factory=list)
    attackers: Counter[str] = field(default_factory=Counter)
    cores: list[float] = field(default_factory=list)
    peak: float = 0.0

    def worse(self) -> float:
        """Seconds that the p99 is worse: the median of the pairs' differences."""
        return median(
            b.quantile(0.99) - a.quantile(0.99) for a, b in zip(self.alone, self.beside, strict=True)
        )

    def faults(self) -> list[str]:
        """Which bounds do not hold."""
        found = [f"p99 {self.worse() * 1000:.0f} ms worse"] if self.worse() > BOUND else []
        wrong = sum((phase.statuses for phase in self.beside), Counter[str]())
        del wrong["200"]
        if wrong:
            found.append(f"requests answered {dict(wrong)}")
        for name, tries, good in (
            ("sign-ins", [each for phase in self.beside for each in phase.sign_ins], 303),
            ("counts", [each for phase in self.beside for each in phase.counts], 200),
        ):
            bad = Counter(status for status, _ in tries if status != good)
            if bad:
                found.append(f"{name} answered {dict(bad)}")
        return found


async def _rest(pid: int, most: float) -> None:
    """Wait until the server has done what an attack left to it, or so many seconds."""
    end = time.monotonic() + most
    used = cpu_seconds(pid)
    while time.monotonic() < end:
        await asyncio.sleep(_LOOK)
        before, used = used, cpu_seconds(pid)
        if used - before < _IDLE * _LOOK:
            return


async def _run_pairs(
    server: AttackedServer, port: int, pid: int, options: argparse.Namespace
) -> list[Result]:
    user = WellBehaved(port, server.key, server.counter_key)
    results: list[Result] = []
    number = 0
    await user.phase(number, 3.0)  # the tokens' vocabulary is loaded, and connections are open
    wanted = [attack for attack in ATTACKS if attack.name in options.only.split(",")]
    for attack, networks in itertools.product(wanted, (1, _NETWORKS)):
        result = Result(attack, networks)
        for _ in range(options.pairs):
            number += 2
            result.alone.append(await user.phase(number, options.seconds))
            places = [f"198.18.{number % 250}.{place + 1}" for place in range(networks)]
            with attacking(Orders(attack.name, port, places, server.attackers), result.attackers):
                await asyncio.sleep(_LEAD)
                before, began = cpu_seconds(pid), time.monotonic()
                result.beside.append(await user.phase(number + 1, options.seconds))
                result.cores.append((cpu_seconds(pid) - before) / (time.monotonic() - began))
                result.peak = max(result.peak, rss_bytes(pid) / 1e6)
            await _rest(pid, options.rest)
        results.append(result)
        print(_line(result), file=sys.stderr, flush=True)
    return results


_COLUMNS = (
    "Attack", "Networks", "Requests", "Errors", "p50, ms", "p99, ms", "p99 alone, ms", "worse, ms", "Sign-ins", "slowest, s",
    "Counts", "slowest, s", "Server, cores", "MB", "What the attackers were told",
)  # fmt: skip


def _line(result: Result) -> str:
    """A row of the table: medians over the pairs, sums of counts."""
    beside = result.beside
    statuses = sum((phase.statuses for phase in beside), Counter[str]())
    wrong = (
        ", ".join(f"{count} x {status}" for status, count in statuses.items() if status != "200") or "none"
    )
    signed = [each for phase in beside for each in phase.sign_ins]
    counted = [each for phase in beside for each in phase.counts]
    cells = [
        result.attack.name,
        str(result.networks),
        f"{statuses.total():,}",
        wrong,
        f"{median(phase.quantile(0.5) for phase in beside) * 1000:.0f}",
        f"{median(phase.quantile(0.99) for phase in beside) * 1000:.0f}",
        f"{median(phase.quantile(0.99) for phase in result.alone) * 1000:.0f}",
        f"{result.worse() * 1000:+.0f}",
        f"{sum(status == 303 for status, _ in signed)} of {len(signed)}",
        f"{max(seconds for _, seconds in signed):.1f}",
        f"{sum(status == 200 for status, _ in counted)} of {len(counted)}",
        f"{max(seconds for _, seconds in counted):.1f}",
        f"{median(result.cores):.2f}",
        f"{result.peak:.0f}",
        ", ".join(f"{count:,} x {status}" for status, count in result.attackers.items()) or "nothing yet",
    ]
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the table; 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--only", default=",".join(attack.name for attack in ATTACKS), metavar="NAMES")
    parser.add_argument("--pairs", type=int, default=3, help="phases alone and beside, in turn (3)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a phase (15)")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds after an attack, at most (20)")
    parser.add_argument("--orders", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.orders:
        asyncio.run(_attack(Orders(**json.loads(options.orders))))
        return 0
    try:
        pin(LOAD_CORE)
    except PermissionError:  # it leads a group of processes, and cannot have a session of its own
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        server = AttackedServer(Place(Path(folder), Path(sys.executable).parent))
        server.prepare()
        with upstream(server.place), server.serve() as (subject, _):
            if subject.pid is None:
                raise NotStarted("the server has no process")
            asyncio.run(server.person(subject.port))
            results = asyncio.run(_run_pairs(server, subject.port, subject.pid, options))
    print(f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|")
    print("\n".join(map(_line, results)))
    faults = [
        f"{each.attack.name} from {each.networks}: {fault}" for each in results for fault in each.faults()
    ]
    print("\n".join(faults) or "Every bound holds.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
