"""A key's own limits within its plan's: held on every store, told in headers, errors and receipts, and nothing lost."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.limits import day_of, key_subject
from penstock.domain.keys import management
from penstock.domain.keys.management import BadKeyWish, KeyWish
from penstock.domain.ledger import refusals
from penstock.store.counters import used_of
from tests.redis import redis_server
from tests.service.conversations import FRAMES, PATHS, REPLIES, Answer, body_of
from tests.service.running_service import House, User, open_house
from tests.stores import Engine


@pytest.fixture(params=["sqlite", "redis"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[House]:
    """A service that counts in its own memory over SQLite, and one that counts in Redis over PostgreSQL."""
    if request.param == "sqlite":
        async with open_house(tmp_path / "data", cache_seconds=0.1) as house:
            yield house
        return
    postgresql: Engine = request.getfixturevalue("postgresql")
    async with open_house(
        tmp_path / "data",
        database_url=postgresql.url,
        redis_url=redis_server().url,
        redis_prefix=f"test:{secrets.token_hex(8)}:",
        redis_timeout=5.0,
        cache_seconds=0.1,
        revision_poll=0.05,
    ) as house:
        yield house


async def with_key(house: House, plan: str, **limits: Any) -> tuple[User, User]:
    """An account, and the same with a key that has limits of its own."""
    user = await house.user(plan)
    return user, User(user.id, user.email, await house.key(user.id, KeyWish(**limits)))


def told(answer: Answer) -> tuple[str, str]:
    headers = answer.headers
    return headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]


async def test_a_keys_part_of_the_day_is_its_own_and_its_accounts(stored: House) -> None:
    user, limited = await with_key(stored, "few", daily_requests=3)
    assert told(await stored.ask("chat", "no-such-model", limited)) == ("3", "3")
    for left in ("2", "1", "0"):
        assert told(await stored.ask("chat", "chat-plain", limited)) == ("3", left)
    refused = await stored.ask("chat", "chat-plain", limited)
    assert (refused.status, refused.code, told(refused)) == (429, "key_daily_limit_reached", ("3", "0"))
    assert "this API key" in refused.json["error"]
    assert int(refused.headers["retry-after"]) > 60
    assert told(await stored.ask("chat", "chat-plain", user)) == ("5", "1")
    assert await stored.used(user) == 4
    day = day_of(stored.clock.now)
    subject = key_subject(user.id, (await stored.rows(user))[0]["key_id"])
    assert await used_of(stored.store.database, subject, day) == 3


async def test_the_account_holds_where_it_is_the_narrower(stored: House) -> None:
    user, limited = await with_key(stored, "few", daily_requests=4)
    for _ in range(3):
        assert (await stored.ask("chat", "chat-plain", user)).status == 200
    assert told(await stored.ask("chat", "chat-plain", limited)) == ("4", "1")
    assert told(await stored.ask("chat", "chat-plain", limited)) == ("4", "0")
    for _ in range(2):
        assert (await stored.ask("chat", "chat-plain", limited)).code == "daily_limit_reached"
    assert await stored.used(user) == 5


async def test_what_is_given_back_is_the_keys_again(stored: House) -> None:
    user, limited = await with_key(stored, "few", daily_requests=1)
    for model, status in (
        ("chat-error-500", 502),
        ("chat-error-400", 400),
        ("chat-plain", 200),
        ("chat-plain", 429),
    ):
        assert (await stored.ask("chat", model, limited)).status == status
    assert await stored.used(user) == 1


async def test_a_race_lets_no_more_through_than_the_key_has(stored: House) -> None:
    user, limited = await with_key(stored, "ten", daily_requests=6, concurrent_requests=10)
    assert (await stored.ask("chat", "no-such-model", limited)).status == 404
    answers = await asyncio.gather(*(stored.ask("chat", "chat-plain", limited) for _ in range(30)))
    codes = Counter(answer.code for answer in answers if answer.status != 200)
    assert sum(answer.status == 200 for answer in answers) <= 6
    assert set(codes) <= {"key_daily_limit_reached", "key_concurrent_limit_reached"}
    while (await stored.ask("chat", "chat-plain", limited)).status == 200:
        pass
    assert await stored.used(user) == 6
    assert stored.held(user) == 0


async def test_so_many_of_a_key_run_at_once_and_others_go_on(stored: House) -> None:
    user, limited = await with_key(stored, "ten", concurrent_requests=2)
    wire = stored.wires["wire-chat"]
    running = [await stored.begin("chat", "wire-chat", limited, stream=True) for _ in range(2)]
    held = [await wire.next() for _ in running]
    refused = await stored.ask("chat", "wire-chat", limited)
    assert (refused.status, refused.code) == (429, "key_concurrent_limit_reached")
    assert "2 of 2 running" in refused.json["error"]
    assert refused.headers["retry-after"]
    other = asyncio.ensure_future(stored.ask("chat", "wire-chat", user))
    (await wire.next()).answer(REPLIES["chat"])
    assert (await other).status == 200
    for asked in held:
        asked.stream(*FRAMES["chat"])
    for caller in running:
        assert (await caller.answer()).status == 200
    again = asyncio.ensure_future(stored.ask("chat", "wire-chat", limited))
    (await wire.next()).answer(REPLIES["chat"])
    assert (await again).status == 200
    assert await stored.used(user) == 4


async def test_a_restart_and_a_change_find_what_the_key_has_used(stored: House) -> None:
    user, limited = await with_key(stored, "few", daily_requests=2)
    for _ in range(2):
        assert (await stored.ask("chat", "chat-plain", limited)).status == 200
    await stored.rows(user)
    await stored.restart()
    assert (await stored.ask("chat", "chat-plain", limited)).code == "key_daily_limit_reached"
    async with stored.store.database.transaction() as conn:
        rows = await management.list_keys(conn, user.id)
        old = next(row for row in rows if row.daily_requests == 2)
        await management.change_key(
            conn, old, KeyWish(old.name, daily_requests=3), now=int(stored.clock.now * 1000)
        )
    await stored.restart()  # what is remembered of a key is tried elsewhere
    assert told(await stored.ask("chat", "chat-plain", limited)) == ("3", "0")
    assert (await stored.ask("chat", "chat-plain", limited)).code == "key_daily_limit_reached"
    assert await stored.used(user) == 3


async def test_a_change_is_felt_while_a_connection_goes_on(stored: House) -> None:
    user = await stored.user("few")
    caller = await stored.call()
    body = body_of("chat", "chat-plain")

    async def left() -> tuple[str, str]:
        head = f"POST {PATHS['chat']} HTTP/1.1\r\nhost: x\r\nx-api-key: {user.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        await caller.send(head.encode() + body)
        return told(await caller.answer())

    assert await left() == ("5", "4")
    await stored.rows(user)  # what was recorded is in the database, which is asked when a key gets a limit
    async with stored.store.database.transaction() as conn:
        (old,) = await management.list_keys(conn, user.id)
        await management.change_key(
            conn, old, KeyWish(old.name, daily_requests=4), now=int(stored.clock.now * 1000)
        )
    assert stored.service is not None
    assert stored.service._api is not None
    await stored.service._api._keyring.follow()
    assert await left() == ("4", "2")
    caller.leave()


@pytest.mark.parametrize(
    "wish", [KeyWish(daily_requests=6), KeyWish(daily_requests=0), KeyWish(concurrent_requests=-1)], ids=repr
)
async def test_no_key_has_more_than_its_plan(house: House, wish: KeyWish) -> None:
    user = await house.user("few")
    with pytest.raises(BadKeyWish, match="as its plan has"):
        await house.key(user.id, wish)


async def test_the_receipt_says_which_limit_it_was(house: House) -> None:
    user, limited = await with_key(house, "few", daily_requests=1)
    await house.ask("chat", "chat-plain", limited)
    refused = await house.ask("chat", "chat-plain", limited)
    assert house.service is not None
    assert house.service.refusals is not None
    await house.service.refusals.flush()
    async with house.store.database.connect() as conn:
        kept = await refusals.find(conn, user.id, refused.headers["x-request-id"])
    assert kept is not None
    assert (kept.code, kept.most, kept.used) == ("key_daily_limit_reached", 1, 1)
