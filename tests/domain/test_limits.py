"""The gate: slots, days and refusals, with clocks that tests set."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.dialects.registry import caller_side
from penstock.core.limits import DAY_SECONDS, limit_headers
from penstock.domain.catalog.catalog import Plan
from penstock.domain.limits import DAILY_TEXT, DOOR_SECONDS, Gate, RefusedWindows
from penstock.errors import ConcurrentLimitReached, DailyLimitReached, LimitReached, TooManyRefused
from penstock.store.counters import MemoryCounters
from penstock.store.sql.database import Database
from tests.domain.ledger_rows import agree, end, open_ledger, row, url, used

DAY = 20_000
NOW = DAY * DAY_SECONDS + 1000.0
PLAN = Plan("p", "P", daily_requests=5, concurrent_requests=2, models=())
ONE = replace(PLAN, concurrent_requests=1)
QUEUED = replace(ONE, queue_seconds=30)
_ids = itertools.count()


async def count(gate: Gate, plan: Plan, now: float) -> int:
    """The day in which a request counts that has ended since."""
    lease = await gate.enter("u", plan, f"c{next(_ids)}", now)
    try:
        return gate.count(lease, now)
    finally:
        lease.release()


class Clock:
    """Epoch and monotonic seconds that go on together unless the wall clock is set."""

    def __init__(self) -> None:
        self.wall = NOW
        self.steady = 50.0

    def epoch(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(tmp_path: Path, clock: Clock) -> AsyncGenerator[Gate]:
    database = await Database.open(url(tmp_path))
    counters = await MemoryCounters.open(database, today=DAY, clock=clock.epoch)
    yield Gate(
        counters,
        refused_per_key=3,
        refused_per_address=2,
        countings_per_minute=4,
        clock=clock.epoch,
        monotonic=clock.monotonic,
    )
    await database.close()


# ---- at once


async def test_the_refusal_names_what_holds_the_slots(gate: Gate, clock: Clock) -> None:
    one = await gate.enter("u", PLAN, "req_1", NOW)
    clock.go(7)
    two = await gate.enter("u", PLAN, "req_2", NOW)
    with pytest.raises(ConcurrentLimitReached) as caught:
        await gate.enter("u", PLAN, "req_3", NOW)
    assert "2 of 2" in caught.value.message
    assert "req_1 for 7 s" in caught.value.message
    assert 1 <= (caught.value.retry_after or 0) <= 60
    two.release()
    await gate.enter("u", PLAN, "req_4", NOW)
    one.release()


async def test_those_who_wait_go_in_the_order_they_came(gate: Gate) -> None:
    first = await gate.enter("u", QUEUED, "r0", NOW)
    order: list[str] = []

    async def wait(name: str) -> None:
        lease = await gate.enter("u", QUEUED, name, NOW)
        order.append(name)
        await asyncio.sleep(0)
        lease.release()

    waiting = [asyncio.ensure_future(wait(f"r{number}")) for number in range(1, 6)]
    await asyncio.sleep(0)
    first.release()
    await asyncio.gather(*waiting)
    assert order == ["r1", "r2", "r3", "r4", "r5"]


async def test_one_who_leaves_the_queue_takes_nobodys_turn(gate: Gate) -> None:
    first = await gate.enter("u", QUEUED, "r0", NOW)
    gone = asyncio.ensure_future(gate.enter("u", QUEUED, "r1", NOW))
    stays = asyncio.ensure_future(gate.enter("u", QUEUED, "r2", NOW))
    await asyncio.sleep(0)
    first.release()
    gone.cancel()
    lease = await stays
    assert gone.cancelled() or gone.result() is None
    lease.release()
    (await gate.enter("u", ONE, "r3", NOW)).release()


async def test_the_wait_is_bounded(gate: Gate) -> None:
    held = await gate.enter("u", ONE, "r0", NOW)
    with pytest.raises(ConcurrentLimitReached):
        await asyncio.wait_for(gate.enter("u", replace(ONE, queue_seconds=1), "r1", NOW), 10)
    held.release()


# ---- in a day


async def test_the_daily_refusal_says_when_the_day_ends(gate: Gate, clock: Clock) -> None:
    for _ in range(5):
        assert await count(gate, PLAN, clock.wall) == DAY
    with pytest.raises(DailyLimitReached) as caught:
        await count(gate, PLAN, clock.wall)
    assert caught.value.message == DAILY_TEXT
    assert caught.value.retry_after == DAY_SECONDS - 1000
    assert caught.value.should_retry is False
    clock.go(DAY_SECONDS - 1000)
    assert await count(gate, PLAN, clock.wall) == DAY + 1


async def test_a_better_plan_takes_effect_at_once(gate: Gate, clock: Clock) -> None:
    for _ in range(5):
        await count(gate, PLAN, clock.wall)
    assert await count(gate, replace(PLAN, daily_requests=6), clock.wall) == DAY


async def test_a_clock_that_steps_back_hands_no_day_out_twice(gate: Gate, clock: Clock) -> None:
    clock.go(DAY_SECONDS)
    for _ in range(5):
        assert await count(gate, PLAN, clock.wall) == DAY + 1
    clock.wall -= 7200
    with pytest.raises(DailyLimitReached):
        await count(gate, PLAN, clock.wall)
    assert gate.state("u", PLAN, clock.wall).remaining == 0


async def test_a_clock_that_jumps_forward_is_reported_once(gate: Gate, clock: Clock) -> None:
    await count(gate, PLAN, clock.wall)
    clock.wall += 26 * 3600
    await count(gate, PLAN, clock.wall)
    assert gate.clock_stepped() == pytest.approx(26 * 3600)
    assert gate.clock_stepped() is None


async def test_all_headers_name_the_same_instant_and_count(gate: Gate, clock: Clock) -> None:
    await count(gate, PLAN, clock.wall)
    state, own = gate.state("u", PLAN, clock.wall), caller_side("messages").limit_headers
    assert own is not None
    headers = dict(
        [*limit_headers(state, clock.wall), *own(state.limit, state.reset, b"%d" % state.remaining)]
    )
    reset = (DAY + 1) * DAY_SECONDS
    assert headers[b"x-ratelimit-limit"] == b"5"
    assert headers[b"x-ratelimit-remaining"] == b"4"
    assert headers[b"x-ratelimit-reset"] == b"%d" % reset
    assert headers[b"ratelimit-policy"] == b'"day";q=5;w=86400'
    assert headers[b"ratelimit"] == b'"day";r=4;t=%d' % (reset - int(clock.wall))
    assert headers[b"anthropic-ratelimit-requests-limit"] == b"5"
    assert headers[b"anthropic-ratelimit-requests-remaining"] == b"4"
    assert headers[b"anthropic-ratelimit-requests-reset"] == b"2024-10-05T00:00:00Z"


# ---- the door


async def test_too_many_refusals_of_an_address_close_the_door_for_a_minute(gate: Gate, clock: Clock) -> None:
    for _ in range(2):
        gate.check_door(None, "192.0.2.1")
        gate.refused(None, "192.0.2.1")
    with pytest.raises(TooManyRefused) as caught:
        gate.check_door(None, "192.0.2.1")
    assert 1 <= (caught.value.retry_after or 0) <= DOOR_SECONDS
    gate.check_door(None, "192.0.2.2")
    assert gate.door_state("192.0.2.1", clock.wall).remaining == 0
    clock.go(DOOR_SECONDS)
    gate.check_door(None, "192.0.2.1")


async def test_a_key_is_judged_by_its_own_refusals(gate: Gate) -> None:
    for _ in range(5):
        gate.refused(None, "192.0.2.1")
    gate.check_door("key_1", "192.0.2.1")
    for _ in range(3):
        gate.refused("key_1", "192.0.2.1")
    with pytest.raises(TooManyRefused):
        gate.check_door("key_1", "192.0.2.1")
    gate.check_door("key_2", "192.0.2.1")


async def test_an_ipv6_caller_is_its_network(gate: Gate) -> None:
    gate.refused(None, "2001:db8:1:2::1")
    gate.refused(None, "2001:db8:1:2:ffff::9")
    with pytest.raises(TooManyRefused):
        gate.check_door(None, "2001:db8:1:2:3::4")
    gate.check_door(None, "2001:db8:1:3::1")


async def test_counting_tokens_has_a_bound_of_its_own(gate: Gate, clock: Clock) -> None:
    for _ in range(4):
        gate.check_counting("u")
    with pytest.raises(LimitReached):
        gate.check_counting("u")
    gate.check_counting("v")
    clock.go(DOOR_SECONDS)
    gate.check_counting("u")


# ---- gate and ledger together


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), steps=st.integers(5, 60))
def test_gate_and_ledger_agree_with_a_model_through_crashes_and_days(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int
) -> None:
    asyncio.run(_walk(tmp_path_factory.mktemp("walk"), random.Random(seed), steps))


async def _walk(directory: Path, chance: random.Random, steps: int) -> None:
    """Admit, finish, refund, crash, day after day; the model is a number per day and the set of running requests."""
    database = await Database.open(url(directory))
    clock = Clock()
    boot = 0
    ledger = await open_ledger(database, "b0")
    counters = await MemoryCounters.open(database, today=DAY, clock=clock.epoch)
    gate = Gate(counters, clock=clock.epoch, monotonic=clock.monotonic)
    running: dict[str, tuple[int, object]] = {}
    model: dict[int, int] = {}
    daily, concurrent = 6, 3
    for step in range(steps):
        what = chance.choice(["admit", "admit", "admit", "finish", "refund", "plan", "day", "crash"])
        today = int(clock.wall // DAY_SECONDS)
        if what == "admit":
            try:
                plan = replace(PLAN, daily_requests=daily, concurrent_requests=concurrent)
                lease = await gate.enter("usr_a", plan, f"r{step}", clock.wall)
            except ConcurrentLimitReached:
                assert len(running) >= concurrent
                continue
            assert len(running) < concurrent
            try:
                day = gate.count(lease, clock.wall)
            except DailyLimitReached:
                assert model.get(today, 0) >= daily
                lease.release()
                continue
            assert (day, model.get(day, 0) < daily) == (today, True)
            await ledger.opened(row(f"r{step}", day=day))
            model[day] = model.get(day, 0) + 1
            running[f"r{step}"] = (day, lease)
        elif what in {"finish", "refund"} and running:
            id = chance.choice(sorted(running))
            day, lease = running.pop(id)
            if what == "refund":
                gate.refund("usr_a", day)
                model[day] -= 1
            ledger.settle(end(id, refund="no_output" if what == "refund" else None))
            lease.release()  # pyright: ignore[reportAttributeAccessIssue]
        elif what == "plan":
            daily, concurrent = chance.randint(3, 9), chance.randint(1, 4)
        elif what == "day":
            clock.go(DAY_SECONDS / 2)
        elif what == "crash":
            await ledger.close()
            running.clear()
            boot += 1
            ledger = await open_ledger(database, f"b{boot}")
            counters = await MemoryCounters.open(
                database, today=int(clock.wall // DAY_SECONDS), clock=clock.epoch
            )
            gate = Gate(counters, clock=clock.epoch, monotonic=clock.monotonic)
        today = int(clock.wall // DAY_SECONDS)
        assert gate.state("usr_a", PLAN, clock.wall).remaining == max(0, 5 - model.get(today, 0))
    await ledger.close()
    for day, count in model.items():
        assert (await used(database, day=day))[0] == count
    await agree(database, *model)
    await database.close()


# ---- where it could go wrong unseen


async def test_a_minute_of_refusals_ends_a_minute_after_the_first(gate: Gate, clock: Clock) -> None:
    gate.refused(None, "192.0.2.1")
    clock.go(40)
    gate.refused(None, "192.0.2.1")
    with pytest.raises(TooManyRefused) as caught:
        gate.check_door(None, "192.0.2.1")
    assert caught.value.retry_after == DOOR_SECONDS - 40
    clock.go(DOOR_SECONDS - 40)
    gate.check_door(None, "192.0.2.1")


def test_beyond_the_bound_the_oldest_window_is_forgotten_and_no_other() -> None:
    windows = RefusedWindows(2, most=3)
    for number in range(5):
        windows.note(f"s{number}", number)
    left = [windows.standing(f"s{number}", 5)[0] for number in range(5)]
    assert left == [2, 1, 1, 1, 1]


async def test_a_caller_of_ipv4_is_the_same_by_its_ipv6_name(gate: Gate) -> None:
    gate.refused(None, "::ffff:192.0.2.1")
    gate.refused(None, "192.0.2.1")
    with pytest.raises(TooManyRefused):
        gate.check_door(None, "::ffff:192.0.2.1")
    gate.check_door(None, "::ffff:192.0.2.2")


async def test_who_comes_between_a_slot_and_its_next_holder_does_not_get_it(gate: Gate) -> None:
    held = await gate.enter("u", QUEUED, "r0", NOW)
    waiting = asyncio.ensure_future(gate.enter("u", QUEUED, "r1", NOW))
    await asyncio.sleep(0)
    held.release()
    with pytest.raises(ConcurrentLimitReached):
        await gate.enter("u", ONE, "r2", NOW)
    (await waiting).release()


async def test_who_has_waited_to_the_end_does_not_go_before_those_who_came_first(gate: Gate) -> None:
    held = await gate.enter("u", QUEUED, "r0", NOW)
    first, second = (asyncio.ensure_future(gate.enter("u", QUEUED, id, NOW)) for id in ("r1", "r2"))
    await asyncio.sleep(0)
    gate._waiting["u"][1].expire()
    held.release()
    with pytest.raises(ConcurrentLimitReached):
        await second
    (await first).release()


async def test_64_of_a_user_may_wait_and_no_more(gate: Gate) -> None:
    held = await gate.enter("u", ONE, "r0", NOW)
    waiting = [asyncio.ensure_future(gate.enter("u", QUEUED, f"w{n}", NOW)) for n in range(64)]
    await asyncio.sleep(0)
    one_more = asyncio.ensure_future(gate.enter("u", QUEUED, "w64", NOW))
    await asyncio.sleep(0)
    assert one_more.done()
    assert isinstance(one_more.exception(), ConcurrentLimitReached)
    assert not any(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    held.release()


async def test_a_request_that_counts_after_its_day_is_told_to_come_again_in_a_second(
    gate: Gate, clock: Clock
) -> None:
    """Its body came before midnight, and took until after it."""
    clock.go(DAY_SECONDS - 1001)
    for _ in range(5):
        await count(gate, PLAN, clock.wall)
    lease = await gate.enter("u", PLAN, "late", clock.wall)
    clock.go(5)
    with pytest.raises(DailyLimitReached) as caught:
        gate.count(lease, clock.wall)
    assert caught.value.retry_after == 1
    lease.release()


async def test_a_turn_that_is_not_used_goes_to_the_next_at_once(gate: Gate) -> None:
    held = await gate.enter("u", QUEUED, "r0", NOW)
    gone, stays = (asyncio.ensure_future(gate.enter("u", QUEUED, id, NOW)) for id in ("r1", "r2"))
    await asyncio.sleep(0)
    held.release()
    gone.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert stays.done(), "not only when its patience ends"
    (await stays).release()
