"""How many requests an upstream is sent at once, as its refusals and its slowness teach it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.catalog import Target
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.learned_limit import LearnedLimit
from penstock.core.routing.choice import NOTHING, others
from penstock.core.routing.explanation import explained
from penstock.core.routing.health import Health
from penstock.core.routing.rules import RULES
from tests.core.routing.boards import (
    board_of,
    candidate_of,
    chosen,
    fail,
    health_of,
    letters,
    name_of,
    succeed,
)


def running(board: Board, name: str, many: int) -> None:
    for _ in range(many):
        board.health.sent(health_of(board, name), 0.0)


def leave(board: Board, name: str, many: int, now: float) -> None:
    for _ in range(many):
        board.health.left(health_of(board, name), now, probe=False)


def limit_of(board: Board, name: str = "a") -> float:
    learned = health_of(board, name).learned
    return 0.0 if learned is None else learned.limit


@pytest.mark.parametrize("found", [FailureClass.OVERLOAD, FailureClass.RATE])
def test_a_refusal_for_load_leaves_a_part_of_what_ran(found: FailureClass) -> None:
    board = letters("ab")
    running(board, "a", 20)
    fail(board, "a", found, now=0.0)
    assert limit_of(board) == pytest.approx(14.0)
    fail(board, "a", found, now=0.5, times=5)
    assert limit_of(board) == pytest.approx(14.0), "those that come together are one signal"
    fail(board, "a", found, now=1.0)
    assert limit_of(board) == pytest.approx(9.8)
    for second in range(2, 12):
        fail(board, "a", found, now=float(second))
    assert limit_of(board) == RULES.learned_least


def test_where_few_run_a_refusal_says_nothing_of_how_many_may() -> None:
    board = letters("a")
    running(board, "a", 3)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0, times=3)
    assert not health_of(board, "a").bounded


@pytest.mark.parametrize(
    "found", [FailureClass.SLOW, FailureClass.BROKEN, FailureClass.QUOTA, FailureClass.CALLER]
)
def test_other_failures_say_nothing_of_it(found: FailureClass) -> None:
    board = letters("a")
    running(board, "a", 20)
    fail(board, "a", found, now=0.0, times=3)
    assert health_of(board, "a").learned is None


def test_a_quota_in_the_form_of_a_rate_says_nothing_and_neither_does_anything_where_it_is_off() -> None:
    board = letters("a")
    running(board, "a", 20)
    fail(board, "a", FailureClass.RATE, now=0.0, retry_after=90_000.0)
    assert health_of(board, "a").learned is None
    board = Board(letters("a").group, Health(replace(RULES, learns_limits=False)))
    running(board, "a", 20)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0)
    board.health.crowded(health_of(board, "a"), 0, 1.0, 0.0)
    assert health_of(board, "a").learned is None


def test_it_rises_by_one_for_as_many_answers_as_it_is_and_only_where_it_is_used() -> None:
    board = letters("ab")
    running(board, "a", 10)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0, retry_after=0.2)
    assert limit_of(board) == pytest.approx(7.0)
    leave(board, "a", 3, 1.0)
    for _ in range(7):
        succeed(board, ["a"], now=1.0)
    assert 7.9 < limit_of(board) < 8.0
    leave(board, "a", 3, 1.0)
    before = limit_of(board)
    succeed(board, ["a"], now=1.0, times=20)
    assert limit_of(board) == before, "half of it is used"


def test_who_is_full_is_passed_by_and_where_all_are_one_waits_until_somebody_leaves() -> None:
    board = letters("ab")
    left: list[str] = []
    board.health.left_one = lambda: left.append("one")
    for name in "ab":
        running(board, name, 8)
        fail(board, name, FailureClass.OVERLOAD, now=0.0, retry_after=0.2)
    assert (board.limited, board.places()) == (True, 10)
    leave(board, "b", 4, 1.0)
    assert len(left) == 4
    assert {name_of(chosen(board, now=2.0, u=u / 10)) for u in range(10)} == {"b"}
    assert not others(board, NOTHING, [candidate_of(board, "b")], 2.0)
    legs = {leg.provider: leg for leg in explained(board, NOTHING, 2.0).legs}
    assert "as many requests as it takes" in legs["a"].kept_out
    assert (legs["a"].odds, legs["b"].odds, legs["b"].kept_out) == (0.0, 1.0, "")
    running(board, "b", 4)
    full = chosen(board, now=2.0)
    assert (full.candidate, full.reason, full.wait) == (None, "full", None)
    leave(board, "a", 4, 2.0)
    assert name_of(chosen(board, now=2.0)) == "a"


def test_a_better_tier_that_is_full_leaves_the_next_to_serve() -> None:
    board = board_of(Target("a", "up"), Target("b", "up", priority=1))
    running(board, "a", 8)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0, retry_after=0.2)
    choice = chosen(board, now=1.0)
    assert (name_of(choice), choice.reason) == ("b", "tier_full")


def test_one_alone_has_a_limit_too_and_after_ten_minutes_it_is_as_usual() -> None:
    board = letters("a")
    running(board, "a", 8)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0, retry_after=0.2)
    assert chosen(board, now=599.0).reason == "full"
    assert chosen(board, now=600.0).reason == "only"
    known = health_of(board, "a")
    assert (known.normal, known.bounded, board.health.bounded, board.health.abnormal) == (True, False, 0, 0)


def test_what_is_forgotten_at_the_operators_word_is_forgotten() -> None:
    board = letters("a")
    running(board, "a", 8)
    fail(board, "a", FailureClass.OVERLOAD, now=0.0)
    board.health.reset(lambda _: True, 0.0)
    assert (health_of(board, "a").normal, board.health.bounded) == (True, 0)


# ---- servers of the operator's own


def served(learned: LearnedLimit, seconds: float, in_flight: int, times: int = 1, now: float = 0.0) -> float:
    for _ in range(times):
        learned.timed(0, seconds, in_flight, now, RULES)
    return learned.limit


def test_a_local_server_has_no_limit_while_its_answers_begin_as_usual() -> None:
    learned = LearnedLimit()
    assert served(learned, 0.5, 100, times=200) == 0.0
    assert served(learned, 0.7, 100, times=20) == 0.0, "half as long again is usual"
    assert served(learned, 5.0, 3, times=3) == 0.0, "and so few are no crowd"


def test_a_local_server_that_gets_slow_is_sent_fewer_and_more_again_when_it_is_quick() -> None:
    learned = LearnedLimit()
    served(learned, 0.5, 10, times=300)
    slow = served(learned, 2.0, 60, times=20)
    assert 0.0 < slow < 30.0
    assert served(learned, 2.0, 2) == slow, "so few tell nothing"
    quick = served(learned, 0.5, 60, times=20)
    assert quick > slow + 10


def test_each_size_has_a_usual_time_of_its_own() -> None:
    learned = LearnedLimit()
    served(learned, 0.5, 10, times=300)
    for _ in range(5):
        learned.timed(3, 9.0, 50, 0.0, RULES)
    assert learned.limit == 0.0


def test_a_local_servers_first_tokens_count_and_a_vendors_do_not() -> None:
    for kind, bounded in (("vllm", True), ("custom", False)):
        board = board_of(Target("a", "up"), kind=kind)
        known = health_of(board, "a")
        known.in_flight = 40
        assert known.local is bounded
        for seconds in (0.5,) * 50 + (9.0,) * 3:
            if known.local:
                board.health.crowded(known, 0, seconds, 0.0)
        assert known.bounded is bounded


@given(
    st.lists(
        st.tuples(st.sampled_from("rat"), st.integers(0, 500), st.floats(0.0, 100.0), st.floats(0.0, 30.0)),
        max_size=60,
    )
)
def test_whatever_happens_a_limit_is_none_or_at_least_the_lowest(
    steps: list[tuple[str, int, float, float]],
) -> None:
    learned, now = LearnedLimit(), 0.0
    for what, in_flight, seconds, later in steps:
        now += later
        match what:
            case "r":
                learned.refused(in_flight, now, RULES)
            case "a":
                learned.answered(in_flight, RULES)
            case _:
                learned.timed(0, seconds, in_flight, now, RULES)
        learned.settle(now, RULES)
        assert learned.limit == 0.0 or learned.limit >= RULES.learned_least
        assert learned.is_reached(0) is False
