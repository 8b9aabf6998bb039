"""Many users at once, some of whom leave at any moment: nobody ever sees an answer, a header or a row of another."""

import asyncio
import random

import pytest

from tests.service.house import House, User
from tests.service.talk import DIALECTS, text_of

USERS, ROUNDS = 60, 6


async def _ask(house: House, user: User, number: int, chance: random.Random) -> list[str]:
    """A user who asks for its own nonces and leaves now and then; gives what it was answered."""
    heard: list[str] = []
    for turn in range(ROUNDS):
        dialect, upstream = chance.choice(DIALECTS), chance.choice(DIALECTS)
        nonce = f"nonce of user {number} in turn {turn}"
        stream = chance.random() < 0.5
        caller = await house.begin(
            dialect, f"{upstream}-echo", user, stream=stream, messages=[{"role": "user", "content": nonce}]
        )
        answering = asyncio.ensure_future(caller.answer())
        if chance.random() < 0.4:
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            answering.cancel()
            caller.leave()
            continue
        answer = await answering
        if answer.status == 429:  # who has just left may still hold the slot for a moment
            heard.append(nonce)
            continue
        assert answer.status == 200
        assert text_of(dialect, answer) == nonce
        heard.append(nonce)
        limit, left = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining"))
        assert limit == 1000
        assert limit - left <= turn + 1, "more is counted than this user has asked"
        caller.leave()
    return heard


@pytest.mark.parametrize("seed", [1, 2])
async def test_sixty_users_with_nonces_and_random_cancels_are_never_mixed_up(house: House, seed: int) -> None:
    users = [await house.user("one") for _ in range(USERS)]
    heard = await asyncio.gather(
        *(_ask(house, user, number, random.Random(1000 * seed + number)) for number, user in enumerate(users))
    )
    assert sum(map(len, heard)) > USERS
    for user in users:
        rows = await house.rows(user)
        assert await house.used(user) == sum(row["counted"] for row in rows) <= ROUNDS
        assert house.held(user) == 0
        assert {row["outcome"] for row in rows} <= {"completed", "client_gone"}
