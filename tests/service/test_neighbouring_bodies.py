"""What Codex and Cursor send beyond a route's format, over real sockets and upstreams of every dialect."""

import json
from typing import Any

import pytest

from penstock.core.dialects.summary import opened_summary
from tests.service.conversations import Answer
from tests.service.running_service import House

UPSTREAMS = ("chat", "messages", "responses")
before = pytest.mark.parametrize("upstream", UPSTREAMS)
SEARCH = {
    "type": "tool_search",
    "execution": "client",
    "description": "finds tools",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Remember 42."},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
]


def encoded(**body: Any) -> bytes:
    return json.dumps(body).encode()


def ended(answer: Answer) -> Any:
    """The response that a stream ends with."""
    last = answer.frames[-1]
    assert last.event == "response.completed"
    return last.json["response"]


@before
async def test_a_conversation_is_compacted_and_goes_on_with_any_model(house: House, upstream: str) -> None:
    user = await house.user()
    model = f"{upstream}-plain"
    triggered = [*HISTORY, {"type": "compaction_trigger"}]
    body = encoded(model=model, stream=True, input=triggered)
    response = ended(await house.http("POST", "/v1/responses", user.key, body=body))
    (item,) = response["output"]
    assert item["type"] == "compaction"
    assert opened_summary(item["encrypted_content"])
    assert response["completed_at"] >= response["created_at"]
    for path in ("/api/v1/responses/compact", "/v1/responses/compact"):
        answer = await house.http("POST", path, user.key, body=encoded(model=model, input=HISTORY))
        assert answer.status == 200
        made = answer.json
        assert made["object"] == "response.compaction"
        kept, again = made["output"]
        assert kept["content"] == [{"type": "input_text", "text": "Remember 42."}]
        assert opened_summary(again["encrypted_content"])
        assert made["usage"]["total_tokens"] > 0
    for other in UPSTREAMS:
        after = encoded(model=f"{other}-plain", input=[*made["output"], {"role": "user", "content": "And?"}])
        answer = await house.http("POST", "/v1/responses", user.key, body=after)
        assert answer.status == 200
        assert answer.json["status"] == "completed"
    rows = await house.rows(user)
    assert {row["outcome"] for row in rows} == {"completed"}
    assert {row["dialect"] for row in rows} == {"responses"}
    assert await house.used(user) == len(rows) == 6


@before
async def test_codex_begins_with_tools_that_are_not_known(house: House, upstream: str) -> None:
    user = await house.user()
    body = encoded(
        model=f"{upstream}-plain",
        stream=True,
        store=False,
        input="hi",
        instructions="Be brief.",
        tools=[
            {"type": "function", "name": "exec_command", "parameters": {"type": "object", "properties": {}}},
            SEARCH,
            {"type": "web_search"},
            {"type": "image_generation"},
        ],
    )
    answer = await house.http("POST", "/v1/responses", user.key, body=body)
    response = ended(answer)
    if upstream != "responses":
        assert response["instructions"] == "Be brief."
        told = answer.headers["x-penstock-translation"]
        assert "tools.tool_search=function" in told
        assert "tools.image_generation=dropped" in told


@before
@pytest.mark.parametrize("agent", ["Cursor/1.0", "something/2"])
async def test_cursors_bodies_are_answered_as_chat(house: House, upstream: str, agent: str) -> None:
    user = await house.user()
    body = encoded(
        model=f"{upstream}-plain",
        stream=True,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        tools=[{"type": "function", "name": "Shell", "parameters": {"type": "object", "properties": {}}}],
        reasoning={"effort": "medium"},
    )
    headers = {"user-agent": agent}
    answer = await house.http("POST", "/v1/chat/completions", user.key, body=body, headers=headers)
    assert answer.status == 200
    assert answer.frames[0].json["object"] == "chat.completion.chunk"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    row = await house.row(user)
    assert (row["dialect"], row["upstream_dialect"], row["outcome"]) == ("chat", upstream, "completed")


@before
async def test_an_empty_list_as_content_is_mended_for_clients_that_send_it(
    house: House, upstream: str
) -> None:
    user = await house.user()
    call = {"id": "call_1", "type": "function", "function": {"name": "Shell", "arguments": "{}"}}
    body = encoded(
        model=f"{upstream}-plain",
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
        ],
        tools=[{"type": "function", "function": {"name": "Shell", "parameters": {"type": "object"}}}],
    )
    headers = {"user-agent": "Cursor/1.0"}
    answer = await house.http("POST", "/v1/chat/completions", user.key, body=body, headers=headers)
    assert answer.status == 200
    assert answer.json["object"] == "chat.completion"
    (heard,) = house.heard("call_1")
    assert b'"content":[]' not in heard.body.replace(b" ", b"")
