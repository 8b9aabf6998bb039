"""What one choice of an upstream costs, by how many there are and how well they are.

``python -m bench.choice`` prints microseconds of CPU time for each choice: the least of the rounds, because everything else
that the machine does can only add to it. ``--instructions`` counts instructions instead, with valgrind, which no load of
the machine changes.
"""

import argparse
import os
import re
import subprocess
import sys
import time
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
_ROUNDS, _EACH = 40, 1000


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

    return min(timeit.repeat(one, number=_EACH, repeat=_ROUNDS, timer=time.thread_time)) / _EACH * 1e6


def run(kind: str, many: int, times: int) -> None:
    """So many choices on a board of this kind."""
    made = trouble(many) if kind == "trouble" else board(many)
    draws = [(number + 0.5) / 997 for number in range(997)]
    wishes = [Affinity(mark_of(str(number)), 0) if kind == "sticky" else None for number in range(997)]
    for at in range(times):
        choose(made, NOTHING, (), None, u=draws[at % 997], now=1.0, patience=600.0, wish=wishes[at % 997])


def instructions(kind: str, many: int) -> int:
    """Instructions of one choice: what so many more of them add to a run of the interpreter."""
    counts: list[int] = []
    for times in (_EACH, 3 * _EACH):
        made = ["-m", "bench.choice", "--make", kind, str(many), str(times)]
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, *made],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if found is None:
            raise ValueError("valgrind has counted nothing")
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) // (2 * _EACH)


def main() -> int:
    """Print the table; 1 where a budget is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m bench.choice", description=__doc__)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--make", nargs=3, metavar=("KIND", "TARGETS", "TIMES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        kind, many, times = options.make
        run(kind, int(many), int(times))
        return 0
    if options.instructions:
        print("| targets | all well | some out or slow | of a conversation |")
        print("|---|---|---|---|")
        for many in (2, 8, 50):
            counts = [instructions(kind, many) for kind in ("well", "trouble", "sticky")]
            print(f"| {many} | {' | '.join(f'{count:,}' for count in counts)} |", flush=True)
        return 0
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

    return (
        min(timeit.repeat(one, number=_EACH // 4, repeat=_ROUNDS, timer=time.thread_time))
        / (_EACH // 4)
        * 1e6
    )


if __name__ == "__main__":
    raise SystemExit(main())
