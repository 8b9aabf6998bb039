"""Tools, parts and blocks of types that a format did not know: a turn is never refused for what nobody insists on."""

import json
from typing import Any

import pytest

from penstock.core.dialects.chat.decode_request import decode_request
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import read_envelope
from penstock.core.dialects.unknown import said_by
from penstock.core.neutral.request import MOST_LOSSES
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest

OTHERS = {"chat": ("messages", "responses"), "messages": ("chat", "responses")}
CHAT_TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
MESSAGES_TOOL = {"name": "get", "input_schema": {"type": "object"}}
TOOL = {"chat": CHAT_TOOL, "messages": MESSAGES_TOOL}
USER = {"role": "user", "content": "hi"}


def sent(
    caller: str, upstream: str, profile: Profile | None = None, **body: Any
) -> tuple[dict[str, Any], str]:
    """What an upstream gets, and what the caller is told."""
    whole = {"model": "M", "max_tokens": 9, "messages": [USER], **body}
    envelope = read_envelope(json.dumps(whole).encode(), caller)
    prepared = prepare(envelope, caller=caller, upstream=upstream, model="up", profile=profile or Profile())
    return json.loads(prepared.body), translation_header(prepared.losses)


def names(body: dict[str, Any]) -> list[str]:
    return [tool.get("name") or tool["function"]["name"] for tool in body.get("tools", ())]


LEFT_OUT: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"type": "code_interpreter", "container": {"type": "auto"}}, "code_interpreter"),
    ("chat", {"type": "file_search"}, "file_search"),
    ("chat", {"type": "openrouter:image_generation", "parameters": 5}, "openrouter:image_generation"),
    ("chat", {"type": "brand_new", "name": "x"}, "brand_new"),
    ("messages", {"type": "web_fetch_20250910", "name": "web_fetch"}, "web_fetch_20250910"),
    ("messages", {"type": "code_execution_20250825", "name": "code_execution"}, "code_execution_20250825"),
    (
        "messages",
        {"type": "tool_search_tool_regex_20251119", "name": "search"},
        "tool_search_tool_regex_20251119",
    ),
    ("messages", {"type": "mcp_toolset", "mcp_server_name": "x"}, "mcp_toolset"),
    ("messages", {"type": "brand_new_20270101", "name": "x", "limit": 3}, "brand_new_20270101"),
]


@pytest.mark.parametrize(("caller", "tool", "kind"), LEFT_OUT, ids=[row[2] for row in LEFT_OUT])
def test_a_tool_that_only_a_provider_could_run_is_left_out_and_told(
    caller: str, tool: dict[str, Any], kind: str
) -> None:
    for upstream in OTHERS[caller]:
        body, told = sent(caller, upstream, tools=[TOOL[caller], tool])
        assert names(body) == ["get"]
        assert f"tools.{kind.replace(':', '?')}=dropped" in told
        body, _ = sent(caller, upstream, tools=[tool])
        assert "tools" not in body


@pytest.mark.parametrize("upstream", ["messages", "responses"])
def test_a_forced_call_of_what_is_left_out_is_refused_for_chat(upstream: str) -> None:
    with pytest.raises(InvalidRequest, match="tool_choice"):
        sent("chat", upstream, tools=[{"type": "code_interpreter"}], tool_choice="required")
    body, _ = sent("chat", upstream, tools=[CHAT_TOOL, {"type": "code_interpreter"}], tool_choice="required")
    assert names(body) == ["get"]


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_a_forced_call_of_what_is_left_out_is_refused_for_messages(upstream: str) -> None:
    fetch = {"type": "web_fetch_20250910", "name": "web_fetch"}
    for choice in ({"type": "tool", "name": "web_fetch"}, {"type": "any"}):
        with pytest.raises(InvalidRequest, match="tool_choice"):
            sent("messages", upstream, tools=[fetch], tool_choice=choice)
    body, _ = sent("messages", upstream, tools=[MESSAGES_TOOL, fetch], tool_choice={"type": "any"})
    assert names(body) == ["get"]


def test_a_tool_that_is_like_a_function_is_one() -> None:
    for upstream in OTHERS["chat"]:
        flat = {"type": "brand_new", "name": "do", "parameters": {"type": "object"}}
        nested = {"type": "other", "function": {"name": "act", "parameters": {"type": "object"}}}
        body, told = sent("chat", upstream, tools=[flat, nested])
        assert names(body) == ["do", "act"]
        assert "tools.brand_new=function; tools.other=function" in told
    for upstream in OTHERS["messages"]:
        body, told = sent(
            "messages",
            upstream,
            tools=[{"type": "brand_new", "name": "do", "input_schema": {"type": "object"}}],
        )
        assert names(body) == ["do"]
        assert "tools.brand_new=function" in told


SEARCHES: dict[str, dict[str, Any]] = {
    "chat": {"type": "web_search_preview"},
    "messages": {"type": "web_search_20250305", "name": "web_search"},
}


@pytest.mark.parametrize("caller", ["chat", "messages"])
def test_a_search_that_the_model_does_not_have_is_left_out_unless_it_is_forced_or_the_operator_refuses(
    caller: str,
) -> None:
    upstream = OTHERS[caller][0]
    body, told = sent(caller, upstream, tools=[TOOL[caller], SEARCHES[caller]])
    assert names(body) == ["get"]
    assert "web_search" in told
    assert "dropped" in told
    with pytest.raises(InvalidRequest, match="web_search"):
        sent(caller, upstream, Profile(web_search="refused"), tools=[SEARCHES[caller]])
    forced = "required" if caller == "chat" else {"type": "tool", "name": "web_search"}
    with pytest.raises(InvalidRequest, match="web_search"):
        sent(caller, upstream, tools=[SEARCHES[caller]], tool_choice=forced)


def test_servers_and_containers_of_the_provider_are_left_out_and_told() -> None:
    server = {"type": "url", "url": "https://s.example", "name": "s"}
    body, told = sent("messages", "chat", mcp_servers=[server], container="c")
    assert told == "mcp_servers=dropped; container=dropped"
    assert body["messages"] == [USER]


@pytest.mark.parametrize("caller", ["chat", "messages"])
def test_parts_and_blocks_of_an_unknown_type_stay_as_text(caller: str) -> None:
    content = [
        {"type": "text", "text": "look"},
        {"type": "brand_new", "text": "so"},
        {"type": "video_url", "video_url": {"url": "https://a.example/b"}, "data": "A" * 20_000},
        {"type": "blob", "data": "A" * 20_000},
    ]
    for upstream in OTHERS[caller]:
        body, told = sent(caller, upstream, messages=[{"role": "user", "content": content}])
        said = (body.get("messages") or body["input"])[0]["content"]
        assert [part["text"] for part in said] == [
            "look",
            "so",
            '[video url: {"video_url":{"url": "https://a.example/b"}}]',
        ]
        assert told == "messages.brand_new=text; messages.video_url=text; messages.blob=dropped"


def test_so_do_those_inside_of_a_tools_result() -> None:
    call = {"type": "tool_use", "id": "t", "name": "get", "input": {}}
    inner = [{"type": "brand_new", "text": "so"}, {"type": "text", "text": "x"}]
    result = {"type": "tool_result", "tool_use_id": "t", "content": inner}
    messages = [USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    body, told = sent("messages", "chat", messages=messages, tools=[MESSAGES_TOOL])
    assert body["messages"][-1] == {"role": "tool", "tool_call_id": "t", "content": "so\nx"}
    assert told == "messages.brand_new=text"


@pytest.mark.parametrize(
    ("caller", "body"),
    [
        ("chat", {"tools": [{"type": "function", "function": {"description": "no name"}}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
        ("chat", {"tools": [CHAT_TOOL], "tool_choice": {"type": "brand_new"}}),
        ("messages", {"tools": [{"input_schema": {"type": "object"}}]}),
        ("messages", {"tools": [{"name": "x"}]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        ("messages", {"tools": [{"name": 5}]}),
    ],
)
def test_what_is_known_and_wrong_is_refused_as_ever(caller: str, body: dict[str, Any]) -> None:
    for upstream in OTHERS[caller]:
        with pytest.raises(InvalidRequest):
            sent(caller, upstream, **body)


def test_what_something_says() -> None:
    assert said_by("x", {}) is None


def test_of_very_many_not_all_are_told() -> None:
    content = [{"type": f"new_{at}", "text": "x"} for at in range(2 * MOST_LOSSES)]
    tools = [CHAT_TOOL, *({"type": f"new_{at}"} for at in range(2 * MOST_LOSSES))]
    body = json.dumps(
        {"model": "M", "messages": [{"role": "user", "content": content}], "tools": tools}
    ).encode()
    assert len(decode_request(body)[1]) <= MOST_LOSSES


@pytest.mark.parametrize(
    "body", [{"tools": [5]}, {"messages": [5]}, {"messages": [{"role": "user", "content": [5]}]}]
)
def test_what_is_no_object_is_refused(body: dict[str, Any]) -> None:
    whole = {"model": "M", "messages": [USER], "tools": [{"type": "brand_new"}], **body}
    with pytest.raises(InvalidRequest):
        decode_request(json.dumps(whole).encode())


def test_types_that_are_no_words_are_refused() -> None:
    for body in (
        {"tools": [{"type": 5}]},
        {"messages": [{"role": "user", "content": [{"type": 5}]}]},
        {"messages": 5},
    ):
        with pytest.raises(InvalidRequest):
            decode_request(json.dumps({"model": "M", "messages": [USER], **body}).encode())
