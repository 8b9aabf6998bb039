"""Redis and PostgreSQL fail under two servers: nobody is unlimited, unknown or mixed up, and all is well again by itself."""

import asyncio
import logging
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from penstock.app import Service
from penstock.commands.run_server import limits_of
from penstock.core.limits import day_of
from penstock.domain.ledger.reconciliation import compare
from penstock.providers.secrets import Secrets
from penstock.server.listen import listen
from penstock.store.redis.counters import RedisCounters
from tests.redis import RedisServer, order, own_server, redis_server
from tests.service.conversations import Answer, Caller, body_of, request, text_of
from tests.service.running_service import VENDOR_KEY, House, User, open_house
from tests.service.scripted import PATIENCE
from tests.stores import Cluster, Engine

log = logging.getLogger(__name__)

pytestmark = pytest.mark.xdist_group("outages")


class Pair:
    """A house, and a second server beside it on the same database and Redis."""

    def __init__(self, house: House, other: Service, ports: tuple[int, int]) -> None:
        self.house = house
        self.ports = ports
        assert house.service is not None
        self._services = (house.service, other)

    async def get(self, server: int, path: str) -> Answer:
        """A page of one of them."""
        return await self._call(server, request("GET", path, {}))

    async def ask(self, server: int, user: User, text: str, model: str = "chat-echo") -> Answer:
        """One request to one of them."""
        body = body_of("chat", model, messages=[{"role": "user", "content": text}])
        return await self._call(
            server, request("POST", "/v1/chat/completions", {"x-api-key": user.key}, body)
        )

    async def _call(self, server: int, sent: bytes) -> Answer:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.ports[server]), lambda _: None)
        try:
            await caller.send(sent)
            return await caller.answer()
        finally:
            caller.leave()

    async def until_well(self, user: User) -> None:
        """Until both servers serve and name no part."""
        async with asyncio.timeout(PATIENCE):
            for server in (0, 1):
                while (await self.ask(server, user, "well?")).status != 200:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
                while (await self.get(server, "/readyz")).body != b"ready\n":  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)

    async def acquainted(self) -> None:
        """Until each server knows that there are two."""
        async with asyncio.timeout(PATIENCE):
            for service in self._services:
                assert service._api is not None
                counters = service._api._gate._counters
                assert isinstance(counters, RedisCounters)
                while counters._nodes < 2:
                    await counters.beat()


@asynccontextmanager
async def pair_of(tmp_path: Path, **shared: Any) -> AsyncGenerator[Pair]:
    shared |= {"redis_prefix": f"test:{secrets.token_hex(8)}:", "revision_poll": 0.05}
    async with open_house(tmp_path / "data", **shared) as house, AsyncExitStack() as stack:
        (tmp_path / "other").mkdir()
        settings = replace(house.settings, data=tmp_path / "other", secret_file=house.settings.secret_path)
        service = Service(settings, Secrets({"VENDOR_KEY": VENDOR_KEY}), now=house.clock)
        await stack.enter_async_context(service.running())
        house.beside.append(service)
        other = await listen(service.application, "127.0.0.1", 0, limits_of(settings))
        stack.push_async_callback(other.close)
        assert house.listener is not None
        yield Pair(house, service, (house.listener.port, other.port))


class Load:
    """Users who ask and ask, each at both servers in turn; what they are answered is looked at at once."""

    def __init__(self, pair: Pair, users: list[User]) -> None:
        self._pair = pair
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.refused: set[tuple[int, str | None]] = set()
        self._tasks = [asyncio.create_task(self._user(user)) for user in users]

    async def _user(self, user: User) -> None:
        turn = 0
        while True:
            turn += 1
            text = f"nonce of {user.id} in turn {turn}"
            began = time.monotonic()
            answer = await self._pair.ask(turn % 2, user, text)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[answer.status] += 1
            if answer.status == 200:
                assert text_of("chat", answer) == text
            else:
                self.refused.add((answer.status, answer.code))
                assert "retry-after" in answer.headers
                await asyncio.sleep(0.01)

    async def until(self, more: int, status: int) -> None:
        """Go on until so many more answers of this status have come."""
        goal = self.statuses[status] + more
        async with asyncio.timeout(PATIENCE):
            while self.statuses[status] < goal:
                await asyncio.sleep(0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def end(self) -> None:
        """Stop asking; what a user found wrong is raised."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                assert result is None, result


async def books(house: House, users: list[User]) -> None:
    """The rows are what the provider got, each once, and the counts are the rows."""
    for user in users:
        rows = await house.rows(user)
        assert await house.used(user) == sum(row["counted"] for row in rows)
        got = house.heard(f"nonce of {user.id} in")
        sent = [row for row in rows if row["outcome"] != "client_gone" and row["counted"]]
        assert len({visit.body for visit in got}) == len(got), "a request was sent twice"
        assert len(got) <= len(rows), "the provider got what is not in the books"
        assert len(sent) >= len(got) - 1
    async with house.store.database.connect() as conn:
        assert await compare(conn, day_of(house.clock.now)) == []


# ---- Redis


@pytest.fixture
def redis() -> Generator[RedisServer]:
    server = own_server()
    yield server
    server.stop()


async def flush(redis: RedisServer) -> None:
    await order(redis.url, "FLUSHALL", "SCRIPT FLUSH")


@pytest.mark.parametrize("fault", ["stopped", "slow", "emptied", "restarted"])
async def test_whatever_becomes_of_redis_requests_go_on_within_limits_and_the_books_are_right(
    redis: RedisServer, postgresql: Engine, tmp_path: Path, fault: str
) -> None:
    async with pair_of(tmp_path, database_url=postgresql.url, redis_url=redis.url) as pair:
        users = [await pair.house.user("lab") for _ in range(6)]
        # a server has a share of the day for those whom it knows
        first = [await pair.ask(server, user, "first") for user in users for server in (0, 1)]
        assert {answer.status for answer in first} == {200}
        load = Load(pair, users)
        await load.until(60, 200)
        usual, load.slowest = load.slowest, 0.0
        if fault == "stopped":
            redis.stop()
        elif fault == "slow":
            redis.signal(signal.SIGSTOP)
        elif fault == "emptied":
            await flush(redis)
        else:
            redis.stop()
            redis.start()
        if fault in {"stopped", "slow"}:
            await load.until(40, 200)
            answer = await pair.get(0, "/readyz")
            assert (answer.status, answer.body) == (200, b"ready\nredis does not work\n")
            numbers = (await pair.get(0, "/metrics")).body.decode()
            assert 'penstock_part_up{part="redis"} 0.0' in numbers
            assert 'penstock_part_failures_total{part="redis"} 1.0' in numbers
            if fault == "stopped":
                redis.start()
            else:
                redis.signal(signal.SIGCONT)
        mended = time.monotonic()
        await load.until(60, 200)
        await load.end()
        await pair.until_well(users[0])
        log.info(
            "%s: answers %s, the slowest %.2f s (%.2f s before), all well %.1f s after it was over",
            fault, dict(load.statuses), load.slowest, usual, time.monotonic() - mended,
        )  # fmt: skip
        assert set(load.statuses) == {200}, load.refused
        await books(pair.house, users)


async def test_without_redis_nobody_has_more_slots_or_more_of_a_day_than_the_plan_gives(
    redis: RedisServer, postgresql: Engine, tmp_path: Path
) -> None:
    async with pair_of(tmp_path, database_url=postgresql.url, redis_url=redis.url) as pair:
        user, few, stranger = [await pair.house.user(plan) for plan in ("ten", "few", "lab")]
        for server in (0, 1):
            assert (await pair.ask(server, user, "x")).status == 200
            assert (await pair.ask(server, few, "x")).status == 200
        await pair.acquainted()
        redis.stop()
        wire = pair.house.wires["wire-chat"]
        asking = [asyncio.create_task(pair.ask(n % 2, user, "x", "wire-chat")) for n in range(40)]
        held = [await wire.next() for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            refused = [(await first).status for first in islice(asyncio.as_completed(asking), 30)]
        assert refused == [429] * 30, "ten at a time, five on each server"
        for asked in held:
            asked.reset()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        statuses = [(await pair.ask(n % 2, few, "x")).status for n in range(12)]
        assert set(statuses) <= {200, 429, 503}
        assert statuses.count(200) <= 3, "five a day, two of them used"
        unknown = await pair.ask(0, stranger, "x")
        assert (unknown.status, unknown.headers["retry-after"]) == (503, "5")
        redis.start()
        await pair.until_well(stranger)


# ---- PostgreSQL


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    made = Cluster()
    made.start()
    yield made
    made.remove()


@pytest.fixture
async def on_own_postgresql(cluster: Cluster, tmp_path: Path) -> AsyncGenerator[Pair]:
    """Two servers whose database the test may stop."""
    name = f"penstock_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(f"{cluster.address}/postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    short = {"database_connect": 4.0, "database_statement": 4.0, "database_lock": 4.0}
    url = f"{cluster.address}/{name}"
    async with pair_of(
        tmp_path, database_url=url, redis_url=redis_server().url, redis_timeout=5.0, **short
    ) as pair:
        yield pair


@pytest.mark.parametrize("fault", ["stopped", "slow"])
async def test_while_postgresql_is_away_known_keys_are_known_and_nothing_is_lost(
    on_own_postgresql: Pair, cluster: Cluster, fault: str
) -> None:
    pair = on_own_postgresql
    users = [await pair.house.user("lab") for _ in range(6)]
    stranger = await pair.house.user("lab")
    load = Load(pair, users)
    await load.until(60, 200)
    if fault == "stopped":
        cluster.stop()
    else:
        cluster.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE):
            while b"database does not work" not in (await pair.get(0, "/readyz")).body:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        unknown = await pair.ask(0, stranger, "x")
        assert unknown.status == 503, unknown.body
        assert "retry-after" in unknown.headers
    finally:
        if fault == "stopped":
            cluster.start()
        else:
            cluster.signal(signal.SIGCONT)
    await load.until(60, 200)
    await load.end()
    await pair.until_well(stranger)
    assert set(load.statuses) <= {200, 503}, load.refused
    await books(pair.house, users)
