"""The choice of an upstream: by tier, by weight, by what is to be said against it; and who comes after a failure."""

import sys
from types import FrameType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import Feature, Target
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.affinity import Affinity, mark_of
from penstock.core.routing.board import Board
from penstock.core.routing.choice import NOTHING, Need, _pair, choose, fitted, is_able, others
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
    shares,
    succeed,
)

F = FailureClass

# ---- at rest


def test_the_shares_are_the_weights() -> None:
    board = board_of(Target("a", "up", weight=2), Target("b", "up"), Target("c", "up"))
    assert shares(board) == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert {chosen(board, u=u / 10).reason for u in range(10)} == {"weight"}


def test_an_only_target_is_taken_and_none_is_nobody() -> None:
    assert chosen(letters("a")) == chosen(letters("a"), u=0.9)
    assert chosen(letters("a")).reason == "only"
    nobody = chosen(board_of())
    assert (nobody.candidate, nobody.found, nobody.wait) == (None, None, None)


def test_a_lower_priority_and_weight_nothing_wait_until_the_others_are_out() -> None:
    board = board_of(Target("a", "up"), Target("b", "up", weight=0), Target("c", "up", priority=1))
    assert shares(board) == {"a": 1.0}
    fail(board, "a", now=0.0, times=5)
    assert shares(board, now=1.0) == {"b": 1.0}
    assert chosen(board, now=1.0).reason == "tier_down"
    fail(board, "b", now=1.0, times=5)
    assert (name_of(chosen(board, now=2.0)), chosen(board, now=2.0).reason) == ("c", "tier_down")


def test_a_tier_of_one_is_taken_by_weight() -> None:
    assert chosen(board_of(Target("a", "up"), Target("b", "up", priority=1))).reason == "weight"


# ---- under load


@pytest.mark.parametrize("names", ["ab", "abcdef"])
def test_what_is_slow_or_fails_or_is_busy_gets_less_and_never_nothing(names: str) -> None:
    fair = 1 / len(names)
    for burden in ("slow", "fails", "busy"):
        board = letters(names)
        known = health_of(board, "a")
        if burden == "slow":
            for _ in range(9):
                board.health.timed(known, 8.0, 0.0)
        elif burden == "fails":
            known.failures = 0.3
        else:
            known.in_flight = 20
        found = shares(board)
        assert fair * RULES.least_share * 0.9 <= found["a"] < fair / 2, burden
        assert chosen(board, u=0.01).reason == "load"
        if burden != "busy":
            assert shares(board, now=200.0)["a"] > fair * 0.9, "what nothing new is learned of is forgotten"


def test_where_both_that_are_drawn_are_slow_two_others_are_looked_at() -> None:
    names = "abcdefghijklmnopqrst"
    board = letters(names)
    for name in "abcd":
        health_of(board, name).slowness = 8.0
    found = shares(board, many=20_000)
    slow = [found[name] for name in "abcd"]
    # a tenth of its share each keeps; without a second look both of a pair are slow in 3 % of the draws
    assert all(0.1 / 20 < share < 0.2 / 20 for share in slow), slow
    well = [found[name] for name in names[4:]]
    assert max(well) < 1.15 * min(well)
    few = letters("abc")
    for name in "ab":
        health_of(few, name).slowness = 8.0
    assert shares(few)["c"] < 0.65, "of three two are most"


def test_of_two_the_better_is_taken_by_how_much_better_it_is() -> None:
    board = letters("ab")
    health_of(board, "a").failures = 0.2
    assert shares(board)["a"] == pytest.approx(0.5 * (1 - 3 / 4), abs=0.01)
    health_of(board, "a").failures = 0.02
    assert shares(board)["a"] == 0.5, "not worth a detour"


def test_the_load_is_measured_by_weight() -> None:
    board = board_of(Target("a", "up", weight=9), Target("b", "up", weight=1))
    health_of(board, "a").in_flight, health_of(board, "b").in_flight = 9, 1
    assert shares(board)["a"] == pytest.approx(0.9)


# ---- what is out


def test_who_is_out_is_passed_by_and_one_request_probes_it_in_the_end() -> None:
    board = letters("ab")
    fail(board, "a", now=0.0, times=5)
    assert shares(board, now=3.9) == {"b": 1.0}
    choice = chosen(board, now=6.1, u=0.99)
    assert (name_of(choice), choice.reason) == ("a", "probe")
    known = health_of(board, "a")
    assert board.health.sent(known, 6.1)
    assert shares(board, now=6.1) == {"b": 1.0}, "one at a time"
    board.health.left(known, 7.0, probe=True)
    assert name_of(chosen(board, now=7.0)) == "a", "it has said nothing: the next one probes"


def test_a_better_tier_is_probed_and_a_worse_one_is_left_alone_while_the_better_is_well() -> None:
    board = board_of(Target("a", "up"), Target("b", "up", priority=1))
    fail(board, "a", now=0.0, times=5)
    assert chosen(board, now=7.0).reason == "probe"
    board = board_of(Target("a", "up"), Target("b", "up", priority=1))
    fail(board, "b", now=0.0, times=5)
    assert (name_of(chosen(board, now=7.0)), chosen(board, now=7.0).reason) == ("a", "weight")


def test_a_degraded_one_stands_behind_and_keeps_a_trickle() -> None:
    board = letters("ab")
    succeed(board, "a", now=1.0, times=27)
    fail(board, "a", F.BROKEN, now=1.0, times=3)
    for number in range(3):
        fail(board, "a", F.BROKEN, now=1.0, user=str(number), body=number)
    known = health_of(board, "a")
    assert known.degraded == 1
    assert name_of(chosen(board, now=1.0, u=0.99)) == "a", "nothing was asked of it for a while"
    board.health.sent(known, 1.0)
    assert shares(board, now=1.5) == {"b": 1.0}
    board.health.left(known, 1.5, probe=False)
    assert shares(board, now=2.5)["a"] == pytest.approx(RULES.trickle_share / 2, abs=0.002)
    assert shares(board, now=6.5) == {"a": 1.0}
    board = board_of(Target("a", "up"), Target("b", "up", priority=1))
    board.health.rules = msgspec.structs.replace(RULES, trickle_least=0.0, trickle_most=0.0)
    known = health_of(board, "a")
    for degraded, expected in ((1, "a"), (2, "b")):
        known.target.degraded, known.target.degraded_at = degraded, 1.0
        succeed(board, "a", now=1.0)
        known.degraded, known.normal = degraded, False
        board.health.abnormal = 1
        assert name_of(chosen(board, now=2.0)) == expected


def test_where_all_are_bad_the_worst_tier_is_asked_no_sooner() -> None:
    board = board_of(Target("a", "up"), Target("b", "up", priority=1))
    for name in "ab":
        for number in range(30):
            succeed(board, name, now=1.0)
            if number % 2:
                fail(board, name, now=1.0, user=str(number))
        assert health_of(board, name).degraded == 2
        board.health.sent(health_of(board, name), 1.0)
    assert name_of(chosen(board, now=1.5)) == "a"


def test_a_local_server_that_was_away_gets_its_share_little_by_little() -> None:
    board = board_of(Target("a", "up"), Target("b", "up"), kind="vllm")
    fail(board, "a", now=0.0, times=5)
    known = health_of(board, "a")
    for _ in range(2):
        assert board.health.sent(known, 10.0)
        board.health.succeeded(known, 10.0, 10.0)
        board.health.left(known, 10.0, probe=True)
    at_first, half, later = (shares(board, now=now)["a"] for now in (10.0, 20.0, 30.1))
    assert at_first == pytest.approx(0.1 / 1.1, abs=0.01)
    assert half == pytest.approx(0.55 / 1.55, abs=0.01)
    assert later == pytest.approx(0.5, abs=0.001)
    assert known.normal


# ---- what is asked for


def test_who_cannot_take_what_is_asked_is_never_asked() -> None:
    board = board_of(
        Target("a", "up", lacks=("images",)),
        Target("b", "up", priority=1, context_tokens=8_000),
        Target("c", "up", priority=2, max_output_tokens=100),
    )
    images: frozenset[Feature] = frozenset(("images",))
    for need, expected in (
        (Need(), "a"),
        (Need(images), "b"),
        (Need(images, 7_000, 2_000), ""),
        (Need(images, 9_000), "c"),
        (Need(images, 9_000, 101), ""),
        (Need(frozenset(), 9_000, 101), "a"),
    ):
        choice = chosen(board, need=need)
        assert name_of(choice) == expected
        assert choice.reason == ("weight" if expected == "a" else "caller")
    assert is_able(candidate_of(board, "b"), Need(images, 8_000))


def test_a_request_that_only_one_can_take_is_not_given_to_others_after_a_failure() -> None:
    board = board_of(Target("a", "up"), Target("b", "up", lacks=("tools",)))
    need = Need(frozenset(("tools",)))
    assert name_of(chosen(board, need=need, tried="a", failed=F.BROKEN)) == ""
    assert not others(board, need, [candidate_of(board, "a")], 0.0)
    assert others(board, Need(), [candidate_of(board, "a")], 0.0)
    assert not others(letters("a"), Need(), [candidate_of(letters("a"), "a")], 0.0)


def test_an_estimate_refuses_nobody_and_twice_too_long_is_refused() -> None:
    board = board_of(Target("a", "up", context_tokens=8_000), Target("b", "up", lacks=("images",)))
    images: frozenset[Feature] = frozenset(("images",))
    for need, found in (
        (Need(), Need()),
        (Need(images, 7_000, 1_000), Need(images, 7_000, 1_000)),
        (Need(images, 15_000, 9_000), Need(images, 7_500)),
        (Need(images, 17_000), None),
        (Need(frozenset(), 17_000), Need(frozenset(), 17_000)),
        (Need(frozenset(("tools",)), 17_000), Need(frozenset(("tools",)), 17_000)),
    ):
        assert fitted(board, need) == found
    assert fitted(letters("a"), Need(images, 10**9)) == Need(images, 10**9)


def test_one_alone_is_the_only_one_also_after_a_rest() -> None:
    board = letters("a")
    fail(board, "a", F.RATE, now=0.0, retry_after=1.0)
    assert chosen(board, now=2.0).reason == "only"
    assert board.health.abnormal == 0


def test_two_that_are_drawn_are_different_also_where_a_weight_vanishes_beside_the_other() -> None:
    assert _pair([1e-20, 1.0], [1e-20, 1.0], 0.5)[:2] == (1, 0)


# ---- after a failure


@pytest.mark.parametrize("found", list(F))
def test_what_failed_says_who_is_next(found: FailureClass) -> None:
    board = board_of(Target("a", "up"), Target("a", "other"), Target("b", "up", priority=1))
    choice = choose(board, Need(), [candidate_of(board, "a")], found, u=0.0, now=0.0, patience=1.0)
    assert choice.reason == f"after_{found}"
    nobody = (F.STALE, F.TOO_LONG, F.REASONING_REJECTED, F.CALLER, F.REFUSAL, F.GONE, F.OURS)
    assert name_of(choice) == ("" if found in nobody else "b")


def test_where_every_provider_was_tried_another_model_of_one_is_asked_and_then_nobody() -> None:
    board = board_of(Target("a", "up"), Target("a", "other"))
    assert chosen(board, tried="a", failed=F.BROKEN).candidate == board.tiers[0][1][1][0]
    assert name_of(chosen(letters("ab"), tried="ab", failed=F.BROKEN)) == ""


def test_after_a_failure_the_healthy_go_before_those_that_are_to_be_probed() -> None:
    board = board_of(Target("a", "up"), Target("b", "up"), Target("c", "up", priority=1))
    fail(board, "b", now=0.0, times=5)
    assert name_of(chosen(board, now=7.0, tried="a", failed=F.SLOW)) == "c"
    assert name_of(chosen(board, now=7.0, tried="ac", failed=F.SLOW)) == "b"
    assert name_of(chosen(board, now=1.0, tried="ac", failed=F.SLOW)) == ""


# ---- where none is well


def test_a_short_rest_is_waited_for_and_a_long_one_is_not() -> None:
    board = letters("ab")
    for name, seconds in (("a", 1.5), ("b", 20.0)):
        fail(board, name, F.OVERLOAD, now=0.0, retry_after=seconds)
    assert chosen(board, now=0.0).wait == pytest.approx(1.5)
    assert chosen(board, now=0.0, patience=4.0).wait is None, "its caller has no time for that"
    assert name_of(chosen(board, now=1.6)) == "a"


def test_where_all_are_out_each_is_tried_once_a_second_and_the_true_cause_is_told() -> None:
    board = letters("ab")
    fail(board, "a", F.SLOW, now=0.0, times=5)
    fail(board, "b", F.UNREACHABLE, now=0.0, times=5)
    for second in (1.0, 2.0):
        assert {name_of(chosen(board, now=second)) for _ in range(3)} == {"a"}
        board.health.sent(health_of(board, "a"), second)
        assert name_of(chosen(board, now=second)) == "b"
        board.health.sent(health_of(board, "b"), second)
        if second == 1.0:
            assert name_of(chosen(board, now=second, u=0.5)) == "a", "nothing was refused so far"
    for _ in range(9):
        board.known.last_resort.asked(2.0, RULES)
    refused = chosen(board, now=2.5, u=0.5)
    assert (refused.candidate, refused.reason, refused.found) == (None, "last_resort", F.SLOW)
    assert 1.0 <= refused.retry_after <= 30.0
    assert name_of(chosen(board, now=2.5, u=0.95)) == "a", "a few more than that go out"


def test_what_only_the_operator_can_mend_is_no_last_resort() -> None:
    board = letters("ab")
    fail(board, "a", F.QUOTA, now=0.0)
    fail(board, "b", F.SLOW, now=0.0, times=5)
    for now in (1.0, 2.0):
        assert name_of(chosen(board, now=now)) == "b"
    board.health.sent(health_of(board, "b"), 2.0)
    assert name_of(chosen(board, now=2.5, u=0.99)) == "b"
    board = letters("a")
    fail(board, "a", F.QUOTA, now=0.0)
    assert name_of(chosen(board, now=0.1)) == "a", "it would fail in any case"
    board.health.sent(health_of(board, "a"), 0.1)
    refused = chosen(board, now=0.2, u=0.99)
    assert (refused.candidate, refused.found) == (None, F.QUOTA)
    assert name_of(chosen(board, now=0.1 + RULES.off_sole)) == "a"


# ---- properties

OUTCOMES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from([None, *F]),
        st.floats(0, 3),
        st.one_of(st.none(), st.floats(0, 100)),
    ),
    max_size=60,
)


@given(
    outcomes=OUTCOMES,
    weights=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=4),
    u=st.floats(0, 1, exclude_max=True),
    tried=st.sets(st.sampled_from("abcd"), max_size=2),
)
def test_whatever_has_happened_the_choice_keeps_its_rules(
    outcomes: list[tuple[str, FailureClass | None, float, float | None]],
    weights: list[tuple[int, int]],
    u: float,
    tried: set[str],
) -> None:
    names = "abcd"[: len(weights)]
    board = board_of(
        *(
            Target(name, "up", priority=tier, weight=weight)
            for name, (weight, tier) in zip(names, weights, strict=True)
        ),
        health=Health(draw=lambda: u),
    )
    now = 0.0
    for number, (name, found, pause, told) in enumerate(outcomes):
        now += pause
        if name not in names:
            continue
        known = health_of(board, name)
        probe = board.health.sent(known, now)
        if found is None:
            board.health.succeeded(known, now, now, str(number % 3))
        else:
            fail(board, name, found, now=now, user=str(number % 3), body=number % 5, retry_after=told)
        board.health.left(known, now, probe=probe)
    everybody = [health_of(board, name) for name in names]
    assert board.health.abnormal == sum(not known.normal for known in everybody)
    assert all(known.in_flight == 0 and not known.probing for known in everybody)
    before = [name for name in sorted(tried) if name in names]
    choice = chosen(board, now=now, u=u, tried="".join(before), failed=F.BROKEN if before else None)
    if choice.candidate is None:
        assert before or choice.wait is not None or choice.found is not None
    else:
        known = health_of(board, name_of(choice))
        assert name_of(choice) not in before
        assert known.until <= now or choice.reason == "last_resort"
    later = now + 2 * RULES.off_most
    assert all(known.until <= later for known in everybody), "nothing is out for ever"
    assert chosen(board, now=later, u=u).candidate is not None


# ---- what it costs


def calls_of(board: Board, *, sticky: bool = False) -> int:
    """The most function calls of one choice, ours and the interpreter's own."""
    made: list[int] = []
    for number in range(50):
        wish = Affinity(mark_of(str(number)), 0) if sticky else None
        count = 0

        def note(_frame: FrameType, what: str, _argument: object) -> None:
            nonlocal count
            count += what in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            choose(board, NOTHING, (), None, u=(number + 0.5) / 50, now=1.0, patience=1.0, wish=wish)
        finally:
            sys.setprofile(before)
        made.append(count)
    return max(made)


def test_case_40_a_choice_costs_the_same_among_eight_and_among_fifty() -> None:
    """Times, and the budgets of 5 and 8 us, are in bench/choice.py and its records; this holds on any machine."""
    for many in (8, 50):
        board = board_of(*(Target(f"p{number}", "up") for number in range(many)))
        assert calls_of(board) <= 16
        assert calls_of(board, sticky=True) <= 16
        fail(board, "p0", now=0.0, times=5)
        fail(board, "p1", FailureClass.OVERLOAD, now=0.0)
        health_of(board, "p2").slowness = 8.0
        assert calls_of(board) <= 35
        assert calls_of(board, sticky=True) <= 60
