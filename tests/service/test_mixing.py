"""Many users at once, some of whom leave at any moment: nobody ever sees an answer, a header or a row of another."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from penstock.domain.ledger.entries import entries
from penstock.store.sql.schema import usage_days
from tests.delaying import delaying
from tests.redis import redis_server, shared_redis
from tests.service.conversations import DIALECTS, text_of
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE
from tests.stores import Engine

USERS, ROUNDS = 60, 6
CROWD, VISITS = 200, 3
LONGEST = 0.02
"""Seconds for which a piece on its way to or from a store is held back at most."""

Moment = Callable[[random.Random], Awaitable[None]]


class Heard:
    """What one user was told: texts, and the ids of its requests."""

    def __init__(self) -> None:
        self.nonces: set[str] = set()
        self.ids: set[str] = set()


async def _people(house: House, number: int) -> list[User]:
    """Users whose keys are known, so that none is refused because a busy database does not tell in time."""
    users = [await house.user("one") for _ in range(number)]
    for user in users:
        assert (await house.http("GET", "/v1/models", user.key)).status == 200
    return users


async def _ask(
    house: House, user: User, number: int, chance: random.Random, rounds: int, leaves: float, moment: Moment
) -> Heard:
    """A user who asks for its own nonces and leaves now and then, after a ``moment``."""
    heard = Heard()
    for turn in range(rounds):
        dialect, upstream = chance.choice(DIALECTS), chance.choice(DIALECTS)
        nonce = f"nonce of user {number} in turn {turn}."
        stream = chance.random() < 0.5
        caller = await house.begin(
            dialect, f"{upstream}-echo", user, stream=stream, messages=[{"role": "user", "content": nonce}]
        )
        answering = asyncio.ensure_future(caller.answer())
        if chance.random() < leaves:
            await moment(chance)
            answering.cancel()
            caller.leave()
            continue
        answer = await answering
        caller.leave()
        if answer.status == 429:  # who has just left may still hold the slot for a moment
            continue
        assert answer.status == 200, answer.body
        assert text_of(dialect, answer) == nonce
        heard.nonces.add(nonce)
        heard.ids.add(answer.headers["x-request-id"])
        limit, left = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining"))
        assert limit == 1000
        assert limit - left <= turn + 1, "more is counted than this user has asked"
    return heard


async def _check(house: House, users: list[User], heard: list[Heard], rounds: int) -> None:
    """Each user's rows are its own, and what is counted is what they say."""
    async with asyncio.timeout(PATIENCE):
        while any(house.held(user) for user in users):  # noqa: ASYNC110 - those who left are noticed by their sockets
            await asyncio.sleep(0.005)
    rows = defaultdict[str, list[Any]](list)
    used: dict[str, int] = {}
    await house.rows(users[-1])
    async with house.store.database.connect() as conn:
        for row in await conn.execute(select(entries)):
            rows[row.user_id].append(row)
        for row in await conn.execute(select(usage_days)):
            used[row.user_id] = row.used
    for number, (user, told) in enumerate(zip(users, heard, strict=True)):
        mine = rows[user.id]
        assert used.get(user.id, 0) == sum(row.counted for row in mine) <= rounds
        assert told.ids <= {row.id for row in mine}, "an answer whose row is another's, or nobody's"
        assert {row.outcome for row in mine} <= {"completed", "client_gone"}
        got = house.heard(f"nonce of user {number} in")
        assert len({visit.body for visit in got}) == len(got) <= len(mine), "sent twice, or not written down"


async def _some_turns(chance: random.Random) -> None:
    for _ in range(chance.randrange(40)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_sixty_users_with_nonces_and_random_cancels_are_never_mixed_up(house: House, seed: int) -> None:
    users = await _people(house, USERS)
    heard = await asyncio.gather(
        *(
            _ask(house, user, number, random.Random(1000 * seed + number), ROUNDS, 0.4, _some_turns)
            for number, user in enumerate(users)
        )
    )
    assert sum(len(told.nonces) for told in heard) > USERS
    await _check(house, users, heard, ROUNDS)


async def _a_moment(chance: random.Random) -> None:
    """Any point of a request whose steps wait for slow stores."""
    await asyncio.sleep(chance.random() * 8 * LONGEST)


async def test_two_hundred_users_of_whom_half_leave_are_never_mixed_up_while_the_stores_are_slow(
    postgresql: Engine, tmp_path: Path
) -> None:
    url = urlsplit(postgresql.url)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(delaying(url.port or 5432, 1))
        redis = await stack.enter_async_context(delaying(redis_server().port, 2))
        shared = shared_redis() | {"redis_url": f"redis://127.0.0.1:{redis.port}/0"}
        place = url._replace(netloc=f"{url.username}@127.0.0.1:{database.port}").geturl()
        given = {
            "redis_prefix": shared["redis_prefix"],
            "redis_url": shared["redis_url"],
            "redis_timeout": PATIENCE,
        }
        house = await stack.enter_async_context(
            open_house(tmp_path / "data", database_url=place, **given, database_lock=PATIENCE)
        )
        users = await _people(house, CROWD)
        database.most = redis.most = LONGEST
        heard = await asyncio.gather(
            *(
                _ask(house, user, number, random.Random(number), VISITS, 0.5, _a_moment)
                for number, user in enumerate(users)
            )
        )
        database.most = redis.most = 0.0
        assert sum(len(told.nonces) for told in heard) > CROWD / 2
        await _check(house, users, heard, VISITS)
