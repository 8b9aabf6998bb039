"""Pools of credentials: how they share what a target gets, whom a failure takes out, and who comes next."""

import pytest

from penstock.core.catalog import Credential, Model, Target, Upstream
from penstock.core.endpoints import FORMATS
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Candidate, Upstreams
from penstock.core.routing.choice import NOTHING, Choice, choose, others
from penstock.core.routing.health import Failure, Health, UpstreamHealth

F = FailureClass
Pool = tuple[Credential, ...]


def pool(*credentials: Credential, provider: str = "p") -> Upstream:
    return Upstream(provider, "custom", (("chat", f"https://{provider}/v1"),), credentials=credentials)


def board(*rows: Upstream, targets: tuple[Target, ...] = ()) -> Board:
    found = targets or tuple(Target(row.id, "up", priority=at) for at, row in enumerate(rows))
    model = Model(id="m", name="M", targets=found)
    return Board(Upstreams(rows).group(model, "chat", FORMATS), Health())


def leg(board: Board, provider: str, credential: str = "", model: str = "up") -> Candidate:
    everybody = [entry[0] for _, entries in board.tiers for entry in entries]
    return next(each for each in everybody if each.key == (provider, model, credential))


def known(board: Board, provider: str, credential: str = "", model: str = "up") -> UpstreamHealth:
    return board.health_of(leg(board, provider, credential, model))


def pick(
    board: Board, *tried: Candidate, failed: FailureClass | None = None, u: float = 0.0, now: float = 0.0
) -> Choice:
    return choose(board, NOTHING, tried, failed, u=u, now=now, patience=600.0)


def shares(board: Board, now: float = 0.0) -> dict[str, float]:
    found: dict[str, float] = {}
    for n in range(1000):
        choice = pick(board, u=(n + 0.5) / 1000, now=now)
        assert choice.candidate is not None
        place = "/".join(choice.candidate.key[::2])
        found[place] = found.get(place, 0) + 0.001
    return {place: round(share, 3) for place, share in found.items()}


def fail(
    board: Board, leg: Candidate, found: FailureClass, *, body: int = 0, told: float | None = None
) -> None:
    health = board.health
    health.failed(Failure(health.of(leg.attempt), found, 0.0, 0.0, f"u{body}", body, told))


A, B = Credential("a", "env:A", weight=3), Credential("b", "env:B")


def test_a_pool_has_the_share_of_its_target_and_parts_it_by_weight() -> None:
    both = board(pool(A, B), pool(provider="q"), targets=(Target("p", "up"), Target("q", "up")))
    assert shares(both) == {"p/a": 0.375, "p/b": 0.125, "q/": 0.5}
    assert shares(board(pool(A, Credential("c", "env:C", weight=0)))) == {"p/a": 1.0}


def test_a_row_with_one_secret_is_one_candidate_without_a_credential() -> None:
    row = Upstream("p", "custom", (("chat", "https://p/v1"),), secret="env:ONE")
    group = board(row).group
    attempt = group.tiers[0].candidates[0].attempt
    assert (group.size, group.places, attempt.key, attempt.secret) == (1, 1, ("p", "up", ""), "env:ONE")
    pooled = board(pool(A, B)).group
    assert (pooled.size, pooled.places) == (2, 1)
    assert [each.attempt.secret for each in pooled.tiers[0].candidates] == ["env:A", "env:B"]


@pytest.mark.parametrize("found", [F.QUOTA, F.AUTH])
def test_a_credential_that_is_not_taken_is_out_at_all_models_of_its_provider_and_no_other_is(
    found: FailureClass,
) -> None:
    two = board(pool(A, B), targets=(Target("p", "up"), Target("p", "else")))
    fail(two, leg(two, "p", "a"), found, body=1)
    fail(two, leg(two, "p", "a"), found, body=2)
    assert known(two, "p", "a").off
    assert known(two, "p", "a", "else").off
    assert known(two, "p", "b").normal
    assert known(two, "p", "b", "else").normal
    assert shares(two, now=1.0) == {"p/b": 1.0}


def test_a_limit_is_of_the_account_for_one_model() -> None:
    same = Credential("c", "env:C", group="a")
    two = board(pool(A, B, same), targets=(Target("p", "up"), Target("p", "else")))
    fail(two, leg(two, "p", "a"), F.RATE, told=30.0)
    assert known(two, "p", "a").until == known(two, "p", "c").until == 30.0
    assert known(two, "p", "b").normal
    assert known(two, "p", "a", "else").normal


def test_what_the_model_there_has_done_is_held_against_it_with_every_credential() -> None:
    two = board(pool(A, B))
    for body in range(5):
        fail(two, leg(two, "p", "a"), F.SLOW, body=body)
    assert known(two, "p", "a").until == known(two, "p", "b").until > 0


@pytest.mark.parametrize("found", [F.RATE, F.QUOTA, F.AUTH])
def test_after_the_credential_another_account_is_asked_then_another_provider_then_the_same_account(
    found: FailureClass,
) -> None:
    same = Credential("c", "env:C", group="a")
    all_of_them = board(pool(A, B, same), pool(provider="q"))
    tried = [leg(all_of_them, "p", "a")]
    order: list[str] = []
    while (choice := pick(all_of_them, *tried, failed=found)).candidate is not None:
        assert choice.reason == f"after_{found}"
        tried.append(choice.candidate)
        order.append("/".join(choice.candidate.key[::2]))
    assert order == ["p/b", "q/", "p/c"]


def test_case_24_after_an_overload_another_provider_is_asked_and_another_key_last() -> None:
    two = board(pool(A, B), pool(provider="bedrock"))
    first = leg(two, "p", "a")
    second = pick(two, first, failed=F.OVERLOAD).candidate
    assert second is not None
    assert second is leg(two, "bedrock")
    assert pick(two, first, second, failed=F.OVERLOAD).candidate is leg(two, "p", "b")


@pytest.mark.parametrize("found", [F.BROKEN, F.SLOW, F.MISSING, F.EMPTY, F.UNREACHABLE])
def test_what_no_other_credential_would_help_is_not_asked_with_one(found: FailureClass) -> None:
    two = board(pool(A, B))
    assert pick(two, leg(two, "p", "a"), failed=found).candidate is None
    assert not others(two, NOTHING, [leg(two, "p", "a")], 0.0)
    elsewhere = board(pool(A, B), pool(provider="q"))
    assert pick(elsewhere, leg(elsewhere, "p", "a"), failed=found).candidate is leg(elsewhere, "q")
    assert others(elsewhere, NOTHING, [leg(elsewhere, "p", "a")], 0.0)
    fail(elsewhere, leg(elsewhere, "p", "b"), F.RATE)
    assert others(elsewhere, NOTHING, [leg(elsewhere, "p", "a")], 0.0)
    fail(elsewhere, leg(elsewhere, "q"), F.RATE)
    assert not others(elsewhere, NOTHING, [leg(elsewhere, "p", "a")], 0.0)


def test_a_request_that_breaks_one_place_with_two_credentials_is_no_poison() -> None:
    two = board(pool(A, B), pool(provider="q"))
    for credential in "ab":
        fail(two, leg(two, "p", credential), F.BROKEN, body=7)
    assert not two.health.is_poison("u7", 7, 0.0)
    fail(two, leg(two, "q"), F.BROKEN, body=7)
    assert two.health.is_poison("u7", 7, 0.0)
