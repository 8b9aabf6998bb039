"""Pools of keys that staff have entered: one that is refused, all that are, one that is drained under streams."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.operations.upstreams import UpstreamWatch
from penstock.store.sql.schema import outbox
from tests.service.conversations import FRAMES
from tests.service.scripted import Asked
from tests.service.test_routing import relay_of
from tests.service.test_switches import watch_of
from tests.site.page_reader import Hotel, Reader, open_hotel
from tests.site.staff import member
from tests.site.test_provider_pages import KEYS, Mill, add_mill, relay_catalog, serve, until

STREAMS = 200


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path, revision_poll=0.02, session_idle=1e7, session_lifetime=1e7) as found:
        yield found


async def pool_of_three(hotel: Hotel, owner: Reader, mill: Mill) -> None:
    await add_mill(owner, mill)
    for number in (1, 2):
        added = await owner.post(
            "/admin/providers/mill/keys/new", secret=KEYS[number], id=f"key-{number + 1}"
        )
        assert added.status_code == 303, added.text


class Clock:
    """The relay's own clock, which the test moves."""

    def __init__(self, hotel: Hotel) -> None:
        relay = relay_of(hotel.house)
        self.now = relay.clock()
        relay.clock = self

    def __call__(self) -> float:
        self.now += 1e-4
        return self.now


async def told(hotel: Hotel, watch: UpstreamWatch) -> list[str]:
    """What lasts of this provider's keys, as staff are told of it."""
    watch.look()
    return sorted(it.object for it in watch.conditions() if it.event == "provider_key.refused")


async def mails(hotel: Hotel) -> int:
    async with hotel.house.store.database.connect() as conn:
        kinds = list(await conn.scalars(select(outbox.c.kind)))
    return sum("refus" in kind or "upstream" in kind for kind in kinds)


async def test_case_12_one_key_of_three_that_is_refused_costs_no_request_and_comes_back_by_a_probe(
    hotel: Hotel,
) -> None:
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    await pool_of_three(hotel, owner, mill)
    user = await serve(hotel, owner)
    await until(lambda: len(relay_catalog(hotel)().upstreams["mill"].credentials) == 3)
    clock, watch = Clock(hotel), watch_of(hotel.house)
    mill.taken.discard(KEYS[1])
    statuses: list[int] = []
    seen: list[list[str]] = []
    for _ in range(60):
        statuses.append((await hotel.house.ask("chat", "rye", user)).status)
        clock.now += 1.0
        seen.append(await told(hotel, watch))
    assert set(statuses) == {200}, "no caller's request fails"
    assert ["mill/key-2"] in seen
    assert all(each in ([], ["mill/key-2"]) for each in seen), "it, and no other"
    first = seen.index(["mill/key-2"])
    assert all(each == ["mill/key-2"] for each in seen[first:]), "one event, which lasts"
    assert KEYS[1] not in mill.asked
    await hotel.house.rows(user)
    assert await mails(hotel) <= 1

    mill.taken.add(KEYS[1])
    for _ in range(120):
        if KEYS[1] in mill.asked:
            break
        clock.now += 60.0
        statuses.append((await hotel.house.ask("chat", "rye", user)).status)
    assert KEYS[1] in mill.asked, "its own probe finds that it is mended"
    for _ in range(12):
        clock.now += 60.0
        statuses.append((await hotel.house.ask("chat", "rye", user)).status)
    assert set(statuses) == {200}
    assert await told(hotel, watch) == [], "and it is over"
    assert set(mill.asked[-12:]) == set(KEYS[:3]), "with its share as before"


async def test_case_13_all_keys_refused_is_a_502_and_each_comes_back_by_its_own_probe(hotel: Hotel) -> None:
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    await pool_of_three(hotel, owner, mill)
    user = await serve(hotel, owner)
    await until(lambda: len(relay_catalog(hotel)().upstreams["mill"].credentials) == 3)
    clock = Clock(hotel)
    mill.taken.clear()
    for _ in range(20):
        failed = await hotel.house.ask("chat", "rye", user)
        assert failed.status == 502, "the provider's failure, not the caller's"
        assert "Incorrect API key" not in failed.body.decode()
        clock.now += 1.0
    for back in (KEYS[2], KEYS[0], KEYS[1]):
        mill.taken.add(back)
        for _ in range(400):
            clock.now += 30.0
            answer = await hotel.house.ask("chat", "rye", user)
            assert answer.status in {200, 502}
            if back in mill.asked:
                break
        assert back in mill.asked, "without a person"
    for _ in range(12):
        clock.now += 60.0
        assert (await hotel.house.ask("chat", "rye", user)).status == 200
    assert set(mill.asked[-12:]) == set(KEYS[:3])


async def test_case_14_a_drain_under_two_hundred_streams_cuts_none_and_gets_nothing_new(hotel: Hotel) -> None:
    owner, mill = await member(hotel, "owner"), Mill(hotel)
    await add_mill(owner, mill)
    added = await owner.post("/admin/providers/mill/keys/new", secret=KEYS[1], id="key-2")
    assert added.status_code == 303, added.text
    user = await serve(hotel, owner)
    await until(lambda: len(relay_catalog(hotel)().upstreams["mill"].credentials) == 2)
    running: list[Asked] = []

    def script(asked: Asked) -> None:
        if not asked.json.get("stream"):
            return mill.answer(asked)
        running.append(asked)
        return asked.begin(*FRAMES["chat"][:-2])

    hotel.house.wires["wire-chat"].script = script
    users = [user, *[await hotel.house.user() for _ in range(4)]]
    callers = [await hotel.house.begin("chat", "rye", users[n % 5], stream=True) for n in range(STREAMS)]
    await until(lambda: len(running) == STREAMS)
    with_it = sum(it.headers["authorization"] == f"Bearer {KEYS[0]}" for it in running)
    assert 0 < with_it < STREAMS
    page = "/admin/providers/mill/keys/key-1"
    question = (await owner.get("/admin/providers/mill/switch?state=drain&key=key-1")).text
    assert f"{with_it} requests run" in question
    drained = await owner.post(
        "/admin/providers/mill/switch", state="drain", key="key-1", reason="rest", **{"for": ""}
    )
    assert drained.status_code == 303, drained.text
    await until(lambda: len(relay_catalog(hotel)().switches) == 1)
    for _ in range(30):
        assert (await hotel.house.ask("chat", "rye", user)).status == 200
    assert set(mill.asked[-30:]) == {KEYS[1]}, "nothing new on it"
    for asked in running:
        asked.stream_on(*FRAMES["chat"][-2:])
    ended = await asyncio.gather(*(caller.answer() for caller in callers))
    assert {answer.status for answer in ended} == {200}
    assert all(b"[DONE]" in answer.body for answer in ended), "none is cut"
    ended_there = "/admin/providers/mill/switch?state=off&key=key-1"
    async with asyncio.timeout(20):
        while "0 requests run" not in (await owner.get(ended_there)).text:  # noqa: ASYNC110 - a page is asked
            await asyncio.sleep(0.05)
    assert "drained" in (await owner.get(page)).text
