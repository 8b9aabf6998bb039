"""``penstock serve`` as a process that is killed and restarted under load: the books and the provider's journal agree."""

import asyncio
import contextlib
import logging
import os
import random
import re
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from penstock.core.limits import day_of
from penstock.domain.ledger.entries import entries
from penstock.operations.first_start import Store
from penstock.providers.simulator.handler import SimulatedRequest
from penstock.store.sql.schema import usage_days
from tests.redis import shared_redis
from tests.service.conversations import DIALECTS, FRAMES, PATHS, body_of, frames_of, request
from tests.service.processes import Process, serving
from tests.service.running_service import User, furnished, make_user
from tests.service.scripted import PATIENCE
from tests.stores import Engine

log = logging.getLogger(__name__)

ROUNDS = int(os.environ.get("PENSTOCK_TEST_ROUNDS", "8"))
"""How often a server is killed; ``make chaos`` does it a hundred times."""
CALLERS = 12
KILLED_LEASE = 1.0
"""Seconds, so that the slots of those who were killed do not add up to the plan's."""
SLOT_SECONDS = 15.0 if ROUNDS > 8 else 3.0
"""How long a slot outlives its holder: as it is by default in ``make chaos``, shorter in the tests of every day."""
_NONCE = re.compile(rb"nonce-(\d+)-")


async def _load(server: Process, user: User, nonces: "list[int]", told: dict[str, str]) -> None:
    """One caller who asks and asks until the server is gone. ``told`` gets the ids of complete answers."""
    while True:
        nonce = nonces.pop()
        dialect = DIALECTS[nonce % 2]
        # the name is an alias by a pattern, and the ledger keeps what was asked for
        model = f"claude-sonnet-4-6-{nonce}"
        text = [{"role": "user", "content": f"nonce-{nonce}-"}]
        body = body_of(dialect, model, messages=text, stream=nonce % 3 == 0)
        try:
            answer = await server.http("POST", PATHS[dialect], user.key, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        if not answer.whole:
            return
        assert answer.status == 200, answer.body
        told[answer.headers["x-request-id"]] = model


async def _books(store: Store, user: User) -> tuple[list[dict[str, Any]], int]:
    async with store.database.connect() as conn:
        rows = [
            dict(row)
            for row in (await conn.execute(select(entries).where(entries.c.user_id == user.id))).mappings()
        ]
        used = await conn.scalar(select(usage_days.c.used).where(usage_days.c.user_id == user.id))
    return rows, used or 0


async def test_killed_under_load_again_and_again_nothing_is_lost_or_doubled(
    engine: Engine, tmp_path: Path
) -> None:
    """With SQLite and limits in memory, and with PostgreSQL and Redis."""
    data = tmp_path / "data"
    shared = {"database_url": engine.url}
    if engine.name == "postgresql":
        shared |= shared_redis(KILLED_LEASE)
    chance = random.Random(7)
    nonces = list(range(100_000))
    visits: list[SimulatedRequest] = []
    told: dict[str, str] = {}
    kill_at, reached = 0, asyncio.Event()

    def journal(visit: SimulatedRequest) -> None:
        visits.append(visit)
        if len(visits) == kill_at:
            reached.set()

    async with furnished(data, journal, engine.url) as (store, _):
        user = await make_user(store, "lab", 1)
        for _ in range(ROUNDS):
            kill_at, reached = len(visits) + chance.randrange(1, 120), asyncio.Event()
            async with serving(data, **shared) as server:
                load = [asyncio.create_task(_load(server, user, nonces, told)) for _ in range(CALLERS)]
                async with asyncio.timeout(PATIENCE):
                    await reached.wait()
                await server.kill()
                await asyncio.gather(*load)
        async with serving(data, **shared) as server:
            answer = await server.http("GET", "/v1/models", user.key)
            await server.stop()
        rows, used = await _books(store, user)
    assert all(row["state"] == "settled" for row in rows)
    written = [row["requested_model"] for row in rows]
    assert len(set(written)) == len(written), "a request is in the books twice"
    seen = [f"claude-sonnet-4-6-{int(_NONCE.findall(visit.body)[0])}" for visit in visits]
    assert len(set(seen)) == len(seen), "the provider got a request twice"
    assert set(seen) <= set(written), "the provider got what is not in the books"
    outcomes = {row["requested_model"]: row["outcome"] for row in rows}
    for model in set(written) - set(seen):
        assert outcomes[model] == "aborted", "in the books, never sent, and not told so"
    by_id = {row["id"]: row for row in rows}
    for id, model in told.items():
        assert by_id[id]["requested_model"] == model, "a caller has an answer that is not in the books"
    assert len(rows) - len(told) <= ROUNDS * CALLERS
    assert used == sum(row["counted"] for row in rows) == len(rows)
    told_used = int(answer.headers["x-ratelimit-limit"]) - int(answer.headers["x-ratelimit-remaining"])
    if engine.name == "sqlite":
        assert told_used == used
    else:
        # what Redis had counted when a server was killed that had not written it down yet stays counted there
        assert used <= told_used <= used + ROUNDS * CALLERS
    aborted = sum(outcome == "aborted" for outcome in outcomes.values())
    log.info(
        "%s: %d kills, %d requests reached the provider, %d rows, %d complete answers, %d cut off, 0 lost, 0 doubled, "
        "%d counted without a row",
        engine.name,
        ROUNDS,
        len(seen),
        len(rows),
        len(told),
        aborted,
        told_used - used,
    )


async def test_the_slot_that_a_killed_server_held_in_redis_is_free_again_by_itself(
    postgresql: Engine, tmp_path: Path
) -> None:
    """After ``redis_lease`` at most, beside another server that lives on."""
    shared = {"database_url": postgresql.url} | shared_redis(SLOT_SECONDS)
    async with furnished(tmp_path / "one", lambda _visit: None, postgresql.url) as (store, wires):
        user = await make_user(store, "one", 1)
        (tmp_path / "two").mkdir()
        secret = {"secret_file": str(tmp_path / "one" / "secrets.json")}
        async with (
            serving(tmp_path / "one", **shared) as killed,
            serving(tmp_path / "two", **shared, **secret) as other,
        ):
            holding = await killed.call()
            body = body_of("chat", "wire-chat", stream=True)
            await holding.send(request("POST", PATHS["chat"], {"x-api-key": user.key}, body))
            await wires["wire-chat"].next()
            small = body_of("chat", "chat-plain")
            assert (await other.http("POST", PATHS["chat"], user.key, small)).status == 429
            await killed.kill()
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                while (await other.http("POST", PATHS["chat"], user.key, small)).status == 429:  # noqa: ASYNC110 - Redis tells nobody
                    await asyncio.sleep(0.1)
            log.info("of %.0f s, the slot was free after %.1f", SLOT_SECONDS, time.monotonic() - began)
            holding.leave()


async def test_the_last_requests_of_a_day_are_exact_across_a_kill(engine: Engine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with furnished(data, lambda _visit: None, engine.url) as (store, _):
        user = await make_user(store, "few", 1)
        body = body_of("chat", "chat-plain")
        passed = 0
        for count in (3, 9):
            async with serving(data, database_url=engine.url) as server:
                asks = (server.http("POST", PATHS["chat"], user.key, body) for _ in range(count))
                answers = await asyncio.gather(*asks)
                passed += sum(answer.status == 200 for answer in answers)
                await server.kill()
        assert passed == 5
        async with serving(
            data, database_url=engine.url
        ) as server:  # which finds the journal of the last one
            await server.stop()
        rows, used = await _books(store, user)
        assert (len(rows), used) == (5, 5)
        assert {row["day"] for row in rows} == {day_of(rows[0]["created_at"] / 1000)}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_stopping_lets_streams_finish_and_answers_503_meanwhile(tmp_path: Path, dialect: str) -> None:
    data = tmp_path / "data"
    async with furnished(data, lambda _visit: None) as (store, wires):
        user = await make_user(store, "lab", 1)
        async with serving(data, drain_delay="30") as server:
            caller, late = await server.call(), await server.call()
            body = body_of(dialect, f"wire-{dialect}", stream=True)
            await caller.send(request("POST", PATHS[dialect], {"x-api-key": user.key}, body))
            asked = await wires[f"wire-{dialect}"].next()
            asked.begin(*FRAMES[dialect][:3])
            head = await caller.head()
            head.body = await caller.until(b"Hi ")
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                while (await server.http("GET", "/readyz", "")).status == 200:
                    pass
            ready = await server.http("GET", "/readyz", "")
            assert (ready.status, ready.body) == (503, b"draining\n")
            await late.send(request("POST", PATHS[dialect], {"x-api-key": user.key}, body))
            refused = await late.answer()
            assert (refused.status, refused.code) == (503, "draining")
            assert refused.headers["connection"] == "close"
            assert (await server.http("GET", "/healthz", "")).status == 200
            asked.frames(*FRAMES[dialect][3:])
            asked.end()
            answer = await caller.rest(head)
            assert answer.whole
            assert frames_of(answer.body)
            server.process.send_signal(signal.SIGTERM)  # the delay is not waited for
            logged = await server.ended()
            assert server.process.returncode == 0, logged
            caller.leave()
            late.leave()
        rows, used = await _books(store, user)
        assert ([row["outcome"] for row in rows], used) == (["completed"], 1)


async def test_an_idle_server_ends_at_once_and_cleanly_after_it_has_recorded_something(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    async with serving(data) as server:
        body = body_of("chat", "claude-haiku-4.5")
        answer = await server.http("POST", "/v1/chat/completions", server.demo_key, body)
        assert answer.status == 200
        assert answer.headers["x-penstock-upstream"] == "simulator"
        async with asyncio.timeout(PATIENCE):
            log = await server.stop()
        assert "Traceback" not in log
        assert server.demo_key not in log


async def test_a_full_disk_refuses_before_the_provider_is_asked_and_recovers_by_itself(
    tmp_path: Path,
) -> None:
    """The data directory is a file system of 10 MiB that the test fills and empties."""
    small = tmp_path / "small"
    small.mkdir()
    visits: list[SimulatedRequest] = []
    async with furnished(tmp_path / "data", visits.append) as (store, _):
        user = await make_user(store, "lab", 1)
        mount = f'mount -t tmpfs -o size=10m,mode=700 tmpfs {small} && cp -a {tmp_path}/data/. {small} && exec "$@"'
        by = ("unshare", "-rm", "sh", "-c", mount, "sh")
        async with serving(small, by=by) as server:
            inside = Path(f"/proc/{server.process.pid}/root{small}")
            statuses: list[int] = []

            async def ask(nonce: int) -> int:
                text = [{"role": "user", "content": f"nonce-{nonce}-"}]
                model = f"claude-sonnet-4-6-{nonce}-{'x' * 80}"
                answer = await server.http(
                    "POST", PATHS["chat"], user.key, body_of("chat", model, messages=text)
                )
                statuses.append(answer.status)
                return answer.status

            async def keep_asking(first: int) -> None:
                nonce = first
                while await ask(nonce) != 503:
                    nonce += 16

            assert await ask(0) == 200
            await asyncio.to_thread(_fill, inside / "filler")
            await asyncio.gather(*(keep_asking(number) for number in range(1, 17)))
            assert set(statuses) == {200, 503}
            reached = len(visits)
            assert [await ask(1_000_000 + number) for number in range(20)] == [503] * 20
            assert len(visits) == reached, "the provider was asked for what could not be recorded"
            (inside / "filler").unlink()
            emptied = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                while await ask(2_000_000 + len(statuses)) != 200:
                    pass
                served = time.monotonic() - emptied
                seen = {int(_NONCE.findall(visit.body)[0]) for visit in visits}
                while (rows := _names(inside / "penstock.db", tmp_path / "copy")) != len(seen):  # noqa: ASYNC110 - a thread writes
                    await asyncio.sleep(0.05)
            assert rows == len(seen) == len(visits) == statuses.count(200)
            refused = statuses.count(503)
            log.info(
                "a full disk: %d answers until no room was left, %d refused, served again after %.2f s, all %d in the books",
                len(statuses) - refused, refused, served, rows,
            )  # fmt: skip


def _fill(file: Path) -> None:
    """Until not another byte goes on the file system."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def _names(file: Path, copy: Path) -> int:
    """How many requests are in the books, each once; -1 while they are being written.

    SQLite would look for the file outside of the server's file system, so a copy is read.
    """
    copy.mkdir(exist_ok=True)
    for name in (file.name, f"{file.name}-wal"):
        shutil.copyfile(file.with_name(name), copy / name)
    counted = "SELECT count(DISTINCT requested_model), (SELECT sum(used) FROM usage_days) FROM requests"
    try:
        with contextlib.closing(sqlite3.connect(copy / file.name)) as books:
            rows, used = books.execute(counted).fetchone()
    except sqlite3.DatabaseError:
        return -1
    finally:
        shutil.rmtree(copy)
    return int(rows) if rows == used else -1
