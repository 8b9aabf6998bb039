"""What few answers are billed by: tiers, sound, predictions and runs of a provider's tools, whole and streamed alike."""

import json
from typing import Any

import pytest

from penstock.domain.ledger.reconciliation import compare, repair
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House, User

DAY = 20_833
TOOLS = {"web_search_requests": 3, "web_fetch_requests": 1}
MESSAGES: dict[str, tuple[dict[str, Any], list[str], dict[str, Any]]] = {
    "nothing": ({"service_tier": "standard", "server_tool_use": None}, [], {}),
    "no runs": ({"server_tool_use": {"web_search_requests": 0}}, [], {}),
    "searches": ({"server_tool_use": TOOLS}, ["web_search"], {"web_searches": 3, "web_fetches": 1}),
    "code beside searches": (
        {"server_tool_use": TOOLS},
        ["code_execution", "bash_code_execution", "web_search"],
        {"web_searches": 3, "web_fetches": 1, "code_runs": 2},
    ),
    "a vendor that counts none": ({}, ["web_search", "other"], {"web_searches": 1, "other_tool_runs": 1}),
    "a tier": ({"service_tier": "priority"}, [], {"service_tier": "priority"}),
    "speed": ({"service_tier": "standard", "speed": "fast"}, [], {"service_tier": "fast"}),
    "of odd types": ({"service_tier": 7, "server_tool_use": [1], "speed": {}}, [], {}),
    "no counts": ({"server_tool_use": {"web_search_requests": -4, "web_fetch_requests": "x"}}, [], {}),
}
PREDICTED = {
    "reasoning_tokens": 2,
    "audio_tokens": 5,
    "accepted_prediction_tokens": 7,
    "rejected_prediction_tokens": 1,
}
CHAT: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "nothing": ({"completion_tokens_details": dict.fromkeys(PREDICTED, 0)}, "default", {}),
    "tier": ({}, "flex", {"service_tier": "flex"}),
    "an odd tier": ({}, {"a": 1}, {}),
    "a usual tier of another word": ({}, "on_demand", {}),
    "sound and predictions": (
        {"prompt_tokens_details": {"audio_tokens": 11}, "completion_tokens_details": PREDICTED},
        None,
        {
            "audio_input_tokens": 11,
            "audio_output_tokens": 5,
            "accepted_prediction_tokens": 7,
            "rejected_prediction_tokens": 1,
        },
    ),
    "OpenRouter's searches": ({"server_tool_use": {"web_search_requests": 2}}, None, {"web_searches": 2}),
    "Perplexity's": ({"num_search_queries": 4}, None, {"web_searches": 4}),
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
OPENED = SEARCH | {"action": {"type": "open_page", "url": "https://a.example"}}
RUN = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "outputs": []}
FILES = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a"]}
IMAGE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": ""}
RESPONSES: dict[str, tuple[list[dict[str, Any]], str, dict[str, Any]]] = {
    "nothing": ([], "default", {}),
    "a tier": ([], "priority", {"service_tier": "priority"}),
    "runs": (
        [SEARCH, SEARCH, OPENED, RUN, FILES, IMAGE],
        "default",
        {"web_searches": 2, "web_fetches": 1, "code_runs": 1, "file_searches": 1, "other_tool_runs": 1},
    ),
}
COLUMNS = (
    "service_tier", "audio_input_tokens", "audio_output_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
    "web_searches", "web_fetches", "code_runs", "file_searches", "other_tool_runs",
)  # fmt: skip


def events(items: list[dict[str, Any]]) -> list[bytes]:
    return [b"event: %b\ndata: %b\n\n" % (item["type"].encode(), json.dumps(item).encode()) for item in items]


def messages_answer(more: dict[str, Any], tools: list[str], *, stream: bool) -> list[bytes]:
    counts = {"input_tokens": 40, "output_tokens": 9}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up-messages"}
    blocks: list[dict[str, Any]] = [{"type": "text", "text": 'Hi "server_tool_use"'}]
    for at, name in enumerate(tools):
        blocks.append({"type": "server_tool_use", "id": f"srvtoolu_{at}", "name": name, "input": {}})
        found = {"type": f"{name}_tool_result", "tool_use_id": f"srvtoolu_{at}", "content": []}
        blocks.append(found)
    if not stream:
        whole = message | {"content": blocks, "stop_reason": "end_turn", "usage": counts | more}
        return [json.dumps(whole).encode()]
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "usage": {"input_tokens": 40}}}
    ]
    for index, block in enumerate(blocks):
        begun = block | ({"text": ""} if block["type"] == "text" else {})
        said.append({"type": "content_block_start", "index": index, "content_block": begun})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            said.append({"type": "content_block_delta", "index": index, "delta": delta})
        said.append({"type": "content_block_stop", "index": index})
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts | more}
    return events([*said, ended, {"type": "message_stop"}])


def chat_answer(more: dict[str, Any], tier: Any, *, stream: bool) -> list[bytes]:
    usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49} | more
    served = {} if tier is None else {"service_tier": tier}
    begun = {"id": "c1", "created": 1, "model": "up-chat", **served}
    if not stream:
        message = {"role": "assistant", "content": "Hi"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return [
            json.dumps(begun | {"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        ]
    begun |= {"object": "chat.completion.chunk"}
    chunks = [
        begun | {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
        begun | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        begun | {"choices": [], "usage": usage},
    ]
    return [*(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks), b"data: [DONE]\n\n"]


def responses_answer(
    items: list[dict[str, Any]], tier: str, *, stream: bool, empty: bool = False
) -> list[bytes]:
    text = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
    }
    output = [*items, text]
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "up-responses",
    }
    usage = {"input_tokens": 40, "output_tokens": 9, "total_tokens": 49}
    whole = response | {"status": "completed", "service_tier": tier, "output": output, "usage": usage}
    if not stream:
        return [json.dumps(whole).encode()]
    begun = response | {"status": "in_progress", "service_tier": "auto", "output": []}
    said: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(output):
        said += [
            {"type": f"response.output_item.{word}", "output_index": index, "item": item}
            for word in ("added", "done")
        ]
    ended = whole | ({"output": []} if empty else {})
    said.append({"type": "response.completed", "response": ended})
    return events([{**each, "sequence_number": at} for at, each in enumerate(said)])


async def ask(
    house: House, user: User, caller: str, upstream: str, sent: list[bytes], *, stream: bool
) -> bytes:
    model = f"wire-{upstream}"
    wire = house.wires[model]
    wire.script = lambda asked: asked.stream(*sent) if stream else asked.answer(sent[0])
    if caller == "responses":
        body = json.dumps({"model": model, "input": "Hello", "stream": stream}).encode()
    else:
        more = {"stream_options": {"include_usage": True}} if caller == "chat" and stream else {}
        body = body_of(caller, model, stream=stream, **more)
    answer = await house.http("POST", PATHS.get(caller, "/v1/responses"), user.key, body=body)
    assert answer.status == 200, answer.body
    return answer.body


def said_in(caller: str, body: bytes, *, stream: bool) -> dict[str, Any]:
    """The last object of an answer that has a usage: its tier and usage."""
    if not stream:
        return json.loads(body)
    found = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    found = [each.get("response") or each for each in found]
    whole = [each for each in found if each.get("usage")][-1]
    tiers = [each["service_tier"] for each in found if caller == "chat" and each.get("service_tier")]
    return whole | ({"service_tier": tiers[-1]} if tiers else {})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
async def test_the_row_has_it_whatever_the_formats_are(house: House, caller: str, stream: bool) -> None:
    cases: list[tuple[str, str, list[bytes], dict[str, Any]]] = [
        *(
            ("messages", name, messages_answer(more, tools, stream=stream), row)
            for name, (more, tools, row) in MESSAGES.items()
        ),
        *(
            ("chat", name, chat_answer(more, tier, stream=stream), row)
            for name, (more, tier, row) in CHAT.items()
        ),
        *(
            ("responses", name, responses_answer(items, tier, stream=stream), row)
            for name, (items, tier, row) in RESPONSES.items()
        ),
    ]
    if stream:
        items, tier, row = RESPONSES["runs"]
        cases.append(
            ("responses", "not repeated", responses_answer(items, tier, stream=True, empty=True), row)
        )
    for upstream, name, sent, expected in cases:
        user = await house.user()
        await ask(house, user, caller, upstream, sent, stream=stream)
        row = await house.row(user)
        assert {column: row[column] for column in COLUMNS if row[column] is not None} == expected, (
            upstream,
            name,
        )
        assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (40, 9, False), (
            upstream,
            name,
        )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_is_translated_says_it_where_its_format_has_a_field(
    house: House, stream: bool
) -> None:
    user = await house.user()
    searched = messages_answer({"server_tool_use": TOOLS, "service_tier": "priority"}, [], stream=stream)
    usual = messages_answer({"service_tier": "standard"}, [], stream=stream)
    batch = messages_answer({"service_tier": "batch"}, [], stream=stream)
    for caller, none in (("chat", None), ("responses", "default")):
        for sent, tier in ((searched, "priority"), (usual, "default"), (batch, none)):
            body = await ask(house, user, caller, "messages", sent, stream=stream)
            assert said_in(caller, body, stream=stream).get("service_tier") == tier
    items, _, _ = RESPONSES["runs"]
    sent = responses_answer(items, "priority", stream=stream)
    told = said_in(
        "messages", await ask(house, user, "messages", "responses", sent, stream=stream), stream=stream
    )
    assert told["usage"]["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 1}
    assert told["usage"]["service_tier"] == "priority"
    sent = chat_answer({}, "flex", stream=stream)
    told = said_in("messages", await ask(house, user, "messages", "chat", sent, stream=stream), stream=stream)
    assert not {"service_tier", "server_tool_use"} & set(told["usage"])


async def test_it_is_in_the_sums_which_are_those_of_the_rows(house: House) -> None:
    user = await house.user()
    more, tools, _ = MESSAGES["code beside searches"]
    sent = messages_answer(more | {"service_tier": "priority"}, tools, stream=False)
    await ask(house, user, "messages", "messages", sent, stream=False)
    more, tier, _ = CHAT["sound and predictions"]
    await ask(house, user, "chat", "chat", chat_answer(more, tier, stream=False), stream=False)
    await ask(house, user, "chat", "chat", chat_answer({}, None, stream=False), stream=False)
    rows = await house.rows(user)
    told = (await house.http("GET", "/v1/usage?group=model", user.key)).json["data"]
    of_model = {one["model"]: {name: one[name] for name in COLUMNS if name in one} for one in told}
    assert of_model == {
        "wire-messages": {"web_searches": 3, "web_fetches": 1, "code_runs": 2},
        "wire-chat": {
            "audio_input_tokens": 11,
            "audio_output_tokens": 5,
            "accepted_prediction_tokens": 7,
            "rejected_prediction_tokens": 1,
        },
    }
    assert len(rows) == 3
    assert house.service is not None
    database = house.store.database
    async with database.connect() as conn:
        assert await compare(conn, DAY) == []
        assert (await conn.exec_driver_sql("SELECT count(*) FROM usage_special")).scalar_one() == 2
    async with database.transaction() as conn:
        await conn.exec_driver_sql("UPDATE usage_special SET web_searches = 99, code_runs = 0")
    assert {one.column for one in await repair(database, DAY)} == {"web_searches", "code_runs"}
    async with database.connect() as conn:
        assert await compare(conn, DAY) == []
