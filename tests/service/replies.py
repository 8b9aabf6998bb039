"""Answers of either dialect, whole or streamed, put together into one shape that tests compare."""

from typing import Any

import msgspec

from tests.service.conversations import Answer


class Call(msgspec.Struct):
    """A call of a tool, its arguments as text."""

    id: str
    name: str
    arguments: str

    @property
    def json(self) -> Any:
        """The arguments, decoded."""
        return msgspec.json.decode(self.arguments)


class Said(msgspec.Struct):
    """What an answer says. ``tokens`` are those read and those written."""

    model: str = ""
    text: str = ""
    thought: str = ""
    calls: list[Call] = []
    reason: str = ""
    tokens: tuple[int, int] | None = None


def said(dialect: str, answer: Answer) -> Said:
    """What a complete answer says, after the grammar of its dialect was checked."""
    assert answer.whole
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    match dialect, streamed:
        case "chat", False:
            return _chat(answer.json)
        case "chat", True:
            return _chat_stream(answer)
        case "messages", False:
            return _messages(answer.json)
        case _:
            return _messages_stream(answer)


def _chat(body: Any) -> Said:
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    message = choice["message"]
    calls = [
        Call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    ]
    return Said(
        body["model"],
        message["content"] or "",
        message.get("reasoning_content") or "",
        calls,
        choice["finish_reason"],
        _chat_tokens(body.get("usage")),
    )


def _chat_tokens(usage: Any) -> tuple[int, int] | None:
    return None if usage is None else (usage["prompt_tokens"], usage["completion_tokens"])


def _chat_stream(answer: Answer) -> Said:
    *frames, last = answer.frames
    assert last.data == b"[DONE]"
    out = Said(calls=[])
    for frame in frames:
        chunk = frame.json
        assert chunk["object"] == "chat.completion.chunk"
        assert out.model in ("", chunk["model"])
        out.model = chunk["model"]
        out.tokens = _chat_tokens(chunk.get("usage")) or out.tokens
        for choice in chunk["choices"]:
            assert not out.reason, "something came after the end"
            delta = choice["delta"]
            out.text += delta.get("content") or ""
            out.thought += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(out.calls):
                    out.calls.append(Call(call["id"], call["function"]["name"], ""))
                out.calls[call["index"]].arguments += call["function"].get("arguments") or ""
            out.reason = choice.get("finish_reason") or ""
    return out


def _messages(body: Any) -> Said:
    assert (body["type"], body["role"]) == ("message", "assistant")
    out = Said(body["model"], calls=[], reason=body["stop_reason"])
    for block in body["content"]:
        _add(out, block)
    if "usage" in body:
        out.tokens = (body["usage"]["input_tokens"], body["usage"]["output_tokens"])
    return out


def _add(out: Said, block: Any) -> None:
    match block["type"]:
        case "text":
            out.text += block["text"]
        case "thinking":
            out.thought += block["thinking"]
        case "tool_use":
            out.calls.append(Call(block["id"], block["name"], msgspec.json.encode(block["input"]).decode()))
        case other:
            raise AssertionError(f"a block of type {other}")


def _messages_stream(answer: Answer) -> Said:
    frames = [frame for frame in answer.frames if frame.event != "ping"]
    assert [frame.event for frame in frames[:1]] == ["message_start"]
    assert [frame.event for frame in frames[-2:]] == ["message_delta", "message_stop"]
    start, end = frames[0].json["message"], frames[-2].json
    out = Said(start["model"], calls=[], reason=end["delta"]["stop_reason"])
    read, written = start["usage"]["input_tokens"], end["usage"]["output_tokens"]
    out.tokens = (end["usage"].get("input_tokens", read), written)
    index, block = -1, None
    for frame in frames[1:-2]:
        event = frame.json
        assert event["type"] == frame.event
        match frame.event:
            case "content_block_start":
                assert block is None
                index += 1
                block = event["content_block"] | {"arguments": ""}
            case "content_block_delta":
                assert block is not None
                _extend(block, event["delta"])
            case _:
                assert (frame.event, block is None) == ("content_block_stop", False)
                assert block is not None
                if block["type"] == "tool_use":
                    block["input"] = msgspec.json.decode(block["arguments"] or "{}")
                _add(out, block)
                block = None
        assert event["index"] == index
    assert block is None
    return out


def _extend(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "input_json_delta":
            block["arguments"] += delta["partial_json"]
        case other:
            assert other == "signature_delta"
