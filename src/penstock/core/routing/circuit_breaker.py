"""Circuit breaker: whether one thing is left out, until when, and what brings it back.

The thing is an address, a model at a provider, a credential, or a credential's allowance for a model. *Closed*: nothing is
known against it. *Open*: too many of its last requests failed; after a while one request at a time probes it, and two good
ones in a row close it. *Off*: only the operator can mend it; it is probed more and more rarely. Apart from that it may be
*cooling*: it has asked for a rest, and of two rests the one that ends later counts. What was sent before the last change
says nothing of what is now, and is passed over.

Other processes may have met the same. Their word is a *hint*: it leaves the thing out as an opening or a rest of our own does,
it is never passed on, and what is answered here speaks against it.
"""

from enum import Enum

import msgspec

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.rules import RoutingRules


class CircuitState(Enum):
    """Whether it is asked as usual."""

    CLOSED = "closed"
    OPEN = "open"
    OFF = "off"


class Hint(msgspec.Struct, frozen=True):
    """What one process tells another of a circuit: until when it is left out, whether it is ``opened`` or rests, and why."""

    opened: bool
    until: float
    cause: FailureClass


class CircuitView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one circuit, as plain values.

    ``window`` is the number of the last bucket, and of each bucket the requests, the failures and the slow ones.
    """

    state: str = "closed"
    open_until: float = 0.0
    cool_until: float = 0.0
    degraded: int = 0
    degraded_at: float = 0.0
    probing: bool = False
    window: tuple[int, tuple[int, ...], tuple[float, ...], tuple[int, ...]] | None = None
    heard: bool = False
    told_until: float = 0.0

    @property
    def until(self) -> float:
        """When it can be asked again; 0.0: now."""
        return max(self.open_until, self.cool_until, self.told_until)

    @property
    def hinted(self) -> bool:
        """Another process has said so: nothing was met here."""
        return self.heard or self.told_until > max(self.open_until, self.cool_until)


CLOSED, OPEN, OFF = CircuitState
_BUCKETS = 12


class Window:
    """Outcomes of the last minute in twelve buckets: how many, how many failed, and how many were slow."""

    __slots__ = ("_at", "count", "failed", "slow")

    def __init__(self) -> None:
        self._at = -1
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.count = [0] * _BUCKETS
        self.failed = [0.0] * _BUCKETS
        self.slow = [0] * _BUCKETS

    def view(self) -> tuple[int, tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
        """All of it, as plain values."""
        return self._at, tuple(self.count), tuple(self.failed), tuple(self.slow)

    def lay(self, view: tuple[int, tuple[int, ...], tuple[float, ...], tuple[int, ...]]) -> None:
        """Become what was viewed."""
        self._at, count, failed, slow = view
        self.count, self.failed, self.slow = list(count), list(failed), list(slow)

    def bucket(self, now: float, rules: RoutingRules) -> int:
        """The bucket of this time; those that have passed since the last are empty."""
        at = int(now / rules.bucket)
        if at != self._at:
            for each in range(max(self._at + 1, at - _BUCKETS + 1), at + 1):
                self.count[each % _BUCKETS] = self.slow[each % _BUCKETS] = 0
                self.failed[each % _BUCKETS] = 0.0
            self._at = at
        return at % _BUCKETS

    def last(self, buckets: int) -> tuple[int, float, int]:
        """Requests, failures and slow ones of the last ``buckets``."""
        if buckets == _BUCKETS:
            return sum(self.count), sum(self.failed), sum(self.slow)
        chosen = [each % _BUCKETS for each in range(self._at - buckets + 1, self._at + 1)]
        return (
            sum([self.count[each] for each in chosen]),
            sum([self.failed[each] for each in chosen]),
            sum([self.slow[each] for each in chosen]),
        )


class Circuit:
    """One circuit breaker. ``until`` is when it can be asked again; 0.0 where it always could."""

    __slots__ = (
        "_changed",
        "_cool_until",
        "_doubted_until",
        "_good",
        "_open_until",
        "_openings",
        "_told_until",
        "cause",
        "cooled",
        "degraded",
        "degraded_at",
        "heard",
        "off_times",
        "probing",
        "state",
        "streak",
        "until",
        "window",
    )

    def __init__(self) -> None:
        self.state = CLOSED
        self.until = 0.0
        self.streak = 0
        self.window = Window()
        self.degraded = 0
        """1: behind the healthy ones of its tier; 2: behind those of the next tier, too."""
        self.degraded_at = 0.0
        self.off_times = 0
        self.probing = False
        """A probe is on its way."""
        self._openings: list[float] = []
        self._open_until = 0.0
        self._cool_until = 0.0
        self.cooled = 0
        """How often it has asked for a rest since its last answer."""
        self._good = 0
        self._changed = 0.0
        self.cause = FailureClass.BROKEN
        """The class of the failure that last changed it."""
        self.heard = False
        """It is open by the word of another process."""
        self._told_until = 0.0
        """Until when it rests, by the same."""
        self._doubted_until = 0.0

    @property
    def normal(self) -> bool:
        """Nothing makes a difference to whether it is chosen."""
        return self.until == 0.0 and self.degraded == 0

    @property
    def suspect(self) -> bool:
        """The next request is a probe."""
        return self.state is not CLOSED

    @property
    def off(self) -> bool:
        """Only the operator can mend it."""
        return self.state is OFF

    # ---- snapshots

    def view(self) -> CircuitView:
        """What is known now. The window is told where it decides something."""
        return CircuitView(
            state=self.state.value,
            open_until=self._open_until,
            cool_until=self._cool_until,
            degraded=self.degraded,
            degraded_at=self.degraded_at,
            probing=self.probing,
            window=self.window.view() if self.degraded else None,
            heard=self.heard,
            told_until=self._told_until,
        )

    def lay(self, view: CircuitView) -> None:
        """Become what was viewed."""
        self.state = CircuitState(view.state)
        self._open_until, self._cool_until = view.open_until, view.cool_until
        self.degraded, self.degraded_at, self.probing = view.degraded, view.degraded_at, view.probing
        if view.window is not None:
            self.window.lay(view.window)
        self.heard, self._told_until = view.heard, view.told_until
        self._set()

    # ---- outcomes

    def succeeded(self, now: float, sent_at: float, rules: RoutingRules, *, slow: bool = False) -> bool:
        """A request was answered. Whether that changes what is chosen."""
        if sent_at < self._changed:
            return False
        self.cooled = 0
        if self.state is CLOSED:
            self.streak = 0
            at = self.window.bucket(now, rules)
            self.window.count[at] += 1
            if slow:
                self.window.slow[at] += 1
                return self.judge(now, rules)
            return self.degraded > 0 and self.judge(now, rules)
        self.probing = False
        self._good += 1
        if self.state is OFF or self._good >= rules.good_probes:
            if self.heard:
                self._doubted_until = now + rules.hint_doubted
            self.close(now)
        else:
            self._open_until = now
            self._set()
        return True

    def failed(
        self, now: float, sent_at: float, rules: RoutingRules, *, u: float, weight: float = 1.0
    ) -> bool:
        """A request failed, and it counts by ``weight``. Whether that changes what is chosen."""
        if sent_at < self._changed:
            return False
        if self.state is not CLOSED:
            if not self.probing:
                return False  # a last resort: no news
            self._open(now, rules, u)
            return True
        window = self.window
        at = window.bucket(now, rules)
        window.count[at] += 1
        window.failed[at] += weight
        self.streak += weight >= 1.0
        count, failed, _ = window.last(rules.window_buckets)
        share = failed / count
        few = count < rules.open_after
        if (not few and share >= rules.open_share) or (
            self.streak >= rules.open_streak and (few or share >= rules.streak_share)
        ):
            self._open(now, rules, u)
            return True
        return self.judge(now, rules)

    def cool(self, now: float, seconds: float) -> bool:
        """It has asked for a rest. A later end wins over an earlier one."""
        self._cool_until = max(self._cool_until, now + seconds)
        self.cooled += 1
        self.free(now)
        self._set()
        return True

    def wait(self, until: float) -> None:
        """Its allowance is used up until then, though it has refused nothing."""
        self._cool_until = max(self._cool_until, until)
        self._set()

    def rest(
        self, told: float | None, longest_told: float, longest: float, first: float, least: float
    ) -> float:
        """How long it is to rest: what it has said, else ``first`` seconds, doubled each time."""
        if told is not None:
            return min(max(told, least), longest_told)
        return min(first * 2.0 ** min(self.cooled, 16), longest)

    def switch_off(self, now: float, rules: RoutingRules, seconds: float = 0.0) -> bool:
        """Only the operator can mend it; it is tried again after one minute, two, four, ..., or after ``seconds``."""
        if self.state is OFF and not self.probing:
            return False
        wait = max(seconds, min(rules.off_first * 2.0 ** min(self.off_times, 16), rules.off_most))
        self.off_times += 1
        self.state = OFF
        self.probing = self.heard = False
        self._good = 0
        self._open_until = self._changed = now
        self._open_until += wait
        self._set()
        return True

    # ---- the word of other processes

    def hint(self, now: float) -> Hint | None:
        """What others are to be told. None: nothing new, because nothing is known here against it, or a probe is on its way."""
        opened = self.suspect and not (self.heard or self.probing)
        until = max(self._open_until, self._cool_until) if opened else self._cool_until
        return Hint(opened, until, self.cause) if until > now else None

    def hear(self, hint: Hint, now: float) -> bool:
        """Another process has told this. Whether it is believed: what was met here counts for more."""
        if hint.until <= now or now < self._doubted_until:
            return False
        if not hint.opened:
            self._told_until = hint.until
        elif self.state is CLOSED or self.heard:
            self.state = OPEN
            self.heard = True
            self.probing = False
            self._good = self.streak = 0
            self._changed = now
            self._open_until = hint.until
        else:
            return False
        self._set()
        return True

    def unhear(self, now: float) -> None:
        """Who has told of it has taken it back."""
        if self.heard:
            cool_until = self._cool_until
            self.close(now)
            self._cool_until = cool_until
        self._told_until = 0.0
        self._set()

    # ---- probes

    def probe(self, now: float, rules: RoutingRules) -> None:
        """A request goes out to see whether it works again: no other does, until that one reports."""
        self.probing = True
        self._open_until = now + rules.probe_held
        self._set()

    def free(self, now: float) -> None:
        """The probe has said nothing, because its caller left: the next request probes."""
        if self.probing:
            self.probing = False
            self._open_until = now
            self._set()

    def close(self, now: float) -> None:
        """It works again, and what was known against it is forgotten."""
        self.state = CLOSED
        self.probing = self.heard = False
        self._open_until = self._cool_until = self._told_until = 0.0
        self.cooled = self._good = self.off_times = 0
        self._changed = now
        self.streak = self.degraded = 0
        self.window.clear()
        self._set()

    def settle(self, now: float) -> bool:
        """Forget a rest that is over; whether there was one."""
        over = 0.0 < self._cool_until <= now
        if over:
            self._cool_until = 0.0
        if 0.0 < self._told_until <= now:
            self._told_until = 0.0
            over = True
        if over:
            self._set()
        return over

    def judge(self, now: float, rules: RoutingRules) -> bool:
        """See whether it is degraded, or is no more. Whether that has changed."""
        window, before = self.window, self.degraded
        window.bucket(now, rules)
        if before and now - self.degraded_at >= rules.bucket * rules.window_buckets:
            count, failed, slow = window.last(rules.window_buckets)
            if failed <= count * rules.degraded_share / 2 and slow <= count * rules.degraded_slow / 2:
                self.degraded = 0
                window.clear()
                return True
        count, failed, slow = window.last(_BUCKETS)
        if count >= rules.degraded_after:
            if failed >= count * rules.badly_degraded:
                self.degraded = 2
            elif not before and (
                failed >= count * rules.degraded_share or slow >= count * rules.degraded_slow
            ):
                self.degraded = 1
            if self.degraded and not before:
                self.degraded_at = now
        return self.degraded != before

    def _open(self, now: float, rules: RoutingRules, u: float) -> None:
        self._openings = [at for at in self._openings if now - at < rules.openings_kept][-16:]
        wait = min(rules.open_most, rules.open_first * 2.0 ** len(self._openings))
        self._openings.append(now)
        self.state = OPEN
        self.probing = self.heard = False
        self._good = 0
        self.streak = self.degraded = 0
        self._changed = now
        self._open_until = now + wait * (0.8 + 0.4 * u)
        self._set()

    def _set(self) -> None:
        self.until = max(self._open_until, self._cool_until, self._told_until)
