"""Affinity: a conversation has one upstream of its own, everywhere, and leaves it only for a reason."""

from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import Target
from penstock.core.routing.affinity import Affinity, beside_turns, conversation, favourite, few_of, mark_of
from penstock.core.routing.board import Board
from penstock.core.routing.choice import NOTHING, Choice, choose
from tests.core.routing.boards import board_of, candidate_of, fail, health_of, letters, name_of

KEYS = [conversation(f"user-{n}", "m", b"s", 0, b"", b"") for n in range(3000)]


def kept(board: Board, key: int, *, now: float = 0.0, u: float = 0.3) -> Choice:
    return choose(board, NOTHING, (), None, u=u, now=now, patience=600.0, wish=Affinity(key, 0))


def places(board: Board, *, now: float = 0.0, keys: list[int] = KEYS) -> dict[int, str]:
    return {key: name_of(kept(board, key, now=now)) for key in keys}


# ---- the number of a conversation


def test_the_name_comes_from_where_the_clients_have_it() -> None:
    said = b'"metadata":{"user_id":"user_1_account__session_abc"}'
    newer = b'"metadata":{"user_id":"{\\"device_id\\":\\"d\\",\\"session_id\\":\\"abc\\"}"}'
    named = [b'"prompt_cache_key": "abc"', b'"session_id":"abc"', said, newer]
    found = {conversation("u", "m", b"", 0, each, b"") for each in named}
    assert found == {conversation("u", "m", b"abc", 0, b"", b"")}
    assert conversation("u", "m", b"abc", 0, b'"session_id":"other"', b"") in found, "the header first"
    assert conversation("u", "m", b"", 4095, b'"user":"abc"', b"[...]") == 0, "too short to be kept"


def test_without_a_name_its_beginning_is_its_name() -> None:
    turns = b'[{"role":"user","content":"' + b"x" * 2000
    first = conversation("u", "m", b"", 5000, b"", turns)
    assert first == conversation("u", "m", b"", 90_000, b'"stream":true', turns + b"more")
    assert first != conversation("u", "m", b"", 5000, b"", b"[" + turns)


def test_case_27_no_two_users_and_no_two_models_have_a_conversation_in_common() -> None:
    found = {
        conversation(user, model, session, 5000, b"", b"[same]")
        for user in ("a", "b")
        for model in ("m", "n")
        for session in (b"", b"s")
    }
    assert len(found) == 8


def test_what_stands_in_the_turns_names_nothing() -> None:
    body = b'{"model":"m","messages":[{"session_id":"x"}],"prompt_cache_key":"y"}'
    start, end = body.index(b"["), body.index(b"]") + 1
    assert beside_turns(body, start, end) == b'{"model":"m","messages":,"prompt_cache_key":"y"}'


# ---- where it goes


@given(st.integers(1, 2**64 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_who_leaves_takes_only_its_own_conversations_along(key: int, weights: list[int]) -> None:
    marks = [mark_of(f"p{n}", "up") for n in range(len(weights))]
    numbers = list(range(*few_of(key, list(accumulate(weights)))))
    own = numbers[favourite(key, [marks[n] for n in numbers], [float(weights[n]) for n in numbers])]
    for gone in numbers:
        rest = [n for n in numbers if n != gone]
        if gone != own:
            assert rest[favourite(key, [marks[n] for n in rest], [float(weights[n]) for n in rest])] == own


@given(st.integers(1, 2**64 - 1), st.integers(17, 400))
def test_among_many_it_looks_at_a_few(key: int, many: int) -> None:
    start, end = few_of(key, list(range(1, many + 1)))
    assert 0 <= start < end <= many
    assert 8 <= end - start <= 16


@pytest.mark.parametrize(
    "weights", [(1, 1, 1, 1), (3, 1), (1,) * 50, (9, *(1,) * 20)], ids=["equal", "two", "fifty", "uneven"]
)
def test_each_has_its_weights_share_of_conversations(weights: tuple[int, ...]) -> None:
    board = board_of(*(Target(f"p{n}", "up", weight=weight) for n, weight in enumerate(weights)))
    found = Counter(places(board).values())
    for n, weight in enumerate(weights):
        fair = weight / sum(weights) * len(KEYS)
        assert abs(found[f"p{n}"] - fair) < max(0.3 * fair, 5 * fair**0.5), n


def test_case_25_turns_stay_on_one_upstream_and_a_restart_moves_none() -> None:
    names = "abcd"
    workers = [letters(names) for _ in range(8)] + [board_of(*(Target(n, "up") for n in reversed(names)))]
    first = places(workers[0])
    assert all(places(worker) == first for worker in workers)
    assert kept(workers[0], KEYS[0]).reason == "sticky"
    assert {name_of(kept(workers[0], KEYS[0], u=n / 50)) for n in range(50)} == {first[KEYS[0]]}


def test_who_is_out_loses_its_own_and_gets_them_back() -> None:
    board = letters("abcd")
    before = places(board)
    fail(board, "a", now=0.0, times=5)
    during = places(board, now=1.0)
    assert {key for key in KEYS if before[key] != during[key]} == {k for k in KEYS if before[k] == "a"}
    assert len({during[key] for key in KEYS if before[key] == "a"}) == 3, "not all to one neighbour"
    lost = next(key for key in KEYS if before[key] == "a")
    assert kept(board, lost, now=1.0).reason == "sticky_left_out"
    board.health.abnormal = 0
    health_of(board, "a").until, health_of(board, "a").normal, health_of(board, "a").suspect = (
        0.0,
        True,
        False,
    )
    assert places(board, now=90.0) == before


def slow(board: Board, name: str, ratio: float, seconds: float = 3.0) -> None:
    pace = board.known.pace
    for _ in range(20):
        pace.add(0, seconds, 0.0)
    for _ in range(10):
        board.health.timed(health_of(board, name), ratio, 0.0)


@pytest.mark.parametrize(("seconds", "leaves"), [(15.0, True), (4.0, False)])
def test_case_26_a_conversation_leaves_the_slow_and_stays_with_the_nearly_as_quick(
    seconds: float, leaves: bool
) -> None:
    board = letters("abcd")
    before = places(board)
    slow(board, "a", seconds / 3.0)
    after = places(board)
    for key in KEYS:
        assert (before[key] != after[key]) is (leaves and before[key] == "a")
    if leaves:
        lost = next(key for key in KEYS if before[key] == "a")
        assert kept(board, lost).reason == "sticky_left_slow"
        assert places(board, now=300.0) == before, "what nothing new is learned of is forgotten"


def test_it_leaves_one_that_has_too_much_to_do_judged_by_that_one_alone() -> None:
    board = letters("abcd")
    before = places(board)
    for name in "abcd":
        health_of(board, name).in_flight = 20
    assert places(board) == before
    health_of(board, "a").in_flight = 80
    after = places(board)
    assert {before[key] for key in KEYS if before[key] != after[key]} == {"a"}
    lost = next(key for key in KEYS if before[key] == "a")
    assert kept(board, lost).reason == "sticky_left_full"
    health_of(board, "a").in_flight = 40
    assert places(board) == before


def test_where_there_is_no_better_one_it_goes_anywhere() -> None:
    two = letters("ab")
    key = next(key for key, name in places(two).items() if name == "a")
    health_of(two, "a").in_flight, health_of(two, "b").in_flight = 500, 20
    assert (name_of(kept(two, key)), kept(two, key).reason) == ("b", "sticky_left_full")
    board = letters("abcd")
    first = next(key for key, name in places(board).items() if name == "a")
    health_of(board, "a").in_flight = 500
    second = name_of(kept(board, first))
    health_of(board, second).in_flight = 100
    assert kept(board, first).reason in ("weight", "load")
    many = board_of(*(Target(f"p{n}", "up") for n in range(20)))
    key = KEYS[0]
    start, end = few_of(key, list(range(1, 21)))
    for n in range(start, end):
        fail(many, f"p{n}", now=0.0, times=5)
    assert kept(many, key, now=1.0).reason in ("weight", "load")


def test_a_probe_and_a_better_tier_come_first() -> None:
    board = board_of(Target("a", "up"), Target("b", "up"), Target("c", "up", priority=1))
    assert set(places(board).values()) == {"a", "b"}
    fail(board, "a", now=0.0, times=5)
    fail(board, "b", now=0.0, times=5)
    assert set(places(board, now=1.0).values()) == {"c"}
    assert kept(board, KEYS[0], now=1.0).reason == "tier_down"
    assert kept(board, KEYS[0], now=8.0).reason == "probe"
    assert candidate_of(board, "a").mark != candidate_of(board, "b").mark
