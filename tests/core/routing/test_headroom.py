"""Headroom: a share that falls with what is left of a limit, and a rest where nothing is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.affinity import Affinity, mark_of
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.headroom import Headroom
from penstock.core.routing.bounds.rate_headers import Amount
from penstock.core.routing.choice import NOTHING, choose
from tests.core.routing.boards import chosen, health_of, letters, name_of, shares


def left(board: Board, name: str, *amounts: Amount, now: float = 0.0) -> None:
    board.health.paced(health_of(board, name), amounts, now)


@pytest.mark.parametrize("names", ["ab", "abcdef"])
def test_case_23_little_headroom_is_a_small_share(names: str) -> None:
    board = letters(names)
    left(board, "a", Amount("requests", 100, 5, 30.0), Amount("tokens", 1000, 900, 60.0))
    found = shares(board)
    assert 0 < found["a"] <= 0.251 * found["b"]
    assert shares(board, now=31.0)["a"] == pytest.approx(1 / len(names), abs=0.01)
    assert health_of(board, "a").normal, "it is whole again"


def test_plenty_changes_nothing() -> None:
    board = letters("ab")
    left(board, "a", Amount("requests", 100, 21, 30.0))
    assert health_of(board, "a").normal
    assert board.health.abnormal == 0
    left(board, "a")
    assert shares(board) == {"a": 0.5, "b": 0.5}


def test_who_has_nothing_left_rests_until_the_last_of_its_limits_is_back() -> None:
    board = letters("ab")
    left(board, "a", Amount("requests", 100, 0, 5.0), Amount("tokens", 1000, 0, 20.0))
    assert shares(board, now=0.0) == {"b": 1.0}
    assert shares(board, now=19.0) == {"b": 1.0}
    assert shares(board, now=20.1)["a"] == pytest.approx(0.5, abs=0.01)


def test_what_refills_is_there_again_bit_by_bit() -> None:
    board = letters("ab")
    left(board, "a", Amount("input", 60_000, 0, 60.0, refills=True))
    assert name_of(chosen(board, now=0.1, u=0.01)) == "b"
    early, later = shares(board, now=3.0)["a"], shares(board, now=9.0)["a"]
    assert 0 < early < 0.21 < later < 0.5
    assert shares(board, now=12.1)["a"] == pytest.approx(0.5, abs=0.01)


def test_what_is_sent_meanwhile_is_taken_off() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    left(board, "a", Amount("requests", 100, 2, 30.0), Amount("tokens", 1000, 199, 30.0))
    board.health.sent(known, 0.0, 50)
    assert known.until == 0.0
    board.health.sent(known, 0.0, 50)
    board.health.sent(known, 0.0, 50)
    assert known.until == 30.0
    assert known.last_class is FailureClass.RATE
    assert shares(board, now=1.0) == {"b": 1.0}


def test_a_limit_that_is_not_said_counts_where_nothing_is_left_of_it() -> None:
    headroom = Headroom()
    headroom.note((Amount("tokens", None, 5, 30.0), Amount("output", 100, 50, 30.0)), 0.0)
    assert (headroom.ratio(0.0), headroom.wait(0.0)) == (0.5, 0.0)
    headroom.sent(5)
    assert (headroom.ratio(0.0), headroom.wait(0.0)) == (0.0, 30.0)
    assert headroom.ratio(30.0) == 1.0


def test_all_used_up_is_waited_for_and_asked_in_the_end() -> None:
    board = letters("ab")
    for name in "ab":
        left(board, name, Amount("requests", 100, 0, 1.5))
    assert chosen(board).wait == pytest.approx(1.5)
    for name in "ab":
        left(board, name, Amount("requests", 100, 0, 50.0))
    assert chosen(board).reason == "last_resort"


def test_conversations_leave_as_little_is_left_and_the_same_ones_stay() -> None:
    board = letters("ab")
    keys = [mark_of(str(n)) for n in range(2000)]

    def at_a(now: float = 0.0) -> set[int]:
        return {
            key
            for key in keys
            if name_of(choose(board, NOTHING, (), None, u=0.5, now=now, patience=9.0, wish=Affinity(key, 0)))
            == "a"
        }

    before = at_a()
    left(board, "a", Amount("requests", 100, 10, 30.0))
    half = at_a()
    assert half < before
    assert len(half) == pytest.approx(len(before) / 2, rel=0.15)
    left(board, "a", Amount("requests", 100, 5, 30.0))
    assert at_a() < half
    assert at_a(now=31.0) == before


AMOUNTS = st.builds(
    Amount,
    st.sampled_from(["requests", "tokens", "input", "output"]),
    st.none() | st.floats(1, 1e9),
    st.just(0.0) | st.floats(1e-6, 1e9),  # a part of a request is none, however small
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)


@given(st.lists(AMOUNTS, max_size=6), st.lists(st.integers(0, 10_000), max_size=5), st.floats(0, 1e5))
def test_it_is_a_part_and_who_waits_as_long_as_it_says_finds_something(
    amounts: list[Amount], prompts: list[int], later: float
) -> None:
    headroom = Headroom()
    headroom.note(tuple(amounts), 100.0)
    for tokens in prompts:
        headroom.sent(tokens)
    assert 0.0 <= headroom.ratio(100.0 + later) <= 1.0
    wait = headroom.wait(100.0)
    assert (wait == 0.0) is (headroom.ratio(100.0) > 0.0)
    assert headroom.ratio(100.0 + wait * 1.001 + 0.001) > 0.0
