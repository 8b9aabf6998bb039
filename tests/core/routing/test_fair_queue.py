"""The fair queue and the places: every account gets its weight's share, and no place is lost or given twice."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import Target, Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.affinity import Affinity, mark_of
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.capacity import Capacity, Seat, is_full
from penstock.core.routing.bounds.fair_queue import FairQueue, Ticket
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.choice import NOTHING, choose, others
from penstock.core.routing.health import Health
from tests.core.routing.boards import Model, board_of, chosen, fail, health_of, name_of

# ---- whose turn it is


def test_case_34_tokens_are_shared_by_weight_whatever_the_size_of_requests() -> None:
    queue: FairQueue[int] = FairQueue()
    weights = {f"u{n}": 1.0 if n < 6 else 3.0 for n in range(12)}
    draw = random.Random(7)
    given: Counter[str] = Counter()
    sizes: dict[int, float] = {}

    def join(account: str) -> None:
        sizes[len(sizes)] = draw.choice([50.0, 500.0, 5000.0])
        queue.join(len(sizes) - 1, account, "m", sizes[len(sizes) - 1], weights[account])

    for account in weights:
        join(account)
    for _ in range(6000):
        turn = next(queue.order())
        queue.serve(turn)
        given[turn.account] += int(sizes[turn.waiter])
        join(turn.account)
    total = sum(given.values())
    for account, weight in weights.items():
        assert given[account] / total == pytest.approx(weight / 24, rel=0.1), account


def test_of_one_account_who_came_first_is_first_and_who_comes_back_saves_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("a1", "a2", "a3"):
        queue.join(name, "a", "m", 100, 1)
    served: list[str] = []
    for _ in range(2):
        turn = next(queue.order())
        served.append(turn.waiter)
        queue.serve(turn)
    for name in ("b1", "b2", "b3"):
        queue.join(name, "b", "m", 100, 1)
    while len(queue):
        turn = next(queue.order())
        served.append(turn.waiter)
        queue.serve(turn)
    assert served[:2] == ["a1", "a2"]
    assert served.index("a3") <= 4, "what b did not use is not its own now"
    assert [name for name in served if name[0] == "b"] == ["b1", "b2", "b3"]


def test_who_has_left_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    turn = queue.join("a1", "a", "m", 100, 1)
    other = queue.join("a2", "a", "m", 100, 1)
    assert (queue.waiting("m"), queue.waiting("n")) == (2, 0)
    queue.serve(turn)
    assert not queue.leave(turn)
    queue.serve(turn)
    assert queue.leave(other)
    assert not queue.leave(other)
    assert len(queue) == 0
    assert list(queue.order()) == []


def test_what_was_given_at_once_counts_too() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.served_at_once("a", 10_000, 1)
    queue.join("a1", "a", "m", 1, 1)
    queue.join("b1", "b", "m", 1, 1)
    assert next(queue.order()).waiter == "b1"


@given(st.lists(st.tuples(st.sampled_from("jsl"), st.integers(0, 5), st.integers(0, 2)), max_size=80))
def test_nobody_is_lost_or_counted_twice(steps: list[tuple[str, int, int]]) -> None:
    queue: FairQueue[int] = FairQueue()
    there: list[Ticket[int]] = []
    for number, (step, account, subject) in enumerate(steps):
        if step == "j":
            there.append(queue.join(number, f"u{account}", f"m{subject}", 10, 1 + subject))
        elif step == "s" and len(queue):
            turn = next(queue.order())
            there.remove(turn)
            queue.serve(turn)
            assert not queue.leave(turn)
        elif there:
            turn = there.pop(account % len(there))
            assert queue.leave(turn)
            queue.serve(turn)
        assert len(queue) == len(there)
        for each in range(3):
            assert queue.waiting(f"m{each}") == sum(turn.subject == f"m{each}" for turn in there)
        assert {turn.account for turn in queue.order()} == {turn.account for turn in there}


def test_the_counters_are_bounded() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(10_000):
        queue.served_at_once(f"u{number}", 1, 1)
    assert len(queue._counters) <= 4096


# ---- places


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_a_place_is_given_back_once(steps: list[tuple[bool, int]]) -> None:
    one, all_of_it, freed = Capacity(3), Capacity(5), []
    seats: list[Seat] = []
    left: set[int] = set()
    for takes, number in steps:
        if takes:
            seats.append(Seat((one, all_of_it), lambda: freed.append(1)))
        elif seats:
            seats[number % len(seats)].leave()
            left.add(number % len(seats))
        assert one.taken == all_of_it.taken == len(seats) - len(left)
        assert len(freed) == len(left)
        assert is_full((one, all_of_it)) is (one.taken >= 3)


def test_who_leaves_twice_has_left_once() -> None:
    capacity, freed = Capacity(1), []
    seat = Seat((capacity,), lambda: freed.append(1))
    assert is_full((capacity,))
    for _ in range(2):
        seat.leave()
        assert (capacity.taken, len(freed)) == (0, 1)


def limited(*limits: int | None, provider: int | None = None) -> Board:
    """Equals with so many places each, all at providers with so many in all."""
    names = "abcdef"[: len(limits)]
    upstreams = Upstreams(
        Upstream(name, "custom", (("chat", f"https://{name}/v1"),), in_flight=provider) for name in names
    )
    targets = tuple(Target(name, "up", in_flight=limit) for name, limit in zip(names, limits, strict=True))
    return Board(upstreams.group(Model("m", "M", targets=targets), "chat", ("chat",)), Health())


def sit(board: Board, name: str, times: int = 1) -> list[Seat]:
    return [Seat(health_of(board, name).capacities, lambda: None) for _ in range(times)]


def test_who_is_full_is_passed_by_and_where_all_are_one_waits() -> None:
    board = limited(2, 1)
    seats = sit(board, "a", 2)
    assert {name_of(chosen(board, u=u / 20)) for u in range(20)} == {"b"}
    sit(board, "b")
    full = chosen(board)
    assert (full.candidate, full.reason, full.wait, full.found) == (None, "full", None, None)
    seats[0].leave()
    assert name_of(chosen(board)) == "a"
    assert not others(board, NOTHING, [board.tiers[0][1][0][0]], 0.0)


def test_a_provider_and_each_of_its_models_have_limits() -> None:
    board = limited(5, None, provider=2)
    sit(board, "a", 2)
    assert name_of(chosen(board)) == "b"
    sit(board, "b", 2)
    assert chosen(board).reason == "full"
    alone = limited(1)
    assert chosen(alone).reason == "only"
    sit(alone, "a")
    assert chosen(alone).reason == "full"
    fail(alone, "a", now=0.0, times=5)
    assert chosen(alone, now=1.0).reason == "full", "not even as a last resort"
    assert not board_of(Target("a", "up")).group.limited
    free = limited(1)
    fail(free, "a", now=0.0, times=5)
    assert chosen(free, now=1.0).reason == "last_resort"


def test_the_next_tier_serves_where_the_better_is_full_and_conversations_leave() -> None:
    board = limited(1, 1)
    tiers = Upstreams(Upstream(name, "custom", (("chat", f"https://{name}/v1"),)) for name in "ab")
    targets = (Target("a", "up", in_flight=1), Target("b", "up", priority=1))
    model = Model("m", "M", targets=targets)
    tiered = Board(tiers.group(model, "chat", ("chat",)), Health())
    sit(tiered, "a")
    assert (name_of(chosen(tiered)), chosen(tiered).reason) == ("b", "tier_full")
    fail(tiered, "a", now=0.0, times=5)
    assert chosen(tiered, now=1.0).reason == "tier_down"
    keys = [mark_of(str(n)) for n in range(50)]
    sit(board, "a")
    reasons = {
        choose(board, NOTHING, (), None, u=0.1, now=0.0, patience=1.0, wish=Affinity(key, 0)).reason
        for key in keys
    }
    assert reasons == {"sticky", "sticky_left_full"}
    after = chosen(board, tried="b", failed=FailureClass.BROKEN)
    assert after.candidate is None, "nobody waits after a failure"
