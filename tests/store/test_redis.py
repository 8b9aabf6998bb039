"""Limits that several servers share: exact between them, right after Redis was emptied, and bounded while it is away."""

import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import insert

from penstock.errors import Unavailable
from penstock.store.redis.counters import RedisCounters
from penstock.store.redis.link import RedisAway, RedisLink
from penstock.store.redis.scripts import SCRIPTS
from penstock.store.sql.database import Database
from penstock.store.sql.schema import usage_days
from tests.asking import DAY, counted, slot
from tests.redis import RedisServer, order, own_server, redis_counters, redis_server
from tests.stores import Engine

ROOT = Path(__file__).parents[2]
RACES = int(os.environ.get("PENSTOCK_TEST_RACES", "50"))
"""How often two processes race; ``make chaos`` has them do it a thousand times."""

log = logging.getLogger(__name__)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await Engine("sqlite", f"sqlite:///{tmp_path}/penstock.db").open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def server() -> Generator[RedisServer]:
    """A server that the test may stop."""
    made = own_server()
    yield made
    made.stop()


async def several(
    stack: AsyncExitStack,
    database: Database,
    number: int,
    *,
    url: str = "",
    prefix: str = "",
    patience: float = 5.0,
    lease: float = 15.0,
) -> list[RedisCounters]:
    """The counters of as many servers."""
    url, prefix = (
        url or redis_server().url,
        prefix or f"test:{secrets.token_hex(8)}:",
    )
    making = [
        redis_counters(url, database, lambda: 1000.0, prefix=prefix, patience=patience, lease=lease)
        for _ in range(number)
    ]
    return [await stack.enter_async_context(one) for one in making]


async def test_slots_are_exact_over_servers(database: Database) -> None:
    async with AsyncExitStack() as stack:
        servers = await several(stack, database, 4)
        for number in range(50):
            tries = [
                slot(one, "u", 10, f"r{number}-{at}-{n}") for at, one in enumerate(servers) for n in range(8)
            ]
            held = [lease for lease in await asyncio.gather(*tries) if lease is not None]
            assert len(held) == 10
            await servers[0].refresh("u", DAY)
            assert servers[0].in_use("u") == 10
            assert len({info.request_id for info in servers[0].leases("u")}) == 10
            for lease in held:
                lease.release()


async def test_the_last_requests_of_a_day_are_exact_over_servers(database: Database) -> None:
    async with AsyncExitStack() as stack:
        servers = await several(stack, database, 4)
        numbers = await asyncio.gather(*(counted(one, "u", DAY, 100) for one in servers for _ in range(64)))
        assert sorted(number for number in numbers if number is not None) == list(range(1, 101))
        servers[3].refund("u", DAY)
        await servers[3].refresh("u", DAY)
        assert sorted(await asyncio.gather(*(counted(one, "u", DAY, 100) for one in servers)), key=str) == [
            100,
            None,
            None,
            None,
        ]


async def test_a_slot_of_a_server_that_died_ends_by_itself(database: Database) -> None:
    async with AsyncExitStack() as stack:
        dead, alive = await several(stack, database, 2, lease=0.2)
        lease = await slot(dead, "u", 1, "r1")
        assert lease is not None
        assert await slot(alive, "u", 1, "r2") is None
        async with asyncio.timeout(5):
            while (other := await slot(alive, "u", 1, "r2")) is None:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.02)
        assert other is not None


async def test_a_slot_lasts_as_long_as_its_holder_says_that_it_lives(database: Database) -> None:
    async with AsyncExitStack() as stack:
        one, other = await several(stack, database, 2, lease=0.4)
        lease = await slot(one, "u", 1, "r1")
        for _ in range(6):
            await asyncio.sleep(0.1)
            await one.beat()
            assert await slot(other, "u", 1, "r2") is None
        assert lease is not None
        lease.release()
        assert await slot(one, "u", 1, "r3") is not None


async def test_a_redis_that_was_emptied_grants_no_day_twice_and_learns_the_slots_again(
    database: Database, server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        one, other = await several(stack, database, 2, url=server.url)
        lease = await slot(one, "u", 2, "r1")
        for _ in range(7):
            await counted(one, "u", DAY, 10)
        async with database.transaction() as conn:
            await conn.execute(insert(usage_days).values(user_id="u", day=DAY, used=7, refunded=0))
        await order(server.url, "FLUSHALL", "SCRIPT FLUSH")
        await one.beat()
        assert await counted(other, "u", DAY, 10) == 8
        second = await slot(other, "u", 2, "r2")
        assert await slot(other, "u", 2, "r3") is None, "the slot from before is known again"
        assert None not in (lease, second)


async def test_while_redis_is_away_each_server_has_its_share_and_then_503(
    database: Database, server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        one, other = await several(stack, database, 2, url=server.url, patience=0.5)
        assert await counted(one, "u", DAY, 1000) == 1
        for counters in (one, other, one):
            await counters.beat()
        server.stop()
        held = [await slot(one, "u", 10, f"r{number}") for number in range(8)]
        assert sum(lease is not None for lease in held) == 5, "half of ten, because there are two servers"
        assert one.trouble is not None
        used = [await counted(one, "u", DAY, 1000) for _ in range(10)]
        assert used == list(range(2, 12)), "a hundredth of the day"
        with pytest.raises(Unavailable):
            await counted(one, "u", DAY, 1000)
        with pytest.raises(Unavailable):
            await counted(other, "stranger", DAY, 1000)
        async with database.transaction() as conn:
            await conn.execute(insert(usage_days).values(user_id="u", day=DAY, used=11, refunded=0))
        server.start()
        await one.beat()
        assert await counted(other, "u", DAY, 1000) == 12
        assert await slot(other, "u", 10, "s1") is not None
        assert sum(info.request_id.startswith("r") for info in other.leases("u")) in {0, 5}
        assert one.trouble is None


async def test_what_was_counted_alone_is_told_when_redis_is_back_with_its_memory(
    database: Database, server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        (one,) = await several(stack, database, 1, url=server.url, patience=0.3)
        assert await counted(one, "u", DAY, 1000) == 1
        sleeping = asyncio.ensure_future(order(server.url, "DEBUG SLEEP 1.5"))
        await asyncio.sleep(0.05)
        assert [await counted(one, "u", DAY, 1000) for _ in range(3)] == [2, 3, 4]
        await sleeping
        async with asyncio.timeout(60):
            while one.trouble is not None:
                await one.beat()
        # The command that was under way when Redis fell asleep was carried out as well, as Redis alone knows.
        await one.refresh("u", DAY)
        assert 4 <= one.used("u", DAY) <= 7
        async with database.transaction() as conn:
            await conn.execute(insert(usage_days).values(user_id="u", day=DAY, used=4, refunded=0))
        await one.put_right()
        await one.refresh("u", DAY)
        assert one.used("u", DAY) == 4


async def test_a_slot_that_could_not_be_given_back_is_given_back_when_redis_answers(
    database: Database, server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        one, other = await several(stack, database, 2, url=server.url, patience=0.2)
        held = [await slot(one, "u", 2, f"r{number}") for number in range(2)]
        assert await slot(other, "u", 2, "s0") is None
        server.signal(signal.SIGSTOP)
        for lease in held:
            assert lease is not None
            lease.release()
        alone = await slot(one, "u", 1, "r3")
        assert alone is not None
        alone.release()
        server.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while one.trouble is not None:
                await one.beat()
        await one.refresh("u", DAY)  # after what was sent before it
        lease = await slot(other, "u", 1, "s1")
        assert lease is not None
        lease.release()


async def test_a_redis_that_hangs_is_not_waited_for_by_every_request(
    database: Database, server: RedisServer
) -> None:
    link = RedisLink(server.url, timeout=0.2, scripts=SCRIPTS, pause=60)
    assert await link.submit("PING")
    server.signal(signal.SIGSTOP)
    with pytest.raises(RedisAway) as first:
        await link.submit("PING")
    next_one = link.submit("PING")
    assert next_one.done()
    with pytest.raises(RedisAway) as second:
        await next_one
    assert (first.value.sent, second.value.sent) == (True, False)
    server.signal(signal.SIGCONT)
    await link.close()


async def test_who_leaves_while_asking_leaves_nothing(database: Database) -> None:
    async with AsyncExitStack() as stack:
        one, other = await several(stack, database, 2)
        for number in range(60):
            asking = asyncio.ensure_future(one.lease("u", 1, f"r{number}", DAY, 100))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            if not asking.cancelled() and (lease := asking.result()) is not None:
                lease.release()
        async with asyncio.timeout(5):
            while (lease := await slot(other, "u", 1, "last")) is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        lease.release()
        assert await counted(other, "u", DAY, 100) == 1


RACER = """
import asyncio, sys
from pathlib import Path
from tests.asking import DAY, counted, slot
from tests.redis import redis_counters
from tests.stores import Engine

async def main(url, prefix, directory, name, rounds):
    database = await Engine("sqlite", f"sqlite:///{directory}/penstock.db").open(Path(directory))
    async with redis_counters(url, database, lambda: 0.0, prefix=prefix) as counters:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        kept, last = [], 0
        for round in range(int(rounds)):
            leases = await asyncio.gather(*(slot(counters, f"u{round}", 3, f"{name}-{round}-{n}") for n in range(4)))
            kept += [lease for lease in leases if lease is not None]
            used = await asyncio.gather(*(counted(counters, f"v{round}", 20000, 5) for _ in range(4)))
            last += sum(number is not None for number in used)
        print(len(kept), last, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_race_and_are_never_one_over(database: Database, tmp_path: Path) -> None:
    prefix = f"test:{secrets.token_hex(8)}:"
    command = [sys.executable, "-c", RACER, redis_server().url, prefix, str(tmp_path)]
    racers = [
        await asyncio.create_subprocess_exec(
            *command,
            name,
            str(RACES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": "/usr/bin:/bin"},
        )
        for name in ("one", "two")
    ]
    results = []
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"go\n")
    for racer in racers:
        assert racer.stdout is not None
        results.append([int(number) for number in (await racer.stdout.readline()).split()])
    for racer in racers:
        await racer.communicate(b"end\n")
    granted, last = (sum(numbers) for numbers in zip(*results, strict=True))
    assert (granted, last) == (RACES * 3, RACES * 5)
    log.info("two processes: %d races for the last slot and for the last request of a day, none over", RACES)


async def test_a_heartbeat_that_fails_is_followed_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours in one round must not end the renewals: slots would be taken from requests that run."""
    beats = 0
    third = asyncio.Event()

    async def put_right(_: RedisCounters) -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            third.set()
        raise ValueError

    monkeypatch.setattr(RedisCounters, "put_right", put_right)
    monkeypatch.setattr("penstock.store.redis.counters.HEARTBEATS_PER_LEASE", 300)
    async with redis_counters(redis_server().url, database, lambda: 1000.0, lease=3) as counters:
        keeping = asyncio.create_task(counters.keep())
        await third.wait()
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
    assert "a round of the counters failed" in caplog.text
