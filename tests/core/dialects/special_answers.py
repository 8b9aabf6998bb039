"""Answers of which something is billed besides tokens, or otherwise, in each format, and what is counted of them."""

import json
from typing import Any

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
    "a search that failed": (
        {"server_tool_use": {"web_fetch_requests": 1}},
        ["web_search", "web_fetch"],
        {"web_fetches": 1},
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
