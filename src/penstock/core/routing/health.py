"""Health of upstreams: what is known of each provider's model, and what the outcomes of requests change in it.

An upstream is out until the latest of its four circuits: its address, its model there, its credential, and the credential's
allowance for that model. Which failure is held against which of them is a column of ``core/failure_classes``. A failure
that a caller could bring about is *held*: it counts once another upstream has answered the same request, or once another
request fails the same way.
"""

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from penstock.core.failure_classes.classes import HANDLING, Against, FailureClass
from penstock.core.routing.bounds.capacity import Capacity, is_full
from penstock.core.routing.bounds.headroom import Headroom
from penstock.core.routing.bounds.learned_limit import LearnedLimit
from penstock.core.routing.bounds.rate_headers import Amount
from penstock.core.routing.candidates import Attempt, Candidate, UpstreamKey
from penstock.core.routing.circuit_breaker import Circuit, Hint
from penstock.core.routing.last_resort import LastResort
from penstock.core.routing.pace import Pace
from penstock.core.routing.retry_budget import RetryBudget
from penstock.core.routing.rules import RULES, RoutingRules
from penstock.core.routing.votes import Poison, Voters

CircuitName = tuple[str, ...]
"""What kind of thing it is, and what names it: provider, model or credential."""
_TELLING = 32
"""Tokens of an answer from which on they say how quick an upstream generates."""
_OF_LOAD = frozenset((FailureClass.OVERLOAD, FailureClass.RATE))
HELD = frozenset((FailureClass.BROKEN, FailureClass.AUTH, FailureClass.MISSING))
"""What a caller can bring about by what it asks: a poison prompt, the id of a file that lies elsewhere."""


class UpstreamHealth:
    """What is known of one provider's model with one credential.

    Address, model and credential have a circuit each, shared by all that have the same. What choosing reads is worked out
    when something changes.
    """

    __slots__ = (
        "allowance",
        "asked",
        "bounded",
        "capacities",
        "credential",
        "degraded",
        "failures",
        "headroom",
        "in_flight",
        "key",
        "last_class",
        "learned",
        "local",
        "low",
        "normal",
        "origin",
        "rate",
        "resorted_at",
        "sampled_at",
        "slowness",
        "suspect",
        "suspicion",
        "target",
        "trickled_at",
        "until",
        "voters",
        "warm_at",
    )

    def __init__(
        self, key: UpstreamKey, circuits: tuple[Circuit, Circuit, Circuit, Circuit], *, local: bool
    ) -> None:
        """``circuits`` are those of its address, its model there, its credential and its allowance."""
        self.key = key
        self.origin, self.target, self.credential, self.allowance = circuits
        self.local = local
        self.until = 0.0
        """When it can be asked; 0.0: at any time."""
        self.suspect = False
        """The next request is a probe."""
        self.degraded = 0
        self.normal = True
        """None of these makes a difference."""
        self.warm_at = 0.0
        """When it has its whole share again; 0.0: it has."""
        self.in_flight = self.asked = 0
        self.capacities: tuple[Capacity, ...] = ()
        """What bounds the requests that it is sent at once."""
        self.learned: LearnedLimit | None = None
        """What its refusals or its slowness have shown of that; None: nothing was ever seen of either."""
        self.bounded = False
        """There is such a limit now."""
        self.headroom = Headroom()
        self.low = False
        """There is little left of its limits."""
        self.slowness = 1.0
        """Its first tokens, in averages of the model: 1.0 for one of which nothing is known."""
        self.rate = 0.0
        """Tokens a second of its answers, once they have begun; 0.0 for one of which nothing is known."""
        self.failures = 0.0
        """The share of requests that fail."""
        self.sampled_at = 0.0
        self.trickled_at = self.resorted_at = -1e9
        self.last_class = FailureClass.BROKEN
        self.suspicion: Failure | None = None
        self.voters = Voters()

    @property
    def circuits(self) -> tuple[Circuit, Circuit, Circuit, Circuit]:
        """All four."""
        return self.origin, self.target, self.credential, self.allowance

    @property
    def off(self) -> bool:
        """Only the operator can mend it."""
        return any(circuit.off for circuit in self.circuits)

    @property
    def probing(self) -> bool:
        """A probe is on its way."""
        return any(circuit.probing for circuit in self.circuits)

    @property
    def full(self) -> bool:
        """It takes no more requests at once."""
        learned = self.learned
        return is_full(self.capacities) or (learned is not None and learned.is_reached(self.in_flight))

    def score(self, weight: float, mean: float, now: float, rules: RoutingRules) -> float:
        """How much is to be said against it, by its share of failures, its slowness and what it has to do; 1.0: nothing.

        ``weight`` is its own, ``mean`` the average of those it is compared with.
        """
        load = 1.0 + mean * self.in_flight / weight
        if self.slowness == 1.0 and self.failures == 0.0:
            return load
        fades = 0.5 ** ((now - self.sampled_at) / rules.forgets)
        return (
            load * (1.0 + (self.slowness - 1.0) * fades) * (1.0 + rules.failing_costs * self.failures * fades)
        )

    def faded(self, now: float, rules: RoutingRules) -> float:
        """Its slowness, as far as it is not forgotten."""
        return 1.0 + (self.slowness - 1.0) * 0.5 ** ((now - self.sampled_at) / rules.forgets)

    def fade(self, now: float, rules: RoutingRules) -> None:
        """Half of what the averages have learned is forgotten in a while in which nothing new is learned."""
        fades = 0.5 ** ((now - self.sampled_at) / rules.forgets)
        self.slowness = 1.0 + (self.slowness - 1.0) * fades
        self.failures *= fades
        self.sampled_at = now

    def share(self, now: float, rules: RoutingRules) -> float:
        """The part of its weight that it has while it gets warm, or little is left of its limits."""
        share = 1.0
        if self.low:
            share = max(_LEAST, min(1.0, self.headroom.ratio(now) / rules.headroom_low))
        if not self.warm_at:
            return share
        return share * max(
            rules.warm_from, 1.0 - (1.0 - rules.warm_from) * (self.warm_at - now) / rules.warm_up
        )


_LEAST = 0.001
"""No weight is nothing."""


class Failure(msgspec.Struct, frozen=True):
    """An attempt that has failed. ``body`` is a hash of what was asked, ``retry_after`` the upstream's wish in seconds."""

    health: UpstreamHealth
    found: FailureClass
    sent_at: float
    at: float
    user: str = ""
    body: int = 0
    retry_after: float | None = None

    @property
    def request(self) -> tuple[str, int]:
        """Who asked what."""
        return self.user, self.body


def _nobody_waits() -> None:
    """As long as nobody has a queue."""


class ModelHealth:
    """What is known of one public model: its times, what second attempts it may have, and its last resorts."""

    __slots__ = ("budget", "last_resort", "pace", "unsampled")

    def __init__(self, rules: RoutingRules) -> None:
        self.pace = Pace(rules)
        self.budget = RetryBudget(rules)
        self.last_resort = LastResort()
        self.unsampled = 0
        """Answers of which only some are taken into the pace."""


class Health:
    """All that is known of upstreams and models. One per process; the rules are looked up each time, so they can be changed."""

    def __init__(self, rules: RoutingRules = RULES, *, draw: Callable[[], float] = lambda: 0.5) -> None:
        """``draw`` gives numbers in [0, 1), which keep upstreams from coming back all at once."""
        self.rules = rules
        self.abnormal = 0
        """How many upstreams are not as usual: while there are none, nothing has to be looked at."""
        self.bounded = 0
        """How many of them have a limit that was learned."""
        self.left_one: Callable[[], None] = _nobody_waits
        """Told when a request has left an upstream that has such a limit."""
        self._draw = draw
        self._upstreams: dict[UpstreamKey, UpstreamHealth] = {}
        self._circuits: dict[CircuitName, tuple[Circuit, list[UpstreamHealth]]] = {}
        self._sharers: dict[Circuit, list[UpstreamHealth]] = {}
        self._models: dict[str, ModelHealth] = {}
        self._capacities: dict[UpstreamKey, Capacity] = {}
        self._poison = Poison()

    def of(self, attempt: Attempt) -> UpstreamHealth:
        """What is known of what an attempt tries."""
        known = self._upstreams.get(attempt.key)
        if known is None:
            provider, model, credential = attempt.key
            names = (
                ("origin", attempt.origin),
                ("target", provider, model),
                ("credential", provider, credential),
                ("allowance", provider, model, attempt.account),
            )
            pairs = [self._circuits.setdefault(name, (Circuit(), [])) for name in names]
            circuits = (pairs[0][0], pairs[1][0], pairs[2][0], pairs[3][0])
            known = self._upstreams[attempt.key] = UpstreamHealth(attempt.key, circuits, local=attempt.local)
            for circuit, sharers in pairs:
                sharers.append(known)
                self._sharers[circuit] = sharers
            self.refresh(known, 0.0)
        return known

    def all(self) -> Collection[UpstreamHealth]:
        """All of which something is known."""
        return self._upstreams.values()

    def limit(self, candidate: Candidate) -> None:
        """Bound what it is sent at once, as the catalogue says now."""
        attempt = candidate.attempt
        limits = (
            ((attempt.provider, attempt.model, ""), candidate.in_flight),
            ((attempt.provider, "", ""), attempt.upstream.in_flight),
        )
        capacities: list[Capacity] = []
        for key, limit in limits:
            if limit is not None:
                capacity = self._capacities.setdefault(key, Capacity(limit))
                capacity.limit = limit
                capacities.append(capacity)
        self.of(attempt).capacities = tuple(capacities)

    def model(self, model: str) -> ModelHealth:
        """What is known of a public model, by its id."""
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = ModelHealth(self.rules)
        return known

    def budgets(self) -> Iterator[tuple[str, float]]:
        """The models, and what their budgets of second attempts hold."""
        return ((model, known.budget.tokens) for model, known in self._models.items())

    def forget_idle(self) -> None:
        """Forget what is known of upstreams that are well and have nothing to do, and of all models' pace."""
        idle = [key for key, known in self._upstreams.items() if known.normal and not known.in_flight]
        for key in idle:
            known = self._upstreams.pop(key)
            for circuit in known.circuits:
                sharers = self._sharers[circuit]
                sharers.remove(known)
        for name in [name for name, (_, sharers) in self._circuits.items() if not sharers]:
            circuit, _ = self._circuits.pop(name)
            del self._sharers[circuit]
        self._models.clear()

    # ---- what is sent

    def sent(self, health: UpstreamHealth, now: float, tokens: int = 0) -> bool:
        """A request goes out, with a prompt of so many tokens. Whether it is a probe."""
        health.in_flight += 1
        health.asked += 1
        if health.normal:
            return False
        if health.low:
            health.headroom.sent(tokens)
            self._pace(health, now)
        if health.degraded:
            health.trickled_at = now
        if health.until > now:
            health.resorted_at = now
            return False
        if not health.suspect:
            return False
        for circuit in health.circuits:
            if circuit.suspect:
                circuit.probe(now, self.rules)
                self._changed(circuit, now)
        return True

    def left(self, health: UpstreamHealth, now: float, *, probe: bool) -> None:
        """The request is over, one way or another; a ``probe`` of which nothing was told is over, too."""
        health.in_flight -= 1
        if probe:
            self._free(health, now)
        if health.bounded:
            self.left_one()

    def renewed(self, health: UpstreamHealth, now: float) -> None:
        """Its credential is another one."""
        if health.credential.until:
            health.credential.close(now)
            self._changed(health.credential, now)

    def reset(self, meant: Callable[[UpstreamKey], bool], now: float) -> int:
        """Forget what is known against those that are meant; how many they are."""
        count = 0
        for known in self._upstreams.values():
            if not meant(known.key):
                continue
            count += 1
            for circuit in known.circuits:
                circuit.close(now)
                self._changed(circuit, now)
            known.slowness, known.failures, known.suspicion, known.warm_at = 1.0, 0.0, None, 0.0
            known.learned = None
            self.refresh(known, now)
        return count

    # ---- the word of other processes

    def shared(self) -> Iterator[tuple[CircuitName, Circuit]]:
        """What processes tell each other of: not of addresses, for the way there may be well from elsewhere."""
        return ((name, it) for name, (it, _) in self._circuits.items() if name[0] != "origin")

    def hear(self, circuit: Circuit, hint: Hint | None, now: float) -> None:
        """Another process has told this of it; None: it has taken back what it told."""
        if hint is None:
            circuit.unhear(now)
        elif circuit.hear(hint, now):
            for health in self._sharers.get(circuit, ()):
                health.last_class = hint.cause
        self._changed(circuit, now)

    def _free(self, health: UpstreamHealth, now: float) -> None:
        for circuit in health.circuits:
            if circuit.probing:
                circuit.free(now)
                self._changed(circuit, now)

    # ---- outcomes

    def paced(self, health: UpstreamHealth, amounts: tuple[Amount, ...], now: float) -> None:
        """Its answer has said what is left of its limits; or nothing of that."""
        health.headroom.note(amounts, now)
        if amounts or health.low:
            self._pace(health, now)

    def _pace(self, health: UpstreamHealth, now: float) -> None:
        ratio, rules = health.headroom.ratio(now), self.rules
        if ratio <= 0.0:
            wait = min(max(health.headroom.wait(now), rules.cool_least), rules.cool_rate_told)
            if now + wait > health.allowance.until:
                health.allowance.wait(now + wait)
                health.last_class = health.allowance.cause = FailureClass.RATE
                self._changed(health.allowance, now)
        low = ratio < rules.headroom_low
        if low is not health.low:
            health.low = low
            self.refresh(health, now)

    def timed(self, health: UpstreamHealth, ratio: float, now: float) -> None:
        """Its answer has begun, after ``ratio`` times what is usual for the model."""
        rules = self.rules
        ratio = min(ratio, rules.slowest)
        if ratio == health.slowness == 1.0:
            return
        health.fade(now, rules)
        weighs = rules.slower_weighs if ratio > health.slowness else rules.quicker_weighs
        health.slowness += weighs * (ratio - health.slowness)

    def crowded(self, health: UpstreamHealth, kind: int, seconds: float, now: float) -> None:
        """A first token has come from a server of the operator's own, for a request of this class of size."""
        if not self.rules.learns_limits:
            return
        learned = self._learned(health)
        learned.timed(kind, seconds, health.in_flight, now, self.rules)
        self._bound(health, learned)

    def _learned(self, health: UpstreamHealth) -> LearnedLimit:
        learned = health.learned
        if learned is None:
            learned = health.learned = LearnedLimit()
        return learned

    def _bound(self, health: UpstreamHealth, learned: LearnedLimit) -> None:
        """See whether it has a limit now."""
        if health.bounded is not (learned.limit > 0.0):
            self.refresh(health, 0.0)

    def generated(self, health: UpstreamHealth, tokens: int, seconds: float) -> None:
        """It has streamed so many tokens in this time, from the first one on. A few tell nothing."""
        if tokens >= _TELLING and seconds > 0.0:
            rate = tokens / seconds
            health.rate = (
                rate if not health.rate else health.rate + self.rules.rate_weighs * (rate - health.rate)
            )

    def succeeded(
        self, health: UpstreamHealth, sent_at: float, now: float, user: str = "", *, slow: bool = False
    ) -> None:
        """It has answered. ``slow``: after its slow mark."""
        rules = self.rules
        health.voters.answered(user, now)
        if health.failures:
            health.fade(now, rules)
            health.failures -= rules.failures_weigh * health.failures
        if health.target.succeeded(now, sent_at, rules, slow=slow):
            self._changed(health.target, now)
        if not health.normal or health.origin.streak or health.allowance.cooled:
            for circuit in (health.origin, health.credential, health.allowance):
                if circuit.succeeded(now, sent_at, rules):
                    self._changed(circuit, now)
        if health.bounded and health.learned is not None:
            health.learned.answered(health.in_flight, rules)

    def answered(self, request: tuple[str, int], held: Iterable["Failure"], now: float) -> None:
        """A request was answered in the end; of what was held of its failures the first of each kind counts now."""
        self._poison.answered(request)
        kinds: set[FailureClass] = set()
        for failure in held:
            if failure.found not in kinds:
                kinds.add(failure.found)
                self._count(failure, now)

    def failed(self, failure: Failure) -> bool:
        """An attempt has failed. Whether the failure is held, until the request is answered elsewhere."""
        health, found, now = failure.health, failure.found, failure.at
        handling = HANDLING[found]
        if handling.against is Against.NOTHING:
            if handling.alive:
                self.succeeded(health, failure.sent_at, now, failure.user)
            return False
        health.last_class = found
        if (
            handling.alive
            and not health.origin.normal
            and health.origin.succeeded(now, failure.sent_at, self.rules)
        ):
            self._changed(health.origin, now)
        if found in HELD and not health.probing and self._holds(failure):
            return not self._poison.known(failure.request, now, self.rules)
        self._count(failure, now)
        return False

    def is_poison(self, user: str, body: int, now: float) -> bool:
        """Whether this request breaks whatever it meets."""
        return self._poison.known((user, body), now, self.rules)

    def _holds(self, failure: Failure) -> bool:
        """Whether it is the request's doing, as far as is known."""
        health, now, rules = failure.health, failure.at, self.rules
        if failure.found is FailureClass.BROKEN and self._poison.broke(
            failure.request, health.key[:2], now, rules
        ):
            return True
        last, health.suspicion = health.suspicion, failure
        if last is None or last.found is not failure.found or now - last.at > rules.suspicion:
            return True
        if last.request == failure.request:
            return True
        return failure.found is not FailureClass.BROKEN and health.voters.answered_at > last.at

    def _count(self, failure: Failure, now: float) -> None:
        """Hold it against what it is to be held against."""
        health, found, rules = failure.health, failure.found, self.rules
        against = HANDLING[found].against
        circuit = _circuit(health, against)
        if found is FailureClass.OVERLOAD:
            first = 1.0 + 2.0 * self._draw()
            rest = circuit.rest(
                failure.retry_after, rules.cool_told, rules.cool_overload, first, rules.cool_least
            )
            changed = circuit.cool(now, rest)
        elif found is FailureClass.RATE:
            told = failure.retry_after
            if told is not None and told > rules.cool_rate_told:
                circuit = health.credential
                changed = circuit.switch_off(now, rules, told)
            else:
                changed = circuit.cool(
                    now, circuit.rest(told, rules.cool_rate_told, rules.cool_rate, 2.0, rules.cool_least)
                )
        elif against is Against.CREDENTIAL or found is FailureClass.MISSING:
            changed = circuit.switch_off(now, rules)
        elif not circuit.probing and not health.voters.take(failure.user, now, rules):
            return
        else:
            weight = 0.5 if found is FailureClass.EMPTY else 1.0
            changed = circuit.failed(now, failure.sent_at, rules, u=self._draw(), weight=weight)
        if found in _OF_LOAD and rules.learns_limits and circuit is not health.credential:
            learned = self._learned(health)
            learned.refused(health.in_flight, now, rules)
            self._bound(health, learned)
        health.fade(now, rules)
        health.failures += rules.failures_weigh * (1.0 - health.failures)
        if changed:
            circuit.cause = found
            self._changed(circuit, now)

    # ---- what follows

    def settle(self, health: UpstreamHealth, now: float) -> None:
        """Forget what is over: a rest, the time to get warm, a bad while."""
        changed = health.warm_at != 0.0 and health.warm_at <= now
        if changed:
            health.warm_at = 0.0
        if health.low:
            self._pace(health, now)
        if health.learned is not None:
            health.learned.settle(now, self.rules)
            changed = changed or health.bounded is not (health.learned.limit > 0.0)
        if health.degraded and health.target.judge(now, self.rules):
            changed = True
        for circuit in health.circuits:
            if circuit.settle(now):
                self._changed(circuit, now)
        if changed:
            self.refresh(health, now)

    def _changed(self, circuit: Circuit, now: float) -> None:
        # it may have been forgotten while a request was on its way
        for health in self._sharers.get(circuit, ()):
            self.refresh(health, now)

    def refresh(self, health: UpstreamHealth, now: float) -> None:
        """Work out what choosing reads of it, from its circuits."""
        circuits = health.circuits
        was_suspect, was_normal, was_bounded = health.suspect, health.normal, health.bounded
        health.until = max([circuit.until for circuit in circuits])
        health.suspect = any(circuit.suspect for circuit in circuits)
        health.degraded = health.target.degraded
        if was_suspect and not health.suspect:
            health.slowness, health.failures = 1.0, 0.0
            if health.local:
                health.warm_at = now + self.rules.warm_up
        learned = health.learned
        bounded = health.bounded = learned is not None and learned.limit > 0.0
        health.normal = (
            health.until == 0.0
            and not health.suspect
            and not health.degraded
            and not health.warm_at
            and not health.low
            and not bounded
        )
        self.abnormal += was_normal - health.normal
        self.bounded += bounded - was_bounded
        if was_bounded and not bounded:
            self.left_one()


def _circuit(health: UpstreamHealth, against: Against) -> Circuit:
    """The circuit that a failure is held against."""
    match against:
        case Against.ORIGIN:
            return health.origin
        case Against.CREDENTIAL:
            return health.credential
        case Against.ALLOWANCE:
            return health.allowance
        case _:
            return health.target
