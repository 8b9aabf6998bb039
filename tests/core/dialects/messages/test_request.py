"""Messages requests read into the neutral form, and written for upstreams of different habits."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.body.utf8 import find_invalid
from penstock.core.dialects.messages.dialect import decode_request, encode_request
from penstock.core.neutral.request import (
    Document,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.core.profile import Profile
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.errors import InvalidRequest

NATIVE = Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False)
OLD = Profile(native_anthropic=True, thinking="budget")
HIDING = Profile(native_anthropic=True, thinking="adaptive", thoughts_hidden=True)
PLAIN = Profile()
OURS = sign_reasoning(ReasoningOrigin("deepseek-chat"))
SCHEMA = {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}


def body(**fields: Any) -> bytes:
    whole = {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}], **fields}
    return json.dumps(whole).encode()


def read(**fields: Any) -> Request:
    request, losses = decode_request(body(**fields))
    assert losses == []
    return request


def losses(**fields: Any) -> list[Loss]:
    return decode_request(body(**fields))[1]


def content(*blocks: dict[str, Any], role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": list(blocks)}]


def part(*blocks: dict[str, Any], role: str = "user") -> Any:
    return read(messages=content(*blocks, role=role)).turns[0].parts[0]


def asked(*turns: Turn, **fields: Any) -> Request:
    return Request("m", turns or (Turn("user", (Text("hi"),)),), **fields)


def written(request: Request, profile: Profile = NATIVE) -> dict[str, Any]:
    out, lost = encode_request(request, model="up", profile=profile)
    assert lost == []
    return json.loads(out)


def lost(request: Request, profile: Profile = NATIVE) -> list[str]:
    return [
        f"{loss.field}={loss.outcome}" for loss in encode_request(request, model="up", profile=profile)[1]
    ]


def roles(request: Request, profile: Profile = NATIVE) -> list[tuple[str, list[str]]]:
    out = json.loads(encode_request(request, model="up", profile=profile)[0])
    return [
        (row["role"], [block.get("text", block["type"]) for block in row["content"]])
        for row in out["messages"]
    ]


def user(*parts: Any) -> Turn:
    return Turn("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def assistant(*parts: Any) -> Turn:
    return Turn("assistant", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def system(*texts: str) -> Turn:
    return Turn("system", tuple(Text(text) for text in texts))


CALL = ToolCall("toolu_1", "get", '{"b":1, "a":2}')
RESULT = ToolResult("toolu_1", (Text("ok"),))

# ---- reading


def test_the_simple_fields() -> None:
    request = read(
        system="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["###"],
        stream=True,
        metadata={"user_id": "u1"},
    )
    assert request == Request(
        "m",
        (Turn("system", (Text("Be brief."),)), Turn("user", (Text("hi"),))),
        max_tokens=4096,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop=("###",),
        stream=True,
        user="u1",
    )


def test_system_blocks_keep_their_cache_marks() -> None:
    blocks = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=abc"},
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert read(system=blocks).turns[0].parts[1:] == (Text("a", "5m"), Text("b", "1h"))
    assert read(system=[]).turns == (user("hi"),)


def test_every_block_that_has_a_neutral_form() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    assert part({**image, **cached}) == Image(media_type="image/png", data="AA==", cache="5m")
    assert part({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}) == Image(
        url="https://x/y.png"
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JV=="}
    assert part({"type": "document", "source": pdf, "title": "T"}) == Document(
        media_type="application/pdf", data="JV==", title="T"
    )
    text = {"type": "text", "media_type": "text/plain", "data": "words"}
    assert part({"type": "document", "source": text}) == Document(media_type="text/plain", data="words")
    assert part({"type": "document", "source": {"type": "url", "url": "https://x"}}) == Document(
        url="https://x"
    )
    thinking = {"type": "thinking", "thinking": "hm", "signature": "EuSig"}
    assert part(thinking, role="assistant") == Thought("hm", "EuSig")
    assert part({"type": "thinking", "thinking": "", "signature": "EuSig"}, role="assistant") == Thought(
        "", "EuSig"
    )
    assert part({"type": "redacted_thinking", "data": "=="}, role="assistant") == Thought(redacted="==")
    use = {"type": "tool_use", "id": "t1", "name": "get", "input": {"b": 1, "a": "é"}, **cached}
    assert part(use, role="assistant") == ToolCall("t1", "get", '{"b": 1, "a": "\\u00e9"}', "5m")


def test_tool_results_of_every_shape() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1"}
    assert part(result) == ToolResult("t1")
    assert part({**result, "content": "ok", "is_error": True}) == ToolResult("t1", (Text("ok"),), True)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    page = {"type": "document", "source": {"type": "text", "data": "w"}}
    mixed = {
        **result,
        "content": [{"type": "text", "text": "see"}, image, page],
        "cache_control": {"ttl": "1h"},
    }
    assert part(mixed) == ToolResult(
        "t1",
        (
            Text("see"),
            Image(media_type="image/png", data="AA=="),
            Document(media_type="text/plain", data="w"),
        ),
        cache="1h",
    )


def test_tools_and_their_choice() -> None:
    tool = {
        "name": "get",
        "description": "d",
        "input_schema": SCHEMA,
        "strict": True,
        "cache_control": {"ttl": "1h"},
    }
    request = read(tools=[tool, {"name": "b", "type": "custom", "input_schema": {"type": "object"}}])
    schema = msgspec.Raw(json.dumps(SCHEMA).encode())
    assert request.tools[0] == Tool("get", schema, "d", True, "1h")
    assert request.tools[1].name == "b"
    for sent, choice, parallel in (
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice("auto"), False),
        ({"type": "any"}, ToolChoice("any"), None),
        ({"type": "none"}, ToolChoice("none"), None),
        ({"type": "tool", "name": "get"}, ToolChoice("tool", "get"), None),
    ):
        request = read(tool_choice=sent)
        assert (request.tool_choice, request.parallel_tools) == (choice, parallel)


def test_reasoning_and_output() -> None:
    assert read(thinking={"type": "enabled", "budget_tokens": 2000}).thinking == Thinking("enabled", 2000)
    assert read(thinking={"type": "adaptive", "display": "summarized"}).thinking == Thinking(
        "adaptive", shown=True
    )
    assert read(thinking={"type": "disabled"}).thinking == Thinking("disabled")
    request = read(output_config={"effort": "xhigh", "format": {"type": "json_schema", "schema": SCHEMA}})
    assert request.effort == "xhigh"
    assert request.output == OutputFormat(msgspec.Raw(json.dumps(SCHEMA).encode()))


def test_a_top_level_cache_mark_marks_the_last_block() -> None:
    turns = read(
        cache_control={"type": "ephemeral"},
        messages=content({"type": "text", "text": "a"}, {"type": "text", "text": "b"}),
    ).turns
    assert turns[0].parts == (Text("a"), Text("b", "5m"))


def test_system_turns_stay_where_they_are() -> None:
    rows = [
        {"role": "user", "content": "a"},
        {
            "role": "system",
            "content": [{"type": "text", "text": "now this", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "assistant", "content": "b"},
    ]
    assert read(messages=rows).turns == (user("a"), Turn("system", (Text("now this", "5m"),)), assistant("b"))


WORDS = {"type": "text", "text": "x"}
PAGE = {"type": "document", "source": {"type": "text", "data": "x"}}
FOUND = {"type": "search_result", "source": "s", "title": "t", "content": [WORDS]}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
SEARCHED = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
STORED = {"type": "file", "file_id": "f"}


def result_of(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t", "content": [block]}


def system_row(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x"}, {"role": "system", "content": "s", **fields}]


# row 38: fields that only Anthropic knows are told, not refused
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, "context_management=dropped"),
        ({"speed": "fast"}, "speed=dropped"),
        ({"diagnostics": {"previous_message_id": "x"}}, "diagnostics=dropped"),
        ({"service_tier": "auto"}, "service_tier=dropped"),
        ({"brand_new": 1}, "brand_new=dropped"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type=adaptive"),
        ({"thinking": {"type": "adaptive", "display": "updates"}}, "thinking.display=dropped"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 5}}}, "output_config.task_budget=dropped"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.type=synthesized"),
        ({"tools": [{"type": "text_editor_20250728", "name": "e"}]}, "tools.type=synthesized"),
        ({"tools": [{"type": "memory_20250818", "name": "memory"}]}, "tools.type=synthesized"),
        ({"tools": [{"name": "t", "input_schema": {}, "input_examples": [{"a": 1}]}]}, "tools.input_examples=described"),
        ({"tools": [{"name": "t", "input_schema": {}, "defer_loading": True}]}, "tools.defer_loading=loaded"),
        ({"tools": [{"name": "t", "input_schema": {}, "allowed_callers": ["x"]}]}, "tools.allowed_callers=dropped"),
        (
            {"tools": [{"name": "t", "input_schema": {}, "eager_input_streaming": True}]},
            "tools.eager_input_streaming=dropped",
        ),
        ({"messages": content({**WORDS, "citations": [{"type": "x"}]})}, "messages.citations=dropped"),
        ({"messages": content(FOUND)}, "messages.search_result=text"),
        ({"messages": content({**PAGE, "context": "c"})}, "messages.document.context=dropped"),
        ({"messages": content({**PAGE, "citations": {"enabled": True}})}, "messages.document.citations=dropped"),
        (
            {"messages": content({"type": "document", "source": {"type": "content", "content": [WORDS]}})},
            "messages.document.content=flattened",
        ),
        ({"messages": content(SEARCH, role="assistant")}, "messages.server_tools=text"),
        ({"messages": content(SEARCHED, role="assistant")}, "messages.server_tools=text"),
        ({"messages": content({"type": "compaction", "content": "c"}, role="assistant")}, "messages.compaction=text"),
        ({"messages": content({"type": "fallback"}, role="assistant")}, "messages.fallback=dropped"),
        ({"messages": system_row(content=[{"type": "tool_addition"}])}, "messages.tool_addition=dropped"),
        ({"messages": system_row(content=[{"type": "tool_removal"}])}, "messages.tool_removal=dropped"),
        ({"messages": system_row(output_config={"effort": "low"})}, "messages.output_config=dropped"),
        ({"messages": system_row(clear_at="x")}, "messages.clear_at=dropped"),
        (
            {"messages": content(result_of({"type": "tool_reference", "tool_name": "x"}))},
            "messages.tool_reference=text",
        ),
        (
            {"messages": content(result_of({"type": "browser_state", "content": {"a": 1}}))},
            "messages.browser_state=text",
        ),
    ],
)  # fmt: skip
def test_what_the_neutral_form_does_not_hold_is_told(fields: dict[str, Any], told: str) -> None:
    assert [f"{loss.field}={loss.outcome}" for loss in losses(**fields)] == [told]


def test_fields_that_ask_for_nothing_are_no_loss() -> None:
    read(speed=None, context_management=None, mcp_servers=[], container=None, betas=[])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": content({"type": "text", "text": 5})}, "messages[0].content[0].text"),
        ({"messages": content({"type": "image", "source": STORED})}, "messages[0].content[0].source"),
        ({"messages": content({"type": "document", "source": STORED})}, "messages[0].content[0].source"),
        ({"messages": content({"type": "container_upload", "file_id": "f"})}, "messages[0].content[0]"),
        ({"messages": content({"type": "tool_use", "id": "t", "name": "n", "input": {}})}, "messages[0].content[0]"),
        (
            {"messages": content({"type": "tool_use", "id": "t", "name": "n", "input": 1}, role="assistant")},
            "messages[0].content[0].input",
        ),
        ({"messages": content({"type": "tool_result", "tool_use_id": "t"}, role="assistant")}, "messages[0].content[0]"),
        ({"messages": content({"type": "thinking", "thinking": "x", "signature": "s"})}, "messages[0].content[0]"),
        ({"messages": system_row(content=[PAGE])}, "messages[1].content[0]"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"name": "t"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "t", "input_schema": 5}]}, "tools[0].input_schema"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"top_k": 1.5}, "top_k"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(body(**fields))
    assert caught.value.param == param


# ---- writing


def test_the_body_has_what_caches_key_on_first() -> None:
    tool = Tool("get", msgspec.Raw(b'{"type":"object", "properties":{"z":1,"a":1.50}}'), "d")
    request = asked(system("S"), user("hi"), tools=(tool,), max_tokens=5, stream=True, stop=("x",), user="u")
    out, _ = encode_request(request, model="up", profile=NATIVE)
    assert list(json.loads(out)) == [
        "model",
        "system",
        "tools",
        "messages",
        "max_tokens",
        "stop_sequences",
        "metadata",
        "stream",
    ]
    assert b'"input_schema":{"type":"object", "properties":{"z":1,"a":1.50}}' in out
    assert out == encode_request(request, model="up", profile=NATIVE)[0]


def test_max_tokens_is_required_there_and_so_has_a_default() -> None:
    assert written(asked(), Profile(default_max_tokens=777))["max_tokens"] == 777
    assert written(asked(max_tokens=0))["max_tokens"] == 0


def test_system_is_one_block_a_part_with_its_marks() -> None:
    request = asked(Turn("system", (Text("a", "1h"), Text(""), Text("b"))), system("c"), user("hi"))
    assert written(request)["system"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b"},
        {"type": "text", "text": "c"},
    ]


# row 19
def test_claude_codes_billing_block_goes_to_anthropic_only() -> None:
    request = asked(system("x-anthropic-billing-header: cc_version=2; cch=1", "Be good."), user("hi"))
    assert len(written(request, NATIVE)["system"]) == 2
    assert [block["text"] for block in written(request, PLAIN)["system"]] == ["Be good."]


# row 18
def test_system_in_the_middle_stays_in_place_where_the_model_takes_it() -> None:
    request = asked(user("a"), system("s1"), system("s2"), assistant("b"), user("c"), system("s3"))
    assert roles(request, NATIVE) == [
        ("user", ["a"]), ("system", ["s1", "s2"]), ("assistant", ["b"]), ("user", ["c"]), ("system", ["s3"]),
    ]  # fmt: skip
    assert lost(request, NATIVE) == []


def test_system_in_the_middle_is_wrapped_where_it_may_not_stand() -> None:
    request = asked(user("a"), system("s1"), assistant("b"), user("c"))
    assert roles(request, PLAIN) == [
        ("user", ["a", "<system>\ns1\n</system>"]),
        ("assistant", ["b"]),
        ("user", ["c"]),
    ]
    assert lost(request, PLAIN) == ["messages.system=wrapped"]
    between_users = asked(user("a"), system("s"), user("b"))
    assert roles(between_users, NATIVE) == [("user", ["a", "<system>\ns\n</system>", "b"])]
    after_assistant = asked(user("a"), assistant(CALL), system("s"), user(RESULT, "b"))
    assert roles(after_assistant, NATIVE)[2] == ("user", ["tool_result", "<system>\ns\n</system>", "b"])
    assert roles(asked(user("a"), assistant("b"), system("s")), NATIVE)[2] == (
        "user",
        ["<system>\ns\n</system>"],
    )


# row 40
def test_tool_results_come_first_and_together() -> None:
    two = ToolCall("toolu_2", "put", "{}")
    request = asked(
        user("q"),
        assistant("look", CALL, two),
        user("text", RESULT),
        user(ToolResult("toolu_2")),
        user("more"),
    )
    assert roles(request)[2:] == [("user", ["tool_result", "tool_result", "text", "more"])]


def test_results_of_one_id_go_to_its_calls_in_order() -> None:
    def call(id: str) -> ToolCall:
        return ToolCall(id, "get", "{}")

    def result(id: str) -> ToolResult:
        return ToolResult(id, (Text("ok"),))

    request = asked(
        user("q"),
        assistant(call("a"), call("a-gwr2"), call("b"), call("a")),
        user(result("a"), result("b"), result("a-gwr2"), result("a")),
        assistant(call("a"), call("a"), call("a")),
        user(result("a"), result("a"), result("a"), result("a")),
        assistant(call("a")),
        user(result("a")),
    )
    rows = written(request)["messages"]
    ids = [[block.get("id") or block.get("tool_use_id") for block in row["content"]] for row in rows[1:]]
    assert ids == [
        ["a", "a-gwr2", "b", "a-gwr3"],
        ["a", "b", "a-gwr2", "a-gwr3"],
        ["a-gwr4", "a-gwr5", "a-gwr6"],
        ["a-gwr4", "a-gwr5", "a-gwr6", "a-gwr6"],
        ["a-gwr7"],
        ["a-gwr7"],
    ]


def test_users_that_follow_one_another_stay_apart_without_results() -> None:
    assert roles(asked(user("a"), user("b"))) == [("user", ["a"]), ("user", ["b"])]


# row 27
def test_empty_text_is_left_out() -> None:
    request = asked(user("a"), assistant("", CALL), user(RESULT, ""), assistant(" \n"), user("b", ""))
    assert roles(request) == [
        ("user", ["a"]), ("assistant", ["tool_use"]), ("user", ["tool_result"]), ("user", ["b"]),
    ]  # fmt: skip
    with pytest.raises(InvalidRequest) as caught:
        encode_request(asked(system("s"), user("")), model="up", profile=NATIVE)
    assert caught.value.param == "messages"


# row 30
@pytest.mark.parametrize(
    ("arguments", "sent", "told"),
    [
        ("", {}, []),
        ("  ", {}, []),
        ("{}", {}, []),
        ("[1]", {"__raw_arguments": "[1]"}, ["messages.tool_calls.function.arguments=wrapped"]),
        ('{"a":', {"__raw_arguments": '{"a":'}, ["messages.tool_calls.function.arguments=wrapped"]),
        ('"x"', {"__raw_arguments": '"x"'}, ["messages.tool_calls.function.arguments=wrapped"]),
        ("{" * 5000, {"__raw_arguments": "{" * 5000}, ["messages.tool_calls.function.arguments=wrapped"]),
    ],
)
def test_arguments_are_an_object_whatever_came(arguments: str, sent: dict[str, Any], told: list[str]) -> None:
    request = asked(user("q"), assistant(ToolCall("t", "n", arguments)), user(ToolResult("t")))
    out, _ = encode_request(request, model="up", profile=NATIVE)
    assert json.loads(out)["messages"][1]["content"][0]["input"] == sent
    assert lost(request) == told


# row 28
def test_arguments_keep_their_order_and_their_numbers() -> None:
    call = ToolCall("t", "n", ' {"z":1.50, "a":1e5,"é":"\\u00e9"} ')
    out, _ = encode_request(asked(user("q"), assistant(call)), model="up", profile=NATIVE)
    assert '"input":{"z":1.50, "a":1e5,"é":"\\u00e9"}'.encode() in out


# rows 16 and 42
def test_tool_ids_are_legal_unique_and_paired() -> None:
    turns = [user("q")]
    for _ in range(2):
        turns += [assistant(ToolCall("functions.add:0", "add", "{}")), user(ToolResult("functions.add:0"))]
    blocks = [row["content"][0] for row in written(asked(*turns))["messages"][1:]]
    first, second = blocks[0]["id"], blocks[2]["id"]
    assert first.startswith("gwi_")
    assert first != second
    assert [blocks[1]["tool_use_id"], blocks[3]["tool_use_id"]] == [first, second]
    assert all(char.isalnum() or char in "_-" for char in first + second)


# row 7, and section 2.6
def test_thoughts_go_back_to_whoever_can_read_them() -> None:
    thoughts = (Thought("", "EuSig"), Thought("hm", OURS), Thought("bare"), Thought(redacted="=="))
    request = asked(user("a"), assistant(*thoughts, "b"), user("c"))
    native = [
        {"type": "thinking", "thinking": "", "signature": "EuSig"},
        {"type": "redacted_thinking", "data": "=="},
        {"type": "text", "text": "b"},
    ]
    out, told = encode_request(request, model="up", profile=NATIVE)
    assert json.loads(out)["messages"][1]["content"] == native
    assert told == [Loss("messages.thinking", "dropped")]
    plain = written(request, PLAIN)["messages"][1]["content"]
    assert [block.get("signature") for block in plain] == ["EuSig", "", "", None, None]


def test_images_and_documents() -> None:
    parts = (
        Image(url="https://x/y.png", cache="5m"),
        Image(media_type="image/webp", data="AA=="),
        Document(media_type="application/pdf", data="JV==", title="T"),
        Document(media_type="text/plain", data="w"),
        Document(url="https://x/y.pdf"),
    )
    blocks = written(asked(user(*parts, ToolResult("t", parts, True))))["messages"][0]["content"]
    source = [block["source"] for block in blocks[1:]]
    assert source == [
        {"type": "url", "url": "https://x/y.png"},
        {"type": "base64", "media_type": "image/webp", "data": "AA=="},
        {"type": "base64", "media_type": "application/pdf", "data": "JV=="},
        {"type": "text", "media_type": "text/plain", "data": "w"},
        {"type": "url", "url": "https://x/y.pdf"},
    ]
    assert blocks[0]["content"] == blocks[1:]
    assert blocks[0]["is_error"] is True
    assert blocks[3]["title"] == "T"
    assert lost(asked(user(Image(url="u", detail="high")))) == ["messages.image_url.detail=dropped"]


@pytest.mark.parametrize(
    "bad", [Image(media_type="image/tiff", data="A"), Document(media_type="application/zip", data="A")]
)
def test_other_types_are_refused(bad: Image | Document) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode_request(asked(user(bad)), model="up", profile=NATIVE)
    assert caught.value.param == "messages"


def test_tool_choice_and_parallel_calls() -> None:
    tool = Tool("t", msgspec.Raw(b"{}"))

    def choice(**fields: Any) -> Any:
        return written(asked(tools=(tool,), **fields)).get("tool_choice")

    assert choice() is None
    assert choice(tool_choice=ToolChoice("any")) == {"type": "any"}
    assert choice(tool_choice=ToolChoice("none"), parallel_tools=False) == {"type": "none"}
    assert choice(tool_choice=ToolChoice("tool", "t")) == {"type": "tool", "name": "t"}
    assert choice(parallel_tools=False) == {"type": "auto", "disable_parallel_tool_use": True}
    assert choice(parallel_tools=True) is None
    assert "tool_choice" not in written(asked(tool_choice=ToolChoice("auto"), parallel_tools=False))


def test_strict_tools_where_they_are_known() -> None:
    request = asked(tools=(Tool("t", msgspec.Raw(b"{}"), strict=True, cache="1h"),))
    assert written(request)["tools"][0]["strict"] is True
    assert lost(request, PLAIN) == ["tools.function.strict=dropped"]


def test_what_may_take_longer_than_ten_minutes_is_streamed() -> None:
    assert "stream" not in written(asked(max_tokens=21_333))
    assert written(asked(max_tokens=21_334))["stream"] is True
    assert "stream" not in written(asked(), Profile(default_max_tokens=8192))
    assert written(asked(), Profile(default_max_tokens=64_000))["stream"] is True


@pytest.mark.parametrize(
    ("profile", "thinking"),
    [
        (NATIVE, None),
        (msgspec.structs.replace(NATIVE, thinking="budget"), None),
        (msgspec.structs.replace(NATIVE, thinks_by_default=True), {"type": "disabled"}),
        (Profile(), None),
    ],
)
@pytest.mark.parametrize("choice", [ToolChoice("any"), ToolChoice("tool", "t")])
def test_a_forced_call_goes_before_reasoning(
    profile: Profile, thinking: dict[str, str] | None, choice: ToolChoice
) -> None:
    forced = asked(tools=(Tool("t", msgspec.Raw(b"{}")),), tool_choice=choice, effort="high")
    raw, losses = encode_request(forced, model="up", profile=profile)
    body = msgspec.json.decode(raw)
    assert body["tool_choice"]["type"] == choice.mode
    assert body.get("thinking") == thinking
    assert "output_config" not in body
    assert Loss("reasoning_effort", "disabled") in losses
    left, losses = encode_request(
        msgspec.structs.replace(forced, tool_choice=None), model="up", profile=profile
    )
    assert msgspec.json.decode(left)["thinking"]["type"] != "disabled"
    assert losses == []


@pytest.mark.parametrize(
    ("effort", "thinking", "profile", "sent", "config"),
    [
        ("minimal", None, NATIVE, {"type": "adaptive"}, {"effort": "low"}),
        ("xhigh", None, NATIVE, {"type": "adaptive"}, {"effort": "xhigh"}),
        ("none", None, NATIVE, {"type": "disabled"}, None),
        (None, Thinking("disabled"), NATIVE, {"type": "disabled"}, None),
        (None, Thinking("adaptive", shown=False), NATIVE, {"type": "adaptive", "display": "omitted"}, None),
        ("high", None, HIDING, {"type": "adaptive", "display": "summarized"}, {"effort": "high"}),
        (None, Thinking("adaptive", shown=False), HIDING, {"type": "adaptive", "display": "omitted"}, None),
        ("minimal", None, OLD, {"type": "enabled", "budget_tokens": 1024}, None),
        ("low", None, OLD, {"type": "enabled", "budget_tokens": 2048}, None),
        ("high", None, OLD, {"type": "enabled", "budget_tokens": 9999}, None),
        (None, Thinking("enabled", 500), OLD, {"type": "enabled", "budget_tokens": 1024}, None),
        (None, Thinking("enabled", 5000), OLD, {"type": "enabled", "budget_tokens": 5000}, None),
        ("none", None, Profile(thinking="none"), None, None),
    ],
)
def test_reasoning_is_asked_for_as_the_model_understands_it(
    effort: Any, thinking: Thinking | None, profile: Profile, sent: Any, config: Any
) -> None:
    out = written(asked(effort=effort, thinking=thinking, max_tokens=10_000), profile)
    assert (out.get("thinking"), out.get("output_config")) == (sent, config)


def test_reasoning_that_cannot_be_had_is_told() -> None:
    assert lost(asked(effort="high"), Profile(thinking="none")) == ["reasoning_effort=dropped"]
    assert lost(asked(effort="high", max_tokens=1024), OLD) == ["reasoning_effort=dropped"]
    assert lost(asked(thinking=Thinking("enabled", 9000)), NATIVE) == ["thinking.budget_tokens=effort"]
    loop = (user("q"), assistant(CALL), user(RESULT))
    assert lost(asked(*loop, effort="high"), OLD) == ["reasoning_effort=disabled"]
    kept = (user("q"), assistant(Thought("hm", "EuSig"), CALL), user(RESULT))
    assert written(asked(*kept, effort="high"), OLD)["thinking"]["type"] == "enabled"


def test_sampling_only_where_the_model_takes_it() -> None:
    sampled = asked(temperature=1.7, top_p=0.5, top_k=9)
    assert lost(sampled, NATIVE) == ["temperature=dropped", "top_p=dropped", "top_k=dropped"]
    assert lost(asked(temperature=1.0), NATIVE) == ["temperature=dropped"]
    assert lost(sampled, PLAIN) == ["temperature=clamped(1.7->1)"]
    out = json.loads(encode_request(sampled, model="up", profile=PLAIN)[0])
    assert (out["temperature"], out["top_p"], out["top_k"]) == (1, 0.5, 9)
    thinks = msgspec.structs.replace(sampled, effort="low", temperature=0.2)
    assert lost(thinks, OLD) == ["temperature=dropped", "top_p=dropped", "top_k=dropped"]
    assert written(asked(effort="low", temperature=1, top_p=0.96), OLD)["top_p"] == 0.96


@pytest.mark.parametrize(
    ("temperature", "top_p", "sent", "told"),
    [
        (0.7, 1, {"temperature": 0.7}, []),
        (1, 0.5, {"top_p": 0.5}, []),
        (1, 1, {"temperature": 1}, []),
        (0.2, 0.5, {"temperature": 0.2}, ["top_p=dropped"]),
        (1.5, 0.5, {"top_p": 0.5}, ["temperature=clamped(1.5->1)"]),
        (0.2, None, {"temperature": 0.2}, []),
        (None, 0.5, {"top_p": 0.5}, []),
    ],
)
def test_of_temperature_and_top_p_one_goes_where_both_are_refused(
    temperature: float | None, top_p: float | None, sent: dict[str, float], told: list[str]
) -> None:
    profile = Profile(native_anthropic=True, one_sampling=True)
    request = asked(temperature=temperature, top_p=top_p)
    body = json.loads(encode_request(request, model="up", profile=profile)[0])
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == sent
    assert lost(request, profile) == told


def test_stop_sequences_of_white_space_are_left_out() -> None:
    assert lost(asked(stop=("\n", "x"))) == ["stop=reduced"]
    out = json.loads(encode_request(asked(stop=("\n", "x")), model="up", profile=NATIVE)[0])
    assert out["stop_sequences"] == ["x"]


# row 37
def test_structured_output_is_the_native_one() -> None:
    schema = b'{"type":"object","properties":{"n":{"type":"integer","description":"d","minimum":1}},"required":["n"]}'
    request = asked(output=OutputFormat(msgspec.Raw(schema), "r"))
    out = json.loads(encode_request(request, model="up", profile=NATIVE)[0])
    sent = out["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["properties"]["n"] == {"type": "integer", "description": 'd\n\n{"minimum":1}'}
    assert lost(request) == ["response_format.json_schema.schema=adapted"]
    legal = b'{"type":"object",  "properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
    out_bytes, told = encode_request(
        asked(output=OutputFormat(msgspec.Raw(legal))), model="up", profile=NATIVE
    )
    assert legal in out_bytes
    assert told == []


def test_output_that_has_no_native_form_is_asked_for_in_words() -> None:
    request = asked(system("S"), user("hi"), output=OutputFormat())
    out = json.loads(encode_request(request, model="up", profile=NATIVE)[0])
    assert "JSON object" in out["system"][1]["text"]
    assert lost(request) == ["response_format=instructed"]
    request = asked(output=OutputFormat(msgspec.Raw(b'{"type":"object"}')))
    out = json.loads(encode_request(request, model="up", profile=Profile(structured_output=False))[0])
    assert out["system"][0]["text"].endswith('{"type":"object"}')


def test_a_reply_to_be_continued_does_not_end_in_white_space() -> None:
    assert roles(asked(user("a"), assistant("The answer is \n"))) == [
        ("user", ["a"]),
        ("assistant", ["The answer is"]),
    ]


# ---- whatever comes


@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(data)


SAMPLES = [
    body(
        system=[{"type": "text", "text": "s", "cache_control": {"ttl": "1h"}}],
        tools=[{"name": "t", "input_schema": SCHEMA, "strict": True}, {"type": "bash_20250124", "name": "bash"}],
        tool_choice={"type": "tool", "name": "t"},
        thinking={"type": "enabled", "budget_tokens": 2000},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        messages=[
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "s"},
                                              {"type": "tool_use", "id": "t", "name": "t", "input": {"a": [1]}}]},
            {"role": "user", "content": [result_of({"type": "text", "text": "é"})]},
        ],
    )
]  # fmt: skip


@given(st.data())
def test_no_mutation_breaks_reader_or_writer(data: st.DataObject) -> None:
    sample = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(sample) - 1))
        sample[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        request, _ = decode_request(bytes(sample))
        out, _ = encode_request(request, model="up", profile=data.draw(st.sampled_from([NATIVE, OLD, PLAIN])))
    except InvalidRequest:
        return
    if find_invalid(bytes(sample)) < 0:  # what is no UTF-8 is refused before it comes here
        assert json.loads(out)["model"] == "up"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "source", "input"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    field=st.sampled_from(
        [
            "system",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
            "messages",
            "metadata",
            "stop_sequences",
        ]
    ),
    value=json_values,
)
def test_a_field_of_any_shape_is_read_or_refused_by_name(field: str, value: Any) -> None:
    try:
        decode_request(body(**{field: value}))
    except InvalidRequest as error:
        named = error.param
    else:
        return
    assert named is None or named.startswith(field)
