"""docs/counting.md, sentence by sentence: what counts, and what is given back. What is raced is in test_limits."""

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.limits import DOOR_SECONDS, Gate
from penstock.settings import Settings
from penstock.store.journal import Journal
from tests.service.conversations import DIALECTS, FRAMES, PATHS, REPLIES, Answer, body_of, request
from tests.service.running_service import House, User, open_house
from tests.service.scripted import Asked

both = pytest.mark.parametrize("dialect", DIALECTS)
PAGE = Path(__file__).parents[2] / "docs" / "counting.md"


async def _books(house: House, user: User) -> tuple[int, list[tuple[str | None, bool, str | None]]]:
    """What is counted, and how each row ended."""
    rows = await house.rows(user)
    return await house.used(user), [(row["outcome"], row["counted"], row["refund_reason"]) for row in rows]


def test_the_page_is_the_one_that_is_tested_here() -> None:
    text = PAGE.read_text("utf-8")
    reasons = re.search(r"why it was refunded: ([^.]*)\.", text.replace("\n", " "))
    assert reasons is not None
    assert set(re.findall(r"`(\w+)`", reasons[1])) == {
        "no_output",
        "provider_refused",
        "not_sent",
        "internal_error",
        "draining",
    }
    settings = Settings()
    assert (settings.errors_per_minute, settings.errors_per_minute_address) == (120, 60)
    assert DOOR_SECONDS == 60
    assert (Gate.__init__.__kwdefaults__ or {})["countings_per_minute"] == 600
    assert settings.cache_seconds == 5


@both
async def test_a_request_is_counted_and_in_the_journal_before_the_provider_gets_it(
    house: House, dialect: str
) -> None:
    user = await house.user()
    caller = await house.begin(dialect, f"wire-{dialect}", user)
    asked = await house.wires[f"wire-{dialect}"].next()
    kept = b"".join(file.read_bytes() for file in (house.settings.data / "journal").iterdir())
    assert user.id.encode() in kept
    while not (rows := await _rows(house)):  # noqa: ASYNC110 - the thread that writes tells nobody
        await asyncio.sleep(0.001)
    assert rows == [("open", 1)]
    async with house.store.database.connect() as conn:
        assert (await conn.exec_driver_sql("select used from usage_days")).scalar_one() == 1
    asked.answer(REPLIES[dialect])
    assert (await caller.answer()).status == 200
    assert await _books(house, user) == (1, [("completed", True, None)])


async def _rows(house: House) -> list[tuple[Any, ...]]:
    async with house.store.database.connect() as conn:
        return [
            tuple(row)
            for row in await conn.exec_driver_sql(
                "select state, counted from requests join kinds on kinds.id = requests.kind"
            )
        ]


@both
async def test_retries_and_fallbacks_of_ours_count_once(house: House, dialect: str) -> None:
    user = await house.user()
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.reset()
    house.wires[f"spare-{dialect}"].script = lambda asked: asked.answer(REPLIES[dialect])
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 200
    assert (await house.row(user))["attempts"] == 2
    assert await house.used(user) == 1
    house.wires[f"spare-{dialect}"].script = lambda asked: asked.reset()
    assert (await house.ask(dialect, f"pair-{dialect}", user)).status == 502
    assert await _books(house, user) == (
        1,
        [("completed", True, None), ("upstream_error", False, "no_output")],
    )


@both
async def test_what_we_refuse_does_not_count(house: House, dialect: str) -> None:
    user, path = await house.user("few"), PATHS[dialect]
    answers: list[Answer] = [
        await house.post(dialect, b"{", user),
        await house.post(dialect, body_of(dialect, "x"), None),
        await house.ask(dialect, "no-such-model", user),
        await house.ask(dialect, "absent-model", user),
        await house.http("GET", path, user.key),
        await house.http("POST", path + "x", user.key),
        await house.ask(dialect, "claude-opus-4.6", await house.user("free")),
        await house.post(dialect, b"xx", user, {"content-encoding": "compress"}),
        await house.post(dialect, b"xx", user, {"content-encoding": "gzip"}),
        await house.http("GET", path, user.key, headers={"upgrade": "websocket"}),
        await house.post(dialect, b"{}", user, {"x-long": "x" * 40_000}),
    ]
    head = request("POST", path, {"x-api-key": user.key, "x": "y"}).replace(
        b"content-length: 0", b"content-length: 40000000"
    )
    answers.append(await (await house.send(head)).answer())
    statuses = [answer.status for answer in answers]
    assert statuses == [400, 401, 404, 503, 405, 404, 403, 415, 400, 426, 431, 413]
    assert await _books(house, user) == (0, [])
    for _ in range(5):
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200
    for _ in range(3):
        assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 429
    assert (await _books(house, user))[0] == 5


async def test_models_token_counts_and_hellos_do_not_count_and_take_no_slot(house: House) -> None:
    user = await house.user("one")
    await house.begin("chat", "wire-chat", user)
    await house.wires["wire-chat"].next()
    for method, path, body in (
        ("GET", "/v1/models", b""),
        ("GET", "/v1/models/chat-plain", b""),
        ("POST", "/v1/messages/count_tokens", body_of("messages", "messages-plain")),
        ("HEAD", "/v1", b""),
    ):
        assert (await house.http(method, path, user.key, body=body)).status == 200
    assert (await house.http("GET", "/v1/models", user.key)).headers["x-ratelimit-remaining"] == "999"


@both
async def test_no_output_is_given_back(house: House, dialect: str) -> None:
    user = await house.user()
    for model in ("error-500", "garbage", "empty", "cut-at-once", "error-401"):
        for stream in (False, True):
            assert (await house.ask(dialect, f"{dialect}-{model}", user, stream=stream)).status == 502
    used, rows = await _books(house, user)
    assert used == 0
    assert set(rows) == {("upstream_error", False, "no_output")}


@both
async def test_an_error_event_with_nothing_before_it_is_given_back(tmp_path: Path, dialect: str) -> None:
    async with open_house(tmp_path / "data", head_hold=0.0) as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        head = await caller.head()
        asked.reset()
        assert b"error" in (await caller.rest(head)).body
        assert await _books(house, user) == (0, [("upstream_error", False, "no_output")])


@both
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_provider_refuses_is_given_back_and_counts_as_refused(
    tmp_path: Path, dialect: str, status: int
) -> None:
    async with open_house(tmp_path / "data", errors_per_minute=2) as house:
        user = await house.user()
        for stream in (False, True):
            answer = await house.ask(dialect, f"{dialect}-error-{status}", user, stream=stream)
            assert answer.status == (413 if status == 413 else 400)
        assert await _books(house, user) == (0, [("refused", False, "provider_refused")] * 2)
        answer = await house.ask(dialect, f"{dialect}-plain", user)
        assert answer.code == "too_many_refused_requests"


@both
async def test_who_leaves_before_anything_was_sent_gets_it_back(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    sync = Journal.sync

    def slow(journal: Journal) -> None:
        disk.wait()
        sync(journal)

    monkeypatch.setattr(Journal, "sync", slow)
    async with open_house(tmp_path / "data", database_synchronous="FULL") as house:
        user = await house.user()
        caller = await house.begin(dialect, f"wire-{dialect}", user)
        while not house.held(user):
            await house.http("GET", "/v1/models", user.key)
        caller.leave()
        while house.held(user):
            await house.http("GET", "/v1/models", user.key)
        disk.set()
        assert await _books(house, user) == (0, [("client_gone", False, "not_sent")])
        assert house.asked == 0
        seen = await house.http("GET", "/v1/models", user.key)
        assert seen.headers["x-ratelimit-remaining"] == "50000"


@both
async def test_who_leaves_later_gets_nothing_back(house: House, dialect: str) -> None:
    user = await house.user()
    for begun in (0, 3):
        caller = await house.begin(dialect, f"wire-{dialect}", user, stream=True)
        asked = await house.wires[f"wire-{dialect}"].next()
        if begun:
            asked.begin(*FRAMES[dialect][:begun])
            await caller.head()
        caller.leave()
        await asked.left()
    assert await _books(house, user) == (2, [("client_gone", True, None)] * 2)


@both
async def test_a_stream_that_breaks_off_after_some_output_counts(house: House, dialect: str) -> None:
    user = await house.user()
    await house.ask(dialect, f"{dialect}-cut", user, stream=True)
    assert await _books(house, user) == (1, [("upstream_error", True, None)])


@both
async def test_the_tokens_of_a_row_are_the_providers_or_marked_as_estimated(
    house: House, dialect: str
) -> None:
    user = await house.user()
    long = [{"role": "user", "content": "x" * 4000}]
    for model, estimated in (("plain", False), ("no-usage", True), ("cut", True)):
        for stream in (False, True):
            await house.ask(dialect, f"{dialect}-{model}", user, stream=stream, messages=long)
            row = (await house.rows(user))[-1]
            if row["outcome"] == "upstream_error" and not stream:
                continue  # nothing came of it
            assert row["estimated"] is estimated, (model, stream)
            assert 900 < row["input_tokens"] < 1200
            assert row["output_tokens"] > 0


async def test_no_output_tokens_for_some_output_are_not_believed(house: House) -> None:
    user = await house.user()
    text = FRAMES["chat"][1].replace(b"Hi ", b"x" * 400)
    usage = FRAMES["chat"][4].replace(b'"completion_tokens":5', b'"completion_tokens":0')
    frames = (FRAMES["chat"][0], text, FRAMES["chat"][3], usage, FRAMES["chat"][5])
    house.wires["wire-chat"].script = lambda asked: asked.stream(*frames)
    assert (await house.ask("chat", "wire-chat", user, stream=True)).status == 200
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (11, 100, True)


async def test_what_the_provider_counted_before_it_broke_off_is_the_least(house: House) -> None:
    user = await house.user()

    def broken(asked: Asked) -> None:
        asked.begin(
            *(frame.replace(b'"output_tokens":5', b'"output_tokens":50') for frame in FRAMES["messages"][:-1])
        )
        asked.cut()

    house.wires["wire-messages"].script = broken
    answer = await house.ask("messages", "wire-messages", user, stream=True)
    assert answer.frames[-1].event == "error"
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (11, 50, True)


async def test_token_counting_has_a_bound_of_its_own(house: House) -> None:
    user, other = await house.user("one"), await house.user("one")
    body = body_of("messages", "wire-messages")
    house.wires["wire-messages"].script = lambda asked: asked.answer(b'{"input_tokens":1}')
    caller = await house.call()
    raw = request("POST", "/v1/messages/count_tokens", {"x-api-key": user.key}, body)
    statuses: list[int] = []
    for _ in range(601):
        await caller.send(raw)
        statuses.append((await caller.answer()).status)
    assert statuses == [200] * 600 + [429]
    assert (await house.http("POST", "/v1/messages/count_tokens", other.key, body=body)).status == 200
    assert (await house.ask("messages", "messages-plain", user)).status == 200
