"""Hints over Redis: what one process has met another hears with its next round, until it ends or is taken back."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import NoReturn

import msgspec
import pytest

from penstock.core.catalog import Model, Target
from penstock.core.failure_classes.classes import FailureClass
from penstock.core.routing.health import UpstreamHealth
from penstock.operations.shared_hints import SharedHints
from penstock.store.redis.hints import RedisHints
from penstock.store.redis.link import RedisLink
from tests.core.routing.boards import board_of, fail, health_of
from tests.redis import RedisServer, order, own_server, redis_server

NOW = 1000.0
MODEL = "up/one:two|three"
TARGETS = (Target("a", MODEL), Target("b", "up"), Target("behind", "a caller's word"))


class Process:
    """One that knows some upstreams, with clocks that stand; its monotonic one began ``began`` seconds ago."""

    def __init__(self, url: str, prefix: str, began: float, targets: tuple[Target, ...] = TARGETS) -> None:
        self.link = RedisLink(url, timeout=5.0, scripts=(), pause=0)
        self.board = board_of(*targets)
        self.clock = began
        self.now = NOW
        self.store = RedisHints(self.link, prefix=prefix, node=secrets.token_hex(4))
        models = {"m": Model(id="m", name="M", targets=TARGETS[:2])}
        self.hints = SharedHints(
            self.store,
            self.board.health,
            lambda: models,
            lambda: self.clock,
            lambda: self.now,
        )

    def __getitem__(self, name: str) -> UpstreamHealth:
        return health_of(self.board, name)

    def fail(self, name: str, found: FailureClass, after: float = 30.0) -> None:
        fail(self.board, name, found, now=self.clock, retry_after=after)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.now += seconds


@asynccontextmanager
async def processes(
    *began: float, url: str = "", prefix: str = ""
) -> AsyncGenerator[tuple[list[Process], str]]:
    url, prefix = url or redis_server().url, prefix or f"test:{secrets.token_hex(8)}:"
    made = [Process(url, prefix, at) for at in began]
    yield made, prefix
    for each in made:
        await each.link.close()


async def kept(process: Process, prefix: str) -> dict[str, bytes]:
    """All that lies there."""
    keys = await process.link.submit("KEYS", f"{prefix}*")
    assert isinstance(keys, list)
    found: dict[str, bytes] = {}
    for key in sorted(keys):
        value = await process.link.submit("GET", key)
        assert isinstance(value, bytes)
        found[key.decode().removeprefix(prefix)] = value
    return found


async def test_one_process_meets_it_and_the_other_leaves_it_out_until_it_is_taken_back() -> None:
    async with processes(50.0, 7000.0) as ((one, other), prefix):
        one.fail("a", FailureClass.OVERLOAD)
        one.fail("b", FailureClass.QUOTA)
        await one.hints.round()
        told = await kept(one, prefix)
        assert list(told) == ["{hints}:credential|b|", "{hints}:target|a|up/one:two%7Cthree"]
        assert msgspec.json.decode(told["{hints}:credential|b|"]) == {
            "by": one.store.node,
            "opened": True,
            "until": 1_060_000,
            "cause": "quota",
        }
        await other.hints.round()
        assert (other["a"].until, other["a"].suspect) == (7030.0, False)
        assert (other["b"].until, other["b"].suspect, other["b"].off) == (7060.0, True, False)
        assert other["b"].last_class is FailureClass.QUOTA
        assert await kept(one, prefix) == told, "nobody tells on what was heard"
        one.board.health.reset(lambda _: True, 51.0)
        await one.hints.round()
        assert await kept(one, prefix) == {}
        await other.hints.round()
        assert other.board.health.abnormal == 0


async def test_a_hint_ends_with_what_it_tells_and_then_it_is_probed() -> None:
    async with processes(50.0, 7000.0) as ((one, other), prefix):
        one.fail("b", FailureClass.QUOTA)
        await one.hints.round()
        assert 0 < await _left(one, f"{prefix}{{hints}}:credential|b|") <= 60_000
        await other.hints.round()
        await one.link.submit("DEL", f"{prefix}{{hints}}:credential|b|")  # as Redis does then
        other.wait(61.0)
        await other.hints.round()
        assert other["b"].suspect


async def _left(process: Process, key: str) -> int:
    reply = await process.link.submit("PTTL", key)
    assert isinstance(reply, int)
    return reply


async def test_of_two_that_have_met_it_the_longer_one_is_told_and_each_takes_back_its_own() -> None:
    async with processes(50.0, 7000.0, 9.0) as ((one, other, third), prefix):
        one.fail("a", FailureClass.OVERLOAD, 10.0)
        other.fail("a", FailureClass.OVERLOAD, 20.0)
        for each in (one, other, one, third):
            await each.hints.round()
        (told,) = (await kept(one, prefix)).values()
        assert msgspec.json.decode(told)["by"] == other.store.node
        assert third["a"].until == 29.0
        one.board.health.reset(lambda _: True, 51.0)
        await one.hints.round()
        assert await kept(one, prefix), "it was not its own"
        other.board.health.reset(lambda _: True, 7001.0)
        for each in (other, third):
            await each.hints.round()
        assert third["a"].normal


async def test_a_shorter_word_takes_the_place_of_ones_own_and_what_is_suspect_stays() -> None:
    async with processes(50.0) as ((one,), prefix):
        one.fail("b", FailureClass.QUOTA)
        await one.hints.round()
        one.board.health.sent(one["b"], 111.0)
        one.clock = 111.0
        await one.hints.round()
        assert await kept(one, prefix), "a probe is on its way"
        one.board.health.reset(lambda _: True, 50.0)
        one.clock = 50.0
        one.fail("b", FailureClass.RATE, 4000.0)
        await one.hints.round()
        one.board.health.reset(lambda _: True, 50.0)
        one.fail("b", FailureClass.QUOTA)
        await one.hints.round()
        (told,) = (await kept(one, prefix)).values()
        assert msgspec.json.decode(told)["until"] == 1_060_000


async def test_names_that_callers_choose_are_not_told() -> None:
    async with processes(50.0) as ((one,), prefix):
        one.fail("behind", FailureClass.OVERLOAD)
        await one.hints.round()
        assert one["behind"].until > 0.0
        assert await kept(one, prefix) == {}


@pytest.mark.parametrize(
    "value",
    ["gibberish", "[]", '{"by":"x","opened":true,"until":1060000,"cause":"of-another-version"}', '{"by":1}'],
)
async def test_what_cannot_be_read_is_passed_over(value: str) -> None:
    async with processes(50.0) as ((one,), prefix):
        await one.link.submit("SET", f"{prefix}{{hints}}:credential|b|", value, "PX", 60_000)
        await one.hints.round()
        assert one["b"].normal


async def test_who_knows_no_upstream_yet_asks_nothing() -> None:
    async with processes(50.0) as ((one,), prefix):
        one.fail("b", FailureClass.QUOTA)
        await one.hints.round()
        new = Process(redis_server().url, prefix, 5.0, targets=())
        await new.hints.round()
        assert new.link._connection is None
        await new.link.close()


async def test_without_a_store_nothing_is_done() -> None:
    board = board_of(*TARGETS)
    fail(board, "b", FailureClass.QUOTA, now=0.0)

    def nobody() -> NoReturn:
        raise AssertionError

    await SharedHints(None, board.health, nobody, nobody, nobody).round()


# ---- while Redis is away


@pytest.fixture
def server() -> Generator[RedisServer]:
    made = own_server()
    yield made
    made.stop()


async def test_while_redis_is_away_each_goes_on_with_what_it_knows_and_says_nothing(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with processes(50.0, 7000.0, url=server.url) as ((one, other), prefix):
        one.fail("a", FailureClass.OVERLOAD)
        for each in (one, other):
            await each.hints.round()
        server.stop()
        one.fail("b", FailureClass.QUOTA)
        with caplog.at_level(logging.DEBUG, "penstock"):
            for each in (one, other) * 3:
                await each.hints.round()
        assert caplog.records == []
        assert other["a"].until == 7030.0, "what was heard holds as long as it was to"
        assert other["b"].normal
        server.start()
        async with asyncio.timeout(30):
            while other["b"].normal:
                for each in (one, other):
                    await each.hints.round()
        assert len(await kept(one, prefix)) == 2
        await order(server.url, "FLUSHALL")
        for each in (other, one, other):
            await each.hints.round()
        assert len(await kept(one, prefix)) == 2, "who has met it tells it again"
        assert other["b"].suspect
