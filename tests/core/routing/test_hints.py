"""Hints: what one process has met leaves an upstream out in another, until that meets something itself or it is taken back."""

import pytest

from penstock.core.catalog import Target
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.choice import NOTHING, Reason
from penstock.core.routing.circuit_breaker import Circuit, CircuitState, Hint
from penstock.core.routing.explanation import explained
from penstock.core.routing.rules import RULES
from penstock.core.routing.snapshot import lay, taken
from tests.core.routing.boards import board_of, chosen, fail, health_of, letters, name_of, shares, succeed

F = FailureClass
CLOSED, OPEN, OFF = CircuitState
OPENED = Hint(opened=True, until=10.0, cause=F.SLOW)
RESTING = Hint(opened=False, until=10.0, cause=F.OVERLOAD)


def hear(board: Board, name: str, hint: Hint | None, *, now: float) -> None:
    board.health.hear(health_of(board, name).target, hint, now)


def probed(board: Board, name: str, *, now: float, well: bool) -> bool:
    """A request goes there and ends; whether it was a probe."""
    known = health_of(board, name)
    probe = board.health.sent(known, now)
    if well:
        succeed(board, name, now=now)
    else:
        fail(board, name, now=now)
    board.health.left(known, now, probe=probe)
    return probe


# ---- what is told


@pytest.mark.parametrize(
    ("found", "times", "kind", "opened"),
    [
        (F.SLOW, 5, "target", True),
        (F.OVERLOAD, 1, "target", False),
        (F.MISSING, 2, "target", True),
        (F.AUTH, 2, "credential", True),
        (F.QUOTA, 1, "credential", True),
        (F.RATE, 1, "allowance", False),
    ],
)
def test_what_is_left_out_is_told_with_its_cause(
    found: FailureClass, times: int, kind: str, *, opened: bool
) -> None:
    board = letters("ab")
    for number in range(times):
        fail(board, "a", found, now=0.0, user=f"u{number}", body=number)
    told = {name: hint for name, it in board.health.shared() if (hint := it.hint(0.0)) is not None}
    ((name, hint),) = told.items()
    assert name[:2] == (kind, "a")
    assert hint == Hint(opened, health_of(board, "a").until, found)
    assert next(it for known, it in board.health.shared() if known == name).hint(hint.until) is None


def test_an_address_is_not_told_of() -> None:
    """Whether it can be reached is another matter from elsewhere."""
    board = letters("ab")
    fail(board, "a", F.UNREACHABLE, now=0.0, times=5)
    assert health_of(board, "a").origin.state is OPEN
    assert [it.hint(0.0) for _, it in board.health.shared()] == [None] * 6


def test_a_probe_is_not_told_of_and_a_rest_beside_it_is() -> None:
    board = letters("a")
    fail(board, "a", now=0.0, times=5)
    circuit = health_of(board, "a").target
    board.health.sent(health_of(board, "a"), 6.0)
    assert circuit.probing
    assert circuit.hint(6.0) is None
    fail(board, "a", F.OVERLOAD, now=6.0, retry_after=20.0)
    hint = circuit.hint(6.0)
    assert hint == Hint(opened=True, until=26.0, cause=F.OVERLOAD), "the probe has reported"


def test_what_was_heard_is_not_told_on_and_what_was_met_beside_it_is() -> None:
    board = letters("ab")
    hear(board, "a", OPENED, now=0.0)
    circuit = health_of(board, "a").target
    assert circuit.hint(0.0) is None
    fail(board, "a", F.OVERLOAD, now=0.0, retry_after=5.0)
    assert circuit.hint(0.0) == Hint(opened=False, until=5.0, cause=F.OVERLOAD)


# ---- what is heard


@pytest.mark.parametrize("hint", [OPENED, RESTING])
def test_what_is_heard_leaves_it_out_until_then(hint: Hint) -> None:
    board = letters("ab")
    hear(board, "a", hint, now=0.0)
    assert shares(board, now=9.9) == {"b": 1.0}
    assert health_of(board, "a").last_class is hint.cause
    assert shares(board, now=10.1)["a"] > 0.1
    first = chosen(board, now=10.1)
    assert ((name_of(first), first.reason) == ("a", Reason.PROBE)) == hint.opened, "a rest needs none"


def test_a_rest_that_is_heard_is_over_by_itself() -> None:
    board = letters("ab")
    hear(board, "a", RESTING, now=0.0)
    fail(board, "a", F.OVERLOAD, now=0.0, retry_after=5.0)
    for now in (6.0, 11.0):
        board.health.settle(health_of(board, "a"), now)
        assert health_of(board, "a").normal == (now > 10.0)


def test_a_hint_never_takes_the_last_one() -> None:
    """Also where it is said to be off: what is off is asked more seldom, and that is not known here."""
    for names in ("a", "ab"):
        board = letters(names)
        for name in names:
            hear(board, name, Hint(opened=True, until=600.0, cause=F.AUTH), now=0.0)
        assert not health_of(board, "a").off
        for n in range(100):
            assert chosen(board, now=1.0, u=n / 100).candidate is not None


def test_two_good_answers_end_it_and_then_others_are_doubted_for_a_while() -> None:
    board = letters("ab")
    hear(board, "a", OPENED, now=0.0)
    for now in (11.0, 11.1):
        assert probed(board, "a", now=now, well=True)
    assert health_of(board, "a").normal
    for now, believed in ((12.0, False), (12.0 + RULES.hint_doubted, True)):
        hear(board, "a", Hint(opened=True, until=now + 30.0, cause=F.SLOW), now=now)
        assert health_of(board, "a").suspect == believed


def test_a_probe_that_fails_makes_it_our_own() -> None:
    board = letters("ab")
    hear(board, "a", OPENED, now=0.0)
    assert probed(board, "a", now=11.0, well=False)
    circuit = health_of(board, "a").target
    hint = circuit.hint(11.0)
    assert hint is not None
    assert hint.opened
    hear(board, "a", None, now=11.5)
    assert circuit.until == hint.until, "nobody else can take that back"


def test_what_was_met_here_counts_for_more() -> None:
    board = letters("ab")
    fail(board, "a", now=0.0, times=5)
    until = health_of(board, "a").until
    hear(board, "a", Hint(opened=True, until=500.0, cause=F.SLOW), now=0.0)
    assert health_of(board, "a").until == until
    assert not health_of(board, "a").target.heard


def test_what_is_over_is_not_heard() -> None:
    board = letters("ab")
    hear(board, "a", OPENED, now=10.0)
    assert health_of(board, "a").normal


def test_a_later_hint_takes_the_place_of_the_earlier() -> None:
    board = letters("ab")
    for until in (10.0, 30.0, 20.0):
        hear(board, "a", Hint(opened=True, until=until, cause=F.SLOW), now=0.0)
        assert health_of(board, "a").until == until


# ---- what is taken back


@pytest.mark.parametrize("hint", [OPENED, RESTING])
def test_what_is_taken_back_is_as_if_it_had_not_been_said(hint: Hint) -> None:
    board = letters("ab")
    hear(board, "a", hint, now=0.0)
    hear(board, "a", None, now=1.0)
    assert health_of(board, "a").normal
    assert board.health.abnormal == 0


def test_a_rest_of_our_own_stays() -> None:
    board = letters("ab")
    fail(board, "a", F.OVERLOAD, now=0.0, retry_after=20.0)
    hear(board, "a", OPENED, now=0.0)
    hear(board, "a", None, now=1.0)
    assert (health_of(board, "a").until, health_of(board, "a").suspect) == (20.0, False)


def test_the_operator_and_a_new_credential_end_it() -> None:
    board = letters("ab")
    known = health_of(board, "a")
    board.health.hear(known.credential, OPENED, 0.0)
    board.health.renewed(known, 1.0)
    assert known.normal
    hear(board, "a", OPENED, now=2.0)
    board.health.reset(lambda key: key[0] == "a", 3.0)
    assert known.normal


def test_a_credential_is_heard_of_for_all_its_models() -> None:
    board = board_of(Target("a", "up"), Target("a", "other"), Target("b", "up"))
    board.health.hear(health_of(board, "a").credential, Hint(opened=True, until=10.0, cause=F.AUTH), 0.0)
    assert shares(board, now=1.0) == {"b": 1.0}
    assert board.health.abnormal == 2


def test_of_what_was_forgotten_meanwhile_nothing_is_heard() -> None:
    board = letters("ab")
    board.health.hear(Circuit(), OPENED, 0.0)
    assert board.health.abnormal == 0


# ---- what operators see


@pytest.mark.parametrize(("hint", "state"), [(OPENED, "open"), (RESTING, "cooled")])
def test_a_view_says_by_whose_word_and_is_laid_so(hint: Hint, state: str) -> None:
    board, other = letters("ab"), letters("ab")
    hear(board, "a", hint, now=0.0)
    snapshot = taken(board.health, 1.0)
    lay(snapshot, other)
    for each in (snapshot, taken(other.health, 1.0)):
        views = {view.provider: view for view in each.legs}
        assert (views["a"].state(1.0), views["a"].until, views["a"].hinted(1.0)) == (state, 10.0, True)
        assert not views["b"].hinted(1.0)
    (told, _) = explained(other, NOTHING, 1.0).legs
    assert told.kept_out == f"out for 9.0 s ({hint.cause}, as another process says)"


def test_a_view_of_what_was_met_here_does_not() -> None:
    board = letters("ab")
    fail(board, "a", now=0.0, times=5)
    hear(board, "a", Hint(opened=False, until=1.0, cause=F.OVERLOAD), now=0.0)
    (view, _) = taken(board.health, 0.0).legs
    assert (view.state(0.0), view.hinted(0.0)) == ("open", False)
    (told, _) = explained(board, NOTHING, 0.0).legs
    assert told.kept_out == f"out for {view.until:.1f} s (overload)"
