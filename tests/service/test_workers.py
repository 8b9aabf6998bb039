"""``penstock serve --workers``: one service on several processes, whichever of them a caller meets."""

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from sqlalchemy import func, select

from penstock.domain.ledger.entries import entries
from penstock.operations.control import ServerState, ask_server
from penstock.operations.first_start import Store
from penstock.store.sql.schema import usage_days
from tests.redis import redis_server, shared_redis
from tests.service.conversations import FRAMES, PATHS, REPLIES, Answer, body_of, request
from tests.service.processes import Process, serving
from tests.service.running_service import User, furnished, make_user
from tests.service.scripted import PATIENCE, Scripted
from tests.stores import Engine

log = logging.getLogger(__name__)

CHAT = PATHS["chat"]
PLAIN = body_of("chat", "chat-plain")
WIRED = body_of("chat", "wire-chat")
RACES = int(os.environ.get("PENSTOCK_TEST_RACES", "10"))
"""How often two workers race; ``make chaos`` has them do it a thousand times."""
SLOT_SECONDS = 2.0
"""How long a slot outlives a process that was killed."""


@asynccontextmanager
async def working(
    engine: Engine, tmp_path: Path, workers: int = 2, **settings: str
) -> AsyncGenerator[tuple[Process, Store, dict[str, Scripted]]]:
    """A server with so many workers, all of them up, and what is round it."""
    data = tmp_path / "data"
    shared = {"database_url": engine.url, "workers": str(workers)} | shared_redis(SLOT_SECONDS)
    async with (
        furnished(data, lambda _visit: None, engine.url) as (store, wires),
        serving(data, **shared | {"drain_delay": "0.5"} | settings) as server,
    ):
        await until(lambda: len(server.workers()) == workers)
        yield server, store, wires


async def until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.02)


async def ask(server: Process, user: User, times: int) -> list[Answer]:
    """So many requests at once, each on a connection of its own."""
    return await asyncio.gather(*(server.http("POST", CHAT, user.key, PLAIN) for _ in range(times)))


async def counted(store: Store, user: User) -> tuple[int, int]:
    """What is counted, and the settled rows behind it."""
    async with store.database.connect() as conn:
        used = await conn.scalar(select(usage_days.c.used).where(usage_days.c.user_id == user.id))
        rows = await conn.scalar(
            select(func.count()).where(entries.c.user_id == user.id, entries.c.state == "settled")
        )
    return used or 0, rows or 0


async def test_two_workers_race_for_the_last_slot_and_the_last_request_and_none_is_one_over(
    postgresql: Engine, tmp_path: Path
) -> None:
    """Each race is between new connections, over which the kernel spreads the workers, of a new user."""
    # where Redis is late, as on a busy machine, each worker goes on with a share of its own
    async with working(postgresql, tmp_path, redis_timeout="20") as (server, store, wires):
        for number in range(RACES):
            one, few = [
                await make_user(store, plan, 2 * number + at) for at, plan in enumerate(("one", "few"))
            ]
            asking = [server.http("POST", CHAT, one.key, WIRED) for _ in range(4)]
            racers = asyncio.as_completed([asyncio.ensure_future(one_of) for one_of in asking])
            async with asyncio.timeout(PATIENCE):
                refused = [(await first).status for first in islice(racers, 3)]
            assert refused == [429] * 3, "one at a time"
            assert sorted(answer.status for answer in await ask(server, few, 8)) == [200] * 5 + [429] * 3
            (await wires["wire-chat"].next()).answer(REPLIES["chat"])
            assert [(await last).status for last in racers] == [200]
        log.info(
            "two workers: %d races for the last slot and for the last request of a day, none over", RACES
        )
        await server.stop()
        async with store.database.connect() as conn:
            assert sorted({*(await conn.execute(select(usage_days.c.used))).scalars()}) == [1, 5]


async def test_a_slot_is_one_slot_of_all_workers_and_a_killed_one_gives_it_back(
    postgresql: Engine, tmp_path: Path
) -> None:
    async with working(postgresql, tmp_path) as (server, store, wires):
        user = await make_user(store, "one", 1)
        caller = await server.call()
        body = body_of("chat", "wire-chat", stream=True)
        await caller.send(request("POST", CHAT, {"x-api-key": user.key}, body))
        asked = await wires["wire-chat"].next()
        asked.begin(*FRAMES["chat"][:3])
        assert {answer.status for answer in await ask(server, user, 12)} == {429}
        before = server.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        caller.leave()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    (answer,) = await ask(server, user, 1)
                except (ConnectionError, asyncio.IncompleteReadError):
                    continue
                if answer.status == 200:
                    break
                assert answer.status == 429
                await asyncio.sleep(0.2)
        await until(lambda: len(server.workers()) == 2 and not server.workers() & before)
        log = await server.stop()
        assert log.count("has ended with status -9") == 2
        assert await counted(store, user) == (2, 2)


async def test_a_rolling_restart_loses_no_request(postgresql: Engine, tmp_path: Path) -> None:
    async with working(postgresql, tmp_path) as (server, store, _):
        user = await make_user(store, "lab", 1)
        before = server.workers()
        rolled = asyncio.Event()
        answered = 0

        async def load(*, keeping: bool) -> None:
            """One caller; it keeps its connection as long as it may, or makes a new one each time."""
            nonlocal answered
            caller = await server.call()
            while not rolled.is_set():
                await caller.send(request("POST", CHAT, {"x-api-key": user.key}, PLAIN))
                answer = await caller.answer()
                assert answer.status == 200, answer.body
                answered += 1
                if not keeping or answer.headers.get("connection") == "close":
                    caller.leave()
                    caller = await server.call()
            caller.leave()

        callers = [asyncio.create_task(load(keeping=number % 2 == 0)) for number in range(4)]
        await asyncio.sleep(0)
        server.process.send_signal(signal.SIGHUP)

        def all_new() -> bool:
            for caller in callers:
                if caller.done():
                    caller.result()
            now = server.workers()
            return len(now) == 2 and not now & before

        await until(all_new, 2 * PATIENCE)
        rolled.set()
        await asyncio.gather(*callers)
        async with asyncio.timeout(PATIENCE):
            while await ask_server(tmp_path / "data", "state", ServerState) is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        await server.stop()
        assert await counted(store, user) == (answered, answered)


async def test_a_revoked_key_dies_in_every_worker(postgresql: Engine, tmp_path: Path) -> None:
    async with working(postgresql, tmp_path, 3) as (server, store, _):
        user = await make_user(store, "lab", 1)
        assert {answer.status for answer in await ask(server, user, 12)} == {200}
        revoking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock", "key", "revoke", "--email", user.email, "--name", "default"),
            env={
                **os.environ,
                "PENSTOCK_DATA": str(tmp_path / "data"),
                "PENSTOCK_DATABASE_URL": postgresql.url,
            },
        )
        assert await revoking.wait() == 0
        async with asyncio.timeout(PATIENCE):
            while {answer.status for answer in await ask(server, user, 24)} != {401}:  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.2)


async def test_a_worker_that_hangs_is_killed_and_replaced_and_the_others_serve_meanwhile(
    postgresql: Engine, tmp_path: Path
) -> None:
    async with working(postgresql, tmp_path, worker_hung="2") as (server, store, _):
        user = await make_user(store, "lab", 1)
        before = server.workers()
        hanging = min(before)
        os.kill(hanging, signal.SIGSTOP)
        await until(lambda: hanging not in server.workers() and len(server.workers()) == 2)
        assert before & server.workers() == before - {hanging}
        assert {answer.status for answer in await ask(server, user, 12)} == {200}
        log = await server.stop()
        assert f"worker {hanging} hangs: it has said nothing for 2 s" in log
        assert await counted(store, user) == (12, 12)


async def test_workers_do_not_outlive_their_supervisor(postgresql: Engine, tmp_path: Path) -> None:
    async with working(postgresql, tmp_path, drain="5") as (server, _, _):
        workers = server.workers()
        await server.kill()
        await until(lambda: not any(alive(worker) for worker in workers))


def alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_service_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "serve", "--port", "0", "--workers", "2"),
        env={
            **os.environ,
            "PENSTOCK_DATA": str(tmp_path),
            "PENSTOCK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "PENSTOCK_REDIS_URL": redis_server().url,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot be reached" in err


COUNTED = re.compile(r'penstock_requests_total\{dialect="chat",status="200",worker="(\d+)"\} (\S+)')


async def test_metrics_are_those_of_all_workers(postgresql: Engine, tmp_path: Path) -> None:
    async with working(postgresql, tmp_path, revision_poll="0.1") as (server, store, _):
        user = await make_user(store, "lab", 1)
        answered = 0
        seen: dict[str, float] = {}
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 2 or sum(seen.values()) < answered:
                if len(seen) < 2:
                    answered += len(await ask(server, user, 8))
                told = (await server.http("GET", "/metrics", "")).body.decode()
                seen = {worker: float(count) for worker, count in COUNTED.findall(told)}
        assert sum(seen.values()) == answered
        assert set(map(int, seen)) == server.workers()
