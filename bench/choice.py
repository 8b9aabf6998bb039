"""What one choice of an upstream costs, by how many there are and how well they are.

``python -m bench.choice`` prints microseconds for each choice: the least of the rounds, because everything else that the
machine does can only add to it.
"""

import argparse
import timeit
from itertools import cycle

from penstock.core.catalog import Model, Target, Upstream
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.affinity import Affinity, mark_of
from penstock.core.routing.board import Board
from penstock.core.routing.candidates import Upstreams
from penstock.core.routing.choice import NOTHING, choose
from penstock.core.routing.health import Failure, Health

BUDGETS = {8: 5.0, 50: 8.0}
"""Microseconds that a choice among so many may take."""
_ROUNDS, _EACH = 15, 2000


def board(many: int, *, tiers: int = 1) -> Board:
    """So many targets of one model, each at a provider of its own."""
    names = [f"p{number}" for number in range(many)]
    upstreams = Upstreams(Upstream(name, "custom", (("chat", f"https://{name}/v1"),)) for name in names)
    targets = tuple(Target(name, "up", priority=number % tiers) for number, name in enumerate(names))
    return Board(upstreams.group(Model("m", "M", targets=targets), "chat", ("chat",)), Health())


def trouble(many: int) -> Board:
    """The same with one that is out, one that is slow and one that is degraded."""
    made = board(many)
    entries = made.tiers[0][1]
    for number, found in ((0, FailureClass.SLOW), (1, FailureClass.OVERLOAD)):
        for _ in range(5):
            made.health.failed(Failure(entries[number][1], found, 0.0, 0.0, str(number)))
    made.health.timed(entries[-1][1], 8.0, 0.0)
    return made


def microseconds(made: Board, now: float = 1.0, *, sticky: bool = False) -> float:
    """One choice on this board; ``sticky``: of a conversation."""
    draws = cycle([(number + 0.5) / 997 for number in range(997)])
    wishes = cycle([Affinity(mark_of(str(number)), 0) if sticky else None for number in range(997)])

    def one() -> None:
        choose(made, NOTHING, (), None, u=next(draws), now=now, patience=600.0, wish=next(wishes))

    return min(timeit.repeat(one, number=_EACH, repeat=_ROUNDS)) / _EACH * 1e6


def main() -> int:
    """Print the table; 1 where a budget is exceeded."""
    argparse.ArgumentParser(prog="python -m bench.choice", description=__doc__).parse_args()
    over = False
    print("| targets | all well, us | some out or slow, us | after a failure, us | of a conversation, us |")
    print("|---|---|---|---|---|")
    for many in (1, 2, 4, 8, 50, 200):
        well = microseconds(board(many))
        bad = microseconds(trouble(many)) if many > 2 else 0.0
        after = after_failure(many) if many > 1 else 0.0
        kept = microseconds(board(many), sticky=True) if many > 1 else 0.0
        over = over or max(well, bad, kept) > BUDGETS.get(many, 1e9)
        print(f"| {many} | {well:.2f} | {bad:.2f} | {after:.2f} | {kept:.2f} |")
    return int(over)


def after_failure(many: int) -> float:
    """The choice after one has failed."""
    made = board(many)
    tried = (made.tiers[0][1][0][0],)
    draws = cycle([(number + 0.5) / 997 for number in range(997)])

    def one() -> None:
        choose(made, NOTHING, tried, FailureClass.BROKEN, u=next(draws), now=1.0, patience=600.0)

    return min(timeit.repeat(one, number=_EACH // 4, repeat=_ROUNDS)) / (_EACH // 4) * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
