"""Refused requests leave a trace under the id that their answer carried, and count nowhere."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.domain.keys.management import KeyWish
from penstock.domain.ledger import refusals as kept
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.refusals import Refusal
from penstock.store.sql.schema import refusal_hours, refusals, usage_days
from tests.service.conversations import DIALECTS, PATHS, Answer, body_of
from tests.service.running_service import House, User, open_house
from tests.service.test_errors import PROVOKED

NO_OWNER = {"401 missing", "401 wrong"}
"""No key of ours was read: nobody's log is theirs."""


async def flushed(house: House) -> None:
    """The database has every refusal."""
    assert house.service is not None
    assert house.service.refusals is not None
    await house.service.refusals.flush()


async def refused(house: House, user: User) -> list[Refusal]:
    await flushed(house)
    async with house.store.database.connect() as conn:
        return await kept.newest(conn, user.id, most=100)


async def traces(house: House, id: str) -> tuple[int, int]:
    """How many refusals and how many rows of the ledger have this id."""
    await flushed(house)
    await house._booked()
    async with house.store.database.connect() as conn:
        first = await conn.execute(select(refusals.c.id).where(refusals.c.id == id))
        second = await conn.execute(select(entries.c.id).where(entries.c.id == id))
        return len(first.all()), len(second.all())


@pytest.mark.parametrize("name", PROVOKED)
async def test_every_answer_to_a_key_has_one_trace(tmp_path: Path, name: str) -> None:
    expected = PROVOKED[name]
    async with open_house(tmp_path / "data", errors_per_minute=0, body_deadline=0.2) as house:
        for dialect in DIALECTS:
            answer = await expected.provoke(house, dialect, {})
            assert answer.status == expected.status
            found = await traces(house, answer.headers["x-request-id"])
            if name in NO_OWNER:
                assert found == (0, 0)
            elif "provider" in name or expected.status == 502:
                assert found == (0, 1)
            else:
                assert found == (1, 0)
        async with house.store.database.connect() as conn:
            codes = (await conn.execute(select(refusals.c.code))).scalars().all()
            counted = (await conn.execute(select(refusal_hours.c.code, refusal_hours.c.requests))).all()
            days = (await conn.execute(select(usage_days.c.used))).scalars().all()
    assert set(codes) == {code for code, _ in counted} <= {expected.code}
    assert sum(number for _, number in counted) == len(codes)
    if not name.startswith("429"):
        assert not any(days), "what is refused, by us or by the provider, does not count"


async def test_what_is_known_of_it_is_kept(house: House) -> None:
    user = await house.user("free")
    agent = {"user-agent": "claude-cli/2.1.330 (external, sdk-cli)"}
    answer = await house.ask("messages", "claude-opus-4-6", user, headers=agent, stream=True)
    (one,) = await refused(house, user)
    assert (one.id, one.status, one.code) == (answer.headers["x-request-id"], 403, "model_not_on_plan")
    assert (one.requested_model, one.dialect, one.stream) == ("claude-opus-4-6", "messages", True)
    assert (one.client, one.plan_id, one.created_at) == ("claude-code", "free", 1_800_000_000_000)
    assert one.message == "It is about the field model.", "what the answer says may quote the request"
    assert one.holders == ()


async def test_a_full_house_is_told_with_what_held_it(house: House) -> None:
    user = await house.user("one")
    await house.begin("chat", "wire-chat", user)
    await house.wires["wire-chat"].next()
    house.clock.now += 7
    answer = await house.ask("chat", "chat-plain", user)
    (one,) = await refused(house, user)
    (holder,) = one.holders
    assert holder.id in answer.error
    assert (one.most, one.used, holder.since) == (1, 1, 1_800_000_000_000)
    assert answer.headers["link"] == f'</requests/{one.id}>; rel="help"'


async def test_the_day_says_what_it_was(house: House) -> None:
    user = await house.user("few")
    answer = [await house.ask("chat", "chat-plain", user) for _ in range(7)][-1]
    first, second = await refused(house, user)
    assert {(one.code, one.most, one.used) for one in (first, second)} == {("daily_limit_reached", 5, 5)}
    assert first.id == answer.headers["x-request-id"], "the newest first"
    assert await house.used(user) == 5


async def test_a_key_that_asks_for_nothing_else_is_looked_up_beside_the_request(house: House) -> None:
    user = await house.user()
    answers = [
        await house.http("GET", "/v1/no-such-route", user.key),
        await house.http("DELETE", "/v1/models", user.key),
        await house.http("GET", "/v1/no-such-route", "sk-ps-" + "0" * 49),
        await house.http("GET", "/v1/no-such-route"),
    ]
    assert [answer.status for answer in answers] == [404, 405, 404, 404]
    found = await refused(house, user)
    assert {one.id for one in found} == {answer.headers["x-request-id"] for answer in answers[:2]}


async def test_an_account_or_key_that_may_not_has_receipts_too(house: House) -> None:
    shut, bound = await house.user(disabled=True), await house.user()
    fixed = await house.key(bound.id, KeyWish("fixed", addresses=("192.0.2.1",)))
    body = body_of("chat", "chat-plain")
    assert (await house.post("chat", body, shut)).code == "account_disabled"
    assert (await house.http("POST", PATHS["chat"], fixed, body=body)).code == "address_not_allowed"
    assert [one.code for one in await refused(house, shut)] == ["account_disabled"]
    assert [one.code for one in await refused(house, bound)] == ["address_not_allowed"]


async def test_token_counting_has_receipts_where_it_is_refused(house: House) -> None:
    user = await house.user()
    answer = await house.http(
        "POST", "/v1/messages/count_tokens", user.key, body=body_of("messages", "no-such-model")
    )
    (one,) = await refused(house, user)
    assert (answer.status, one.code, one.id) == (404, "model_not_found", answer.headers["x-request-id"])


async def test_they_are_written_by_themselves_and_at_the_end(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", revision_poll=0.02) as house:
        user = await house.user()
        await house.ask("chat", "no-such-model", user)
        async with asyncio.timeout(20):
            while True:
                async with house.store.database.connect() as conn:
                    if await kept.newest(conn, user.id, most=9):
                        break
                await asyncio.sleep(0.01)
    async with open_house(tmp_path / "more", revision_poll=3600.0) as house:
        user = await house.user()
        await house.ask("chat", "no-such-model", user)
        await house.stop()
        async with house.store.database.connect() as conn:
            assert len(await kept.newest(conn, user.id, most=9)) == 1


async def test_a_flood_costs_rows_and_memory_only_up_to_its_bounds(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", errors_per_minute=0, refusals_kept=20) as house:
        user, neighbour = await house.user(), await house.user()
        await house.ask("chat", "no-such-model", neighbour)
        last: list[Answer] = []
        for _ in range(3):
            last = [await house.ask("chat", "no-such-model", user) for _ in range(50)]
            await flushed(house)
        assert [one.id for one in await refused(house, user)] == [
            answer.headers["x-request-id"] for answer in reversed(last[-20:])
        ]
        assert len(await refused(house, neighbour)) == 1
        async with house.store.database.connect() as conn:
            assert await kept.by_code(conn, user.id, range(30_000)) == [("model_not_found", 150)]


async def test_without_receipts_there_are_counts_alone_and_links_to_what_there_is(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", refusals_kept=0) as house:
        user = await house.user("few")
        answer = [await house.ask("chat", "chat-plain", user) for _ in range(6)][-1]
        assert answer.headers["link"] == '</docs/limits#the-day>; rel="help"'
        assert await refused(house, user) == []
        async with house.store.database.connect() as conn:
            assert await kept.by_code(conn, user.id, range(30_000)) == [("daily_limit_reached", 1)]
