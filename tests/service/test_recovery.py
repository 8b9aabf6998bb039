"""A provider that fails for a while, and is well again: what is lost to it, and how soon it has its share back.

The relay's clock is the tests' own, so that minutes pass within a moment; the numbers are those of the acceptance cases.
"""

import itertools
import random
from collections import Counter
from typing import NamedTuple

import pytest

from penstock.core.catalog import Target
from tests.samples import ALL
from tests.service.conversations import FRAMES, REPLIES
from tests.service.running_service import House, User
from tests.service.scripted import Asked
from tests.service.test_routing import add_model, both, equals, health_of, relay_of

_TICK = 1e-4


class Served(NamedTuple):
    """A request: when it was made, who answered, and after how many attempts."""

    at: float
    place: str
    attempts: int


class Traffic:
    """Requests of several users at a steady rate, on a clock that only they move."""

    def __init__(self, house: House, dialect: str, model: str, users: list[User], *, seed: int) -> None:
        self.house = house
        self.dialect = dialect
        self.model = model
        self.users = users
        self.now = relay_of(house).clock()
        self.number = 0
        self.asked: list[tuple[float, str]] = []
        self.failing = 0.0
        """The share of its requests that the wire fails."""
        self._draw = random.Random(seed)
        relay = relay_of(house)
        relay.clock = self._tick
        relay.router._draw = self._draw.random
        health_of(house)._draw = self._draw.random
        for place in ("wire", "spare"):
            house.wires[f"{place}-{dialect}"].script = lambda asked, place=place: self._answer(asked, place)

    def _tick(self) -> float:
        self.now += _TICK
        return self.now

    def _answer(self, asked: Asked, place: str) -> None:
        self.asked.append((self.now, place))
        if place == "wire" and self._draw.random() < self.failing:
            asked.answer(b"{}", 500)
        elif asked.json.get("stream"):
            asked.stream(*FRAMES[self.dialect])
        else:
            asked.answer(REPLIES[self.dialect])

    async def run(self, seconds: float, rate: float) -> list[Served]:
        """So many seconds of so many requests each; all of them are answered."""
        served: list[Served] = []
        for _ in range(round(seconds * rate)):
            self.number += 1
            user = self.users[self.number % len(self.users)]
            at = self.now
            answer = await self.house.ask(
                self.dialect,
                self.model,
                user,
                stream=self.number % 2 == 0,
                messages=[{"role": "user", "content": f"Hello {self.number}"}],
            )
            assert (answer.status, answer.whole) == (200, True)
            served.append(Served(at, self.asked[-1][1], int(answer.headers["x-penstock-attempts"])))
            self.now = max(self.now, at + 1 / rate)
        return served


@both
async def test_case_12_three_in_ten_of_one_providers_requests_fail(house: House, dialect: str) -> None:
    model = await equals(house, dialect, sticky=False)
    traffic = Traffic(house, dialect, model, [await house.user() for _ in range(6)], seed=12)
    traffic.failing = 0.3
    served = await traffic.run(60.0, 10_000 / 60.0 if ALL else 5.0)
    assert sum(each.attempts for each in served) <= 1.08 * len(served)
    late = [each for each in served if each.at > served[0].at + 30.0]
    share = Counter(place for at, place in traffic.asked if at > late[0].at)["wire"] / len(late)
    assert 0.0 < share < 0.25, "it keeps a trickle"
    traffic.failing = 0.0
    await traffic.run(35.0, 4.0)
    again = await traffic.run(10.0, 10.0)
    assert sum(each.place == "wire" for each in again) > len(again) / 4, "and then it is one of two again"


@both
async def test_case_13_and_14_a_provider_that_is_first_fails_all_and_comes_back(
    house: House, dialect: str
) -> None:
    wire = Target(f"wire-{dialect}", f"up-{dialect}")
    await add_model(house, "first", wire, Target(f"spare-{dialect}", f"up-{dialect}", priority=1))
    traffic = Traffic(house, dialect, "first", [await house.user() for _ in range(6)], seed=13)
    traffic.failing = 1.0
    served = await traffic.run(50.0, 4.0)
    tried = [at for at, place in traffic.asked if place == "wire"]
    assert sum(each.attempts > 1 for each in served if each.at < served[0].at + 30.0) <= 10
    opened = tried[4]
    # five in a row, and then one probe after each rest: 5, 10, 20 s, a fifth more or less
    probes = [later - earlier for earlier, later in itertools.pairwise(tried[4:])]
    assert len(probes) >= 2
    for number, rest in enumerate(probes):
        assert rest == pytest.approx(5.0 * 2**number, rel=0.2, abs=0.6)
    assert opened - tried[0] < 5.0

    traffic.failing = 0.0
    ended, rest = traffic.now, 5.0 * 2 ** len(probes)
    served = await traffic.run(rest * 1.2 + 6.0, 4.0)
    first = next(each.at for each in served if each.place == "wire")
    assert first - ended <= 1.2 * rest + 0.6
    full = [each.place for each in served if each.at > first + 5.0]
    assert full
    assert set(full) == {"wire"}, "all of it, five seconds after the first good answer"
