"""Large and odd bodies: refused where they hold too much, and read without holding up the streams of others."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.api import request_body
from penstock.relay import relayed_call
from tests.service.conversations import DIALECTS, FRAMES, body_of
from tests.service.running_service import House, open_house

both = pytest.mark.parametrize("dialect", DIALECTS)
PART = {"type": "text", "text": "x"}
FUNCTION = {"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}
TOOL = {"name": "x", "input_schema": {"type": "object"}}


def odd(dialect: str) -> dict[str, dict[str, Any]]:
    tool = FUNCTION if dialect == "chat" else TOOL
    return {
        "parts": {"messages": [{"role": "user", "content": [PART] * 60_000}]},
        "tools": {"tools": [tool] * 60_000},
        "keys": {f"k{at}": 1 for at in range(150_000)},
        "lists": {"x": [[]] * 150_000},
        "messages": {"messages": [{}] * 150_000},
    }


@both
@pytest.mark.parametrize("kind", ["parts", "tools", "keys", "lists", "messages"])
async def test_more_values_than_a_request_has_use_for_are_refused(
    house: House, dialect: str, kind: str
) -> None:
    user = await house.user()
    answer = await house.post(dialect, body_of(dialect, f"wire-{dialect}", **odd(dialect)[kind]), user)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "100000 values" in answer.error
    assert house.asked == 0


async def test_counting_has_the_same_bound(house: House) -> None:
    user = await house.user()
    body = body_of("messages", "wire-chat", **odd("messages")["parts"])
    assert (await house.http("POST", "/v1/messages/count_tokens", user.key, body=body)).status == 400


async def test_a_text_may_hold_whatever_it_likes(house: House) -> None:
    user = await house.user()
    answer = await house.post(
        "chat", body_of("chat", "chat-plain", messages=[{"role": "user", "content": '{[,"' * 400_000}]), user
    )
    assert answer.status == 200


@both
@pytest.mark.parametrize("upstream", DIALECTS)
async def test_a_large_body_is_read_and_translated_beside_the_loop(
    house: House, monkeypatch: pytest.MonkeyPatch, dialect: str, upstream: str
) -> None:
    """The work is held until a stream beside it has moved: on the loop that could not be."""
    user = await house.user()
    beside = await house.begin("chat", "wire-chat", user, stream=True)
    asked = await house.wires["wire-chat"].next()
    asked.begin(*FRAMES["chat"][:2])
    head = await beside.head()
    go = threading.Event()
    threads: list[str] = []

    def held(work: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*args: Any, **kwargs: Any) -> Any:
            threads.append(threading.current_thread().name)
            assert go.wait(20)
            return work(*args, **kwargs)

        return wait

    monkeypatch.setattr(request_body, "scan_body", held(request_body.scan_body))
    monkeypatch.setattr(relayed_call, "prepared_for", held(relayed_call.prepared_for))
    large = json.dumps({"role": "user", "content": "x" * 300_000})
    body = body_of(dialect, f"{upstream}-plain", messages=[json.loads(large)])
    other = asyncio.create_task(house.post(dialect, body, user))
    asked.stream_on(*FRAMES["chat"][2:])
    assert (await beside.rest(head)).status == 200  # while the other waits for ``go``
    assert not other.done()
    go.set()
    assert (await other).status == 200
    assert len(threads) == 2
    assert all(name.startswith("aside") for name in threads)


async def test_a_small_one_stays_on_the_loop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def noted(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read(*args, **kwargs)

    read = request_body.scan_body
    monkeypatch.setattr(request_body, "scan_body", noted)
    user = await house.user()
    assert (await house.ask("chat", "messages-plain", user)).status == 200
    assert threads == [threading.main_thread().name]


async def test_a_caller_that_leaves_while_its_body_is_read_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path / "data") as house:
        user = await house.user("one")
        go, begun = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        read = request_body.scan_body

        def held(*args: Any, **kwargs: Any) -> Any:
            loop.call_soon_threadsafe(begun.set)
            assert go.wait(20)
            return read(*args, **kwargs)

        monkeypatch.setattr(request_body, "scan_body", held)
        body = body_of("chat", "chat-plain", messages=[{"role": "user", "content": "x" * 300_000}])
        caller = await house.call()
        await caller.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
            b"content-length: %d\r\n\r\n%b" % (user.key.encode(), len(body), body)
        )
        await begun.wait()
        caller.leave()
        go.set()
        assert (await house.ask("chat", "chat-plain", user)).status == 200
        assert len(await house.rows(user)) == 1
        assert house.taken == 0
