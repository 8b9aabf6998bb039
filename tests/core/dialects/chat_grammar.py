"""The grammars of streams towards callers, as strict as the official SDKs are careless."""

import json
from typing import Any

import pytest

_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
    "mcp_tool_use": {"input": {}},
}
_DELTAS: dict[str, dict[str, str]] = {
    "text": {"text_delta": "text", "citations_delta": "citation"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "server_tool_use": {"input_json_delta": "partial_json"},
    "mcp_tool_use": {"input_json_delta": "partial_json"},
    "redacted_thinking": {},
}


def frames(stream: bytes) -> list[dict[str, Any]]:
    """The data of each Messages frame; every frame must be ``event:`` and ``data:`` with the same type."""
    found: list[dict[str, Any]] = []
    assert stream.endswith(b"\n\n")
    for frame in stream.decode().removesuffix("\n\n").split("\n\n"):
        first, second = frame.split("\n")
        data = json.loads(second.removeprefix("data: "))
        assert first == f"event: {data['type']}"
        found.append(data)
    return found


def check_messages(stream: bytes) -> None:
    """``message_start (block)* message_delta message_stop``, or an ``error`` in place of the rest."""
    events = frames(stream)
    if events[0]["type"] == "error":
        assert len(events) == 1
        return
    message = events[0]["message"]
    assert events[0]["type"] == "message_start"
    assert message["content"] == []
    assert message["stop_reason"] is None
    assert {"input_tokens", "output_tokens"} <= message["usage"].keys()
    opened: str | None = None
    index = -1
    signatures = 0
    for at, event in enumerate(events[1:], 1):
        match event["type"]:
            case "content_block_start":
                assert opened is None
                index += 1
                block = event["content_block"]
                opened = str(block["type"])
                signatures = 0
                assert {**block, **_EMPTY.get(opened, {})} == block
            case "content_block_delta":
                assert opened is not None
                delta = event["delta"]
                assert delta[_DELTAS[opened][delta["type"]]], "no empty deltas"
                signatures += delta["type"] == "signature_delta"
            case "content_block_stop":
                assert opened is not None
                assert signatures == (1 if opened == "thinking" else 0)
                opened = None
            case "message_delta":
                assert opened is None
                assert [event["type"] for event in events[at:]] == ["message_delta", "message_stop"]
                assert event["delta"]["stop_reason"]
                assert "stop_sequence" in event["delta"]
                assert event["usage"]["output_tokens"] >= 0
                return
            case other:
                assert other == "error"
                assert at == len(events) - 1
                return
        assert event["index"] == index
    pytest.fail("the stream has no end")


def check_chat(stream: bytes) -> None:
    """A role, deltas with calls counted 0, 1, 2 ..., one finish, one usage and ``[DONE]``; or an error at the end."""
    assert stream.endswith(b"\n\n")
    lines = stream.decode().removesuffix("\n\n").split("\n\n")
    last = lines.pop().removeprefix("data: ")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    if last != "[DONE]":
        assert json.loads(last)["error"]["message"]
    else:
        usage = chunks.pop()
        assert usage["choices"] == []
        assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= usage["usage"].keys()
        assert chunks[-1]["choices"][0]["finish_reason"]
        assert chunks[-1]["choices"][0]["delta"] == {}
    assert not chunks or chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    calls = -1
    for chunk in chunks:
        assert (chunk["id"], chunk["model"]) == (chunks[0]["id"], chunks[0]["model"])
        (choice,) = chunk["choices"]
        assert choice["finish_reason"] is None or chunk is chunks[-1]
        for call in choice["delta"].get("tool_calls", ()):
            if "id" in call:
                calls += 1
                assert call[call["type"]]["name"]
            else:
                assert "name" not in call.get("function", call.get("custom"))
            assert call["index"] == calls
