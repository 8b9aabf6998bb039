"""Frames of a stream in each dialect, by what they add: those that come again and again, and those that come between."""

import json
from collections.abc import Callable


def written(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def chat(member: str, text: bytes, *, id: str = "c", model: str = "up", index: int = 0) -> bytes:
    delta = b'{"%b":%b}' % (member.encode(), text)
    head = b'{"id":%b,"object":"chat.completion.chunk","created":7,"model":%b' % (written(id), written(model))
    return b'data: %b,"choices":[{"index":%d,"delta":%b,"finish_reason":null}]}\n\n' % (head, index, delta)


def chat_frames(kind: str, text: bytes, number: int) -> bytes:
    """A frame of a Chat stream that adds ``text``, which is JSON."""
    match kind:
        case "text":
            return chat("content", text)
        case "thought":
            return chat("reasoning_content", text)
        case "call":
            call = b'[{"index":0,"id":"call_1","type":"function","function":{"name":"tool","arguments":""}}]'
            return chat("tool_calls", call)
        case "arguments":
            return chat("tool_calls", b'[{"index":0,"function":{"arguments":%b}}]' % text)
        case "role":
            return chat("role", b'"assistant"')
        case "model":
            return chat("content", text, model="another", id="d")
        case "choice":
            return chat("content", text, index=1)
        case "usage":
            return (
                b'data: {"id":"c","model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n'
                % (number)
            )
        case _:
            return (
                b'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            )


def messages(kind: str, members: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (kind.encode(), kind.encode(), members)


def messages_frames(kind: str, text: bytes, number: int) -> bytes:
    delta = b',"index":%d,"delta":{"type":"%b","%b":%b}'
    match kind:
        case "text":
            return messages("content_block_delta", delta % (1, b"text_delta", b"text", text))
        case "thought":
            return messages("content_block_delta", delta % (0, b"thinking_delta", b"thinking", text))
        case "call":
            block = b'{"type":"tool_use","id":"toolu_1","name":"tool","input":{}}'
            return messages("content_block_start", b',"index":2,"content_block":%b' % block)
        case "arguments":
            return messages("content_block_delta", delta % (2, b"input_json_delta", b"partial_json", text))
        case "role":
            block = b'{"type":"text","text":""}'
            return messages("content_block_start", b',"index":1,"content_block":%b' % block)
        case "model":
            return messages("content_block_delta", delta % (7, b"text_delta", b"text", text))
        case "choice":
            return messages("content_block_stop", b',"index":%d' % (number % 3))
        case "usage":
            return messages("message_delta", b',"delta":{},"usage":{"output_tokens":%d}' % number)
        case _:
            return messages(
                "message_delta", b',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}'
            )


def responses(kind: str, members: bytes, number: int) -> bytes:
    name = b"response." + kind.encode()
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (name, name, number, members)


def responses_frames(kind: str, text: bytes, number: int) -> bytes:
    place = b',"item_id":"%b","output_index":%d,"%b":0,"delta":%b'
    padding = b',"logprobs":[],"obfuscation":"%b"' % (b"x" * (number % 7))
    match kind:
        case "text":
            return responses(
                "output_text.delta", place % (b"msg_1", 1, b"content_index", text) + padding, number
            )
        case "thought":
            return responses(
                "reasoning_summary_text.delta", place % (b"rs_1", 0, b"summary_index", text), number
            )
        case "call":
            item = b'{"type":"function_call","id":"fc_1","call_id":"call_1","name":"tool","arguments":""}'
            return responses("output_item.added", b',"output_index":2,"item":%b' % item, number)
        case "arguments":
            return responses(
                "function_call_arguments.delta",
                b',"item_id":"fc_1","output_index":2,"delta":%b' % text,
                number,
            )
        case "role":
            item = b'{"type":"message","id":"msg_1","role":"assistant","content":[]}'
            return responses("output_item.added", b',"output_index":1,"item":%b' % item, number)
        case "model":
            return responses("refusal.delta", place % (b"msg_1", 1, b"content_index", text), number)
        case "choice":
            item = b'{"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","name":"tool","input":""}'
            return responses("output_item.added", b',"output_index":3,"item":%b' % item, number)
        case "usage":
            return responses(
                "custom_tool_call_input.delta",
                b',"item_id":"ctc_1","output_index":3,"delta":%b' % text,
                number,
            )
        case _:
            return responses(
                "output_item.done", b',"output_index":1,"item":{"type":"message","id":"msg_1"}', number
            )


FRAMES: dict[str, Callable[[str, bytes, int], bytes]] = {
    "chat": chat_frames,
    "messages": messages_frames,
    "responses": responses_frames,
}
BEGIN = {
    "chat": chat("role", b'"assistant"'),
    "messages": messages(
        "message_start", b',"message":{"id":"m","model":"up","usage":{"input_tokens":3,"output_tokens":1}}'
    ),
    "responses": responses("created", b',"response":{"id":"r","model":"up","status":"in_progress"}', 0),
}
END = {
    "chat": chat_frames("", b"", 0) + b"data: [DONE]\n\n",
    "messages": messages_frames("", b"", 0) + messages("message_stop", b""),
    "responses": responses(
        "completed",
        b',"response":{"id":"r","model":"up","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":9}}',
        999,
    ),
}

KINDS = ("text", "thought", "call", "arguments", "role", "model", "choice", "usage", "end")
"""What a frame may be. Some of these words mean something like it where a dialect has not the thing itself."""
