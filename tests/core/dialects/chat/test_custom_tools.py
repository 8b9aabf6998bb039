"""Free-text tools of Chat callers: a function with one string towards the upstream, and what they were in the answer."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.fold import fold
from penstock.core.profile import Profile
from tests.core.dialects.chat_grammar import check_chat

PROFILE = Profile(native_anthropic=True)
TEXT = '*** Begin\n"é" \\ \U0001f600'
BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "go"}],
    "tools": [
        {"type": "custom", "custom": {"name": "patch", "description": "Patches."}},
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
    ],
}


def message(*calls: tuple[str, str]) -> list[dict[str, Any]]:
    """A Messages stream with these calls: name and arguments."""
    head = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "up",
        "content": [],
        "usage": {"input_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": head}]
    for index, (name, arguments) in enumerate(calls):
        block = {"type": "tool_use", "id": f"t{index}", "name": name, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += (
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "input_json_delta", "partial_json": piece},
            }
            for piece in (arguments[:13], arguments[13:40], arguments[40:])
            if piece
        )
        events.append({"type": "content_block_stop", "index": index})
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}
    )
    return [*events, {"type": "message_stop"}]


def called(stream: bytes) -> list[dict[str, Any]]:
    """The calls of a Chat stream, added up."""
    calls: list[dict[str, Any]] = []
    for line in stream.removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[:-1]:
        chunk = json.loads(line.removeprefix(b"data: "))
        for choice in chunk["choices"]:
            for piece in choice["delta"].get("tool_calls", ()):
                index = piece.pop("index")
                if index == len(calls):
                    calls.append(piece)
                    continue
                for kind, members in piece.items():
                    for name, value in members.items():
                        calls[index][kind][name] += value
    return calls


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (json.dumps({"input": TEXT}), TEXT),
        (json.dumps({"input": TEXT}, ensure_ascii=False), TEXT),
        ('{"input":""}', ""),
        ("", ""),
        ('{"patch":"x"}', '{"patch":"x"}'),
        ('{"input":"a\\ud83d\\ude00b"}', "a\U0001f600b"),
        ('{"input":"a\\ud83dbc the rest of it"}', "a\ufffdbc the rest of it"),
        ('{"input":"a\\ud83d\\nb"}', "a\ufffd\nb"),
        ('{"input":"a\\udc00b"}', "a\ufffdb"),
        ('{"input":"a\\ud83d\\ud83d\\ude00\\udfff"}', "a\ufffd\U0001f600\ufffd"),
        ('{"input":"a\\ud83d\\u0041"}', "a\ufffdA"),
        ('{"input":"a\\uDBFF"}', "a\ufffd"),
    ],
)
def test_the_call_comes_back_as_it_was_offered(arguments: str, text: str) -> None:
    envelope = read_envelope(json.dumps(BODY).encode(), "chat")
    prepared = prepare(envelope, caller="chat", upstream="messages", model="up", profile=PROFILE)
    offered = json.loads(prepared.body)["tools"][0]
    assert offered["input_schema"]["required"] == ["input"]
    sent = message(("patch", arguments), ("f", '{"a":1}'), ("patch", arguments))
    stream = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in sent)
    expected = [
        {"id": "t0", "type": "custom", "custom": {"name": "patch", "input": text}},
        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "t2", "type": "custom", "custom": {"name": "patch", "input": text}},
    ]
    for size in (1, 50, len(stream)):
        writer = caller_side("chat").ResponseEncoder(
            model="m", reply_id="r", created=1, include_usage=True, input_estimate=1
        )
        lane = Translation(upstream_side("messages").ResponseDecoder(profile=PROFILE), writer, prepared.names)
        out = (
            b"".join(lane.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + lane.finish()
        )
        check_chat(out)
        assert called(out) == expected
    reply = fold(prepared.names.restored(upstream_side("messages").decode_response(stream, PROFILE)))
    whole = caller_side("chat").encode_response(reply, model="m", reply_id="r", created=1)
    assert json.loads(whole)["choices"][0]["message"]["tool_calls"] == expected
    calls = ChatCompletion.model_validate_json(whole).choices[0].message.tool_calls or []
    assert [call.type for call in calls] == ["custom", "function", "custom"]


def test_a_custom_call_of_the_history_is_a_call_of_the_function() -> None:
    calls = [{"id": "t0", "type": "custom", "custom": {"name": "patch", "input": TEXT}}]
    rows = [*BODY["messages"], {"role": "assistant", "content": None, "tool_calls": calls}]
    body = {**BODY, "messages": [*rows, {"role": "tool", "tool_call_id": "t0", "content": "done"}]}
    envelope = read_envelope(json.dumps(body).encode(), "chat")
    prepared = prepare(envelope, caller="chat", upstream="messages", model="up", profile=PROFILE)
    (block,) = json.loads(prepared.body)["messages"][1]["content"]
    assert (block["name"], block["input"]) == ("patch", {"input": TEXT})
