"""What wildcards make of whatever callers name: the models themselves, and that nothing grows without end by them."""

import pytest

from penstock.core.catalog import Model, Target, is_wildcard, passed_on
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing import candidates
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.health import Failure
from tests.core.routing.boards import board_of, health_of, letters

WILDCARD = Model("lab/*", "Everything", targets=(Target("a", "*"), Target("b", "pre/*")))


def test_a_wildcard_makes_a_model_of_a_name() -> None:
    made = passed_on(WILDCARD, "lab/x/1")
    assert (made.id, made.listed, made.wildcard) == ("lab/x/1", "lab/*", "lab/*")
    assert [(target.provider, target.model) for target in made.targets] == [("a", "x/1"), ("b", "pre/x/1")]
    assert WILDCARD.listed == "lab/*"
    assert is_wildcard("lab/*")
    assert not is_wildcard("lab/x")


def test_groups_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_MOST_GROUPS", 2)
    upstreams = Upstreams(())
    models = [passed_on(WILDCARD, f"lab/{number}") for number in range(3)]
    groups = [upstreams.group(model, "chat", ("chat",)) for model in models]
    assert upstreams.group(models[2], "chat", ("chat",)) is groups[2]
    assert upstreams.group(models[0], "chat", ("chat",)) is not groups[0]


def test_the_idle_are_forgotten_and_the_busy_and_the_broken_are_not() -> None:
    board = board_of(Target("a", "idle"), Target("a", "busy"), Target("a", "broken"))
    health = board.health
    (_, idle, _), (_, busy, _), (_, broken, _) = board.tiers[0][1]
    health.sent(busy, 0.0)
    health.failed(Failure(broken, FailureClass.OVERLOAD, 0.0, 0.0, "user", 1, None))
    assert not broken.normal
    health.forget_idle()
    again = Board(board.group, health)
    (_, new, _), (_, same, _), (_, out, _) = again.tiers[0][1]
    assert new is not idle
    assert same is busy
    assert out is broken
    assert new.origin is busy.origin, "what they share is not forgotten with one of them"


def test_a_request_that_was_on_its_way_meanwhile_ends_as_any_other() -> None:
    board = letters("a")
    known = health_of(board, "a")
    board.health.forget_idle()
    board.health.failed(Failure(known, FailureClass.QUOTA, 0.0, 1.0, "user", 1, None))
    fresh = health_of(Board(board.group, board.health), "a")
    assert fresh is not known
    assert fresh.normal
