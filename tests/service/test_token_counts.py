"""``count_tokens``: exact where a provider counts, an estimate that says so elsewhere, free, and by turns."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.upstream import Deadlines
from tests.service.conversations import REPLIES
from tests.service.running_service import House, open_house, raw


async def test_tokens_are_counted_exactly_by_a_messages_upstream_for_nothing(house: House) -> None:
    user = await house.user("one")
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(b'{"input_tokens":4711,"x":1}')
    body: dict[str, Any] = {
        "model": "wire-messages",
        "messages": [{"role": "user", "content": "Hi"}],
        "x_more": [1],
    }
    for _ in range(30):
        answer = await house.http(
            "POST", "/v1/messages/count_tokens?beta=true", user.key, body=msgspec.json.encode(body)
        )
        assert answer.status == 200
        assert answer.json["input_tokens"] == 4711
        assert answer.headers["x-penstock-token-count"] == "exact"
        assert answer.headers["x-ratelimit-remaining"] == "1000"
    asked = await wire.next()
    assert asked.path == "/base/v1/messages/count_tokens"
    assert asked.json == {**body, "model": "up-messages"}
    assert await house.rows(user) == []
    assert await house.used(user) == 0


COUNTING = "/v1/messages/count_tokens"


def counting(model: str, content: object = "x") -> bytes:
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": content}]})


async def test_tokens_of_a_model_without_a_counter_are_estimated_and_said_to_be(house: House) -> None:
    user = await house.user("one")
    answers = await asyncio.gather(
        *(house.http("POST", COUNTING, user.key, body=counting("wire-chat")) for _ in range(30))
    )
    for answer in answers:
        assert (answer.status, answer.headers["x-penstock-token-count"]) == (200, "estimated")
        assert answer.headers["x-ratelimit-remaining"] == "1000"
        assert "request-id" in answer.headers
    few = answers[0].json["input_tokens"]
    assert 0 < few < 50
    long = await house.http("POST", COUNTING, user.key, body=counting("wire-chat", "more words " * 500))
    assert long.json["input_tokens"] > few + 900
    assert house.asked == 0
    assert await house.rows(user) == []
    missing = await house.http("POST", COUNTING, user.key, body=b'{"model":"wire-chat"}')
    assert (missing.status, "messages" in missing.error) == (400, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 404), (b"no", 405), (b'{"input_tokens":0}', 200), (b'{"tokens":5}', 200), (b"", 200)],
    ids=["none", "not-allowed", "zero", "odd", "empty"],
)
async def test_a_messages_provider_that_does_not_count_is_not_believed(
    house: House, body: bytes, status: int
) -> None:
    user = await house.user()
    house.wires["wire-messages"].script = lambda asked: asked.answer(body, status)
    answer = await house.http("POST", COUNTING, user.key, body=counting("wire-messages"))
    assert (answer.status, answer.headers["x-penstock-token-count"]) == (200, "estimated")
    assert answer.json["input_tokens"] > 0


async def test_a_provider_that_fails_to_count_is_a_502(house: House) -> None:
    user = await house.user()
    house.wires["wire-messages"].script = lambda asked: asked.answer(b"{}", 500)
    assert (await house.http("POST", COUNTING, user.key, body=counting("wire-messages"))).status == 502


async def test_countings_wait_for_a_turn_and_leave_others_theirs(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", token_counts_at_once=2, token_counts_at_once_user=1) as house:
        user, other = await house.user("one"), await house.user("one")
        wire = house.wires["wire-messages"]
        ask = raw("POST", COUNTING, user.key, counting("wire-messages"), {})
        first, second = await house.send(ask), await house.send(ask)
        await wire.next()
        # the other user has a turn while two of the first one's are there, of which one waits
        theirs = await house.send(raw("POST", COUNTING, other.key, counting("wire-messages"), {}))
        (await wire.next()).answer(b'{"input_tokens":7}')
        assert (await theirs.answer()).json["input_tokens"] == 7
        assert len(wire.asked) == 2
        first.leave()  # which gives its turn to the second
        (await wire.next()).answer(b'{"input_tokens":8}')
        assert (await second.answer()).json["input_tokens"] == 8


async def test_counting_does_not_wait_for_a_slot_and_takes_none(house: House) -> None:
    user = await house.user("one")
    caller = await house.begin("messages", "wire-messages", user)
    asked = await house.wires["wire-messages"].next()
    body = b'{"model":"messages-plain","messages":[{"role":"user","content":"x"}]}'
    assert (await house.http("POST", "/v1/messages/count_tokens", user.key, body=body)).status == 200
    asked.answer(REPLIES["messages"])
    assert (await caller.answer()).status == 200


async def test_a_counter_gets_neither_the_limit_of_an_answer_nor_its_stream(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.answer(b'{"input_tokens":7}')
    turns = [{"role": "user", "content": "x"}]
    body = {"model": "wire-messages", "messages": turns, "max_tokens": 9, "stream": True}
    assert (await house.http("POST", COUNTING, user.key, body=msgspec.json.encode(body))).status == 200
    assert (await wire.next()).json == {"model": "up-messages", "messages": turns}


async def test_what_a_provider_without_a_counter_says_is_not_waited_for(house: House) -> None:
    user = await house.user()
    assert house.service is not None
    assert house.service._api is not None
    hours = 3600.0  # so that no deadline closes the connection in place of the counter
    house.service._api._counter._deadlines = Deadlines(hours, hours, hours, hours)
    house.wires["wire-messages"].script = lambda asked: asked.write(
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 1000\r\n\r\nno end"
    )
    answer = await house.http("POST", COUNTING, user.key, body=counting("wire-messages"))
    assert (answer.status, answer.headers["x-penstock-token-count"]) == (200, "estimated")
    await house.wires["wire-messages"].asked[0].left()


@pytest.mark.parametrize("levels", [501, 900, 5000, 20_000])
async def test_a_counter_that_answers_without_end_is_none(house: House, levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    for said in (deep, b'{"input_tokens":7,"x":%b}' % deep, b'{"input_tokens":%b}' % deep):
        house.wires["wire-messages"].script = lambda asked, said=said: asked.answer(said)
        user = await house.user()
        answer = await house.http("POST", COUNTING, user.key, body=counting("wire-messages"))
        assert (answer.status, answer.headers["x-penstock-token-count"]) == (200, "estimated")


async def test_a_users_first_count_waits_for_nobody_elses(tmp_path: Path) -> None:
    """Four users of eight counts each had held all thirty-two places."""
    async with open_house(tmp_path / "data", token_counts_at_once=2, token_counts_at_once_user=8) as house:
        wire = house.wires["wire-messages"]
        body = counting("wire-messages")
        busy = [await house.user("one") for _ in range(3)]
        held = [
            await house.send(raw("POST", COUNTING, user.key, body, {})) for user in busy for _ in range(4)
        ]
        asked = [await wire.next() for _ in range(5)]  # the first of each, and two more
        other = await house.user("one")
        theirs = await house.send(raw("POST", COUNTING, other.key, body, {}))
        (await wire.next()).answer(b'{"input_tokens":7}')
        assert (await theirs.answer()).json["input_tokens"] == 7
        assert len(wire.asked) == 6
        wire.script = lambda asked: asked.answer(b'{"input_tokens":8}')
        for each in asked:
            each.answer(b'{"input_tokens":8}')
        for caller in held:
            assert (await caller.answer()).json["input_tokens"] == 8
