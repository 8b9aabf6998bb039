"""The simulator's answers in each dialect: whole, as a stream's frames, and as errors."""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from penstock.providers.simulator.request import JsonValue, SimulatedDialect
from penstock.providers.simulator.script import AnswerScript, Block

CREATED = 1_764_000_000
"""The time that every answer bears, in epoch seconds: the same request gives the same bytes."""

_encode = msgspec.json.Encoder().encode
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def whole_answer(dialect: SimulatedDialect, script: AnswerScript) -> bytes:
    """The answer as one JSON body."""
    match dialect:
        case "chat":
            return _encode(_chat_whole(script))
        case "messages":
            return _encode(_messages_whole(script))
        case "responses":
            return _encode(_response(script, "incomplete" if script.reason == "max_tokens" else "completed"))


def frames(dialect: SimulatedDialect, script: AnswerScript, *, include_usage: bool) -> Iterator[bytes]:
    """The answer as the frames of its stream, the dialect's end included."""
    match dialect:
        case "chat":
            return _chat_frames(script, include_usage=include_usage)
        case "messages":
            return _messages_frames(script)
        case "responses":
            return _response_frames(script)


def error(dialect: SimulatedDialect, status: int, message: str, code: str | None = None) -> bytes:
    """An error body as the vendor of the dialect writes it."""
    kind = _KINDS.get(status, "api_error")
    if dialect == "messages":
        return _encode(
            {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}
        )
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def simulated_error_frame(dialect: SimulatedDialect, message: str) -> bytes:
    """An error in the middle of a stream, as the vendor of the dialect writes it."""
    match dialect:
        case "chat":
            return _data({"error": {"message": message, "type": "server_error", "param": None, "code": None}})
        case "messages":
            return _event(
                "error", {"type": "error", "error": {"type": "overloaded_error", "message": message}}
            )
        case "responses":
            return _event(
                "error", {"type": "error", "code": "server_error", "message": message, "param": None}
            )


def keepalive(dialect: SimulatedDialect) -> bytes:
    """What the dialect sends when nothing happens."""
    return _event("ping", {"type": "ping"}) if dialect == "messages" else b": keep-alive\n\n"


def model_list(names: tuple[str, ...]) -> bytes:
    """A model list."""
    entries = [{"id": name, "object": "model", "created": CREATED, "owned_by": "penstock"} for name in names]
    return _encode({"object": "list", "data": entries})


def counted(tokens: int) -> bytes:
    """The answer of ``count_tokens``."""
    return _encode({"input_tokens": tokens})


def _event(name: str, value: JsonValue) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _encode(value) + b"\n\n"


def _data(value: JsonValue) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


# ---- chat


def _chat_usage(script: AnswerScript) -> dict[str, JsonValue]:
    return {
        "prompt_tokens": script.input_tokens,
        "completion_tokens": script.output_tokens,
        "total_tokens": script.input_tokens + script.output_tokens,
        "prompt_tokens_details": {"cached_tokens": script.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": script.reasoning_tokens},
    }


def _chat_whole(script: AnswerScript) -> dict[str, JsonValue]:
    text = "".join(block.text for block in script.blocks if block.kind == "text")
    thought = "".join(block.text for block in script.blocks if block.kind == "thinking")
    calls: list[JsonValue] = [
        {
            "id": f"call_{block.id}",
            "type": "function",
            "function": {"name": block.name, "arguments": block.text},
        }
        for block in script.blocks
        if block.kind == "call"
    ]
    message: dict[str, JsonValue] = {"role": "assistant", "content": text or None, "refusal": None}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[script.reason]}
    answer: dict[str, JsonValue] = {
        "id": f"chatcmpl-{script.id}",
        "object": "chat.completion",
        "created": CREATED,
        "model": script.model,
        "choices": [choice],
    }
    if script.usage:
        answer["usage"] = _chat_usage(script)
    return answer


def _chat_frames(script: AnswerScript, *, include_usage: bool) -> Iterator[bytes]:
    def chunk(delta: Mapping[str, JsonValue], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [choice]})

    head = {
        "id": f"chatcmpl-{script.id}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": script.model,
    }
    yield chunk({"role": "assistant", "content": ""})
    index = -1
    for block in script.blocks:
        if block.kind == "call":
            index += 1
            function = {"name": block.name, "arguments": ""}
            call = {"index": index, "id": f"call_{block.id}", "type": "function", "function": function}
            yield chunk({"tool_calls": [call]})
        for piece in block.pieces:
            match block.kind:
                case "text":
                    yield chunk({"content": piece})
                case "thinking":
                    yield chunk({"reasoning_content": piece})
                case "call":
                    yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _FINISH[script.reason])
    if include_usage and script.usage:
        yield _data({**head, "choices": [], "usage": _chat_usage(script)})
    yield b"data: [DONE]\n\n"


# ---- messages


def _messages_usage(script: AnswerScript, output: int) -> dict[str, JsonValue]:
    return {
        "input_tokens": script.input_tokens - script.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": script.cached_tokens,
        "output_tokens": output,
    }


def _content(block: Block) -> dict[str, JsonValue]:
    match block.kind:
        case "text":
            return {"type": "text", "text": block.text}
        case "thinking":
            return {"type": "thinking", "thinking": block.text, "signature": block.signature}
        case "call":
            return {
                "type": "tool_use",
                "id": f"toolu_{block.id}",
                "name": block.name,
                "input": _arguments(block.text),
            }


def _arguments(text: str) -> JsonValue:
    """A call's arguments as a value; the cut-off ones of an answer at its limit become none."""
    try:
        return msgspec.Raw(_encode(msgspec.json.decode(text)))
    except msgspec.DecodeError:
        return {}


def _messages_head(script: AnswerScript) -> dict[str, JsonValue]:
    return {"id": f"msg_{script.id}", "type": "message", "role": "assistant", "model": script.model}


def _messages_whole(script: AnswerScript) -> dict[str, JsonValue]:
    answer = {
        **_messages_head(script),
        "content": [_content(block) for block in script.blocks],
        "stop_reason": script.reason,
        "stop_sequence": script.stop_sequence,
    }
    if script.usage:
        answer["usage"] = _messages_usage(script, script.output_tokens)
    return answer


def _messages_frames(script: AnswerScript) -> Iterator[bytes]:
    message: dict[str, JsonValue] = {
        **_messages_head(script),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _messages_usage(script, 1) if script.usage else {"input_tokens": 0, "output_tokens": 0},
    }
    yield _event("message_start", {"type": "message_start", "message": message})
    for index, block in enumerate(script.blocks):
        start = _content(msgspec.structs.replace(block, pieces=(), signature=""))
        yield _event(
            "content_block_start", {"type": "content_block_start", "index": index, "content_block": start}
        )
        for piece in block.pieces:
            delta = _delta(block.kind, piece)
            yield _event(
                "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            )
        if block.kind == "thinking":
            delta = {"type": "signature_delta", "signature": block.signature}
            yield _event(
                "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            )
        yield _event("content_block_stop", {"type": "content_block_stop", "index": index})
    usage = _messages_usage(script, script.output_tokens) if script.usage else {"output_tokens": 0}
    delta = {"stop_reason": script.reason, "stop_sequence": script.stop_sequence}
    yield _event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
    yield _event("message_stop", {"type": "message_stop"})


def _delta(kind: Literal["thinking", "text", "call"], piece: str) -> dict[str, JsonValue]:
    match kind:
        case "text":
            return {"type": "text_delta", "text": piece}
        case "thinking":
            return {"type": "thinking_delta", "thinking": piece}
        case "call":
            return {"type": "input_json_delta", "partial_json": piece}


# ---- responses


def _item(script: AnswerScript, index: int, *, done: bool) -> dict[str, JsonValue]:
    block = script.blocks[index]
    status = "completed" if done else "in_progress"
    text = block.text if done else ""
    match block.kind:
        case "text":
            content: list[JsonValue] = (
                [{"type": "output_text", "text": text, "annotations": []}] if done else []
            )
            return {
                "id": f"msg_{script.id}{index}",
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": content,
            }
        case "thinking":
            summary: list[JsonValue] = [{"type": "summary_text", "text": text}] if done else []
            return {
                "id": f"rs_{script.id}{index}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": block.signature,
            }
        case "call":
            item: dict[str, JsonValue] = {
                "id": f"{'ctc' if block.custom else 'fc'}_{script.id}{index}",
                "type": "custom_tool_call" if block.custom else "function_call",
                "status": status,
                "call_id": f"call_{block.id}",
                "name": block.name,
                "input" if block.custom else "arguments": text,
            }
            return item if block.namespace is None else {**item, "namespace": block.namespace}


def _response(script: AnswerScript, status: str) -> dict[str, JsonValue]:
    done = status != "in_progress"
    answer: dict[str, JsonValue] = {
        "id": f"resp_{script.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": script.model,
        "output": [_item(script, index, done=True) for index in range(len(script.blocks))] if done else [],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    if done and script.usage:
        answer["usage"] = {
            "input_tokens": script.input_tokens,
            "input_tokens_details": {"cached_tokens": script.cached_tokens},
            "output_tokens": script.output_tokens,
            "output_tokens_details": {"reasoning_tokens": script.reasoning_tokens},
            "total_tokens": script.input_tokens + script.output_tokens,
        }
    return answer


def _response_frames(script: AnswerScript) -> Iterator[bytes]:
    number = -1

    def event(kind: str, fields: Mapping[str, JsonValue]) -> bytes:
        nonlocal number
        number += 1
        return _event(kind, {"type": kind, "sequence_number": number, **fields})

    for kind in ("response.created", "response.in_progress"):
        yield event(kind, {"response": _response(script, "in_progress")})
    for index, block in enumerate(script.blocks):
        item = _item(script, index, done=False)
        at: dict[str, JsonValue] = {"item_id": item["id"], "output_index": index}
        yield event("response.output_item.added", {"output_index": index, "item": item})
        match block.kind:
            case "text":
                part: dict[str, JsonValue] = {
                    "type": "output_text",
                    "text": "",
                    "annotations": list[JsonValue](),
                }
                at["content_index"] = 0
                yield event("response.content_part.added", {**at, "part": part})
                for piece in block.pieces:
                    yield event("response.output_text.delta", {**at, "delta": piece, "logprobs": []})
                yield event("response.output_text.done", {**at, "text": block.text, "logprobs": []})
                yield event("response.content_part.done", {**at, "part": {**part, "text": block.text}})
            case "thinking":
                part = {"type": "summary_text", "text": ""}
                at["summary_index"] = 0
                yield event("response.reasoning_summary_part.added", {**at, "part": part})
                for piece in block.pieces:
                    yield event("response.reasoning_summary_text.delta", {**at, "delta": piece})
                yield event("response.reasoning_summary_text.done", {**at, "text": block.text})
                yield event(
                    "response.reasoning_summary_part.done", {**at, "part": {**part, "text": block.text}}
                )
            case "call":
                kind = f"response.{'custom_tool_call_input' if block.custom else 'function_call_arguments'}"
                for piece in block.pieces:
                    yield event(f"{kind}.delta", {**at, "delta": piece})
                done = (
                    {"input": block.text} if block.custom else {"name": block.name, "arguments": block.text}
                )
                yield event(f"{kind}.done", {**at, **done})
        yield event(
            "response.output_item.done", {"output_index": index, "item": _item(script, index, done=True)}
        )
    status = "incomplete" if script.reason == "max_tokens" else "completed"
    yield event(f"response.{status}", {"response": _response(script, status)})
