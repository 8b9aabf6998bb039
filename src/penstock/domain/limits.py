"""The limiter: how many requests a user may run at once and in a day, and how many refusals a key or address may collect."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Protocol

import msgspec

from penstock.core.limits import DayRule, KeyLimits, LimitState, reset_of, seconds_until
from penstock.errors import (
    ConcurrentLimitReached,
    DailyLimitReached,
    KeyConcurrentLimitReached,
    KeyDailyLimitReached,
    LimitReached,
    TooManyRefused,
)
from penstock.settings import Settings
from penstock.store.counters import Counters, Lease, LeaseInfo

DAILY_TEXT = "Daily request limit reached. Upgrade your plan for more requests."
"""The documented text; clients match it."""
KEY_DAILY_TEXT = "Daily request limit of this API key reached. Use another key, or raise its limit on the page of your keys."

DOOR_SECONDS = 60
DOOR_SUBJECTS = 65_536
"""How many keys, and how many addresses, are watched at once; beyond it the oldest window is forgotten."""

UNLIMITED = 2**31 - 1
"""The limit in the headers where the operator has turned the door's window off."""

WAITING_PER_USER = 64
MAX_RETRY_AFTER = 60
NAMED_HOLDERS = 3


class PlanLimits(Protocol):
    """The limits of a plan, or of a key that has its ``own`` within its plan's."""

    @property
    def daily_requests(self) -> int: ...

    @property
    def concurrent_requests(self) -> int: ...

    @property
    def queue_seconds(self) -> int: ...

    @property
    def own(self) -> KeyLimits | None: ...


class KeyLease:
    """A slot of a key that has limits of its own, and the slot of its account."""

    __slots__ = ("_account", "_key", "_refund", "spent")

    def __init__(self, key: Lease, account: Lease, refund: Callable[[], None]) -> None:
        """``refund`` takes back what was counted for the key."""
        self._key = key
        self._account = account
        self._refund = refund
        self.spent = False
        """Whether it is the key's own part of the day that has no more."""

    @property
    def day(self) -> int:
        return self._account.day

    def count(self) -> int | None:
        if self._key.count() is None:
            self.spent = True
            return None
        try:
            used = self._account.count()
        except BaseException:
            self._refund()
            raise
        if used is None:
            self._refund()
        return used

    def release(self) -> None:
        self._key.release()
        self._account.release()


class RunningRequest(msgspec.Struct, frozen=True):
    """What a request that holds a slot is: for the page of its owner."""

    model: str
    key_id: str
    client: str
    stream: bool


class RefusedWindows:
    """Refusals per subject in a window that opens with the first one and lasts a minute. Bounded memory."""

    __slots__ = ("_limit", "_most", "_windows")

    def __init__(self, limit: int, most: int = DOOR_SUBJECTS) -> None:
        self._limit = limit
        self._most = most
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._limit > 0

    def note(self, subject: str, now: float) -> None:
        """Count one refusal. ``now`` is in seconds of any clock that never steps."""
        if self._limit < 1:
            return
        windows = self._windows
        # All windows are equally long, so the order of opening is the order of closing.
        while windows and (len(windows) > self._most or next(iter(windows.values()))[0] <= now):
            windows.popitem(last=False)
        end, count = windows.get(subject, (now + DOOR_SECONDS, 0))
        windows[subject] = (end, count + 1)

    def standing(self, subject: str, now: float) -> tuple[int, float]:
        """How many refusals are left in the subject's window, and seconds until it ends (a whole one if none is open)."""
        end, count = self._windows.get(subject, (0.0, 0))
        if end <= now:
            return self._limit, float(DOOR_SECONDS)
        return max(0, self._limit - count), end - now

    def check(self, subject: str, now: float) -> None:
        """Raise ``TooManyRefused`` when the window is full."""
        if not self._windows or self._limit < 1:
            return
        left, seconds = self.standing(subject, now)
        if left == 0:
            raise TooManyRefused(
                f"Too many refused requests: more than {self._limit} within a minute. "
                "Mend what was refused, then retry.",
                retry_after=ceil(seconds),
            )


class _Asked(msgspec.Struct, frozen=True, gc=False):
    """A slot that is asked for: by an account or a key, of so many, with a place in a day of so many requests."""

    subject: str
    concurrent: int
    daily: int
    queue_seconds: int
    request_id: str
    day: int


class _Waiter:
    """One caller in the queue for a slot."""

    __slots__ = ("expired", "turn")

    def __init__(self, turn: asyncio.Future[None]) -> None:
        self.turn = turn
        self.expired = False

    def call(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)

    def expire(self) -> None:
        self.expired = True
        self.call()


class Gate:
    """What the relay and the data plane ask before they let a request on. All on one event loop."""

    def __init__(
        self,
        counters: Counters,
        *,
        refused_per_key: int = 120,
        refused_per_address: int = 60,
        countings_per_minute: int = 600,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` gives epoch seconds, the same as the counters'. A limit of refusals of 0 turns that window off."""
        self._counters = counters
        self._clock = clock
        self._monotonic = monotonic
        self._days = DayRule()
        self.refused_per_key = refused_per_key
        self._keys = RefusedWindows(refused_per_key)
        self._addresses = RefusedWindows(refused_per_address)
        self._refused_per_address = refused_per_address
        self._countings = RefusedWindows(countings_per_minute)
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._end: Callable[[str, str], bool] = _nothing_runs
        self._describe: Callable[[str], RunningRequest | None] = _nothing_known
        counters.watch(self._released)

    # ---- the door

    def refused(self, key_id: str | None, address: str) -> None:
        """Note a refused request: on its key when that is known, otherwise on the address (IPv6: on its /64)."""
        if key_id is None:
            self._addresses.note(network_of(address), self._monotonic())
        else:
            self._keys.note(key_id, self._monotonic())

    def check_door(self, key_id: str | None, address: str) -> None:
        """Raise ``TooManyRefused`` when the key, or the address of a caller without one, was refused too often.

        A known key is judged by its own refusals alone: a neighbour behind the same address cannot lock it out.
        """
        if key_id is None:
            self._addresses.check(network_of(address), self._monotonic())
        else:
            self._keys.check(key_id, self._monotonic())

    def door_state(self, address: str, now: float) -> LimitState:
        """The state that a caller without a valid key sees: the window of its address. ``now`` is in epoch seconds."""
        limit = self._refused_per_address
        left, seconds = self._addresses.standing(network_of(address), self._monotonic())
        if limit < 1:
            limit = left = UNLIMITED
        return LimitState(limit, left, ceil(now + seconds), 0, 0, "refused", DOOR_SECONDS)

    # ---- token counting, which is free and takes no slot

    def check_counting(self, user_id: str, what: str = "token counts") -> None:
        """Let one ``count_tokens`` or the like pass; ``LimitReached`` when the user has asked too often within a minute."""
        now = self._monotonic()
        left, seconds = self._countings.standing(user_id, now)
        if left == 0 and self._countings.limited:
            raise LimitReached(f"Too many {what} within a minute.", retry_after=ceil(seconds))
        self._countings.note(user_id, now)

    # ---- at once

    async def enter(self, user_id: str, plan: PlanLimits, request_id: str, now: float) -> Lease:
        """One of the plan's slots; waits up to its ``queue_seconds`` for one, first come first served.

        ``now`` (epoch seconds) says in which day the request counts, once it does: see ``count``. Raises
        ``ConcurrentLimitReached``. A caller that is cancelled while it waits leaves no trace.
        """
        day = self._days.day_at(now, self._monotonic())
        own = plan.own
        if own is None:
            asked = _Asked(
                user_id, plan.concurrent_requests, plan.daily_requests, plan.queue_seconds, request_id, day
            )
            return await self._slot(asked)
        key = await self._slot(
            _Asked(
                own.subject,
                plan.concurrent_requests,
                plan.daily_requests,
                plan.queue_seconds,
                request_id,
                day,
            )
        )
        try:
            account = await self._slot(
                _Asked(
                    user_id, own.account_concurrent, own.account_daily, plan.queue_seconds, request_id, day
                )
            )
        except BaseException:
            key.release()
            raise
        return KeyLease(key, account, partial(self._counters.refund, own.subject, day))

    async def _slot(self, asked: "_Asked") -> Lease:
        """Raises ``ConcurrentLimitReached``."""
        if asked.subject not in self._waiting:
            lease = await self._lease(asked)
            if lease is not None:
                return lease
        if asked.queue_seconds > 0 and len(self._waiting.get(asked.subject, ())) < WAITING_PER_USER:
            return await self._wait(asked)
        raise self._full(asked.subject, asked.concurrent)

    def try_enter(self, user_id: str, plan: PlanLimits, request_id: str, now: float) -> Lease | None:
        """The same without waiting; None where that cannot be: then ``enter`` says why, or waits."""
        if user_id in self._waiting or plan.own is not None:
            return None
        day = self._days.day_at(now, self._monotonic())
        return self._counters.try_lease(
            user_id, plan.concurrent_requests, request_id, day, plan.daily_requests
        )

    def _lease(self, asked: "_Asked") -> Coroutine[None, None, Lease | None]:
        return self._counters.lease(asked.subject, asked.concurrent, asked.request_id, asked.day, asked.daily)

    async def _wait(self, asked: "_Asked") -> Lease:
        subject = asked.subject
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future())
        queue = self._waiting.setdefault(subject, deque())
        queue.append(waiter)
        timer = loop.call_later(asked.queue_seconds, waiter.expire)
        try:
            while True:
                await waiter.turn
                # Renewed before the next await, so that a slot freed meanwhile calls again.
                waiter.turn = loop.create_future()
                if queue[0] is waiter:
                    lease = await self._lease(asked)
                    if lease is not None:
                        return lease
                if waiter.expired:
                    raise self._full(subject, asked.concurrent)
        finally:
            timer.cancel()
            queue.remove(waiter)
            if queue:
                queue[0].call()  # it may be that this one was called and did not use it
            else:
                del self._waiting[subject]

    def _released(self, subject: str) -> None:
        queue = self._waiting.get(subject)
        if queue is not None:
            queue[0].call()

    @property
    def shared(self) -> bool:
        """Other servers count too: how a user stands has to be asked (``refresh``) where no lease was."""
        return self._counters.shared

    async def refresh(self, user_id: str, now: float, own: KeyLimits | None = None) -> bool:
        """Look how the user stands with all servers, for those who only look; whether it is known. ``now`` is epoch seconds.

        ``own`` are the limits of the key that asks, where it has its own: then how that stands, too.
        """
        day = self._days.day_told(now)
        if own is not None and not await self._counters.refresh(own.subject, day):
            return False
        return await self._counters.refresh(user_id, day)

    def ended_by(self, end: Callable[[str, str], bool]) -> None:
        """``end(user_id, request_id)`` ends a running request of this process; whether there was one."""
        self._end = end
        self._counters.ended_by(end)

    def described_by(self, describe: Callable[[str], RunningRequest | None]) -> None:
        """``describe(request_id)`` says what runs in this process under an id."""
        self._describe = describe

    def described(self, request_id: str) -> RunningRequest | None:
        """What runs under this id, where it runs in this process."""
        return self._describe(request_id)

    async def end(self, user_id: str, request_id: str) -> bool:
        """End a running request of this user on whichever server it runs; whether there is one.

        Elsewhere it ends within a second.
        """
        return self._end(user_id, request_id) or await self._counters.end_elsewhere(user_id, request_id)

    def running(self, user_id: str) -> list[LeaseInfo]:
        """What holds the user's slots, the oldest first."""
        return self._counters.leases(user_id)

    def _full(self, subject: str, concurrent: int) -> ConcurrentLimitReached:
        now = self._clock()
        holders = self._counters.leases(subject)
        named = [
            f"{held.request_id} for {max(0, int(now - held.since))} s" for held in holders[:NAMED_HOLDERS]
        ]
        if len(holders) > NAMED_HOLDERS:
            named.append(f"{len(holders) - NAMED_HOLDERS} more")
        # A request that has run for a while will probably run for as long again.
        age = now - holders[0].since if holders else 0.0
        retry_after = max(1, min(MAX_RETRY_AFTER, ceil(age)))
        held_by = tuple((held.request_id, held.since) for held in holders)
        running = f"{len(holders)} of {concurrent} running ({', '.join(named)})"
        if "/" in subject:
            return KeyConcurrentLimitReached(
                f"Concurrent request limit of this API key reached: {running}. "
                "Wait for one to end, or raise the limit of the key on the page of your keys.",
                retry_after=retry_after,
                holders=held_by,
            )
        return ConcurrentLimitReached(
            f"Concurrent request limit reached: {running}. "
            "Wait for one to end, or upgrade your plan for more at a time.",
            retry_after=retry_after,
            holders=held_by,
        )

    # ---- in a day

    def count(self, lease: Lease, now: float) -> int:
        """Count the request that holds ``lease``, and return the day in which it counts. ``now`` is epoch seconds.

        Raises ``DailyLimitReached`` with the documented text; nothing is counted then.
        """
        if lease.count() is None:
            left = max(1, seconds_until(reset_of(lease.day), now))
            if isinstance(lease, KeyLease) and lease.spent:
                raise KeyDailyLimitReached(KEY_DAILY_TEXT, retry_after=left)
            raise DailyLimitReached(DAILY_TEXT, retry_after=left)
        return lease.day

    def refund(self, user_id: str, day: int, own: KeyLimits | None = None) -> None:
        """Take back a request that was counted in ``day``, once; the ledger's settlement does the same durably.

        ``own`` are the limits of its key, where that has its own.
        """
        self._counters.refund(user_id, day)
        if own is not None:
            self._counters.refund(own.subject, day)

    def clock_stepped(self) -> float | None:
        """Seconds by which the wall clock jumped forward (more than an hour) since the last call, for the operator."""
        return self._days.stepped()

    def left(self, user_id: str, plan: PlanLimits, now: float) -> tuple[int, int]:
        """How many requests the user has left of the day, and the end of that in Unix seconds; as ``state`` has them."""
        day = self._days.day_told(now)
        if plan.own is not None:
            return self._left_of_key(user_id, plan, plan.own, day), reset_of(day)
        return max(0, plan.daily_requests - self._counters.used(user_id, day)), reset_of(day)

    def _left_of_key(self, user_id: str, plan: PlanLimits, own: KeyLimits, day: int) -> int:
        """What a key has left of its own part of the day, and no more than its account has."""
        of_key = plan.daily_requests - self._counters.used(own.subject, day)
        return max(0, min(of_key, own.account_daily - self._counters.used(user_id, day)))

    def state(self, user_id: str, plan: PlanLimits, now: float) -> LimitState:
        """Where the user stands, for the headers of a response to a request that came at ``now`` (epoch seconds)."""
        day = self._days.day_told(now)
        daily, own = plan.daily_requests, plan.own
        subject = user_id if own is None else own.subject
        return LimitState(
            daily,
            max(0, daily - self._counters.used(user_id, day))
            if own is None
            else self._left_of_key(user_id, plan, own, day),
            reset_of(day),
            plan.concurrent_requests,
            self._counters.in_use(subject),
        )


def _nothing_known(_request_id: str) -> RunningRequest | None:
    return None


def _nothing_runs(_user_id: str, _request_id: str) -> bool:
    return False


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What one caller is behind: an IPv4 address itself, the /64 of an IPv6 one; anything else as it is."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def gate_for(settings: Settings, counters: Counters, now: Callable[[], float]) -> Gate:
    """The gate that the settings want. ``now`` gives epoch seconds."""
    return Gate(
        counters,
        refused_per_key=settings.errors_per_minute,
        refused_per_address=settings.errors_per_minute_address,
        countings_per_minute=settings.token_counts_per_minute,
        clock=now,
    )
