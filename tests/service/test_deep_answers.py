"""A provider's answer that is nested without end could not be read: 502, in every lane, whole and streamed."""

import json

import pytest

from penstock.core.body.nesting import MAX_NESTING
from tests.service.conversations import REPLIES
from tests.service.running_service import House, raw
from tests.service.test_routing import ruled

DEEP = b"[" * 100_000 + b"]" * 100_000
"""Deeper than any version of Python goes."""
CLOSED = b'{"a":' * 60_000 + b"1" + b"}" * 60_000

_EVENT = b'event: %b\ndata: {"type":"%b",%b}\n\n'
_CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":7,"model":"up-chat",%b}\n\n'
_RESPONSE = (
    b'{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"up-responses",%b}'
)

WHOLE: dict[str, dict[str, bytes]] = {
    "chat": {
        "bare": DEEP,
        "unclosed": DEEP[:100_000],
        "a member that nobody knows": REPLIES["chat"][:-1] + b',"x":' + DEEP + b"}",
        "choices": REPLIES["chat"].replace(b'"choices":[', b'"choices":[' + DEEP + b",", 1),
        "content": REPLIES["chat"].replace(b'"Hi  there"', DEEP),
        "usage": REPLIES["chat"].replace(b"11", CLOSED),
        "error": b'{"error":' + CLOSED + b"}",
        "model": b'{"model":' + CLOSED + b"}",
    },
    "messages": {
        "bare": DEEP,
        "unclosed": DEEP[:100_000],
        "a member that nobody knows": REPLIES["messages"][:-1] + b',"x":' + DEEP + b"}",
        "content": REPLIES["messages"].replace(b'"Hi  there"', DEEP),
        "a block": REPLIES["messages"].replace(b'"content":[', b'"content":[' + DEEP + b",", 1),
        "a call": REPLIES["messages"].replace(
            b'{"type":"text","text":"Hi  there"}',
            b'{"type":"tool_use","id":"t","name":"f","input":' + CLOSED + b"}",
        ),
        "usage": REPLIES["messages"].replace(b"11", CLOSED),
        "error": b'{"type":"error","error":' + CLOSED + b"}",
    },
    "responses": {
        "bare": DEEP,
        "a member that nobody knows": _RESPONSE % (b'"output":[],"x":' + DEEP),
        "output": _RESPONSE % (b'"output":' + DEEP),
        "an item": _RESPONSE % (b'"output":[{"type":"message","content":' + DEEP + b"}]"),
        "usage": _RESPONSE % (b'"output":[],"usage":' + CLOSED),
        "error": _RESPONSE % (b'"error":' + CLOSED),
    },
}
STREAMED: dict[str, dict[str, bytes]] = {
    "chat": {
        "bare": b"data: " + DEEP + b"\n\n",
        "choices": _CHUNK % (b'"choices":' + DEEP),
        "content": _CHUNK % (b'"choices":[{"index":0,"delta":{"content":' + DEEP + b"}}]"),
        "a member that nobody knows": _CHUNK
        % (b'"choices":[{"index":0,"delta":{"content":"a"}}],"x":' + DEEP),
        "error": b'data: {"error":' + CLOSED + b"}\n\n",
        "a whole answer": WHOLE["chat"]["content"],
    },
    "messages": {
        "bare": b"event: message_start\ndata: " + DEEP + b"\n\n",
        "start": _EVENT % (b"message_start", b"message_start", b'"message":' + CLOSED),
        "block": _EVENT
        % (b"content_block_start", b"content_block_start", b'"index":0,"content_block":' + CLOSED),
        "delta": _EVENT % (b"content_block_delta", b"content_block_delta", b'"index":0,"delta":' + CLOSED),
        "error": _EVENT % (b"error", b"error", b'"error":' + CLOSED),
        "a whole answer": WHOLE["messages"]["content"],
    },
    "responses": {
        "bare": b"data: " + DEEP + b"\n\n",
        "created": _EVENT % (b"response.created", b"response.created", b'"response":' + CLOSED),
        "item": _EVENT % (b"response.output_item.added", b"response.output_item.added", b'"item":' + CLOSED),
        "end": _EVENT % (b"response.completed", b"response.completed", b'"response":' + CLOSED),
        "a whole answer": WHOLE["responses"]["output"],
    },
}


def at_levels(said: bytes, levels: int) -> bytes:
    """The same answer with another depth, one that every version of Python could read."""
    lists = b"[" * levels + b"]" * levels
    return said.replace(DEEP, lists).replace(CLOSED, b'{"a":' * levels + b"1" + b"}" * levels)


callers = pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
upstreams = pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])


PLACES = {"chat": "chat/completions", "messages": "messages", "responses": "responses"}
ASKED: dict[str, dict[str, object]] = {
    "chat": {"messages": [{"role": "user", "content": "Hello"}]},
    "messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100},
    "responses": {"input": "Hello"},
}


@callers
@upstreams
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_that_is_nested_without_end_is_a_502(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    ruled(house, open_after=10_000, open_streak=10_000)  # it is asked each time, however often it has failed
    wire = house.wires[f"wire-{upstream}"]
    body = json.dumps({"model": f"wire-{upstream}", "stream": stream} | ASKED[dialect]).encode()
    for name, said in (STREAMED if stream else WHOLE)[upstream].items():
        wire.script = lambda asked, said=said: asked.stream(said) if stream else asked.answer(said)
        user = await house.user()
        caller = await house.send(raw("POST", f"/v1/{PLACES[dialect]}", user.key, body, {}))
        answer = await caller.answer()
        assert (answer.status, answer.code) == (502, "provider_garbled"), name
        row = await house.row(user)
        assert (row["outcome"], row["counted"]) == ("upstream_error", False), name


@callers
async def test_the_next_provider_is_asked_where_one_answers_without_end(house: House, dialect: str) -> None:
    house.wires["wire-chat"].script = lambda asked: asked.answer(WHOLE["chat"]["content"])
    house.wires["spare-chat"].script = lambda asked: asked.answer(REPLIES["chat"])
    body = json.dumps({"model": "pair-chat"} | ASKED[dialect]).encode()
    user = await house.user()
    answer = await (await house.send(raw("POST", f"/v1/{PLACES[dialect]}", user.key, body, {}))).answer()
    assert answer.status == 200
    assert b"Hi  there" in answer.body


@callers
@upstreams
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_one_level_more_than_our_own_bound_is_a_502_on_every_python(
    house: House, dialect: str, upstream: str, stream: bool
) -> None:
    ruled(house, open_after=10_000, open_streak=10_000)  # it is asked each time, however often it has failed
    wire = house.wires[f"wire-{upstream}"]
    body = json.dumps({"model": f"wire-{upstream}", "stream": stream} | ASKED[dialect]).encode()
    for name, deep in (STREAMED if stream else WHOLE)[upstream].items():
        if name == "unclosed":
            continue
        for levels in (MAX_NESTING + 1, 900):
            said = at_levels(deep, levels)
            wire.script = lambda asked, said=said: asked.stream(said) if stream else asked.answer(said)
            user = await house.user()
            answer = await (
                await house.send(raw("POST", f"/v1/{PLACES[dialect]}", user.key, body, {}))
            ).answer()
            told = {"provider_garbled", "provider_error"} if stream else {"provider_garbled"}
            assert (answer.status, answer.code in told) == (502, True), (name, levels, answer.code)


@callers
async def test_what_is_as_deep_as_our_bound_passes(house: House, dialect: str) -> None:
    for upstream in ("chat", "messages"):
        inside = b"[" * (MAX_NESTING - 1) + b"]" * (MAX_NESTING - 1)
        said = REPLIES[upstream][:-1] + b',"x":' + inside + b"}"
        house.wires[f"wire-{upstream}"].script = lambda asked, said=said: asked.answer(said)
        body = json.dumps({"model": f"wire-{upstream}"} | ASKED[dialect]).encode()
        user = await house.user()
        answer = await (await house.send(raw("POST", f"/v1/{PLACES[dialect]}", user.key, body, {}))).answer()
        assert answer.status == 200, upstream
        assert b"Hi  there" in answer.body
