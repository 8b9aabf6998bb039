"""Leases and daily counts in Redis, exact over all servers that share it; never the only copy of anything.

A slot is a member of the user's sorted set. Its score is when it ends, in Redis's own time: ``redis_lease`` seconds after its
holder last renewed it, which a holder does three times as often. The count of a day is a number. Where it is missing it is made
from the database, so a Redis that was emptied is full again with the next request.

When Redis does not answer, each server grants its share of a user's slots and a small part of the day, and answers 503 after
that. When Redis is back it gets what was granted meanwhile. A count that Redis may have raised without being able to say so is
compared with the database's.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import cast

from penstock.errors import DatabaseUnavailable, Unavailable
from penstock.store.counters import LeaseInfo, used_of
from penstock.store.redis.answers import is_amount, is_set, is_stored_amount, is_texts_or_nothing
from penstock.store.redis.lease import RedisLease
from penstock.store.redis.link import RedisAway, RedisLink, RedisOutcome, RedisReply
from penstock.store.redis.scripts import ADD, ADMIT, COUNT, LOOK, PUT_RIGHT, RENEW
from penstock.store.sql.database import Database

log = logging.getLogger("penstock.store.redis")

HEARTBEATS_PER_LEASE = 3  # in the time of a slot
NUDGE_SECONDS = 0.5
"""How long a request that waits for a slot may not notice that another server has freed one, or that it is to end."""
ENDS_AT_ONCE = 100
QUIET_SECONDS = 1.0
"""For how long nobody must have counted for a user, so that the database's count is Redis's own."""
KEPT_SECONDS = 3 * 86_400
SLICE = 100
SLICE_MOST = 500
"""Without Redis a server counts up to a hundredth of a user's day, and at most so many requests; then it answers 503."""


class RedisCounters:
    """One per process. Everything it is asked without waiting it answers from what Redis last said and what it holds itself."""

    shared = True

    def __init__(
        self,
        link: RedisLink,
        database: Database,
        clock: Callable[[], float],
        *,
        prefix: str,
        node: str,
        lease: float = 15.0,
    ) -> None:
        """``clock`` gives epoch seconds; ``node`` is a new name for this process; ``lease`` is in seconds."""
        self._link = link
        self._database = database
        self._clock = clock
        self._prefix = prefix
        self._node = node
        self._lease_ms = round(lease * 1000)
        self._held: dict[str, dict[str, LeaseInfo]] = {}
        self._elsewhere: dict[str, list[LeaseInfo]] = {}
        """Leases of other servers, by Redis's last answer."""
        self._used: dict[tuple[str, int], int] = {}
        self._owed: dict[tuple[str, int], int] = {}
        """What was counted or taken back and Redis does not know."""
        self._spent: dict[tuple[str, int], int] = {}
        """What was counted since Redis went away."""
        self._doubted: dict[tuple[str, int], int] = {}
        """How many counts Redis was asked for and did not answer: it may have made them."""
        self._unreturned: dict[tuple[str, str], float] = {}
        """Slots (user, member) that Redis may believe taken, and until when."""
        self._released: Callable[[str], None] = _nothing
        self._end: Callable[[str, str], bool] | None = None
        self._refused: set[str] = set()
        self._nodes = 1
        self.trouble: str | None = None
        """Why Redis is not used at the moment; None when all is well."""

    # ---- slots

    async def lease(
        self, user_id: str, limit: int, request_id: str, day: int, daily: int
    ) -> RedisLease | None:
        if limit < 1:
            return None
        info = LeaseInfo(request_id, self._clock())
        keys = self._leases_key(user_id), self._day_key(user_id, day)
        undo = partial(self._undo, user_id, day, info)
        asking = self._link.call(ADMIT, keys, limit, self._member(info), self._lease_ms, daily, then=undo)
        try:
            reply = await asking
        except RedisAway as error:
            self._away(error)
            self._doubt(user_id, day, error)
            if len(self._held.get(user_id, ())) >= max(1, limit // self._nodes):
                self._give_back(user_id, info)  # Redis may have granted it
                return None
            return self._hold(user_id, info, day, daily)
        except asyncio.CancelledError:
            if not asking.cancelled():  # the answer came first
                undo(asking.exception() or asking.result())
            raise
        self._back()
        answer = cast("list[int]", reply)
        if not answer[0]:
            _, members = cast("tuple[int, list[bytes]]", reply)
            self._note(user_id, members)
            self._refused.add(user_id)
            await self.refresh(user_id, day)  # who is refused is told how it stands with all servers
            return None
        lease = self._hold(user_id, info, day, daily)
        if answer[1] >= 0:
            self._used[user_id, day] = answer[2]
            lease.told(answer[2], kept=answer[1] == 1)
            return lease
        try:
            await self._count(lease, user_id, day, daily)
        except BaseException:
            lease.release()
            raise
        return lease

    def _undo(self, user_id: str, day: int, info: LeaseInfo, outcome: RedisOutcome) -> None:
        """Whoever asked had left: what was granted all the same is given back."""
        if isinstance(outcome, RedisAway):
            self._doubt(user_id, day, outcome)
        else:
            granted, counted = cast("list[int]", outcome)[:2]
            if not granted:
                return
            if counted == 1:
                self._add(user_id, day, -1)
        self._give_back(user_id, info)

    def free(self, user_id: str, request_id: str) -> None:
        """What ``RedisLease.release`` does, once per lease."""
        held = self._held[user_id]
        info = held.pop(request_id)
        if not held:
            del self._held[user_id]
        self._give_back(user_id, info)
        self._released(user_id)

    def try_lease(
        self,
        user_id: str,  # noqa: ARG002 - Redis has to be asked
        limit: int,  # noqa: ARG002 - the same
        request_id: str,  # noqa: ARG002 - the same
        day: int,  # noqa: ARG002 - the same
        daily: int,  # noqa: ARG002 - the same
    ) -> RedisLease | None:
        return None

    def leases(self, user_id: str) -> list[LeaseInfo]:
        own = list(self._held.get(user_id, {}).values())
        return sorted(own + self._elsewhere.get(user_id, []), key=lambda info: info.since)

    def in_use(self, user_id: str) -> int:
        return len(self._held.get(user_id, ())) + len(self._elsewhere.get(user_id, ()))

    def watch(self, released: Callable[[str], None]) -> None:
        self._released = released

    async def end_elsewhere(self, user_id: str, request_id: str) -> bool:
        try:
            self._note(
                user_id, cast("list[bytes]", await self._link.call(LOOK, (self._leases_key(user_id),)))
            )
            for info in self._elsewhere.get(user_id, ()):
                if info.request_id == request_id:
                    key = self._ends_key(info.node)
                    await self._link.submit("RPUSH", key, f"{user_id}|{request_id}", shape=is_amount)
                    await self._link.submit("PEXPIRE", key, self._lease_ms, shape=is_amount)
                    return True
        except RedisAway as error:
            self._away(error)
        return False

    def ended_by(self, end: Callable[[str, str], bool]) -> None:
        self._end = end

    async def _end_what_others_ask(self) -> None:
        """End those of our requests whose owners have asked another server for it."""
        try:
            asked = await self._link.submit(
                "LPOP", self._ends_key(self._node), ENDS_AT_ONCE, shape=is_texts_or_nothing
            )
        except RedisAway as error:
            self._away(error)
            return
        for one in cast("list[bytes]", asked or []):
            user_id, _, request_id = one.decode(errors="replace").partition("|")
            if self._end is not None:
                self._end(user_id, request_id)

    def _hold(self, user_id: str, info: LeaseInfo, day: int, daily: int) -> RedisLease:
        self._held.setdefault(user_id, {})[info.request_id] = info
        return RedisLease(self, user_id, info.request_id, day, daily)

    def _give_back(self, user_id: str, info: LeaseInfo) -> None:
        then = partial(self._given_back, user_id, info)
        self._link.tell(then, "ZREM", self._leases_key(user_id), self._member(info), shape=is_amount)

    def _given_back(self, user_id: str, info: LeaseInfo, outcome: RedisOutcome) -> None:
        if isinstance(outcome, RedisAway):
            now = self._clock()
            self._unreturned[user_id, self._member(info)] = now + self._lease_ms / 1000
            oldest = next(iter(self._unreturned))
            if self._unreturned[oldest] < now:
                del self._unreturned[oldest]  # it has ended by itself
        elif user_id in self._elsewhere:
            # somebody may have been refused because of it while it was on its way back
            others = self._elsewhere[user_id]
            self._elsewhere[user_id] = [one for one in others if one.request_id != info.request_id]

    def _note(self, user_id: str, members: list[bytes]) -> None:
        own = self._held.get(user_id, {})
        others = [info for info in map(_info, members) if info is not None and info.request_id not in own]
        if others:
            self._elsewhere[user_id] = others
        else:
            self._elsewhere.pop(user_id, None)

    # ---- days

    async def _count(self, lease: RedisLease, user_id: str, day: int, daily: int) -> None:
        """Ask for a place in a day whose count is not there: it is made from the database's first.

        Raises ``DatabaseUnavailable``, ``Unavailable``.
        """
        for _ in range(3):
            await self._load(user_id, day)
            uncount = partial(self._uncount, user_id, day)
            asking = self._link.call(COUNT, (self._day_key(user_id, day),), daily, then=uncount)
            try:
                reply = await asking
            except RedisAway as error:
                self._away(error)
                self._doubt(user_id, day, error)
                return
            except asyncio.CancelledError:
                if not asking.cancelled():
                    uncount(asking.exception() or asking.result())
                raise
            _, counted, used = cast("tuple[int, int, int]", reply)
            if counted >= 0:
                self._used[user_id, day] = used
                lease.told(used, kept=counted == 1)
                return
        raise Unavailable("The day's count cannot be kept at the moment; please retry.", retry_after=5)

    def _doubt(self, user_id: str, day: int, error: RedisAway) -> None:
        if error.sent:
            self._doubted[user_id, day] = self._doubted.get((user_id, day), 0) + 1

    def refund(self, user_id: str, day: int) -> None:
        self._used[user_id, day] = max(0, self._used.get((user_id, day), 0) - 1)
        self._add(user_id, day, -1)

    def used(self, user_id: str, day: int) -> int:
        return self._used.get((user_id, day), 0)

    async def refresh(self, user_id: str, day: int) -> bool:
        """Ask Redis how the user stands, for those who only look. What cannot be asked stays as it was known; False then."""
        looking = self._link.call(LOOK, (self._leases_key(user_id),))
        counting = self._ask_day(user_id, day)
        try:
            members = await looking
            used = await counting
            if used is None:
                await self._load(user_id, day)
                used = await self._ask_day(user_id, day)
        except (RedisAway, DatabaseUnavailable):
            return False
        self._note(user_id, cast("list[bytes]", members))
        self._used[user_id, day] = int(cast("bytes", used or b"0"))
        return True

    async def _load(self, user_id: str, day: int) -> None:
        """Make the count from the database's, unless somebody has meanwhile. Raises ``DatabaseUnavailable``."""
        used = await used_of(self._database, user_id, day)
        command = ("SET", self._day_key(user_id, day), used, "NX", "EX", KEPT_SECONDS)
        try:
            await self._link.submit(*command, shape=is_set)
        except RedisAway as error:
            self._away(error)

    def count_alone(self, user_id: str, day: int, limit: int) -> int | None:
        """Count a request that Redis was not asked about. Raises ``Unavailable`` when this server's share is spent."""
        used = self._used.get((user_id, day))
        spent = self._spent.get((user_id, day), 0)
        if used is not None and used >= limit:
            return None
        if used is None or spent >= max(1, min(SLICE_MOST, limit // SLICE)):
            raise Unavailable("Requests cannot be counted at the moment; please retry.", retry_after=5)
        self._spent[user_id, day] = spent + 1
        self._used[user_id, day] = used + 1
        self._owed[user_id, day] = self._owed.get((user_id, day), 0) + 1
        return used + 1

    def _uncount(self, user_id: str, day: int, outcome: RedisOutcome) -> None:
        """Whoever was to be counted had left: the count that was made all the same is taken back."""
        if isinstance(outcome, RedisAway):
            self._doubt(user_id, day, outcome)
        elif cast("tuple[int, int, int]", outcome)[1] == 1:
            self._add(user_id, day, -1)

    def _add(self, user_id: str, day: int, more: int) -> None:
        then = partial(self._added, user_id, day, more)
        self._link.tell(then, "EVALSHA", ADD.digest, 1, self._day_key(user_id, day), more, shape=ADD.shape)

    def _added(self, user_id: str, day: int, more: int, outcome: RedisOutcome) -> None:
        if isinstance(outcome, RedisAway):
            self._owed[user_id, day] = self._owed.get((user_id, day), 0) + more

    # ---- going on

    async def keep(self) -> None:
        """Say every few seconds that this process lives and what it holds, until cancelled."""
        turn = 0
        beat = self._lease_ms / 1000 / HEARTBEATS_PER_LEASE
        nudge = min(NUDGE_SECONDS, beat)
        while True:
            due = turn % int(beat / nudge) == 0 or self.trouble is not None
            turn += 1
            try:
                await self._round(due=due)
            except Exception:
                log.exception("a round of the counters failed")  # the next one renews what this one did not
            await asyncio.sleep(nudge)

    async def _round(self, *, due: bool) -> None:
        if due:
            await self.beat()
            await self.put_right()
        if self._held and self.trouble is None:
            await self._end_what_others_ask()
        waiting, self._refused = self._refused, set()
        for user_id in waiting:
            self._released(user_id)

    async def beat(self) -> None:
        """Renew every slot of this process, and settle what is owed."""
        asked = [self._link.call(RENEW, (f"{self._prefix}nodes",), self._lease_ms, self._node)]
        for user_id, held in self._held.items():
            members = [self._member(info) for info in held.values()]
            asked.append(self._link.call(RENEW, (self._leases_key(user_id),), self._lease_ms, *members))
        try:
            nodes, *_ = await asyncio.gather(*asked)
        except RedisAway as error:
            self._away(error)
            return
        self._nodes = max(1, int(cast("int", nodes)))
        self._back()

    async def put_right(self) -> None:
        """Take out of Redis what it counted without an answer, for users who have paused for a moment.

        Never more than was in doubt, so that a count which the database does not have yet stays.
        """
        if not self._doubted or self.trouble is not None:
            return
        doubted = list(self._doubted.items())
        try:
            before = [await self._known(user_id, day) for (user_id, day), _ in doubted]
            await asyncio.sleep(QUIET_SECONDS)
            for ((user_id, day), number), known in zip(doubted, before, strict=True):
                used = await used_of(self._database, user_id, day)
                if known is None or known <= used:
                    self._doubted.pop((user_id, day), None)  # made anew meanwhile, or all of it is true
                    continue
                right = max(used, known - number)
                if await self._link.call(PUT_RIGHT, (self._day_key(user_id, day),), known, right):
                    del self._doubted[user_id, day]
                    self._used[user_id, day] = right
        except (RedisAway, DatabaseUnavailable):
            return  # with the next beat

    async def _known(self, user_id: str, day: int) -> int | None:
        used = cast("bytes | None", await self._ask_day(user_id, day))
        return None if used is None else int(used)

    def _ask_day(self, user_id: str, day: int) -> asyncio.Future[RedisReply]:
        return self._link.submit("GET", self._day_key(user_id, day), shape=is_stored_amount)

    def _away(self, error: RedisAway) -> None:
        if self.trouble is None:
            log.error("Redis does not answer; each server goes on with its share of the limits: %s", error)
        self.trouble = str(error)

    def _back(self) -> None:
        if self.trouble is not None:
            log.warning("Redis answers again")
            self.trouble = None
            self._spent.clear()
            unreturned, self._unreturned = self._unreturned, {}
            for user_id, member in unreturned:
                self._link.tell(_nothing, "ZREM", self._leases_key(user_id), member, shape=is_amount)
        if self._owed:
            owed, self._owed = self._owed, {}
            for (user_id, day), more in owed.items():
                if more:
                    self._add(user_id, day, more)

    # ---- names: everything of a user's is in one slot of a cluster

    def _leases_key(self, user_id: str) -> str:
        return f"{self._prefix}{{{user_id}}}:slots"

    def _ends_key(self, node: str) -> str:
        return f"{self._prefix}ends:{node}"

    def _day_key(self, user_id: str, day: int) -> str:
        return f"{self._prefix}{{{user_id}}}:day:{day}"

    def _member(self, info: LeaseInfo) -> str:
        return f"{info.request_id}|{self._node}|{info.since:.3f}"


def _nothing(_outcome: RedisOutcome) -> None:
    """Nobody is to know; what is given back once more and lost again ends by itself."""


def _info(member: bytes) -> LeaseInfo | None:
    """Who has a slot, or None where no server of ours wrote this."""
    try:
        request_id, node, since = member.decode().split("|")
        return LeaseInfo(request_id, float(since), node)
    except ValueError:
        return None
