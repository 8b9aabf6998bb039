"""Switches: which upstreams are meant by a name, and what follows for who can be asked; and the words for their states."""

import pytest

from penstock.core.catalog import Credential, Model, Target, Upstream
from penstock.core.endpoints import FORMATS
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.choice import NOTHING, Need
from penstock.core.routing.explanation import explained
from penstock.core.routing.health import Health
from penstock.core.routing.snapshot import Snapshot, lay, taken
from penstock.core.routing.switches import Reach, Switch, named, switch_of
from tests.core.routing.boards import board_of, fail, health_of, letters, succeed

F = FailureClass


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("p", Reach("p")),
        ("p/a", Reach("p", "a")),
        ("p:up/x:1", Reach("p", "", "up/x:1")),
        ("p/a:m", Reach("p", "a", "m")),
    ],
)
def test_a_name_reads_back(text: str, reach: Reach) -> None:
    assert named(text) == reach
    assert str(reach) == text


@pytest.mark.parametrize("text", ["", ":m", "/a", "/a:m"])
def test_a_name_names_a_provider(text: str) -> None:
    with pytest.raises(ValueError, match="names no provider"):
        named(text)


def test_the_widest_switch_is_told() -> None:
    wide, narrow = Switch(Reach("p"), "off"), Switch(Reach("p", "a", "m"), "drain")
    assert switch_of((narrow, wide), ("p", "m", "a")) is wide
    assert switch_of((narrow,), ("p", "m", "b")) is None
    assert switch_of((narrow, wide), ("q", "m", "a")) is None
    assert [Switch(Reach("p"), "drain", until=5).holds(now) for now in (4, 5)] == [True, False]
    assert not Switch(Reach("p"), "on").holds(0)


def test_what_is_switched_off_is_no_candidate() -> None:
    pool = (Credential("a", "env:A"), Credential("b", "env:B"))
    rows = (Upstream("p", "custom", (("chat", "https://p/v1"),), credentials=pool),)
    model = Model(id="m", name="M", targets=(Target("p", "up"), Target("p", "else")))
    off = Reach("p", "a", "up")
    group = Upstreams(rows, off.means).group(model, "chat", FORMATS)
    assert {each.key for tier in group.tiers for each in tier.candidates} == {
        ("p", "up", "b"),
        ("p", "else", "a"),
        ("p", "else", "b"),
    }
    assert Upstreams(rows, Reach("p").means).group(model, "chat", FORMATS).size == 0


def test_each_state_has_a_word() -> None:
    board = letters("abcdefg")
    fail(board, "b", F.QUOTA, now=0.0)
    fail(board, "c", F.SLOW, now=0.0, times=5)
    fail(board, "d", F.RATE, now=0.0, retry_after=30.0)
    for n in range(18):
        succeed(board, "e", now=0.0, user=f"u{n}")
    for n in range(3):
        fail(board, "e", F.SLOW, now=0.0, user=f"v{n}")
    fail(board, "f", F.SLOW, now=0.0, times=5)
    assert board.health.sent(health_of(board, "f"), 10.0)
    health_of(board, "g").warm_at = 30.0
    views = {view.provider: view.state(10.0) for view in taken(board.health, 10.0).legs}
    assert views == {
        "a": "healthy",
        "b": "off",
        "c": "open",
        "d": "cooled",
        "e": "degraded",
        "f": "probing",
        "g": "warming",
    }
    told = {leg.provider: leg.kept_out for leg in explained(board, NOTHING, 10.0).legs}
    assert told["f"] == "a probe is on its way"
    assert told["d"] == "out for 20.0 s (rate)"


def test_what_a_snapshot_does_not_know_stays_as_it_is() -> None:
    board = letters("a")
    lay(Snapshot(5.0, ()), board)
    assert health_of(board, "a").normal


def test_where_nobody_can_be_asked_nobody_is_likeliest() -> None:
    model = Model(id="m", name="M", targets=(Target("p", "up"),))
    empty = Board(Upstreams(()).group(model, "chat", FORMATS), Health())
    told = explained(empty, NOTHING, 0.0)
    assert (told.legs, told.first, told.after, told.reasons) == ((), "", {}, {"caller": 1.0})


def test_the_budgets_are_told_by_model() -> None:
    board = letters("ab")
    board.known.budget.take(F.SLOW)
    assert dict(board.health.budgets()) == {"m": 180.0}


def test_what_it_lacks_keeps_an_upstream_out() -> None:
    board = board_of(Target("a", "up", lacks=("images",)), Target("b", "up"))
    told = explained(board, Need(frozenset({"images"})), 0.0)
    assert [leg.kept_out for leg in told.legs] == ["it cannot take images", ""]
    assert told.first == "b:up"
