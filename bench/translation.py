"""What the translation of a request costs in this process, with and without the memory of earlier ones.

Processor time of ``prepare`` alone, the least of many runs: a question of 1.5 KB, and a request of about 107 KB with 30 tools
and 60 turns, of which the memory has seen nothing (*first*) or all but the last two turns (*next*).

``python -m bench.translation``
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.bodies import Dialect, body
from penstock.core.body.envelope import Envelope, read_body, scan_body
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side
from penstock.core.dialects.translation_memory import TranslationMemory, TranslationScope
from penstock.core.profile import DEFAULT_PROFILE

LANES: tuple[tuple[Dialect, str], ...] = (
    ("chat", "messages"),
    ("messages", "chat"),
    ("responses", "messages"),
    ("responses", "chat"),
    ("chat", "responses"),
    ("messages", "responses"),
)
TURNS, TOOLS = 61, 30
"""The last turn is the user's."""
_SIZE = 108_000
_MOST = 32 << 20


def agents(dialect: Dialect, turns: int) -> bytes:
    """A long request with so many of its turns, and 30 tools; all turns together make it 107 KB long."""
    request: dict[str, Any] = json.loads(body(dialect, "large", "m", stream=True))
    field = caller_side(dialect).body.turns
    request["tools"] = [
        json.loads(json.dumps(request["tools"][0]).replace("tool_0", f"tool_{at}")) for at in range(TOOLS)
    ]
    rows = request[field][: TURNS - 1]
    # the last row is an answer to go on from; the question of the user makes up the size
    question = {"role": "user", "content": ""}
    lacking = _SIZE - len(_written({**request, field: [*rows, question]}))
    rows.insert(1, {"role": "user", "content": "What was said before. " * (max(lacking, 0) // 22)})
    request[field] = [*rows[: turns - 1], {**question, "content": "Go on."}]
    return _written(request)


def _written(request: dict[str, Any]) -> bytes:
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()


def envelope(dialect: Dialect, sent: bytes) -> Envelope:
    """A body as the API has read it."""
    rules = caller_side(dialect).body
    return scan_body(sent, rules, rules.scan) or read_body(sent, rules)


def least(work: Callable[[], object], count: int, before: Callable[[], object] = lambda: None) -> float:
    """Microseconds of the quickest of ``count`` runs; ``before`` is not counted."""
    best = float("inf")
    for _ in range(count):
        before()
        began = time.thread_time_ns()
        work()
        best = min(best, time.thread_time_ns() - began)
    return best / 1000


class Crossing:
    """A request on its way in one direction, and what is remembered of those before it."""

    def __init__(self, caller: Dialect, upstream: str) -> None:
        self.caller, self.upstream = caller, upstream
        self.small = envelope(caller, body(caller, "small", "m", stream=True))
        self.long, self.before = (envelope(caller, agents(caller, turns)) for turns in (TURNS, TURNS - 2))
        self.memory: TranslationScope | None = None

    def cross(self, sent: Envelope) -> None:
        """What is measured."""
        prepare(
            sent,
            caller=self.caller,
            upstream=self.upstream,
            model="upstream-model",
            profile=DEFAULT_PROFILE,
            memory=self.memory,
        )

    def forget(self) -> None:
        """Begin with an empty memory."""
        self.memory = TranslationScope(TranslationMemory(_MOST), "usr_1", "key_1")

    def see(self) -> None:
        """Begin with a memory that has seen the request before this one."""
        self.forget()
        self.cross(self.before)


def main() -> None:
    """Print a row for each direction and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="runs of each")
    count: int = parser.parse_args().count
    print("| | body | without | first | next |\n|---|---|---|---|---|")
    for caller, upstream in LANES:
        crossing = Crossing(caller, upstream)
        for sent in (crossing.small, crossing.long):
            work = partial(crossing.cross, sent)
            crossing.memory = None
            figures = [least(work, count)]
            crossing.forget()
            if sent is crossing.small:  # it is not looked for
                figures += [least(work, count)] * 2
            else:
                figures += [least(work, count, crossing.forget), least(work, count, crossing.see)]
            told = " | ".join(f"{each:.1f}" for each in figures)
            print(f"| {caller} to {upstream} | {len(sent.body) / 1000:.1f} KB | {told} |", flush=True)


if __name__ == "__main__":
    main()
