"""Who answers at Redis's port lies, says too much, or goes in the middle: no request hangs, and all is well again by itself."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.operations.health import Health
from penstock.store.redis.answers import MOST_AHEAD, MOST_BYTES, AnswerReader, StrangeAnswer
from penstock.store.redis.counters import RedisCounters
from penstock.store.redis.link import RedisAway, RedisLink, RedisScript
from penstock.store.redis.scripts import SCRIPTS
from penstock.store.sql.database import Database
from tests.asking import slot
from tests.lying_redis import LyingRedis, is_load, lying_redis, truthful
from tests.redis import redis_counters
from tests.stores import Engine

PATIENCE = 30
"""Seconds after which a test says that something hangs."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Engine("sqlite", f"sqlite:///{tmp_path}/penstock.db").open(tmp_path)
    yield opened
    await opened.close()


@asynccontextmanager
async def counting(database: Database) -> AsyncGenerator[tuple[LyingRedis, RedisCounters]]:
    async with (
        asyncio.timeout(PATIENCE),
        lying_redis() as liar,
        redis_counters(liar.url, database, lambda: 1000.0, patience=0.5) as counters,
    ):
        yield liar, counters


async def served(counters: RedisCounters) -> None:
    """A request that gets its slot, and ends."""
    lease = await slot(counters, "u", 1, "r")
    assert lease is not None
    lease.release()


# ---- greetings


def _twice(command: list[bytes]) -> bytes | None:
    if not is_load(command):
        return None
    return b"$3\r\nabc\r\n"


def _one_too_many(last: bytes) -> Callable[[list[bytes]], bytes | None]:
    """A greeting with a reply more than commands, in one piece with the last."""
    digest = SCRIPTS[-1].digest.encode()

    def said(command: list[bytes]) -> bytes | None:
        if is_load(command) and command[2] == SCRIPTS[-1].text.encode():
            return b"$40\r\n%b\r\n" % digest + last
        return None

    return said


def _refuses(command: list[bytes]) -> bytes | None:
    return b"-LOADING Redis is loading the dataset in memory\r\n" if is_load(command) else None


@pytest.mark.parametrize(
    "said",
    [
        _one_too_many(b"+OK\r\n"),
        _one_too_many(b":1\r\n" * 50),
        _one_too_many(b"-ERR max number of clients reached\r\n"),
        _one_too_many(b"*1\r\n*2147483648\r\n"),
        _one_too_many(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        _twice,
        _refuses,
        lambda command: b"*3\r\n:1\r\n:1\r\n:1\r\n" if is_load(command) else None,
        lambda command: b"-NOSCRIPT No matching script.\r\n" if is_load(command) else None,
        lambda command: b"*2147483648\r\n" if is_load(command) else None,
    ],
    ids=[
        "one too many",
        "fifty too many",
        "an error too many",
        "an array too many",
        "a web server",
        "another digest",
        "still loading",
        "wrong type",
        "no script",
        "an endless array",
    ],
)
async def test_a_greeting_that_is_none_is_redis_away_and_the_next_one_is_tried(
    database: Database, said: Callable[[list[bytes]], bytes | None]
) -> None:
    async with counting(database) as (liar, counters):
        health = Health({"redis": lambda: counters.trouble}, owed=lambda: 0)
        liar.said = said
        held = [await slot(counters, "u", 2, f"r{number}") for number in range(3)]
        granted = [lease for lease in held if lease is not None]
        assert len(granted) == 2, "its share, and not one more"
        for lease in granted:
            lease.release()
        assert [(part.works, part.failures) for part in health.look()] == [(False, 1)]
        liar.said = truthful
        await counters.beat()
        assert [(part.works, part.failures) for part in health.look()] == [(True, 1)]
        await served(counters)
        assert counters.trouble is None


async def test_what_is_said_before_anything_was_asked_is_told(database: Database) -> None:
    async with counting(database) as (liar, counters):
        liar.welcome = b"-DENIED Redis is running in protected mode\r\n"
        liar.said = lambda _: b""
        await served(counters)
        assert counters.trouble is not None
        assert "DENIED" in counters.trouble


async def test_a_connection_that_ends_in_its_greeting_fails_those_who_wait_and_no_one_later(
    database: Database,
) -> None:
    async with counting(database) as (liar, counters):

        def dies(command: list[bytes]) -> bytes | None:
            if is_load(command) and command[2] == SCRIPTS[-1].text.encode():
                asyncio.get_running_loop().call_soon(liar.hang_up)
            return None

        liar.said = dies
        for _ in range(10):
            await served(counters)
        liar.said = truthful
        await counters.beat()
        assert counters.trouble is None


@pytest.mark.parametrize("host", ["x" * 64 + ".example.com", "a..example.com"])
async def test_an_address_that_cannot_be_looked_up_hangs_nobody(host: str) -> None:
    async with asyncio.timeout(PATIENCE):
        link = RedisLink(f"redis://{host}:1/0", timeout=0.5, scripts=(), pause=0)
        for _ in range(2):
            with pytest.raises(RedisAway) as caught:
                await link.submit("PING")
            assert not caught.value.sent
        await link.close()


# ---- later


async def test_a_reply_that_nobody_asked_for_ends_the_connection_and_is_a_failure(database: Database) -> None:
    async with counting(database) as (liar, counters):
        await served(counters)
        liar.said = lambda command: None if is_load(command) else b"*3\r\n:1\r\n:1\r\n:1\r\n:1\r\n"
        await served(counters)
        assert counters.trouble is not None
        assert "nobody asked" in counters.trouble
        liar.said = truthful
        await counters.beat()
        assert counters.trouble is None


async def test_a_socket_that_is_closing_is_not_written_to(database: Database) -> None:
    async with counting(database) as (liar, counters):
        await served(counters)
        connection = counters._link._connection
        assert connection is not None
        assert connection._transport is not None
        connection._transport.close()  # what the loop does when a write fails, before it tells
        await served(counters)
        assert counters.trouble is None, "it was connected to anew, and nobody noticed"
        assert liar.met == 2


@pytest.mark.parametrize(
    "reply",
    [
        b":-1\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"*2\r\n:0\r\n:5\r\n",
        b"*2\r\n:0\r\n*1\r\n:5\r\n",
        b"*2\r\n:0\r\n*-1\r\n",
        b"*3\r\n:1\r\n:7\r\n:1\r\n",
        b"*3\r\n:1\r\n:1\r\n$1\r\n1\r\n",
        b"*3\r\n:1\r\n:1\r\n:-5\r\n",
        b"*3\r\n:1\r\n:1\r\n-ERR\r\n",
        b"*3\r\n+1\r\n+1\r\n+1\r\n",
        b"%1\r\n:1\r\n:1\r\n",
        b"#t\r\n",
        b"*2147483648\r\n",
        b"*1000000\r\n",
        b"%2147483647\r\n",
        b"$2147483647\r\n",
        b"$536870912\r\nabc",
        b"*99999999999999999999999999\r\n",
        b"*16000\r\n" * 20,
        b"*1\r\n" * (MOST_BYTES // 4),
        b"\x00\xff" * 20,
        b"-NOSCRIPT again\r\n",
    ],
    ids=lambda reply: repr(reply[:24]),
)
async def test_an_answer_that_a_command_cannot_have_is_redis_away(database: Database, reply: bytes) -> None:
    async with counting(database) as (liar, counters):
        liar.said = lambda command: None if is_load(command) else reply
        await served(counters)
        await counters.refresh("u", 20_000)
        await counters.put_right()
        await counters.end_elsewhere("u", "r9")
        await counters.beat()
        assert counters.trouble is not None
        liar.said = truthful
        await counters.beat()
        assert counters.trouble is None


async def test_members_that_no_server_wrote_are_nobodys_requests(database: Database) -> None:
    async with counting(database) as (liar, counters):
        liar.said = lambda command: (
            None if is_load(command) else b"*2\r\n:0\r\n*3\r\n$1\r\nx\r\n$2\r\n\xff|\r\n$7\r\nr|n|1.5\r\n"
        )
        assert await slot(counters, "u", 1, "r1") is None
        assert [info.request_id for info in counters.leases("u")] == ["r"]


@pytest.mark.parametrize("command", ["GET", "EVAL"])
async def test_a_script_that_is_missing_where_none_was_called_hangs_nobody(command: str) -> None:
    async with asyncio.timeout(PATIENCE), lying_redis() as liar:
        script = RedisScript("return 1")
        link = RedisLink(liar.url, timeout=0.5, scripts=(script,), pause=0)
        liar.said = lambda words: None if is_load(words) else b"-NOSCRIPT No matching script.\r\n"
        with pytest.raises(RedisAway, match="NOSCRIPT"):
            await (link.submit("GET", "k") if command == "GET" else link.call(script, ("k",)))
        await link.close()


# ---- the reader


def test_lists_as_long_as_redis_gives_them_are_read_at_any_split() -> None:
    members = b"".join(b"$20\r\nreq_%016d\r\n" % number for number in range(5000))
    said = b"*2\r\n:0\r\n*5000\r\n" + members
    for step in (7, 1000, len(said)):
        reader = AnswerReader()
        found: list[object] = []
        for _ in range(5):
            for at in range(0, len(said), step):
                reader.feed(said[at : at + step])
                found += reader.replies()
        assert len(found) == 5
        assert [len(reply[1]) for reply in found if isinstance(reply, list)] == [5000] * 5


@pytest.mark.parametrize(
    "said",
    [
        b"%1\r\n%0\r\n:1\r\n",
        b"%2\r\n+a\r\n:1\r\n*1\r\n:1\r\n:1\r\n",
        b"*2\r\n:1\r\n%1\r\n~1\r\n:1\r\n:1\r\n",
        b"+OK\r\n>1\r\n%1\r\n*0\r\n_\r\n",
    ],
    ids=["a map", "a list", "a set, inside", "a list, pushed"],
)
def test_a_map_whose_key_is_a_collection_is_a_strange_answer(said: bytes) -> None:
    """Python has no such dictionary; it is the peer that is at fault, and no error of ours."""
    for step in (1, len(said)):
        reader = AnswerReader()
        with pytest.raises(StrangeAnswer):  # noqa: PT012 - at which piece does not matter
            for at in range(0, len(said), step):
                reader.feed(said[at : at + step])
                reader.replies()


@pytest.mark.parametrize(
    "said",
    [
        b"*%d\r\n" % (MOST_AHEAD + 2000),
        b"*1\r\n*1\r\n*%d\r\n" % (MOST_AHEAD * 1000),
        b"*9000\r\n" * 3,
        b"$%d\r\n" % (MOST_BYTES + 1),
        b"$%d\r\n" % MOST_BYTES + b"x" * (MOST_BYTES + 1),
        b"+" + b"x" * (MOST_BYTES + 1),
    ],
    ids=["elements", "nested", "many", "a text", "a text that comes", "a line"],
)
def test_what_is_announced_is_refused_before_room_is_made_for_it(said: bytes) -> None:
    step = 4096 if len(said) > 4096 else 1
    reader = AnswerReader()
    with pytest.raises(StrangeAnswer):  # noqa: PT012 - at which piece does not matter
        for at in range(0, len(said), step):
            reader.feed(said[at : at + step])
            reader.replies()
