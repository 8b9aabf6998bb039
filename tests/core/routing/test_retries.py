"""Second attempts and last resorts: those that help are free, those that fail are bounded."""

import pytest
from msgspec.structs import replace

from penstock.core.failure_classes.classes import Again, FailureClass
from penstock.core.routing.last_resort import LastResort
from penstock.core.routing.retry_budget import RetryBudget, second_try
from penstock.core.routing.rules import RULES

F = FailureClass


def test_second_attempts_that_fail_are_bounded_by_what_kind_of_failure_they_follow() -> None:
    for found, many in ((F.BROKEN, 40), (F.UNREACHABLE, 40), (F.OVERLOAD, 20), (F.RATE, 20), (F.SLOW, 10)):
        budget = RetryBudget(RULES)
        assert sum(budget.take(found) is not None for _ in range(500)) == many
        for _ in range(100):
            budget.earn()
        assert sum(budget.take(found) is not None for _ in range(500)) == many // 2


def test_a_second_attempt_that_helps_is_free() -> None:
    budget = RetryBudget(RULES)
    for _ in range(1000):
        taken = budget.take(F.SLOW)
        assert taken is not None
        budget.give_back(taken)
    budget.earn()
    assert budget.tokens == RULES.tokens
    budget.give_back(1e9)
    assert budget.tokens == RULES.tokens


def test_when_one_that_is_alone_is_asked_once_more() -> None:
    for again, told, least, most in (
        (Again.AT_ONCE, None, 0.0, 0.0),
        (Again.SOON, None, 0.1, 0.3),
        (Again.LATER, None, 0.0, 0.5),
        (Again.RESTED, None, 0.5, 1.5),
        (Again.RESTED, 2.0, 2.0, 2.0),
        (Again.AT_RESET, 1.5, 1.5, 1.5),
    ):
        assert (second_try(again, told, 0.0), second_try(again, told, 1.0)) == pytest.approx((least, most))
    for again, told in (
        (Again.RESTED, 2.1),
        (Again.AT_RESET, 30.0),
        (Again.AT_RESET, None),
        (Again.NO, None),
        (Again.WAIT, None),
        (Again.LATER, 1.0),
    ):
        assert second_try(again, told, 0.5) is None


def test_a_last_resort_is_refused_the_more_of_them_fail() -> None:
    resort, rules = LastResort(), replace(RULES, resort_window=10.0)
    assert not resort.refuses(0.0)
    for _ in range(9):
        resort.asked(1.0, rules)
    assert resort.refuses(0.89)
    assert not resort.refuses(0.91)
    for _ in range(5):
        resort.succeeded()
    assert not resort.refuses(0.0), "half of them are answered"
    for _ in range(99):
        resort.asked(2.0, rules)
    assert resort.refuses(0.8)
    resort.asked(20.0, rules)
    assert not resort.refuses(0.51), "that was another time"
