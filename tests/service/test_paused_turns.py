"""A Messages upstream that pauses its turn: callers of the other dialects get one whole answer, within a bound."""

from typing import Any

import msgspec
import pytest

from tests.core.dialects.messages.test_paused_turn import streamed, whole
from tests.service.conversations import Answer, text_of
from tests.service.running_service import House, User, raw
from tests.service.scripted import Asked

_SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
_TEXT = "part 1. part 2. part 3. "


def _pausing(times: int, *, stream: bool) -> Any:
    """A script that pauses so often and then ends; it says how many messages it was sent."""
    left = [times]

    def answer(asked: Asked) -> None:
        left[0] -= 1
        reason = "end_turn" if left[0] < 0 else "pause_turn"
        blocks: list[dict[str, Any]] = [{"type": "text", "text": f"part {times - left[0]}. "}, _SEARCH]
        if stream:
            asked.stream(streamed(blocks, reason))
        else:
            asked.answer(whole(blocks, reason))

    return answer


async def _ask(house: House, dialect: str, user: User, *, stream: bool) -> Answer:
    if dialect == "chat":
        return await house.ask("chat", "search-messages", user, stream=stream, web_search_options={})
    tools = [{"type": "web_search"}]
    body = msgspec.json.encode(
        {"model": "search-messages", "input": "Hello", "stream": stream, "tools": tools}
    )
    return await house.http("POST", "/api/v1/responses", user.key, body=body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["chat", "responses"])
async def test_a_paused_turn_goes_on_until_it_ends(house: House, dialect: str, stream: bool) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _pausing(2, stream=stream)
    answer = await _ask(house, dialect, user, stream=stream)
    assert answer.status == 200
    assert answer.whole
    if dialect == "chat":
        assert text_of(dialect, answer) == _TEXT
    else:
        assert f'"text":"{_TEXT}"'.encode() in answer.body
        assert b'"status":"completed"' in answer.body
    assert len(wire.asked) == 3
    last: Any = wire.asked[2].json
    first: Any = wire.asked[0].json
    assert last["messages"][:-1] == first["messages"]
    said = [{"type": "text", "text": f"part {number}. "} for number in (1, 2)]
    assert last["messages"][-1] == {"role": "assistant", "content": [said[0], _SEARCH, said[1], _SEARCH]}
    row = await house.row(user)
    assert (row["outcome"], row["counted"], row["attempts"]) == ("completed", True, 1)
    assert (row["input_tokens"], row["output_tokens"]) == (30, 15)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_is_let_go_on_so_often_and_no_more(house: House, stream: bool) -> None:
    await house.restart(max_pauses=2)
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _pausing(9, stream=stream)
    answer = await _ask(house, "chat", user, stream=stream)
    assert text_of("chat", answer) == _TEXT
    assert b'"finish_reason":"stop"' in answer.body
    assert len(wire.asked) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_of_messages_gets_the_pause_itself(house: House, stream: bool) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _pausing(1, stream=stream)
    answer = await house.ask("messages", "wire-messages", user, stream=stream)
    assert b'"pause_turn"' in answer.body
    assert len(wire.asked) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_may_not_go_on_is_the_providers_failure(house: House, stream: bool) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    pausing = _pausing(1, stream=stream)
    refusal = msgspec.json.encode(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    )
    wire.script = lambda asked: pausing(asked) if len(wire.asked) == 1 else asked.answer(refusal, 400)
    answer = await _ask(house, "chat", user, stream=stream)
    assert answer.status == (200 if stream else 502)
    assert b"would not go on" in answer.body
    assert b"[DONE]" not in answer.body
    row = await house.row(user)
    assert row["outcome"] == "upstream_error"
    assert row["counted"] is stream


async def test_a_caller_who_leaves_in_a_pause_ends_it(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    caller = await house.begin("chat", "search-messages", user, stream=True, web_search_options={})
    first = await wire.next()
    first.stream(streamed([{"type": "text", "text": "Hi"}]))
    second = await wire.next()
    caller.leave()
    await second.left()
    assert (await house.row(user))["outcome"] == "client_gone"


async def test_a_turn_that_is_longer_than_may_be_kept_ends_where_it_pauses(house: House) -> None:
    await house.restart(max_stream_kept=5)
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _pausing(1, stream=True)
    answer = await _ask(house, "chat", user, stream=True)
    assert len(wire.asked) == 1
    assert text_of("chat", answer) == "part 1. "
    assert b'"native_finish_reason":"pause_turn"' in answer.body
    assert (await house.row(user))["outcome"] == "completed"


async def test_an_answer_that_is_too_long_to_be_said_again_at_its_end_fails_in_words(house: House) -> None:
    await house.restart(max_stream_kept=5)
    user = await house.user()
    wire = house.wires["wire-messages"]
    frames = streamed([{"type": "text", "text": "part 1. "}])
    body = msgspec.json.encode({"model": "wire-messages", "input": "Hello", "stream": True})
    caller = await house.send(raw("POST", "/api/v1/responses", user.key, body, {}))
    asked = await wire.next()
    asked.begin(frames[: frames.index(b"event: content_block_stop")])
    answer = await caller.answer()
    assert b"too long to be told in this format" in answer.body
    assert b"response.completed" not in answer.body
    row = await house.row(user)
    assert (row["outcome"], row["counted"]) == ("upstream_error", True)


async def test_a_turn_without_tools_of_the_provider_is_not_kept_and_a_pause_of_it_is_its_end(
    house: House,
) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = _pausing(1, stream=True)
    answer = await house.ask("chat", "wire-messages", user, stream=True)
    assert text_of("chat", answer) == "part 1. "
    assert b'"native_finish_reason":"pause_turn"' in answer.body
    assert len(wire.asked) == 1
