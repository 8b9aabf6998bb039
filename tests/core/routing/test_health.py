"""Health of upstreams: what each kind of failure is held against, whose failures count, and what a request's own doing is."""

import pytest

from penstock.core.catalog import Target
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.circuit_breaker import CircuitState
from penstock.core.routing.health import Failure
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
CLOSED, OPEN, OFF = CircuitState

# ---- what is out


def test_what_is_out_is_what_the_failure_is_held_against() -> None:
    """Two models of one provider share its address and its credential."""
    for found, times, other_is_out in (
        (F.UNREACHABLE, 5, True),
        (F.QUOTA, 1, True),
        (F.SLOW, 5, False),
        (F.OVERLOAD, 1, False),
        (F.RATE, 1, False),
    ):
        board = board_of(Target("a", "up"), Target("a", "other"))
        (_, one, _), (_, other, _) = board.tiers[0][1]
        fail(board, "a", found, now=0.0, times=times)
        assert one.until > 0.0, found
        assert (other.until > 0.0) == other_is_out, found
        assert one.last_class is found
        assert board.health.abnormal == 1 + other_is_out


@pytest.mark.parametrize("found", [F.STALE, F.GONE, F.OURS, F.TOO_LONG, F.CALLER, F.REFUSAL])
def test_what_is_nobodys_fault_there_is_held_against_nothing(found: FailureClass) -> None:
    board = letters("a")
    fail(board, "a", found, now=0.0, times=20)
    assert health_of(board, "a").normal


def test_a_callers_400_shows_that_the_upstream_works() -> None:
    """Of a probe as well, and of one whose credential is not taken the address."""
    board = letters("a")
    known = health_of(board, "a")
    fail(board, "a", now=0.0, times=5)
    for now in (10.0, 10.1):
        board.health.sent(known, now)
        fail(board, "a", F.CALLER, now=now)
        board.health.left(known, now, probe=True)
    assert known.normal
    fail(board, "a", F.UNREACHABLE, now=20.0, times=5)
    for now in (30.0, 30.1):
        board.health.sent(known, now)
        fail(board, "a", F.RATE, now=now, retry_after=0.5)
        board.health.left(known, now, probe=True)
    assert known.origin.state is CLOSED
    assert known.until == pytest.approx(30.6)


def test_a_rest_after_an_overload_is_short_and_after_a_rate_limit_as_told() -> None:
    for found, told, low, high in (
        (F.OVERLOAD, None, 2.0, 2.0),
        (F.OVERLOAD, 20.0, 20.0, 20.0),
        (F.OVERLOAD, 600.0, 30.0, 30.0),
        (F.RATE, None, 2.0, 2.0),
        (F.RATE, 59.0, 59.0, 59.0),
        (F.RATE, 0.0, 0.2, 0.2),
        (F.RATE, 7_200.0, 7_200.0, 7_200.0),
    ):
        board = letters("ab")
        fail(board, "a", found, now=0.0, retry_after=told)
        assert low <= health_of(board, "a").until <= high, (found, told)
        assert health_of(board, "a").off == (told == 7_200.0), "over an hour is a quota"
    board = letters("ab")
    fail(board, "a", F.RATE, now=0.0, times=3)
    assert health_of(board, "a").until == 8.0
    succeed(board, "a", now=9.0)
    fail(board, "a", F.RATE, now=10.0)
    assert health_of(board, "a").until == 12.0, "it had answered meanwhile"


def test_case_21_of_two_resets_the_later_counts() -> None:
    board = letters("ab")
    for told in (60.0, 1.0):
        fail(board, "a", F.RATE, now=0.0, retry_after=told)
    assert health_of(board, "a").until == 60.0


def test_case_20_a_reset_is_kept_and_the_provider_is_as_usual_then() -> None:
    board = letters("ab")
    fail(board, "a", F.RATE, now=0.0, retry_after=30.0)
    assert shares(board, now=29.9) == {"b": 1.0}
    assert shares(board, now=30.1)["a"] > 0.1
    assert health_of(board, "a").normal


def test_a_new_credential_is_tried_at_once() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    fail(board, "a", F.QUOTA, now=0.0)
    fail(board, "a", F.OVERLOAD, now=0.0)
    board.health.renewed(known, 1.0)
    assert (known.off, known.until) == (False, 2.0)
    board.health.renewed(known, 1.0)
    assert known.until == 2.0, "that is not its credential's"


def test_an_address_that_answers_again_is_as_usual_after_two_probes() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    fail(board, "a", F.UNREACHABLE, now=0.0, times=5)
    for now in (10.0, 10.1):
        assert board.health.sent(known, now)
        board.health.succeeded(known, now, now)
        board.health.left(known, now, probe=True)
    assert known.normal
    assert not board.health.sent(known, 10.2)


def test_one_that_was_degraded_is_as_usual_when_half_a_minute_was_good() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    succeed(board, "a", now=0.0, times=18)
    for user in "uv":
        fail(board, "a", now=0.0, user=user)
    assert known.degraded == 1
    board.health.sent(known, 0.0)
    assert not board.health.sent(known, 0.0), "no probe"
    chosen(board, now=31.0)
    assert known.normal


# ---- averages


def test_slow_answers_count_at_once_and_quick_ones_little_by_little() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    board.health.timed(known, 1.0, 0.0)
    assert known.slowness == 1.0
    board.health.timed(known, 9.0, 0.0)
    assert known.slowness == pytest.approx(5.0)
    board.health.timed(known, 1.0, 0.0)
    assert known.slowness == pytest.approx(4.6)
    board.health.timed(known, 1e9, 0.0)
    assert known.slowness == pytest.approx((4.6 + RULES.slowest) / 2)
    assert known.score(1.0, 1.0, RULES.forgets, RULES) == pytest.approx(1 + (known.slowness - 1) / 2)


def test_failures_are_averaged_and_forgotten() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    fail(board, "a", now=0.0)
    assert known.failures == pytest.approx(0.1)
    succeed(board, "a", now=0.0)
    assert known.failures == pytest.approx(0.09)
    fail(board, "a", now=RULES.forgets)
    assert known.failures == pytest.approx(0.045 + 0.1 * 0.955)


# ---- votes


def test_one_user_has_two_votes_in_five_seconds_while_others_are_answered() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    succeed(board, "a", now=0.0, user="other")
    fail(board, "a", now=1.0, times=9, user="u")
    assert known.target.streak == 2
    succeed(board, "a", now=1.0, user="u")
    fail(board, "a", now=2.0, times=9, user="u")
    assert known.target.streak == 0, "the other one was the last but this one"
    fail(board, "a", now=6.5, times=4, user="u")
    assert known.target.streak == 4, "nobody else is answered"
    fail(board, "a", now=6.5, user="v")
    assert known.target.state is OPEN


def test_those_who_vote_are_remembered_within_bounds() -> None:
    board = letters("ab")
    succeed(board, "a", now=0.0, user="other")
    succeed(board, "a", now=0.0, times=2000, user="w")
    for number in range(600):
        fail(board, "a", now=0.0, times=1, user=str(number))
    known = health_of(board, "a")
    assert len(known.voters._votes) <= 256


def test_a_failure_that_a_caller_could_bring_about_waits_for_an_answer_elsewhere() -> None:
    for found, state in ((F.BROKEN, CLOSED), (F.AUTH, OFF), (F.MISSING, OFF)):
        board = letters("ab")
        known = health_of(board, "a")
        assert fail(board, "a", found, now=0.0) == [True]
        assert known.normal
        assert known.failures == 0.0
        failure = Failure(known, found, 0.0, 0.0, "u")
        board.health.answered(("u", 0), [failure, failure], 0.1)
        assert known.failures == pytest.approx(0.1), "one vote for one request"
        circuit = known.credential if found is F.AUTH else known.target
        assert circuit.state is state


def test_a_failure_counts_when_another_request_fails_the_same_way() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    assert fail(board, "a", F.BROKEN, now=0.0, user="u") == [True]
    assert fail(board, "a", F.BROKEN, now=1.0, user="u", body=0) == [True], "it is the same request"
    assert fail(board, "a", F.BROKEN, now=1.0, user="v") == [False]
    assert known.target.streak == 1
    assert fail(board, "a", F.MISSING, now=2.0, user="w") == [True], "another kind"
    assert fail(board, "a", F.MISSING, now=99.0, user="x") == [True], "long ago"
    succeed(board, "a", now=100.0)
    assert fail(board, "a", F.MISSING, now=101.0, user="y") == [True], "it has answered meanwhile"
    assert fail(board, "a", F.MISSING, now=102.0, user="z") == [False]
    assert known.target.state is OFF


def test_case_17_poison_is_held_against_nobody() -> None:
    board = letters("abc")
    for now in range(50):
        for name in "ab"[: 2 if now == 0 else 1]:
            fail(board, name, F.BROKEN, now=float(now), user="poisoner", body=7)
        assert board.health.is_poison("poisoner", 7, float(now))
    assert board.health.abnormal == 0
    assert shares(board, now=50.0) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=0.001)
    assert not board.health.is_poison("other", 7, 1.0)
    assert not board.health.is_poison("poisoner", 8, 1.0)
    assert not board.health.is_poison("poisoner", 7, 50.0 + RULES.suspicion)


def test_a_request_that_is_answered_is_no_poison_and_one_upstream_alone_makes_none() -> None:
    board = letters("abc")
    assert fail(board, "a", F.BROKEN, now=0.0) == [True]
    assert fail(board, "a", F.BROKEN, now=1.0) == [True]
    assert not board.health.is_poison("u", 0, 1.0)
    assert fail(board, "b", F.BROKEN, now=100.0) == [True], "that was another time"
    assert not board.health.is_poison("u", 0, 100.0)
    assert fail(board, "a", F.BROKEN, now=101.0) == [False]
    assert board.health.is_poison("u", 0, 101.0)
    board.health.answered(("u", 0), [], 102.0)
    assert not board.health.is_poison("u", 0, 102.0)
    for body in range(1, 2000):
        fail(board, "c", F.BROKEN, now=103.0, body=body)
    assert len(board.health._poison._broke) <= 1024


def test_an_empty_answer_counts_half() -> None:
    board = letters("ab")
    fail(board, "a", F.EMPTY, now=0.0, times=9)
    assert health_of(board, "a").normal
    fail(board, "a", F.EMPTY, now=0.0, times=1)
    assert health_of(board, "a").target.state is OPEN


# ---- probes


def test_a_bad_probe_counts_though_its_request_could_be_the_cause() -> None:
    board = letters("ab")
    fail(board, "a", now=0.0, times=5)
    known = health_of(board, "a")
    assert board.health.sent(known, 10.0)
    assert fail(board, "a", F.BROKEN, now=10.0) == [False]
    board.health.left(known, 10.0, probe=True)
    assert known.until == 20.0


def test_case_18_a_probe_whose_caller_leaves_is_followed_by_the_next() -> None:
    board = letters("ab")
    fail(board, "a", now=0.0, times=5)
    known = health_of(board, "a")
    assert board.health.sent(known, 10.0)
    assert not board.health.sent(known, 10.0), "one at a time"
    board.health.left(known, 10.5, probe=False)
    assert name_of(chosen(board, now=10.6)) == "b"
    board.health.left(known, 10.5, probe=True)
    assert name_of(chosen(board, now=10.6)) == "a"
    assert known.in_flight == 0


def test_what_was_known_of_one_that_comes_back_is_forgotten() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    fail(board, "a", now=0.0, times=5)
    board.health.timed(known, 9.0, 0.0)
    for now in (10.0, 10.1):
        board.health.sent(known, now)
        board.health.succeeded(known, now, now)
        board.health.left(known, now, probe=True)
    assert (known.failures, known.slowness) == (0.0, 1.0)
    assert shares(board, now=10.2) == {"a": 0.5, "b": 0.5}


def test_a_board_knows_its_candidates() -> None:
    board = letters("ab")
    assert board.health_of(candidate_of(board, "b")) is health_of(board, "b")
    assert board.health.model("m") is board.known
    assert not health_of(board, "a").probing


def test_how_quick_an_upstream_generates_is_told_by_answers_that_are_long_enough() -> None:
    board = letters("a")
    known, rules = health_of(board, "a"), board.health.rules
    board.health.generated(known, 31, 0.1)
    board.health.generated(known, 1_000, 0.0)
    assert known.rate == 0.0
    board.health.generated(known, 100, 2.0)
    assert known.rate == 50.0
    board.health.generated(known, 300, 2.0)
    assert known.rate == pytest.approx(50.0 + rules.rate_weighs * 100.0)
