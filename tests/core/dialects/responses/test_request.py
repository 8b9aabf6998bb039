"""Responses requests: what Codex and others send, row by row, and what goes to upstreams that speak it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import read_envelope
from penstock.core.dialects.responses.dialect import decode_request, encode_request
from penstock.core.neutral.request import (
    Document,
    Hosted,
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

CODEX = Path(__file__).parents[3] / "vectors" / "responses" / "codex-turn" / "request.json"
USER = {"role": "user", "content": "Hello"}
GET = {"type": "function", "name": "get", "parameters": {"type": "object"}}


def body(*items: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": list(items) or "Hello", **fields}).encode()


def reading(*items: Any, **fields: Any) -> tuple[Request, list[Loss]]:
    return decode_request(body(*items, **fields))


def turns(*items: Any) -> list[Turn]:
    return list(reading(*items)[0].turns)


def losses(*items: Any, **fields: Any) -> dict[str, str]:
    return {loss.field: loss.outcome for loss in reading(*items, **fields)[1]}


def refused(*items: Any, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        reading(*items, **fields)
    return caught.value


# ---- input


def test_a_string_and_instructions() -> None:
    request, lost = reading(instructions="Be brief.", stream=True, max_output_tokens=50)
    assert request.turns == (Turn("system", (Text("Be brief."),)), Turn("user", (Text("Hello"),)))
    assert (request.stream, request.max_tokens, lost) == (True, 50, [])


def test_messages_easy_and_in_full() -> None:
    said = {"type": "output_text", "text": "Hi", "annotations": []}
    assert turns(
        {"role": "developer", "content": "D"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "S"}]},
        USER,
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [said]},
        {"role": "assistant", "content": "there"},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": ""}],
        },
    ) == [
        Turn("system", (Text("D"),)),
        Turn("system", (Text("S"),)),
        Turn("user", (Text("Hello"),)),
        Turn("assistant", (Text("Hi"), Text("there"))),
        Turn("user", (Text("a"),)),
    ]


def test_calls_and_outputs() -> None:
    image = {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "low"}
    assert turns(
        USER,
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "get",
            "arguments": '{"a": 1.0}',
        },
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": 'x"y'},
        {"type": "function_call_output", "call_id": "call_1", "output": "[tool_error]\nno"},
        {
            "type": "custom_tool_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "see"}, image],
        },
        {"role": "user", "content": "And?"},
    ) == [
        Turn("user", (Text("Hello"),)),
        Turn(
            "assistant",
            (ToolCall("call_1", "get", '{"a": 1.0}'), ToolCall("call_2", "patch", '{"input":"x\\"y"}')),
        ),
        Turn(
            "user",
            (
                ToolResult("call_1", (Text("no"),), is_error=True),
                ToolResult("call_2", (Text("see"), Image(url="https://a.example/x.png", detail="low"))),
                Text("And?"),
            ),
        ),
    ]


def test_images_and_files() -> None:
    text = base64.b64encode(b"plain").decode()
    (turn,) = turns(
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"},
                {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{text}"},
                {"type": "input_file", "file_url": "https://a.example/a.pdf"},
            ],
        }
    )
    assert turn.parts == (
        Image(media_type="image/png", data="AAAA"),
        Document(media_type="application/pdf", data="BBBB", title="a.pdf"),
        Document(media_type="text/plain", data="plain", title="a.txt"),
        Document(url="https://a.example/a.pdf"),
    )


def test_reasoning() -> None:
    def thought(**fields: Any) -> Any:
        item = {"type": "reasoning", "id": "rs_1", "summary": [], **fields}
        (_, turn) = turns(USER, item, {"role": "assistant", "content": "x"})
        return turn.parts[0]

    summary = [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]
    ours = sign_reasoning(ReasoningOrigin("deepseek", "[]"))
    assert thought(summary=summary) == Thought("One.\n\nTwo.")
    assert thought(content=[{"type": "reasoning_text", "text": "full"}]) == Thought("full")
    assert thought(summary=summary, encrypted_content=ours) == Thought("One.\n\nTwo.", ours)
    assert thought(encrypted_content="gwe1.WyJzaWduYXR1cmUiLCJFdVNpZyJd") == Thought("", "EuSig")
    assert thought(encrypted_content="gwe1.WyJyZWRhY3RlZCIsIm9wIl0") == Thought(redacted="op")
    assert thought(encrypted_content="gwe1.damaged", summary=summary) == Thought("One.\n\nTwo.")
    assert thought(encrypted_content="gAAA") == Text("x"), "nobody but its maker can read it"
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    assert losses(USER, foreign) == {"input.reasoning.encrypted_content": "dropped"}


def test_what_hosted_tools_did_stays_as_text() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}}
    odd = {**search, "action": 7}
    _, assistant = turns(USER, search, odd)
    found = Hosted("search", "ws_1", "web_search", '{"query":"x"}')
    assert assistant == Turn("assistant", (found, Text('[web search call: {"action":7}]')))
    assert losses(USER, search) == {"input.web_search_call": "text"}


def test_items_of_an_unknown_type_stay_as_text_but_for_what_is_data() -> None:
    new = {"type": "brand_new", "id": "x", "said": "so", "blob": "A" * 20_000, "encrypted_content": "gAAA"}
    back = {"type": "brand_new_output", "call_id": "x", "output": 5}
    _, assistant, user = turns(USER, new, back)
    assert assistant == Turn("assistant", (Text('[brand new: {"said":"so"}]'),))
    assert user == Turn("user", (Text('[brand new output: {"output":5}]'),))
    image = {"type": "image_generation_call", "id": "x", "status": "completed", "result": "A" * 20_000}
    assert losses(USER, new, back, image) == {
        "input.brand_new": "text",
        "input.brand_new_output": "text",
        "input.image_generation_call": "dropped",
    }


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference", "id": "msg_1"}, "input[1]"),
        ({"id": "msg_1"}, "input[1]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[1].content[0].file_id"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[1].content[0].file_id"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "input[1].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "ftp://a"}]}, "input[1].content[0].image_url"),
        ({"role": "system", "content": [{"type": "input_image", "image_url": "https://a"}]}, "input[1].content[0]"),
        ({"role": "nobody", "content": "x"}, "input[1].role"),
        ({"type": "function_call", "name": "x"}, "input[1]"),
        ({"type": "function_call_output", "call_id": "x", "output": 5}, "input[1].output"),
    ],
)  # fmt: skip
def test_items_that_cannot_be_carried_are_named(item: Any, param: str) -> None:
    error = refused(USER, item)
    assert error.param == param
    assert param in error.message


# ---- tools


def test_tools() -> None:
    request, lost = reading(
        USER,
        tools=[
            {**GET, "description": "Gets.", "strict": True},
            {"type": "function", "name": "now", "parameters": None},
            {
                "type": "custom",
                "name": "patch",
                "description": "Patches.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
            },
            {"type": "web_search", "external_web_access": False},
        ],
    )
    get, now, patch = request.tools
    assert (get.name, bytes(get.schema), get.description, get.strict) == (
        "get", b'{"type": "object"}', "Gets.", True,
    )  # fmt: skip
    assert bytes(now.schema) == b'{"type":"object","properties":{}}'
    assert "lark" in (patch.description or "")
    assert "start: x" in (patch.description or "")
    assert json.loads(bytes(patch.schema))["required"] == ["input"]
    assert request.web_search
    assert lost == [Loss("tools.custom", "function")]


def test_additional_tools_come_before_the_history() -> None:
    more = {"type": "additional_tools", "role": "developer", "tools": [GET]}
    request, lost = reading(USER, more)
    assert [tool.name for tool in request.tools] == ["get"]
    assert lost == [Loss("input.additional_tools", "hoisted")]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "file_search", "vector_store_ids": ["v"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "computer"},
        {"type": "mcp", "server_label": "s", "server_url": "https://s.example", "allowed_tools": ["a"]},
        {"type": "image_generation", "quality": "high"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "tool_search"},
        {"type": "tool_search", "execution": "server"},
        {"type": "brand_new", "name": 5, "format": "png"},
        {"type": "another_one", "name": "x"},
    ],
    ids=str,
)
def test_tools_of_the_provider_are_left_out_and_told_unless_they_are_forced(tool: dict[str, Any]) -> None:
    request, lost = reading(USER, tools=[GET, tool])
    assert [offered.name for offered in request.tools] == ["get"]
    assert lost == [Loss(f"tools.{tool['type']}", "dropped")]
    error = refused(USER, tools=[GET, tool], tool_choice={"type": tool["type"], "name": "x"})
    assert error.param == "tool_choice"
    assert tool["type"] in error.message
    assert refused(USER, tools=[tool], tool_choice="required").param == "tool_choice"
    assert reading(USER, tools=[tool], tool_choice="auto")[0].tools == ()


def test_a_tool_of_an_unknown_type_that_is_like_a_function_is_one() -> None:
    request, lost = reading(
        USER, tools=[{"type": "brand_new", "name": "do", "parameters": {"type": "object"}}]
    )
    assert [(tool.name, tool.caller) for tool in request.tools] == [("do", None)]
    assert lost == [Loss("tools.brand_new", "function")]


@pytest.mark.parametrize(
    "tool", [{"type": "function"}, {"type": "custom", "name": 5}, {"type": 5}, "x"], ids=str
)
def test_a_tool_of_a_known_type_that_is_wrong_is_named(tool: Any) -> None:
    assert (refused(USER, tools=[GET, tool]).param or "").startswith("tools[1]")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("any")),
        ({"type": "function", "name": "get"}, ToolChoice("tool", "get")),
        ({"type": "custom", "name": "patch"}, ToolChoice("tool", "patch")),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get"}]},
            ToolChoice("any"),
        ),
    ],
)
def test_tool_choice(choice: Any, expected: ToolChoice) -> None:
    tools = [GET, {"type": "custom", "name": "patch"}]
    request, _ = reading(USER, tools=tools, tool_choice=choice)
    assert request.tool_choice == expected
    if expected.mode == "any" and isinstance(choice, dict):
        assert [tool.name for tool in request.tools] == ["get"]


@pytest.mark.parametrize(
    "choice", ["sometimes", {"type": "web_search"}, {"type": "function"}, {"type": "mcp"}]
)
def test_tool_choices_that_cannot_be(choice: Any) -> None:
    assert (refused(USER, tools=[GET], tool_choice=choice).param or "").startswith("tool_choice")


# ---- the rest


def test_reasoning_and_the_form_of_the_answer() -> None:
    schema = {"type": "object", "properties": {}}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    request, lost = reading(
        reasoning={"effort": "high", "summary": "auto"}, text={"format": form, "verbosity": "low"}
    )
    assert (request.effort, request.thinking) == ("high", Thinking("adaptive", shown=True))
    assert request.output is not None
    assert (json.loads(bytes(request.output.schema or b"")), request.output.name) == (schema, "n")
    assert lost == []
    assert request.verbosity == "low"
    assert reading(reasoning={"summary": "auto"})[0].thinking is None, "how to show it is not a wish for it"
    assert reading(reasoning={"effort": "none", "summary": "auto"})[0].effort == "none"
    assert reading(text={"format": {"type": "json_object"}})[0].output == OutputFormat()
    assert reading(text={"format": {"type": "text"}})[0].output is None
    update = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    assert reading(USER, update, reasoning={"effort": "high"})[0].effort == "low"
    formed = {"type": "configuration_update", "text": {"format": {"type": "json_object"}}}
    assert reading(USER, formed)[0].output == OutputFormat()


def test_fields_that_do_not_cross_are_told() -> None:
    assert losses(
        store=True, client_metadata={}, truncation="auto", include=["file_search_call.results"], brand_new=1,
    ) == dict.fromkeys(["store", "client_metadata", "truncation", "include", "brand_new"], "dropped")  # fmt: skip
    assert losses(
        store=False, metadata={}, service_tier="auto", truncation="disabled", background=False, top_logprobs=0,
        include=["reasoning.encrypted_content"], previous_response_id=None, stream_options={"include_obfuscation": False},
    ) == {}  # fmt: skip
    assert losses({**USER, "phase": "x", "cached": True}) == {
        "input.cached": "dropped",
        "input.phase": "dropped",
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "x", "parameters": []}]}, "tools[0].parameters"),
        ({"tools": "x"}, "tools"),
    ],
)
def test_wrong_values_are_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_instructions_alone_are_nothing_to_answer() -> None:
    assert refused({"role": "developer", "content": "x"}, instructions="y").param == "input"


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"prompt": {"id": "p"}},
        {"input": [USER, {"type": "item_reference", "id": "msg_1"}]},
        {"input": [USER, {"id": "msg_1"}]},
    ],
)
def test_stored_state_is_refused_whatever_the_upstream(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="stored") as caught:
        read_envelope(json.dumps({"model": "m", "input": "x", **fields}).encode(), "responses")
    assert caught.value.param in {*fields, "input[1]"}


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "role", "content", "name", "tools", "call_id", "output", "text", "summary", "id", "arguments", "input"]
        ),
        inner | st.sampled_from(["message", "user", "function", "function_call", "reasoning", "namespace", "input_text"]),
        max_size=5,
    ),
    max_leaves=15,
))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for sent in (body(USER, value), body(USER, tools=[value]), body(USER, tool_choice=value, text=value)):
        try:
            request, _ = decode_request(sent)
        except InvalidRequest:
            request = None
        assert request is None or request.turns


# ---- towards Responses upstreams


def written(request: Request, profile: Profile | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    sent, lost = encode_request(request, model="up", profile=profile or Profile())
    assert encode_request(request, model="up", profile=profile or Profile())[0] == sent
    return json.loads(sent), {loss.field: loss.outcome for loss in lost}


def test_a_whole_conversation() -> None:
    made = sign_reasoning(
        ReasoningOrigin("up-2026-01-01", '{"id":"rs_1","encrypted_content":"gAAA","raw":false}')
    )
    request = Request(
        model="m",
        turns=(
            Turn("system", (Text("S"),)),
            Turn("user", (Text("Hello"), Image(url="https://a.example/x.png"))),
            Turn("assistant", (Thought("hm", made), Text("A"), ToolCall("call_1", "get", "{}"), Text("B"))),
            Turn(
                "user",
                (ToolResult("call_1", (Text("r"), Image(media_type="image/png", data="AA"))), Text("?")),
            ),
        ),
        max_tokens=9,
        stream=True,
    )
    sent, lost = written(request)
    text = {"type": "output_text", "annotations": []}
    assert sent["input"] == [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "S"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hello"},
                {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "gAAA",
        },
        {"type": "message", "role": "assistant", "content": [{**text, "text": "A"}]},
        {"type": "function_call", "call_id": "call_1", "name": "get", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": [{**text, "text": "B"}]},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [
                {"type": "input_text", "text": "r"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "auto"},
            ],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
    ]
    assert (sent["max_output_tokens"], sent["stream"], sent["store"]) == (9, True, False)
    assert lost == {}
    assert list(sent)[:2] == ["model", "input"]


ASK = (Turn("user", (Text("Hello"),)),)
STRICT = (
    b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
)


def asked(**fields: Any) -> Request:
    return Request(model="m", turns=ASK, **fields)


def test_tools_are_flat_and_never_strict_by_default() -> None:
    tools = (
        Tool("a", Raw(STRICT), "A", strict=True),
        Tool("b", Raw(b"{}"), strict=True),
        Tool("c", Raw(b"{}")),
    )
    sent, lost = written(asked(tools=tools, tool_choice=ToolChoice("tool", "a"), parallel_tools=False))
    assert [tool["strict"] for tool in sent["tools"]] == [True, False, False]
    assert sent["tools"][0] == {
        "type": "function", "name": "a", "description": "A", "parameters": json.loads(STRICT), "strict": True,
    }  # fmt: skip
    assert sent["tool_choice"] == {"type": "function", "name": "a"}
    assert sent["parallel_tool_calls"] is False
    assert lost == {"tools.strict": "dropped"}


def test_reasoning_is_asked_for_as_the_caller_did() -> None:
    openai = Profile(encrypted_reasoning=True)
    assert written(asked(), openai)[0]["include"] == ["reasoning.encrypted_content"]
    assert "include" not in written(asked())[0]
    assert written(asked(effort="low"))[0]["reasoning"] == {"effort": "low"}
    assert written(asked(thinking=Thinking("adaptive"), effort="max"))[0]["reasoning"] == {
        "effort": "max", "summary": "auto",
    }  # fmt: skip
    assert written(asked(thinking=Thinking("disabled")))[0]["reasoning"] == {"effort": "none"}
    sent, lost = written(asked(thinking=Thinking("enabled", 4000, shown=False)))
    assert (sent["reasoning"], lost) == ({"effort": "medium"}, {"thinking.budget_tokens": "effort"})
    sent, lost = written(asked(effort="low", thinking=Thinking("adaptive")), Profile(reasoning_effort=False))
    assert "reasoning" not in sent
    assert lost == {"effort": "dropped", "thinking": "dropped"}


def test_losses_and_refusals_of_writing() -> None:
    sent, lost = written(asked(temperature=0.5, top_k=5, user="u" * 200))
    assert sent["temperature"] == 0.5
    assert len(sent["user"]) == 64
    assert lost == {"top_k": "dropped", "user": "hashed"}
    with pytest.raises(InvalidRequest, match="stop"):
        written(asked(stop=("END",)))
    with pytest.raises(InvalidRequest, match="max_tokens"):
        written(asked(max_tokens=0))
    with pytest.raises(InvalidRequest, match="continue"):
        written(Request(model="m", turns=(*ASK, Turn("assistant", (Text("Once"),)))))
    with pytest.raises(InvalidRequest, match="instructions"):
        written(Request(model="m", turns=(Turn("system", (Text("S"),)),)))
    thoughts = Turn("assistant", (Thought("x", "EuSig"), Thought(redacted="y"), Text("z")))
    sent, lost = written(Request(model="m", turns=(*ASK, thoughts, *ASK)))
    assert [item["type"] for item in sent["input"]] == ["message"] * 3
    assert lost == {"messages.thinking": "dropped", "messages.redacted_thinking": "dropped"}


# ---- the same dialect, and the callers of it


def same(sent: bytes, profile: Profile, *, strict: bool = False) -> tuple[dict[str, Any], str]:
    prepared = prepare(
        read_envelope(sent, "responses"),
        caller="responses",
        upstream="responses",
        model="up",
        profile=profile,
        strict=strict,
    )
    return json.loads(prepared.body), translation_header(prepared.losses)


def test_the_same_dialect_is_bytes_and_never_stored() -> None:
    sent = body(store=False, brand_new={"x": [1.0]})
    envelope = read_envelope(sent, "responses")
    kept = prepare(envelope, caller="responses", upstream="responses", model="m", profile=Profile())
    assert kept.body is sent
    openai = Profile(encrypted_reasoning=True)
    got, told = same(body(include=["x"]), openai)
    assert (got["store"], got["include"], told) == (False, ["x", "reasoning.encrypted_content"], "")
    got, told = same(body(store=True), Profile())
    assert (got["store"], got.get("include"), told) == (False, None, "store=dropped")
    with pytest.raises(InvalidRequest, match="store"):
        same(body(store=True), Profile(), strict=True)


def test_reasoning_of_other_models_does_not_go_to_a_responses_upstream() -> None:
    ours = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "encrypted_content": sign_reasoning(ReasoningOrigin("x")),
    }
    sealed = {**ours, "encrypted_content": "gwe1.WyJyZWRhY3RlZCIsIm9wIl0"}
    theirs = {**ours, "encrypted_content": "gAAA"}
    got, told = same(body(USER, ours, theirs, sealed, USER, store=False), Profile())
    assert (got["input"], told) == ([USER, theirs, USER], "input.reasoning=dropped")


def test_codex_is_served_by_any_upstream_and_told_what_was_left_out() -> None:
    sent = CODEX.read_bytes()
    for upstream in ("chat", "messages"):
        prepared = prepare(
            read_envelope(sent, "responses"),
            caller="responses",
            upstream=upstream,
            model="up",
            profile=Profile(),
        )
        assert translation_header(prepared.losses) == (
            "tools.namespace=flattened; client_metadata=dropped; tools.web_search=dropped; prompt_cache_key=dropped"
        )
        assert len(json.loads(prepared.body)["tools"]) == 12
        assert "multi_agent_v1__spawn_agent" in prepared.names.callers
    with pytest.raises(InvalidRequest, match="web_search"):
        prepare(
            read_envelope(sent, "responses"),
            caller="responses",
            upstream="chat",
            model="up",
            profile=Profile(web_search="refused"),
        )


def test_losses_have_the_callers_words() -> None:
    sent = body(
        USER,
        {"role": "assistant", "content": "x"},
        {"role": "developer", "content": "D"},
        USER,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    )
    profile = Profile(reasoning_effort=False, json_schema=False, system_anywhere=False)
    prepared = prepare(
        read_envelope(sent, "responses"), caller="responses", upstream="chat", model="up", profile=profile
    )
    assert translation_header(prepared.losses) == (
        "text.format=prompted; input.developer=wrapped; reasoning.effort=dropped; reasoning.summary=dropped"
    )
