"""Every limit of what strangers may take, raced: they announce, leave and are cut at any moment; then all rooms are empty."""

import asyncio
import os
import random
from pathlib import Path

import msgspec
import pytest

from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House, User, raw
from tests.service.scripted import PATIENCE
from tests.site.page_reader import PASSWORD, Reader, open_hotel

ROUNDS = int(os.environ.get("PENSTOCK_TEST_ROUNDS", "3"))
"""How often a crowd comes; ``make chaos`` lets it come a hundred times."""
CROWD = 24
SMALL = {
    "max_body": 1 << 20, "max_bodies": 4 << 20, "bodies_kept": 1 << 19, "max_reply": 4 << 20, "max_replies": 4 << 20,
    "passwords_at_once": 1, "passwords_waiting": 3, "token_counts_at_once": 2, "token_counts_at_once_user": 2,
    "thread_above": 1 << 14, "sign_ups_network": 100_000, "sign_in_tries_network": 100_000, "body_deadline": 0.5,
}  # fmt: skip
COUNTING = "/v1/messages/count_tokens"


async def cut_off(house: House, user: User, chance: random.Random) -> None:
    """One request, of any kind, that is cut at any byte or any moment."""
    path = chance.choice([*PATHS.values(), COUNTING])
    dialect = next((name for name, place in PATHS.items() if place == path), "messages")
    kind = chance.choice(["echo", "plain", "huge", "cut", "hang"])
    text = "word " * chance.choice([1, 2_000, 100_000, 300_000])
    messages = [{"role": "user", "content": text}]
    body = body_of(dialect, f"{dialect}-{kind}", messages=messages, stream=chance.random() < 0.3)
    sent = raw("POST", path, user.key, body, {})
    caller = await house.send(sent[: chance.choice([len(sent), chance.randrange(len(sent))])])
    try:
        async with asyncio.timeout(chance.random() * 0.2):
            await caller.answer(checked=False)
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        caller.leave()


async def sign_in_or_leave(reader: Reader, chance: random.Random) -> None:
    try:
        async with asyncio.timeout(chance.random() * 0.2):
            await reader.sign_in(f"user{chance.randrange(5)}@example.com", PASSWORD)
    except TimeoutError:
        pass


def rooms(house: House, reader: Reader, users: list[User]) -> dict[str, object]:
    """What is taken of each."""
    assert house.service is not None
    assert house.service._api is not None
    hasher = reader.hotel.hasher
    counting = house.service._api._counter
    return {
        "bodies": house.taken,
        "answers": house.answers_taken,
        "slots": sum(house.held(user) for user in users),
        "hashing": hasher._running,
        "who wait to hash": len(hasher._waiting),
        "networks that hash": len(hasher._taken),
        "who count": len(counting._turns._users),
        "estimates": len(counting._estimator._users),
        "requests that the ledger owes": house.service._api._relay.ledger.owed,
    }


@pytest.mark.parametrize("seed", [1])
async def test_a_race_for_every_limit_leaves_every_room_empty(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with open_hotel(tmp_path, **SMALL) as hotel:
        house = hotel.house
        users = [await house.user("lab") for _ in range(4)]
        readers = [hotel.reader(f"203.0.{number}.1") for number in range(4)]
        for _ in range(ROUNDS):
            crowd = [cut_off(house, chance.choice(users), chance) for _ in range(CROWD)]
            crowd += [sign_in_or_leave(chance.choice(readers), chance) for _ in range(CROWD // 3)]
            await asyncio.gather(*crowd)
        async with asyncio.timeout(PATIENCE):
            while any(rooms(house, readers[0], users).values()):  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(0.01)
        for user in users:  # and there is room for everybody
            body = body_of("chat", "chat-plain", messages=[{"role": "user", "content": "x" * 300_000}])
            assert (await house.post("chat", body, user)).status == 200
            counted = msgspec.json.encode(
                {"model": "chat-plain", "messages": [{"role": "user", "content": "Hi"}]}
            )
            assert (await house.http("POST", COUNTING, user.key, body=counted)).status == 200
        await hotel.reader("198.51.100.1").join("ann@example.com")
