"""A snapshot that is laid on the same candidates elsewhere has the same choices; and what an explanation says happens."""

import random

import msgspec
import pytest

from penstock.core.catalog import Credential, Model, Target, Upstream
from penstock.core.endpoints import FORMATS
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.bounds.capacity import Seat
from penstock.core.routing.bounds.rate_headers import Amount
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.choice import NOTHING, Need, choose
from penstock.core.routing.explanation import explained, first, name_of
from penstock.core.routing.health import Failure, Health
from penstock.core.routing.snapshot import Snapshot, lay, taken

TARGETS = (
    Target("a", "up", weight=3),
    Target("b", "up"),
    Target("c", "up", priority=1, context_tokens=1000),
    Target("d", "up", priority=1, weight=0),
)
POOL = (Credential("x", "env:X", weight=2), Credential("y", "env:Y", group="org"))


def fresh() -> Board:
    rows = [Upstream(name, "custom", (("chat", f"https://{name}/v1"),)) for name in "bcd"]
    rows.append(Upstream("a", "ollama", (("chat", "https://a/v1"),), credentials=POOL))
    model = Model(id="m", name="M", targets=TARGETS)
    return Board(Upstreams(rows).group(model, "chat", FORMATS), Health())


def troubled(draw: random.Random) -> tuple[Board, float]:
    """A board that has been through some things, and the time at the end of them."""
    board, now = fresh(), 0.0
    legs = [entry[1] for _, entries in board.tiers for entry in entries]
    health = board.health
    for _ in range(draw.randrange(120)):
        now += draw.expovariate(2.0)
        known = draw.choice(legs)
        probe = health.sent(known, now)
        if draw.random() < 0.2:
            known.in_flight += 5
        user = f"u{draw.randrange(5)}"
        match draw.randrange(5):
            case 0 | 1:
                found = draw.choice(list(FailureClass))
                told = draw.choice((None, 0.5, 20.0, 9000.0))
                health.failed(Failure(known, found, now, now, user, draw.randrange(9), told))
            case 2:
                health.timed(known, draw.uniform(0.2, 9.0), now)
                health.succeeded(known, now, now, user, slow=draw.random() < 0.3)
            case 3:
                health.succeeded(known, now, now, user)
            case _:
                continue  # it runs yet
        health.left(known, now, probe=probe)
    return board, now


def sent_over(snapshot: Snapshot) -> Snapshot:
    """As another process reads it."""
    return msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)


@pytest.mark.parametrize("seed", range(10))
def test_case_37_who_is_chosen_by_a_snapshot_is_who_is_chosen(seed: int) -> None:
    draw = random.Random(seed)
    kinds: set[str] = set()
    for _ in range(40):
        board, now = troubled(draw)
        copy = fresh()
        lay(sent_over(taken(board.health, now)), copy)
        assert copy.health.abnormal == board.health.abnormal
        for _ in range(25):
            later, u = now + draw.random() * draw.choice((1.0, 90.0)), draw.random()
            need = draw.choice((NOTHING, Need(prompt=900, asked=200)))
            live = choose(board, need, (), None, u=u, now=later, patience=600.0)
            if live.reason == "last_resort":
                continue  # which also counts what came before
            told = first(copy, need, u, later)
            assert (told.reason, told.candidate and told.candidate.key) == (
                live.reason,
                live.candidate and live.candidate.key,
            )
            kinds.add(live.reason)
    assert {"weight", "load", "probe"} <= kinds


def test_an_explanation_names_each_leg_what_keeps_it_out_and_its_odds() -> None:
    board = fresh()
    told = explained(board, NOTHING, 0.0)
    odds = {f"{leg.provider}/{leg.credential}": leg.odds for leg in told.legs}
    assert odds == {"a/x": 0.5, "a/y": 0.25, "b/": 0.25, "c/": 0.0, "d/": 0.0}
    assert [leg.tier for leg in told.legs] == [0, 0, 0, 1, 2]
    assert (told.first, told.reasons) == ("a/x:up", {"weight": 1.0})
    assert told.after["quota"] == "a/y:up"
    assert told.after["overload"] == "b:up"
    assert told.after["caller"] == ""
    known = {name_of(entry[0]): entry[1] for _, entries in board.tiers for entry in entries}
    board.health.failed(Failure(known["a/x:up"], FailureClass.QUOTA, 0.0, 0.0))
    board.health.failed(Failure(known["b:up"], FailureClass.RATE, 0.0, 0.0, retry_after=30.0))
    told = explained(board, Need(prompt=900, asked=200), 1.0)
    kept = {f"{leg.provider}/{leg.credential}": leg.kept_out for leg in told.legs}
    assert kept == {
        "a/x": "off (quota)",
        "a/y": "",
        "b/": "out for 29.0 s (rate)",
        "c/": "it has no room for about 900 tokens and an answer of 200",
        "d/": "",
    }
    assert {leg.odds for leg in told.legs if not leg.kept_out} == {1.0, 0.0}


def test_what_would_be_without_one() -> None:
    board = fresh()
    without = [entry[0] for _, entries in board.tiers for entry in entries if entry[0].key[0] == "a"]
    told = explained(board, NOTHING, 0.0, without)
    assert told.first == "b:up"
    assert {leg.kept_out for leg in told.legs if leg.provider == "a"} == {"left out, as you asked"}


def test_what_is_reset_is_as_new() -> None:
    board = fresh()
    known = {name_of(entry[0]): entry[1] for _, entries in board.tiers for entry in entries}
    for name in ("a/x:up", "b:up"):
        board.health.failed(Failure(known[name], FailureClass.QUOTA, 0.0, 0.0))
    assert board.health.abnormal == 2
    assert board.health.reset(lambda key: key[0] == "a", 1.0) == 2
    assert known["a/x:up"].normal
    assert not known["b:up"].normal
    assert board.health.abnormal == 1


def test_limits_are_sent_over_and_who_is_full_is_full_there() -> None:
    def limited() -> Board:
        rows = [Upstream(name, "custom", (("chat", f"https://{name}/v1"),)) for name in "abc"]
        targets = (Target("a", "up", in_flight=3), Target("b", "up"), Target("c", "up"))
        return Board(
            Upstreams(rows).group(Model(id="m", name="M", targets=targets), "chat", FORMATS), Health()
        )

    board, copy = limited(), limited()
    a, b, c = [entry[1] for entry in board.tiers[0][1]]
    for _ in range(3):
        Seat(a.capacities, lambda: None)
    b.in_flight = 10
    board.health.failed(Failure(b, FailureClass.OVERLOAD, 0.0, 0.0, retry_after=0.2))
    c.headroom.note((Amount("requests", 100.0, 50.0), Amount("tokens", 10.0, 1.0)), 0.0)
    snapshot = sent_over(taken(board.health, 1.0))
    assert [leg.most for leg in snapshot.legs] == [3.0, 7.0, None]
    assert snapshot.legs[2].headroom == {"requests": 0.5, "tokens": 0.1}
    lay(snapshot, copy)
    for each in (board, copy):
        assert [entry[1].full for entry in each.tiers[0][1]] == [True, True, False]
        chosen = choose(each, NOTHING, (), None, u=0.1, now=1.0, patience=1.0)
        assert chosen.candidate is not None
        assert chosen.candidate.key[0] == "c"
