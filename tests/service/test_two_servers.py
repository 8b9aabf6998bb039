"""Two servers on one PostgreSQL and one Redis: one day, one set of slots, one ledger, and news that reach both."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from penstock.app import Service
from penstock.commands.run_server import limits_of
from penstock.core.limits import day_of
from penstock.core.routing.health import Health
from penstock.domain.accounts import accounts
from penstock.domain.keys import management
from penstock.domain.ledger.reconciliation import compare
from penstock.operations.upstream_report import report
from penstock.operations.upstreams import VIEWS, UpstreamFailures, upstream_metrics, worker_views
from penstock.providers.secrets import Secrets
from penstock.relay.relay import Relay
from penstock.server.listen import Listener, listen
from penstock.store.redis.counters import RedisCounters
from tests.redis import redis_server
from tests.service.conversations import FRAMES, Answer, Caller, body_of, request
from tests.service.running_service import VENDOR_KEY, House, User, catalogue, open_house
from tests.service.scripted import PATIENCE
from tests.service.test_routing import health_of, known, refusing, relay_of, well
from tests.stores import Engine


class Pair:
    """A house, and a second server beside it."""

    def __init__(self, house: House, other: Listener) -> None:
        assert house.listener is not None
        self.house = house
        self.ports = (house.listener.port, other.port)

    async def ask(self, number: int, user: User, model: str = "chat-plain") -> int:
        """The status that one of them answers with."""
        body = body_of("chat", model)
        return (await self.send(number, user, "POST", "/v1/chat/completions", body)).status

    async def send(
        self, number: int, user: User, method: str, path: str, body: bytes = b"", **headers: str
    ) -> Answer:
        """What one of them answers."""
        ends = await asyncio.open_connection("127.0.0.1", self.ports[number % 2])
        caller = Caller(*ends, lambda _: None)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await caller.send(request(method, path, {"x-api-key": user.key, **named}, body))
        answer = await caller.answer()
        caller.leave()
        return answer


@pytest.fixture
async def pair(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[Pair]:
    async with pair_of(postgresql, tmp_path) as made:
        yield made


@pytest.fixture
async def remembering(postgresql: Engine, tmp_path: Path) -> AsyncGenerator[Pair]:
    """Servers that know a key for a while, as they do outside of tests."""
    async with pair_of(postgresql, tmp_path, cache_seconds=5.0) as made:
        yield made


@asynccontextmanager
async def pair_of(postgresql: Engine, tmp_path: Path, **more: float) -> AsyncGenerator[Pair]:
    shared: dict[str, Any] = {
        "database_url": postgresql.url,
        "redis_url": redis_server().url,
        "redis_prefix": f"test:{secrets.token_hex(8)}:",
        "redis_timeout": 5.0,
        "revision_poll": 0.05,
        **more,
    }
    async with open_house(tmp_path / "data", **shared) as house, AsyncExitStack() as stack:
        (tmp_path / "other").mkdir()
        settings = replace(house.settings, data=tmp_path / "other", secret_file=house.settings.secret_path)
        service = Service(settings, Secrets({"VENDOR_KEY": VENDOR_KEY}), now=house.clock)
        await stack.enter_async_context(service.running())
        house.beside.append(service)
        other = await listen(service.application, "127.0.0.1", 0, limits_of(settings))
        stack.push_async_callback(other.close)
        yield Pair(house, other)


async def test_the_last_requests_of_a_day_and_the_books_are_exact(pair: Pair) -> None:
    user = await pair.house.user("few")
    statuses = await asyncio.gather(*(pair.ask(number, user) for number in range(40)))
    assert sorted(statuses) == [200] * 5 + [429] * 35
    assert await pair.house.used(user) == 5
    async with pair.house.store.database.connect() as conn:
        assert await compare(conn, day_of(pair.house.clock.now)) == []


CHAT = "/v1/chat/completions"
REFUSED: dict[str, tuple[int, str, str, bytes]] = {
    "no such model": (404, "POST", CHAT, body_of("chat", "no-such-model")),
    "no such route": (404, "GET", "/v1/nothing", b""),
    "another method": (405, "GET", CHAT, b""),
    "no JSON": (400, "POST", CHAT, b"{"),
    "no provider": (503, "POST", CHAT, body_of("chat", "absent-model")),
    "no such model to look at": (404, "GET", "/v1/models/none", b""),
    "the list": (200, "GET", "/v1/models", b""),
    "the hello": (200, "GET", "/v1", b""),
    "a count": (200, "POST", "/v1/messages/count_tokens", body_of("messages", "messages-plain")),
    "a check": (200, "GET", "/v1/doctor", b""),
}


async def test_what_is_refused_tells_what_is_left_with_both(remembering: Pair) -> None:
    """After ten good requests on one server, the other one knows of them, on a connection that goes on too."""
    user = await remembering.house.user()
    first = await remembering.send(1, user, "POST", CHAT, body_of("chat", "chat-plain"))
    left = int(first.headers["x-ratelimit-remaining"])
    for _ in range(10):
        assert await remembering.ask(0, user) == 200
        left -= 1
    for name, (status, method, path, body) in REFUSED.items():
        answer = await remembering.send(1, user, method, path, body)
        told = (answer.status, answer.headers["x-ratelimit-remaining"])
        assert told == (status, str(left)), name
        assert f"r={left};" in answer.headers["ratelimit"], name


async def test_what_is_refused_on_a_connection_that_is_known_tells_it_too(remembering: Pair) -> None:
    user = await remembering.house.user()
    caller = Caller(*await asyncio.open_connection("127.0.0.1", remembering.ports[1]), lambda _: None)
    good, bad = body_of("chat", "chat-plain"), body_of("chat", "none-plain")
    assert len(good) == len(bad)
    head = {"x-api-key": user.key}
    await caller.send(request("POST", CHAT, head, good))
    left = int((await caller.answer()).headers["x-ratelimit-remaining"])
    for _ in range(3):
        assert await remembering.ask(0, user) == 200
        left -= 1
        await caller.send(request("POST", CHAT, head, bad))
        answer = await caller.answer()
        assert (answer.status, answer.headers["x-ratelimit-remaining"]) == (404, str(left))
    caller.leave()


async def test_who_finds_no_slot_is_told_what_is_left_with_both(pair: Pair) -> None:
    user = await pair.house.user("one")
    assert await pair.ask(1, user) == 200
    holding = await pair.house.begin("chat", "wire-chat", user, stream=True)
    asked = await pair.house.wires["wire-chat"].next()
    answer = await pair.send(1, user, "POST", CHAT, body_of("chat", "chat-plain"))
    left = int(answer.headers["x-ratelimit-limit"]) - 2
    assert (answer.status, answer.headers["x-ratelimit-remaining"]) == (429, str(left))
    asked.reset()
    await holding.answer()
    holding.leave()


async def test_where_it_cannot_be_known_nothing_is_said(remembering: Pair) -> None:
    user = await remembering.house.user()
    assert await remembering.ask(1, user) == 200
    wire = await remembering.send(1, user, "POST", CHAT, b"{}", x_long="x" * 40_000)
    assert wire.status == 431
    api = remembering.house.beside[0]._api
    assert api is not None
    counters = cast("RedisCounters", api._gate._counters)
    await counters._link.close()
    away = await remembering.send(1, user, "POST", CHAT, body_of("chat", "no-such-model"))
    assert away.status == 404
    for answer in (wire, away):
        assert not [name for name in answer.headers if "ratelimit" in name]


async def test_slots_are_those_of_both(pair: Pair) -> None:
    user = await pair.house.user("one")
    holding = await pair.house.begin("chat", "wire-chat", user, stream=True)
    asked = await pair.house.wires["wire-chat"].next()
    assert await pair.ask(1, user) == 429
    asked.reset()
    await holding.answer()
    holding.leave()
    async with asyncio.timeout(60):
        while await pair.ask(1, user) != 200:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_request_that_runs_here_is_ended_by_its_owner_there(pair: Pair) -> None:
    house = pair.house
    user, somebody = await house.user(), await house.user()
    holding = await house.begin("chat", "wire-chat", user, stream=True)
    (await house.wires["wire-chat"].next()).begin(*FRAMES["chat"][:3])
    await holding.head()
    api = house.beside[0]._api
    assert api is not None
    gate = api._gate
    await gate.refresh(user.id, house.clock())
    (running,) = gate.running(user.id)
    assert not await gate.end(somebody.id, running.request_id)
    assert await gate.end(user.id, running.request_id)
    await holding.until(b"has ended this request")
    holding.leave()
    row = await house.row(user)
    assert (row["outcome"], row["counted"]) == ("ended_by_owner", True)
    assert not await gate.end(user.id, running.request_id)


async def test_what_is_refunded_here_can_be_used_there(pair: Pair) -> None:
    user = await pair.house.user("few")
    for _ in range(4):
        assert await pair.ask(0, user) == 200
    for number in range(6):
        assert await pair.ask(number, user, "chat-error-500") == 502
    assert [await pair.ask(1, user), await pair.ask(0, user)] == [200, 429]


async def test_a_key_that_is_revoked_here_is_dead_there(pair: Pair) -> None:
    user = await pair.house.user()
    assert await pair.ask(1, user) == 200
    async with pair.house.store.database.transaction() as conn:
        (row,) = await management.working_keys(conn, user.id, now=0)
        await management.revoke_key(conn, user.id, row.id, now=1)
    assert [await pair.ask(0, user), await pair.ask(1, user)] == [401, 401]
    async with pair.house.store.database.transaction() as conn:
        await accounts.change_user(conn, user.id, accounts.Changes(plan_id="few"), now=1)


async def test_a_key_that_both_remember_is_dead_with_their_next_poll(
    postgresql: Engine, tmp_path: Path
) -> None:
    """A key is trusted for a minute; only the poll can tell that it was revoked."""
    async with pair_of(postgresql, tmp_path, cache_seconds=60.0) as pair:
        users = [await pair.house.user() for _ in range(2)]
        for server in (0, 1):
            assert [await pair.ask(server, user) for user in users] == [200, 200]
        async with pair.house.store.database.transaction() as conn:
            (row,) = await management.working_keys(conn, users[0].id, now=0)
            await management.revoke_key(conn, users[0].id, row.id, now=1)
            await accounts.change_user(conn, users[1].id, accounts.Changes(disabled=True), now=1)
        async with asyncio.timeout(PATIENCE):
            for server in (0, 1):
                while [await pair.ask(server, user) for user in users] != [401, 403]:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)


async def test_a_server_that_comes_later_closes_no_rows_of_one_that_runs(pair: Pair, tmp_path: Path) -> None:
    user = await pair.house.user()
    holding = await pair.house.begin("chat", "wire-chat", user, stream=True)
    asked = await pair.house.wires["wire-chat"].next()
    (tmp_path / "third").mkdir()
    settings = replace(
        pair.house.settings, data=tmp_path / "third", secret_file=pair.house.settings.secret_path
    )
    third = Service(settings, Secrets({"VENDOR_KEY": VENDOR_KEY}), now=pair.house.clock)
    async with third.running(), pair.house.store.database.connect() as conn:
        found = await conn.exec_driver_sql(
            "SELECT state FROM requests JOIN kinds ON kinds.id = requests.kind"
        )
        assert [row.state for row in found] == ["open"]
    asked.reset()
    await holding.answer()
    holding.leave()
    assert (await pair.house.row(user))["outcome"] == "upstream_error"


async def test_what_one_server_meets_at_a_provider_the_other_leaves_out(pair: Pair, tmp_path: Path) -> None:
    house, user = pair.house, await pair.house.user()
    for place in ("wire", "spare"):
        well(house, "chat", place)
    for number in range(2):
        assert await pair.ask(number, user, "pair-chat") == 200
    wire = house.wires["wire-chat"]
    wire.script = refusing(402, "pay first")
    api = house.beside[0]._api
    assert api is not None
    here, there = known(house, "wire-chat", "up-chat"), api._relay.router.health
    met = there._upstreams["wire-chat", "up-chat", ""]
    while not here.off:
        assert await pair.ask(0, user, "pair-chat") == 200
    async with asyncio.timeout(PATIENCE):
        while not met.suspect:  # noqa: ASYNC110 - a round tells nobody
            await asyncio.sleep(0.01)
    asked = len(wire.asked)
    assert [await pair.ask(1, user, "pair-chat") for _ in range(20)] == [200] * 20
    assert len(wire.asked) == asked
    await told_by(house, tmp_path / "other", "open", hinted=True)
    await told_by(house, house.settings.data, "off", hinted=False)
    assert (hinted(there, api._relay), hinted(health_of(house), relay_of(house))) == (1, 0)
    well(house, "chat", "wire")
    health_of(house).reset(lambda _: True, relay_of(house).clock())
    async with asyncio.timeout(PATIENCE):
        while not met.normal:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)
    assert await pair.ask(1, user, "wire-chat") == 200


def hinted(health: Health, relay: Relay) -> float:
    """What the metrics tell of it."""
    families = upstream_metrics(
        health, UpstreamFailures(relay.clock), relay.router._catalog().models, relay.clock()
    )
    (value,) = (
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "penstock_upstream_hinted" and sample.labels["provider"] == "wire-chat"
    )
    return value


async def told_by(house: House, data: Path, state: str, *, hinted: bool) -> None:
    """A server comes to tell this of the provider that was refused."""
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    async with asyncio.timeout(PATIENCE):
        while True:
            legs = report(document.providers, document.models, (), worker_views(data / VIEWS), 0)
            leg = next(leg for leg in legs if leg.provider == "wire-chat" and leg.model == "up-chat")
            if (leg.state, leg.why, leg.hinted) == (state, "quota", hinted):
                return
            await asyncio.sleep(0.01)
