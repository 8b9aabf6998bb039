"""The grammar of a Responses stream towards callers: what the official SDK and Codex rely on, and more."""

import json
from typing import Any

_DELTAS = {
    "message": ("response.output_text", "text"),
    "reasoning": ("response.reasoning_summary_text", "text"),
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}
_HOSTED = {
    "web_search_call": "response.web_search_call.completed",
    "code_interpreter_call": "response.code_interpreter_call.completed",
    "mcp_call": "response.mcp_call.completed",
}
_PARTS = {"message": "response.content_part", "reasoning": "response.reasoning_summary_part"}
_TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}


def frames(stream: bytes) -> list[dict[str, Any]]:
    """The data of each frame; every frame must be ``event:`` and ``data:`` with the same type, and numbered."""
    assert stream.endswith(b"\n\n")
    found: list[dict[str, Any]] = []
    for at, frame in enumerate(stream.decode().removesuffix("\n\n").split("\n\n")):
        first, second = frame.split("\n")
        data = json.loads(second.removeprefix("data: "))
        assert first == f"event: {data['type']}"
        assert data["sequence_number"] == at
        found.append(data)
    return found


def check_responses(stream: bytes) -> None:
    """Created, in progress, whole items one after another, and one terminal event with all of them."""
    events = frames(stream)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    for event in events[:2]:
        assert event["response"]["output"] == []
    last = events[-1]
    status = _TERMINAL[last["type"]]
    response = last["response"]
    assert response["status"] == status
    assert {event["response"]["id"] for event in (*events[:2], last)} == {response["id"]}
    assert (response["error"] is not None) == (status == "failed")
    assert (response["incomplete_details"] is not None) == (status == "incomplete")
    done: list[dict[str, Any]] = []
    item: list[dict[str, Any]] = []
    for event in events[2:-1]:
        if event["type"] == "response.output_item.added":
            assert not item
            item = [event]
        elif event["type"] == "response.output_item.done":
            check_item([*item, event], len(done))
            done.append(event["item"])
            item = []
        else:
            assert item, "an event of no item"
            item.append(event)
    assert not item or status == "failed"
    assert response["output"] == done
    assert len({entry["id"] for entry in done}) == len(done)
    if status != "failed":
        usage = response["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def check_item(events: list[dict[str, Any]], index: int) -> None:
    """One item from added to done: its deltas add up to what it holds in the end."""
    begun, ended = events[0]["item"], events[-1]["item"]
    kind = begun["type"]
    assert {event["output_index"] for event in events} == {index}
    assert (begun["id"], kind) == (ended["id"], ended["type"])
    inner = events[1:-1]
    assert all(event["item_id"] == begun["id"] for event in inner)
    if kind in _HOSTED:
        assert [event["type"] for event in inner] == [_HOSTED[kind]]
        assert (begun["status"], ended["status"] in ("completed", "failed")) == ("in_progress", True)
        return
    delta, member = _DELTAS[kind]
    refused = any(event["type"] == "response.refusal.delta" for event in inner)
    if refused:
        delta, member = "response.refusal", "refusal"
    text = "".join(event["delta"] for event in inner if event["type"] == f"{delta}.delta")
    assert all(event["delta"] for event in inner if event["type"] == f"{delta}.delta"), "no empty deltas"
    dones = [event[member] for event in inner if event["type"] == f"{delta}.done"]
    if kind == "reasoning" and not text:
        assert inner == []
        assert ended["summary"] == []
        assert ended["encrypted_content"]
        return
    assert dones == [text]
    if kind in _PARTS:
        types = [event["type"] for event in inner]
        assert types[0] == f"{_PARTS[kind]}.added"
        assert types[-1] == f"{_PARTS[kind]}.done"
        assert types.count(types[0]) == 1
        (part,) = ended["content" if kind == "message" else "summary"]
        assert part == inner[-1]["part"]
        assert part["refusal" if refused else "text"] == text
        noted = [e["annotation"] for e in inner if e["type"] == "response.output_text.annotation.added"]
        assert noted == part.get("annotations", [])
    else:
        assert begun["call_id"] == ended["call_id"]
        assert begun["name"] == ended["name"]
        assert ended[member] == text
