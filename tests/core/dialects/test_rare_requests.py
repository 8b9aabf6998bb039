"""What callers may send and hardly ever do: each field of it crosses, is told, or is refused by its name."""

import json
from typing import Any

import pytest
from msgspec import Raw

from penstock.core.catalog import DialectName
from penstock.core.dialects.lanes import ObservedPassthrough, Translation
from penstock.core.dialects.messages.json_schema_subset import fit_schema
from penstock.core.dialects.openai.strict_schema import strict_fits
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.events import AnyEvent, TextDelta
from penstock.core.neutral.request import (
    CacheTtl,
    Document,
    Image,
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
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.encrypted_reasoning import Carrier, carrier_signature
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.core.tools.names import fit_tool_names
from penstock.errors import InvalidRequest
from tests.core.dialects.sides import stream_of

USER = {"role": "user", "content": "hi"}
ASK = Turn("user", (Text("hi"),))
NATIVE = Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False)


def chat(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(rows) or [USER], **fields}


def messages(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": list(rows) or [USER], **fields}


def responses(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": list(items) or "hi", **fields}


def sent(
    fields: Any, caller: DialectName, upstream: DialectName, profile: Profile = DEFAULT_PROFILE
) -> tuple[dict[str, Any], list[str]]:
    made = prepare(
        read_envelope(json.dumps(fields).encode(), caller),
        caller=caller,
        upstream=upstream,
        model="up",
        profile=profile,
    )
    return json.loads(made.body), [f"{loss.field}={loss.outcome}" for loss in made.losses]


def neutral(fields: Any, caller: DialectName) -> Request:
    return caller_side(caller).decode_request(json.dumps(fields).encode())[0]


def written(
    upstream: DialectName, *turns: Turn, profile: Profile = DEFAULT_PROFILE, **fields: Any
) -> tuple[dict[str, Any], list[str]]:
    request = Request("m", turns or (ASK,), **fields)
    body, losses = upstream_side(upstream).encode_request(request, model="up", profile=profile)
    return json.loads(body), [f"{loss.field}={loss.outcome}" for loss in losses]


# ---- envelopes


@pytest.mark.parametrize(
    ("body", "caller", "param"),
    [
        (messages({"role": 5, "content": "x"}), "messages", "messages[0].role"),
        (messages({"role": "user", "content": 5}), "messages", "messages[0].content"),
        (messages({"role": "bishop", "content": 5}), "messages", "messages[0].content"),
        ({"model": "m", "input": [1]}, "responses", "input[0]"),
        ({"model": "m", "input": [{}] * 100_001}, "responses", "input"),
        ({"model": " ", "input": "x"}, "responses", "model"),
    ],
)
def test_what_is_wrong_is_named(body: Any, caller: DialectName, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_envelope(json.dumps(body).encode(), caller)
    assert caught.value.param == param


def test_a_number_that_begins_like_the_one_that_counts_is_another() -> None:
    envelope = read_envelope(
        b'{"model":"m","top_k":12,"top_k":1,"messages":[{"role":"user","content":"x"}]}', "chat"
    )
    assert json.loads(envelope.encode("m"))["top_k"] == 1
    assert envelope.encode("m").count(b"top_k") == 1


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
def test_a_body_that_is_no_json_is_refused_by_the_reader_too(caller: DialectName) -> None:
    for body in (b"{", b'{"model":"\xff"}', b"[" * 5000, b"[]"):
        with pytest.raises(InvalidRequest):
            caller_side(caller).decode_request(body)


def test_a_model_without_a_name_is_refused_by_the_reader_too() -> None:
    with pytest.raises(InvalidRequest, match="model"):
        caller_side("responses").decode_request(b'{"model":" ","input":"hi"}')


# ---- bytes that stay bytes


def test_thoughts_of_ours_are_left_out_and_what_only_looks_like_one_is_not() -> None:
    ours = sign_reasoning(ReasoningOrigin("other"))
    odd = {"type": "thinking", "thinking": "x", "signature": {"is": ours}}
    turn = {"role": "assistant", "content": [odd, {"type": "text", "text": f'"{ours}"'}]}
    assert sent(messages(USER, turn, USER), "messages", "messages", NATIVE)[0]["messages"][1] == turn
    thought = {"type": "thinking", "thinking": "x", "signature": ours}
    body, told = sent(
        messages(USER, {"role": "assistant", "content": [thought]}, USER), "messages", "messages", NATIVE
    )
    assert (body["messages"], told) == ([USER, USER], ["messages.thinking=dropped"])


def test_what_is_asked_to_be_included_stays_and_is_asked_for_once() -> None:
    profile = Profile(encrypted_reasoning=True)
    wanted = ["reasoning.encrypted_content", "other"]
    assert sent(responses(include=wanted), "responses", "responses", profile)[0]["include"] == wanted
    with pytest.raises(InvalidRequest, match="include"):
        sent(responses(include=[5]), "responses", "responses", profile)


def test_items_that_only_look_like_our_reasoning_stay() -> None:
    odd = {"type": 5, "encrypted_content": "gwe1.AAAA"}
    other = {"type": "message", "role": "user", "content": "hi", "id": "gwe1.AAAA"}
    for wanted in ("hi", [odd], [other]):
        fields = {"model": "m", "input": wanted, "prompt_cache_key": "gwe1.AAAA"}
        body, told = sent(fields, "responses", "responses")
        assert (body["input"], told) == (wanted, [])


# ---- Chat callers


def test_refusals_of_the_assistant_are_text() -> None:
    spoken = {
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "No."}, {"type": "refusal", "refusal": ""}],
    }
    body, told = sent(chat(USER, {**spoken, "refusal": "Never."}, USER), "chat", "messages")
    assert [part["text"] for part in body["messages"][1]["content"]] == ["No.", "Never."]
    assert told == ["messages.content.refusal=text", "messages.refusal=text"]


def test_legacy_choices_of_a_function() -> None:
    functions = [{"name": "get", "parameters": {}}]
    assert neutral(chat(functions=functions, function_call="none"), "chat").tool_choice == ToolChoice("none")
    assert neutral(
        chat(functions=functions, function_call={"name": "get"}), "chat"
    ).tool_choice == ToolChoice("tool", "get")


def test_switches_of_reasoning() -> None:
    for kind, meant in (
        ("adaptive", Thinking("adaptive")),
        ("auto", Thinking("adaptive")),
        ("disabled", Thinking("disabled")),
    ):
        assert neutral(chat(thinking={"type": kind}), "chat").thinking == meant


def test_a_free_text_tool_with_an_empty_grammar_says_nothing_of_it() -> None:
    form = {"type": "grammar", "grammar": {"syntax": "lark", "definition": ""}}
    (tool,) = neutral(chat(tools=[{"type": "custom", "custom": {"name": "p", "format": form}}]), "chat").tools
    assert "definition" not in (tool.description or "")


def test_a_mark_on_a_message_goes_to_the_last_part_that_can_bear_one() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "EuSig", "format": "anthropic-claude-v1"}
    ]
    call = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    turn = {"role": "assistant", "reasoning_details": details, **mark}
    thought, said = neutral(chat(USER, {**turn, "content": "x"}, USER), "chat").turns[1].parts
    assert (isinstance(thought, Thought), getattr(said, "cache", None)) == (True, "5m")
    (called,) = (
        neutral(chat(USER, {"role": "assistant", "tool_calls": [call], **mark}, USER), "chat").turns[1].parts
    )
    assert getattr(called, "cache", None) == "5m"
    assert [type(part) for part in neutral(chat(USER, turn, USER), "chat").turns[1].parts] == [Thought]


# ---- Messages callers


def test_results_of_a_search_and_flat_documents() -> None:
    found = {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "x"}]}
    flat = {"type": "document", "title": "D", "source": {"type": "content", "content": "plain"}}
    call = {"type": "tool_use", "id": "t", "name": "get", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [found, flat]}
    rows = ({"role": "assistant", "content": [call]}, {"role": "user", "content": [result]})
    body, told = sent(messages(USER, *rows), "messages", "chat")
    for words in ("T", "s", "x", "plain"):
        assert words in json.dumps(body["messages"][2])
    assert told == ["messages.search_result=text", "messages.document.content=flattened"]


def test_a_mark_for_everything_marks_what_can_bear_one() -> None:
    thought = {"type": "thinking", "thinking": "x", "signature": "s"}
    mark = {"cache_control": {"type": "ephemeral"}}
    turns = neutral(messages(USER, {"role": "assistant", "content": [thought]}, **mark), "messages").turns
    assert turns[0].parts == (Text("hi", "5m"),)
    turns = neutral(messages({"role": "assistant", "content": [thought]}, **mark), "messages").turns
    assert turns[0].parts == (Thought("x", "s"),)


# ---- Responses callers


def test_what_responses_callers_say_besides_is_told() -> None:
    tools = [
        {
            "type": "function",
            "name": "get",
            "parameters": {},
            "defer_loading": True,
            "allowed_callers": [],
            "output_schema": {},
        }
    ]
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "No."}],
        "phase": "final",
    }
    marks = [
        {"type": "input_text", "text": ttl, "prompt_cache_breakpoint": {"ttl": ttl}} for ttl in ("12h", "30m")
    ]
    asked = {"role": "user", "content": marks}
    _, told = sent(
        responses(said, asked, tools=tools, reasoning={"effort": "low", "context": "all", "mode": "x"}),
        "responses",
        "messages",
        NATIVE,
    )
    assert {
        "tools.defer_loading=loaded",
        "tools.allowed_callers=dropped",
        "tools.output_schema=dropped",
        "reasoning.context=dropped",
        "reasoning.mode=dropped",
        "input.phase=dropped",
        "input.content.refusal=text",
        "input.prompt_cache_breakpoint=1h",
    } <= set(told)


def test_the_last_configuration_counts() -> None:
    update = {
        "type": "configuration_update",
        "reasoning": {"effort": "high"},
        "text": {"format": {"type": "json_object"}},
    }
    request = neutral(responses({"role": "user", "content": "hi"}, update), "responses")
    assert (request.effort, request.output) == ("high", OutputFormat())
    bare = neutral(
        responses({"role": "user", "content": "hi"}, {"type": "configuration_update"}), "responses"
    )
    assert (bare.effort, bare.output) == (None, None)


def test_fields_of_an_item_are_told_up_to_a_bound() -> None:
    item = {"role": "user", "content": "hi", **{f"field{at}": 1 for at in range(500)}}
    _, told = sent(responses(item), "responses", "chat")
    assert 10 < len(told) < 200


def test_reasoning_that_holds_nothing_is_nothing() -> None:
    empty = {"type": "reasoning", "id": "rs_1", "summary": []}
    _, told = sent(responses({"role": "user", "content": "hi"}, empty), "responses", "chat")
    assert told == []


def test_a_tool_of_the_wrong_types_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        neutral(responses(tools=[{"type": "function", "name": 5}]), "responses")
    assert caught.value.param == "tools[0].name"


def test_a_choice_of_none_of_the_tools_is_refused() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "other"}]}
    tools = [{"type": "function", "name": "get", "parameters": {}}]
    with pytest.raises(InvalidRequest, match="allows none of the tools"):
        neutral(responses(tools=tools, tool_choice=choice), "responses")


# ---- writing for Chat


def test_what_strict_mode_takes() -> None:
    closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for schema, fits in (
        (closed, True),
        ({**closed, "properties": {"a": True}, "required": ["a"]}, True),
        ({**closed, "properties": {"a": {"anyOf": [closed, {"type": "object"}]}}, "required": ["a"]}, False),
        ({**closed, "properties": {"a": {}}, "required": []}, False),
        ({**closed, "properties": []}, False),
        ({**closed, "required": "a"}, False),
        ([], False),
    ):
        assert strict_fits(Raw(json.dumps(schema).encode())) == fits
    assert not strict_fits(Raw(b'{"a":1e9999'))


def test_a_schema_that_strict_mode_does_not_take_is_asked_for_loosely() -> None:
    output = OutputFormat(Raw(b'{"type":"object"}'), "out", "words", strict=True)
    body, told = written("chat", output=output)
    assert "strict" not in body["response_format"]["json_schema"]
    assert told == ["output_config.format.strict=dropped"]
    body, told = written("responses", output=output)
    assert body["text"]["format"] == {
        "type": "json_schema", "name": "out", "description": "words", "schema": {"type": "object"}, "strict": False,
    }  # fmt: skip
    assert told == ["output_config.format.strict=dropped"]
    assert written("responses", output=OutputFormat())[0]["text"] == {"format": {"type": "json_object"}}
    named = OutputFormat(Raw(b'{"type":"object","properties":{},"additionalProperties":false}'))
    assert written("responses", output=named)[0]["text"]["format"]["name"] == "output"


MARK: CacheTtl = "5m"
MARKED = (
    Turn("user", (Text("hi", MARK), Image("https://x.example/a.png", cache=MARK))),
    Turn("assistant", (Text("x", MARK), ToolCall("t", "get", "{}", MARK))),
    Turn("user", (ToolResult("t", (Text("r"),), cache=MARK),)),
)
CACHE_LOSSES = {
    "cache_control=dropped",
    "messages.assistant.cache_control=dropped",
    "messages.tool_result.cache_control=dropped",
}


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_marks_that_cannot_be_carried_are_told(upstream: DialectName) -> None:
    tools = (Tool("get", Raw(b"{}"), cache=MARK),)
    assert set(written(upstream, *MARKED, tools=tools)[1]) == CACHE_LOSSES


def test_a_marked_call_is_told_of_where_text_keeps_its_mark() -> None:
    _, told = written("chat", *MARKED, profile=Profile(cache_control=True))
    assert {"messages.assistant.cache_control=dropped", "messages.tool_result.cache_control=dropped"} >= set(
        told
    )


def test_documents_of_text_in_results_are_text_and_empty_text_is_left_out() -> None:
    call = Turn("assistant", (ToolCall("t", "get", "{}"),))
    document = Document(media_type="text/plain", data="words", title="T")
    body, told = written(
        "chat", ASK, call, Turn("user", (ToolResult("t", (document,)), Text(""), Image("https://x")))
    )
    assert "words" in body["messages"][2]["content"]
    assert [part["type"] for part in body["messages"][3]["content"]] == ["image_url"]
    assert told == []


def test_parts_where_they_do_not_belong_are_told_in_chat() -> None:
    odd = Turn("user", (Thought("x"), ToolCall("t", "get", "{}"), Text("hi")))
    said = Turn("assistant", (Image("https://x"), Text("x")))
    empty = Turn("system", (Text(""), Image("https://x")))
    body, told = written("chat", empty, ASK, said, odd)
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "user"]
    assert told == [
        "messages.assistant.image=dropped",
        "messages.user.thought=dropped",
        "messages.user.toolcall=dropped",
    ]


def test_a_forced_call_where_nobody_reasons_stays() -> None:
    profile = Profile(forced_while_thinking=False)
    body, told = written(
        "chat", tools=(Tool("get", Raw(b"{}")),), tool_choice=ToolChoice("any"), profile=profile
    )
    assert (body["tool_choice"], told) == ("required", [])


# ---- writing for Messages


def test_budgets_become_the_nearest_effort() -> None:
    for budget, effort in ((1024, "low"), (8192, "medium"), (24_576, "high"), (50_000, "xhigh")):
        body, _ = written("messages", thinking=Thinking("enabled", budget), profile=NATIVE, max_tokens=64_000)
        assert body["output_config"]["effort"] == effort


def test_schemas_are_fitted_all_the_way_down() -> None:
    before = {
        "oneOf": [{"type": "string", "maxLength": 3}, True],
        "items": {"type": "integer", "minimum": 1},
        "allOf": {},
    }
    after, changed = fit_schema(json.dumps(before).encode())
    assert changed
    assert json.loads(after) == {
        "anyOf": [{"type": "string", "description": '{"maxLength":3}'}, True],
        "items": {"type": "integer", "description": '{"minimum":1}'},
        "allOf": {},
    }
    with pytest.raises(InvalidRequest, match="schema cannot be read"):
        fit_schema(b'{"minimum":1e9999}')
    with pytest.raises(InvalidRequest, match="schema cannot be read"):
        fit_schema(b'{"type":"\xff"}')


def test_system_messages_hold_text_alone() -> None:
    with pytest.raises(InvalidRequest, match="text only"):
        written("messages", Turn("system", (Image("https://x"),)), ASK)
    body, _ = written(
        "messages", Turn("system", (Text("S"),)), ASK, Turn("system", (Text(" "),)), profile=NATIVE
    )
    assert [row["role"] for row in body["messages"]] == ["user"]
    with pytest.raises(InvalidRequest):
        written("messages", Turn("system", (Text("S"),)))


def test_thoughts_of_ours_without_text_are_nothing() -> None:
    turn = Turn(
        "assistant",
        (
            Thought("", sign_reasoning(ReasoningOrigin("up"))),
            Thought("hm", sign_reasoning(ReasoningOrigin("up"))),
            Text("x"),
        ),
    )
    body, _ = written("messages", ASK, turn, ASK)
    assert [part["type"] for part in body["messages"][1]["content"]] == ["thinking", "text"]


# ---- writing for Responses


def test_the_rest_of_what_responses_upstreams_are_told() -> None:
    tools = (Tool("get", Raw(b"{}")),)
    for choice, word in (
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("any"), "required"),
    ):
        assert written("responses", tools=tools, tool_choice=choice)[0]["tool_choice"] == word
    assert "tool_choice" not in written("responses", tools=tools)[0]
    poor = Profile(parallel_tool_calls=False, sampling=False, user_field="none", reasoning_effort=False)
    _, told = written(
        "responses", tools=tools, parallel_tools=False, temperature=1.0, top_p=0.5, user="u", profile=poor
    )
    assert told == ["parallel_tool_calls=dropped", "temperature=dropped", "top_p=dropped", "user=dropped"]
    assert (
        written("responses", user="u", profile=Profile(user_field="safety_identifier"))[0][
            "safety_identifier"
        ]
        == "u"
    )


def test_parts_where_they_do_not_belong_are_told_in_responses() -> None:
    billing = Turn("system", (Text("x-anthropic-billing-header: cch=1"), Text(""), Image("https://x")))
    odd = Turn("user", (Thought("x"), ToolCall("t", "get", "{}"), Text("hi")))
    said = Turn("assistant", (Image("https://x"), ToolCall("t", "get", " ")))
    body, told = written("responses", billing, ASK, said, odd)
    assert [item["type"] for item in body["input"]] == ["message", "function_call", "message"]
    assert body["input"][1]["arguments"] == "{}"
    assert told == [
        "system.billing_header=dropped",
        "messages.assistant.image=dropped",
        "messages.user.thought=dropped",
        "messages.user.toolcall=dropped",
    ]


def test_failed_results_are_marked_for_responses() -> None:
    call = Turn("assistant", (ToolCall("t", "get", "{}"),))
    parts = (Text("no"), Image(media_type="image/png", data="AA=="))
    for held in (parts, parts[:1]):
        body, told = written("responses", ASK, call, Turn("user", (ToolResult("t", held, is_error=True),)))
        assert "tool_error" in json.dumps(body["input"][-1]["output"])
        assert told == ["messages.tool_result.is_error=marked"]


def test_documents_and_images_for_responses() -> None:
    parts = (
        Document("https://x.example/a.pdf"),
        Document("https://x.example/a.pdf", title="T"),
        Document(media_type="text/plain", data="words", title="T"),
        Document(media_type="text/plain", data="bare"),
        Document(media_type="application/pdf", data="AA=="),
    )
    body, _ = written("responses", Turn("user", parts))
    assert body["input"][0]["content"] == [
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "input_file", "file_url": "https://x.example/a.pdf", "filename": "T"},
        {"type": "input_text", "text": "T\n\nwords"},
        {"type": "input_text", "text": "bare"},
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,AA=="},
    ]
    with pytest.raises(InvalidRequest, match="by URL"):
        written("responses", Turn("user", (Image("https://x"),)), profile=Profile(image_urls=False))


def test_reasoning_goes_back_to_its_maker_as_it_came() -> None:
    for thought, item in (
        (
            Thought("hm", carrier_signature("up", Carrier("r", None, raw=True))),
            {"content": [{"type": "reasoning_text", "text": "hm"}]},
        ),
        (Thought("", carrier_signature("up-2026", Carrier("r", "enc"))), {"encrypted_content": "enc"}),
        (Thought("hm", carrier_signature("other", Carrier("r", "enc"))), None),
        (Thought("hm", sign_reasoning(ReasoningOrigin("up", "{"))), None),
    ):  # fmt: skip
        body, told = written("responses", ASK, Turn("assistant", (thought, Text("x"))), ASK)
        found = [row for row in body["input"] if row["type"] == "reasoning"]
        if item is None:
            assert (found, told) == ([], ["messages.thinking=dropped"])
        else:
            assert found == [{"type": "reasoning", "id": "r", "summary": [], **item}]


# ---- names, and listeners


def test_a_choice_of_a_name_that_stays_stays() -> None:
    long = "x" * 100
    tools = (Tool(long, Raw(b"{}")), Tool("get", Raw(b"{}")))
    for choice in (ToolChoice("tool", "get"), ToolChoice("auto"), None):
        request, names = fit_tool_names(Request("m", (ASK,), tools, choice))
        assert request.tool_choice == choice
        assert names
    renamed, _ = fit_tool_names(Request("m", (ASK,), tools, ToolChoice("tool", long)))
    assert renamed.tool_choice == ToolChoice("tool", renamed.tools[0].name)


def test_a_listener_hears_all_of_it_on_either_lane() -> None:
    stream = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]'

    class Listener:
        def __init__(self) -> None:
            self.heard: list[AnyEvent] = []

        def take(self, event: AnyEvent) -> None:
            self.heard.append(event)

    first, second = Listener(), Listener()
    reader = upstream_side("chat").ResponseDecoder
    writer = caller_side("messages").ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=False, input_estimate=0
    )
    lanes = (
        Translation(reader(profile=DEFAULT_PROFILE), writer, listener=first),
        ObservedPassthrough(
            stream_of("chat")(model=None, withhold_usage=False),
            reader(profile=DEFAULT_PROFILE),
            second,
        ),
    )
    for lane in lanes:
        lane.feed(stream)
        lane.finish()
        assert lane.done
    assert TextDelta("Hi") in first.heard
    assert first.heard == second.heard
