"""A simulation of many gateways that route to many upstreams, with the functions that the relay runs.

``python -m bench.route_simulation`` prints a row for each case and seed: errors, attempts for each request, the time to the
first content, the share of requests that waited for an attempt's limit, and how evenly the healthy upstreams were used.
Gateways share nothing: each knows only what it has seen itself, so what counts is how many requests each has in a second
(``--gateways 3 --rate 3000`` is what a hundred have at 100,000). Upstreams fail independently of each other.
"""

import argparse
import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from penstock.core.catalog import Model, Target, Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Candidate, Upstreams
from penstock.core.routing.choice import NOTHING, choose
from penstock.core.routing.health import Failure, Health
from penstock.core.routing.pace import Clocks, Size

SIZE = Size(500, 500)
_USERS = 200


@dataclass(slots=True)
class Server:
    """One upstream: requests that it has in hand make it slower, beyond its slots."""

    slots: int
    speed: float = 1.0
    fails: float = 0.0
    hangs: bool = False
    busy: int = 0
    asked: int = 0


@dataclass(slots=True)
class Request:
    """One request on its way."""

    gateway: "Gateway"
    user: str
    number: int
    began: float
    tried: tuple[Candidate, ...] = ()
    held: tuple[Failure, ...] = ()
    taken: float = 0.0
    waited: bool = False


@dataclass(slots=True)
class Gateway:
    """One process: its board, and what it knows."""

    board: Board
    health: Health


@dataclass(slots=True)
class Figures:
    """What a run has come to."""

    requests: int = 0
    errors: int = 0
    attempts: int = 0
    waited: int = 0
    firsts: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, slots=True)
class Case:
    """Some of the upstreams are ill in some way, from one time to another."""

    name: str
    share: float
    spoil: Callable[[Server], None]
    heal: Callable[[Server], None]
    begins: float = 0.0
    ends: float = 1e9


def _failing(server: Server) -> None:
    server.fails = 0.3


def _dead(server: Server) -> None:
    server.fails = 1.0


def _slow(server: Server) -> None:
    server.speed = 8.0


def _hanging(server: Server) -> None:
    server.hangs = True


def _well(server: Server) -> None:
    server.fails, server.speed, server.hangs = 0.0, 1.0, False


CASES = (
    Case("all well", 0.0, _well, _well),
    Case("20 % fail 30 %", 0.2, _failing, _well),
    Case("10 % hang", 0.1, _hanging, _well),
    Case("10 % are slow x 8", 0.1, _slow, _well),
    Case("all fail for 10 s", 1.0, _dead, _well, begins=5.0, ends=15.0),
)


class Simulation:
    """One run. Events are kept in the order of their time."""

    def __init__(
        self, case: Case, *, seed: int, servers: int, gateways: int, rate: float, seconds: float
    ) -> None:
        self.case = case
        self.random = random.Random(seed)
        self.rate = rate
        self.seconds = seconds
        self.figures = Figures()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = self._numbers()
        self.servers = {f"p{number}": Server(40) for number in range(servers)}
        self.ill = list(self.servers.values())[: round(servers * case.share)]
        upstreams = Upstreams(
            Upstream(name, "custom", (("chat", f"https://{name}/v1"),)) for name in self.servers
        )
        model = Model("m", "M", targets=tuple(Target(name, "up") for name in self.servers))
        group = upstreams.group(model, "chat", ("chat",))
        self.gateways: list[Gateway] = []
        for _ in range(gateways):
            health = Health(draw=self.random.random)
            self.gateways.append(Gateway(Board(group, health), health))

    @staticmethod
    def _numbers() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Something will happen."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def _each_ill(self, change: Callable[[Server], None]) -> None:
        for server in self.ill:
            change(server)

    def run(self) -> Figures:
        """All of it."""
        self.at(self.case.begins, lambda: self._each_ill(self.case.spoil))
        self.at(self.case.ends, lambda: self._each_ill(self.case.heal))
        self.at(0.0, self._arrive)
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
            if not self._events or (self.now > self.seconds + 120 and self.case.ends > 1e8):
                break
        return self.figures

    def _arrive(self) -> None:
        if self.now >= self.seconds:
            return
        self.at(self.now + self.random.expovariate(self.rate), self._arrive)
        figures = self.figures
        figures.requests += 1
        gateway = self.random.choice(self.gateways)
        user = f"u{self.random.randrange(_USERS)}"
        self._choose(Request(gateway, user, figures.requests, self.now), None, 600.0)

    def _choose(self, request: Request, failed: FailureClass | None, patience: float) -> None:
        gateway = request.gateway
        choice = choose(
            gateway.board,
            NOTHING,
            request.tried,
            failed,
            u=self.random.random(),
            now=self.now,
            patience=patience,
        )
        if choice.wait is not None:
            self.at(self.now + choice.wait, lambda: self._choose(request, None, 0.0))
            return
        if choice.reason == "last_resort":
            gateway.board.known.last_resort.asked(self.now, gateway.health.rules)
        if choice.candidate is None:
            self.figures.errors += 1
            return
        self._send(request, choice.candidate, resort=choice.reason == "last_resort")

    def _send(self, request: Request, candidate: Candidate, *, resort: bool) -> None:
        gateway, health, now = request.gateway, request.gateway.health, self.now
        known = gateway.board.health_of(candidate)
        probe = health.sent(known, now)
        request.tried += (candidate,)
        self.figures.attempts += 1
        server = self.servers[candidate.key[0]]
        server.asked += 1
        server.busy += 1
        pace = gateway.board.known.pace
        limit = pace.stream_limits(SIZE, Clocks(), other=True)
        longest = min(limit.head, limit.content)
        if probe:
            longest = min(longest, pace.probe_limit(0))
        crowded = max(1.0, server.busy / server.slots)
        first = self.random.lognormvariate(-0.916, 0.5) * server.speed * crowded
        if server.fails and self.random.random() < server.fails:
            took, found = 0.05, FailureClass.BROKEN
        elif server.hangs or first > longest:
            took, found = longest, FailureClass.SLOW
        else:
            took, found = first, None

        def end() -> None:
            server.busy -= 1
            if found is None:
                self._answered(request, now, resort=resort)
            else:
                self._failed(
                    request, Failure(known, found, now, self.now, request.user, request.number), probe
                )
            health.left(known, self.now, probe=probe)

        self.at(now + took, end)

    def _answered(self, request: Request, sent_at: float, *, resort: bool) -> None:
        gateway = request.gateway
        health, model = gateway.health, gateway.board.known
        known = gateway.board.health_of(request.tried[-1])
        health.timed(known, model.pace.add(0, self.now - sent_at, self.now), self.now)
        health.succeeded(known, sent_at, self.now, request.user)
        if resort:
            model.last_resort.succeeded()
        if len(request.tried) == 1:
            model.budget.earn()
        else:
            model.budget.give_back(request.taken)
            health.answered((request.user, request.number), request.held, self.now)
        self.figures.firsts.append(self.now - request.began)

    def _failed(self, request: Request, failure: Failure, probe: bool) -> None:
        gateway = request.gateway
        if failure.found is FailureClass.SLOW and not request.waited:
            request.waited = True
            self.figures.waited += 1
        if gateway.health.failed(failure):
            request.held += (failure,)
        taken = 0.0 if probe else gateway.board.known.budget.take(failure.found)
        if taken is None or len(request.tried) >= gateway.health.rules.most_attempts:
            self.figures.errors += 1
            return
        request.taken += taken
        self._choose(request, failure.found, 0.0)


def row(case: Case, seed: int, servers: int, gateways: int, rate: float, seconds: float) -> str:
    """One line of the table."""
    simulation = Simulation(case, seed=seed, servers=servers, gateways=gateways, rate=rate, seconds=seconds)
    figures = simulation.run()
    firsts = sorted(figures.firsts)
    quantiles = "/".join(f"{firsts[int(len(firsts) * share)]:.2f}" for share in (0.5, 0.95, 0.99))
    well = [each.asked for each in simulation.servers.values() if each not in simulation.ill]
    even = max(well) / (sum(well) / len(well)) if well else 0.0
    return (
        f"| {case.name} | {seed} | {figures.requests} | {figures.errors / figures.requests:.3%} | "
        f"{figures.attempts / figures.requests:.3f} | {quantiles} | {figures.waited / figures.requests:.2%} | {even:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.route_simulation", description=__doc__)
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--gateways", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1500.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(
        "| case | seed | requests | errors | attempts | first content p50/p95/p99, s | waited for a limit | max/mean |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        for seed in range(1, options.seeds + 1):
            print(
                row(case, seed, options.servers, options.gateways, options.rate, options.seconds), flush=True
            )


if __name__ == "__main__":
    main()
