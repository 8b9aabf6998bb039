"""What a caller sees of one faulty provider beside a healthy one: faults, errors, attempts, time added.

``python -m bench.route_table`` runs two scripted upstreams and the service in this process, over loopback, with open-loop
arrivals. Clocks before content are shortened by ``--clock`` (1.0: as they are). Every fault begins with nothing known.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from penstock.core.catalog import Target
from tests.service.conversations import FRAMES, REPLIES, Answer
from tests.service.running_service import House, User, open_house
from tests.service.scripted import Asked
from tests.service.test_routing import add_model, relay_of

Answers = Callable[[Asked], None]
_DIALECT = "chat"
_HEALTHY = 0.05
"""Seconds to the first byte of the healthy one."""


def good(asked: Asked) -> None:
    """What a healthy one says."""
    if asked.json.get("stream"):
        asked.stream(*FRAMES[_DIALECT])
    else:
        asked.answer(REPLIES[_DIALECT])


def later(seconds: float, script: Answers) -> Answers:
    """The same, after a while."""

    def wait(asked: Asked) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: None if asked.gone.is_set() else script(asked))

    return wait


def status(number: int, body: bytes = b"{}", **headers: str) -> Answers:
    """An error's status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked: asked.answer(body, number, headers=named)


def sometimes(every: int, script: Answers) -> Answers:
    """Three in ten fail, in a fixed order."""
    seen = [0]

    def one(asked: Asked) -> None:
        seen[0] += 1
        (script if seen[0] * 3 % 10 < every else good)(asked)

    return one


def hang(_asked: Asked) -> None:
    """Nothing, ever."""


def starting(then: Answers) -> Answers:
    """The start-up event, and then something else."""

    def begin(asked: Asked) -> None:
        asked.begin(FRAMES[_DIALECT][0])
        then(asked)

    return begin


_CREDIT = msgspec.json.encode({"error": {"message": "Your credit balance is too low to access the API."}})


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. ``equal``: both have one priority; else the faulty one is first. ``sole``: there is no other."""

    name: str
    script: Answers
    stream: bool
    equal: bool = True
    sole: bool = False


def rows() -> list[Row]:
    """The faults, each for streams and for whole answers where both make sense."""
    found: list[Row] = []
    for stream in (False, True):
        found += [
            Row("500 in 30 %", sometimes(3, status(500)), stream),
            Row("500 in 30 %", sometimes(3, status(500)), stream, equal=False),
            Row("500", status(500), stream, equal=False),
            Row("529", status(529), stream, equal=False),
            Row("429, retry-after 30", status(429, retry_after="30"), stream),
            Row("200 with an error", lambda asked: asked.answer(b'{"error":{"message":"x"}}'), stream),
            Row("web page", lambda asked: asked.answer(b"<html>", kind="text/html"), stream),
            Row("connection closed", lambda asked: asked.cut(), stream),
            Row("hang", hang, stream),
            Row("first byte 20 times as late", later(20 * _HEALTHY, good), stream),
            Row("400, no credit", status(400, _CREDIT), stream),
            Row("401", status(401), stream),
            Row("404", status(404), stream),
            Row("402", status(402), stream),
            Row("500 in 30 %", sometimes(3, status(500)), stream, sole=True),
        ]
    error = b'data: {"error":{"message":"boom","type":"server_error"}}\n\n'
    found += [
        Row("start-up event, then an error", starting(lambda asked: asked.stream_on(error)), stream=True),
        Row("start-up event, then a cut", starting(lambda asked: asked.cut()), stream=True),
        Row("start-up event, then silence", starting(hang), stream=True),
    ]
    return found


async def measured(row: Row, requests: int, rate: float, clock: float) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "upstream_headers": 15 * clock,
            "upstream_first_byte": 60 * clock,
            "upstream_thinking": 60 * clock,
            "upstream_whole": 60 * clock,
            "upstream_again": True,
        }
        async with open_house(Path(folder) / "data", **settings) as house:
            targets = [
                Target("wire-chat", "up-chat"),
                Target("spare-chat", "up-chat", priority=int(not row.equal)),
            ]
            await add_model(house, "faulty", *targets[: 1 if row.sole else 2])
            relay = relay_of(house)
            health = relay.router.health
            health.rules = replace(health.rules, attempt_least=10 * clock, whole_shortest=60 * clock)
            faulty, healthy = house.wires["wire-chat"], house.wires["spare-chat"]
            faulty.script, healthy.script = row.script, later(_HEALTHY, good)
            user = await house.user()
            seconds, answers = await loaded(house, user, row, requests, rate)
        wrong = sum(answer.status != 200 or not answer.whole for answer in answers)
        asked = len(faulty.asked), len(healthy.asked)
        usual = 0.0 if row.sole else _HEALTHY
        ordered = sorted(seconds)
        way = "stream" if row.stream else "whole"
        place = "sole" if row.sole else "equal" if row.equal else "first"
        return (
            f"| {row.name} | {way} | {place} | {wrong} of {len(answers)} | {sum(asked) / len(answers):.3f} | "
            f"{statistics.median(ordered) - usual:+.3f} | {ordered[int(len(ordered) * 0.99)] - usual:+.3f} | "
            f"{asked[0]} |"
        )


async def loaded(
    house: House, user: User, row: Row, requests: int, rate: float
) -> tuple[list[float], list[Answer]]:
    """So many requests, so many in a second, whatever becomes of them."""
    seconds: list[float] = []

    async def one(number: int) -> Answer:
        began = time.monotonic()
        messages = [{"role": "user", "content": f"Hello {number}"}]
        answer = await house.ask(_DIALECT, "faulty", user, stream=row.stream, messages=messages)
        seconds.append(time.monotonic() - began)
        return answer

    tasks: list[asyncio.Task[Answer]] = []
    for number in range(requests):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(1 / rate)
    return seconds, [await task for task in tasks]


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.route_table", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument(
        "--clock", type=float, default=0.05, help="what the clocks before content are multiplied by"
    )
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()
    print("| fault | answers | faulty one | errors | attempts | p50 added, s | p99 added, s | faulty asked |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows():
        if options.only in row.name:
            print(await measured(row, options.requests, options.rate, options.clock), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
