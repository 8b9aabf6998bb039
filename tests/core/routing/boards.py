"""Boards for tests: so many upstreams of one model, a clock, and the choices of many requests."""

from collections import Counter
from collections.abc import Sequence

from penstock.core.catalog import Model, Target, Upstream
from penstock.core.endpoints import FORMATS
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Candidate, Upstreams
from penstock.core.routing.choice import NOTHING, Choice, Need, choose
from penstock.core.routing.health import Failure, Health, UpstreamHealth


def board_of(*targets: Target, health: Health | None = None, kind: str = "custom") -> Board:
    """A model with these targets; each provider is set up, and has an address of its own."""
    names = dict.fromkeys(target.provider for target in targets)
    upstreams = Upstreams(Upstream(name, kind, (("chat", f"https://{name}/v1"),)) for name in names)
    model = Model(id="m", name="M", targets=targets)
    return Board(upstreams.group(model, "chat", FORMATS), health or Health())


def letters(names: str) -> Board:
    """Equal targets, a letter each."""
    return board_of(*(Target(name, "up") for name in names))


def health_of(board: Board, name: str) -> UpstreamHealth:
    """What is known of a provider."""
    return next(entry[1] for _, entries in board.tiers for entry in entries if entry[1].key[0] == name)


def candidate_of(board: Board, name: str) -> Candidate:
    return next(entry[0] for _, entries in board.tiers for entry in entries if entry[1].key[0] == name)


def chosen(
    board: Board,
    *,
    now: float = 0.0,
    u: float = 0.0,
    need: Need = NOTHING,
    tried: str = "",
    failed: FailureClass | None = None,
    patience: float = 600.0,
) -> Choice:
    """The choice, with ``tried`` as letters."""
    before = [candidate_of(board, name) for name in tried]
    return choose(board, need, before, failed, u=u, now=now, patience=patience)


def name_of(choice: Choice) -> str:
    return "" if choice.candidate is None else choice.candidate.attempt.provider


def shares(board: Board, *, now: float = 0.0, many: int = 2000, need: Need = NOTHING) -> dict[str, float]:
    """The share of requests that each gets."""
    found = Counter(name_of(chosen(board, now=now, u=(n + 0.5) / many, need=need)) for n in range(many))
    return {name: count / many for name, count in found.items()}


def fail(
    board: Board,
    name: str,
    found: FailureClass = FailureClass.SLOW,
    *,
    now: float,
    times: int = 1,
    user: str = "u",
    body: int = 0,
    retry_after: float | None = None,
    sent_at: float | None = None,
) -> list[bool]:
    """An upstream fails so many times; whether each failure is held."""
    sent = now if sent_at is None else sent_at
    failure = Failure(health_of(board, name), found, sent, now, user, body, retry_after)
    return [board.health.failed(failure) for _ in range(times)]


def succeed(
    board: Board, names: Sequence[str], *, now: float, times: int = 1, user: str = "u", slow: bool = False
) -> None:
    for name in names:
        for _ in range(times):
            board.health.succeeded(health_of(board, name), now, now, user, slow=slow)
