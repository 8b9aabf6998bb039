"""Chat callers of a Responses upstream: its reasoning is in the answer, and goes back from there whichever process is asked."""

from typing import Any

import msgspec
import pytest

from tests.service.conversations import Answer
from tests.service.running_service import House

TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
]
MINE = {"role": "user", "content": "1 + 1?"}
DONE = {"role": "tool", "tool_call_id": "call_1", "content": "2"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I add."}],
    "encrypted_content": "gAAAAown",
}
SILENT = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAAmore"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": "{}"}
SENT = [{"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"}]
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "2"}


def _response(output: list[Any]) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return {
        "id": "resp_up",
        "object": "response",
        "model": "up-responses",
        "status": "completed",
        "output": output,
        "usage": usage,
    }


def _stream(output: list[Any]) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**_response([]), "status": "in_progress"}}
    ]
    for at, item in enumerate(output):
        begun = {**item, "summary": []} if item["type"] == "reasoning" else {**item, "arguments": ""}
        events.append({"type": "response.output_item.added", "output_index": at, "item": begun})
        summed: dict[str, Any] = {"item_id": item["id"], "output_index": at, "summary_index": 0}
        events += [
            {"type": "response.reasoning_summary_text.delta", **summed, "delta": text["text"]}
            for text in item.get("summary", ())
        ]
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    events.append({"type": "response.completed", "response": _response(output)})
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in events
    )


def _message(answer: Answer) -> dict[str, Any]:
    """The assistant's message as a client keeps it that knows every member."""
    assert answer.status == 200
    if answer.headers["content-type"] == "application/json":
        return answer.json["choices"][0]["message"]
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": []}
    details: dict[int, dict[str, Any]] = {}
    for frame in answer.frames[:-1]:
        delta = frame.json["choices"][0]["delta"]
        message["reasoning_content"] += delta.get("reasoning_content") or ""
        for entry in delta.get("reasoning_details", ()):
            known = details.setdefault(entry["index"], {})
            text = known.get("text", "") + entry.get("text", "")
            known |= {**entry, **({"text": text} if text else {})}
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(message["tool_calls"]):
                message["tool_calls"].append({name: v for name, v in call.items() if name != "index"})
            else:
                function = message["tool_calls"][call["index"]]["function"]
                function["arguments"] += call["function"]["arguments"]
    return {**message, "reasoning_details": list(details.values())}


KEPT: dict[str, tuple[str, ...]] = {
    "all of it": ("content", "reasoning_content", "reasoning_details", "extra_content"),
    "details alone, as OpenRouter's clients": ("content", "reasoning_details"),
    "text and what is on the call, as the AI SDK": ("content", "reasoning_content", "extra_content"),
    "what is on the call alone": ("content", "extra_content"),
}


def _returned(message: dict[str, Any], kept: tuple[str, ...]) -> dict[str, Any]:
    """The message as a client sends it back that keeps these members."""
    calls = [
        {name: v for name, v in call.items() if name != "extra_content" or name in kept}
        for call in message["tool_calls"]
    ]
    members = {name: value for name, value in message.items() if name in kept}
    return {"role": "assistant", "content": None, **members, "tool_calls": calls}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", KEPT)
async def test_it_comes_back_to_another_process(house: House, kept: str, stream: bool) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    said = [REASONING, CALL]
    wire.script = lambda asked: (
        asked.stream(_stream(said)) if stream else asked.answer(msgspec.json.encode(_response(said)))
    )
    fields: dict[str, Any] = {"tools": TOOLS, "stream": stream}
    message = _message(await house.ask("chat", "wire-responses", user, messages=[MINE], **fields))
    await wire.next()
    assert message["reasoning_content"] == "I add."
    await house.restart(thoughts_kept=0)
    history = [MINE, _returned(message, KEPT[kept]), DONE]
    await house.ask("chat", "wire-responses", user, messages=history, **fields)
    asked: Any = (await wire.next()).json
    summary = REASONING["summary"] if {"reasoning_content", "reasoning_details"} & {*KEPT[kept]} else []
    assert asked["input"][1:] == [{**REASONING, "summary": summary}, *SENT, OUTPUT]


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_without_a_summary_comes_back_too(house: House, stream: bool) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    said = [SILENT, CALL]
    wire.script = lambda asked: (
        asked.stream(_stream(said)) if stream else asked.answer(msgspec.json.encode(_response(said)))
    )
    fields: dict[str, Any] = {"tools": TOOLS, "stream": stream}
    message = _message(await house.ask("chat", "wire-responses", user, messages=[MINE], **fields))
    await wire.next()
    for kept in KEPT.values():
        await house.ask(
            "chat", "wire-responses", user, messages=[MINE, _returned(message, kept), DONE], **fields
        )
        asked: Any = (await wire.next()).json
        assert asked["input"][1:] == [SILENT, *SENT, OUTPUT]


async def test_a_caller_that_drops_it_is_served_without(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-responses"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode(_response([REASONING, CALL])))
    message = _message(await house.ask("chat", "wire-responses", user, messages=[MINE], tools=TOOLS))
    await wire.next()
    history = [MINE, _returned(message, ("content",)), DONE]
    answer = await house.ask("chat", "wire-responses", user, messages=history, tools=TOOLS)
    assert answer.status == 200
    asked: Any = (await wire.next()).json
    assert asked["input"][1:] == [*SENT, OUTPUT]


async def test_it_is_left_out_elsewhere(house: House) -> None:
    """Google would refuse a signature of ours, Anthropic its thought, and others the members."""
    user = await house.user()
    wire = house.wires["wire-responses"]
    wire.script = lambda asked: asked.answer(msgspec.json.encode(_response([REASONING, CALL])))
    message = _message(await house.ask("chat", "wire-responses", user, messages=[MINE], tools=TOOLS))
    history = [MINE, _returned(message, KEPT["text and what is on the call, as the AI SDK"]), DONE]
    chat = (
        b'{"id":"x","model":"up-chat","choices":[{"index":0,"message":{"role":"assistant","content":"2"},'
        b'"finish_reason":"stop"}]}'
    )
    house.wires["spare-chat"].script = house.wires["wire-chat"].script = lambda asked: asked.answer(chat)
    for model, name in (("google-chat", "spare-chat"), ("wire-chat", "wire-chat")):
        answer = await house.ask("chat", model, user, messages=history, tools=TOOLS)
        assert answer.headers["x-penstock-translation"] == "messages.thinking=dropped"
        assert b"gw1." not in (await house.wires[name].next()).body
    await house.ask("chat", "groq-chat", user, messages=history, tools=TOOLS)
    asked: Any = (await house.wires["wire-chat"].next()).json
    assert asked["messages"][1]["reasoning"] == "I add."
    assert not {"reasoning_content", "reasoning_details"} & asked["messages"][1].keys()
