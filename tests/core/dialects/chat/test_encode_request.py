"""Turns become Chat requests by the habits of each upstream, deterministically, with every loss told."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from penstock.core.dialects.chat.dialect import decode_request, encode_request
from penstock.core.neutral.request import (
    AnyPart,
    Document,
    Effort,
    Image,
    Loss,
    OutputFormat,
    Request,
    Role,
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
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.errors import InvalidRequest

USER = Turn("user", (Text("hi"),))
SCHEMA = Raw(b'{ "type":"object", "properties":{"x":{"type":"number"}}, "n":1.50 }')
STRICT = Raw(
    b'{"type":"object","properties":{"x":{"type":"array","items":{"type":"object","properties":{},"required":[],'
    b'"additionalProperties":false}}},"required":["x"],"additionalProperties":false}'
)
PNG = Image(media_type="image/png", data="iVBORw0KGgo=")
PDF = Document(media_type="application/pdf", data="JVBERi0=", title="a.pdf")


def write(
    *turns: Turn, profile: Profile = DEFAULT_PROFILE, **fields: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    request = msgspec.structs.replace(Request(model="public", turns=turns or (USER,)), **fields)
    body, losses = encode_request(request, model="up-1", profile=profile)
    assert encode_request(request, model="up-1", profile=profile) == (body, losses)
    return json.loads(body), {loss.field: loss.outcome for loss in losses}


def messages(*turns: Turn, profile: Profile = DEFAULT_PROFILE) -> list[dict[str, Any]]:
    return write(*turns, profile=profile)[0]["messages"]


def user(*parts: AnyPart) -> Turn:
    return Turn("user", parts)


def assistant(*parts: AnyPart) -> Turn:
    return Turn("assistant", parts)


def system(*parts: AnyPart) -> Turn:
    return Turn("system", parts)


def test_what_prompt_caches_key_on_comes_first() -> None:
    """Row 28."""
    body, losses = write(
        system(Text("s")), USER, tools=(Tool("f", SCHEMA, "d"),), max_tokens=5, temperature=0.5, top_p=1.0,
        stop=("a",), stream=True, user="u", tool_choice=ToolChoice("auto"), parallel_tools=False,
    )  # fmt: skip
    assert losses == {}
    assert body == {
        "model": "up-1",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {"x": {"type": "number"}}, "n": 1.5},
                },
            }
        ],
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": ["a"],
        "user": "u",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert list(body)[:3] == ["model", "tools", "messages"]


def test_schemas_and_arguments_stay_as_they_were_written() -> None:
    arguments = '{"b":1.50, "a":{"é":2}}'
    request = Request(
        "m", (USER, assistant(ToolCall("c", "f", arguments)), user(ToolResult("c"))), (Tool("f", SCHEMA),)
    )
    body, _ = encode_request(request, model="up", profile=DEFAULT_PROFILE)
    assert bytes(SCHEMA) in body
    assert json.dumps(arguments, ensure_ascii=False).encode() in body


def test_a_stream_asks_for_usage_where_that_is_known() -> None:
    assert "stream_options" not in write(stream=True, profile=Profile(stream_options=False))[0]
    assert write(stream=False)[0]["stream"] is False
    assert "stream_options" not in write(stream=False)[0]


def test_the_limit_goes_by_the_name_that_the_upstream_knows() -> None:
    """Row 26."""
    body, _ = write(max_tokens=9, profile=Profile(max_tokens_field="max_completion_tokens"))
    assert (body.get("max_completion_tokens"), body.get("max_tokens")) == (9, None)
    assert "max_tokens" not in write()[0]
    with pytest.raises(InvalidRequest) as raised:
        write(max_tokens=0)
    assert raised.value.param == "max_tokens"


def test_system_prompts() -> None:
    turns = (system(Text("a"), Text("b")), USER)
    assert messages(*turns)[0] == {
        "role": "system",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    }
    assert messages(*turns, profile=Profile(system_as_string=True))[0]["content"] == "a\n\nb"
    assert messages(*turns, profile=Profile(system_role="developer"))[0]["role"] == "developer"


def test_later_system_messages_stay_in_place() -> None:
    """Row 18: never hoisted, since that defeats every prompt cache."""
    turns = (
        system(Text("s")),
        USER,
        assistant(Text("a")),
        user(Text("b")),
        system(Text("now")),
        assistant(Text("c")),
        USER,
    )
    assert [message["role"] for message in messages(*turns)] == [
        "system", "user", "assistant", "user", "system", "assistant", "user",
    ]  # fmt: skip
    body, losses = write(*turns, profile=Profile(system_anywhere=False))
    assert body["messages"][4] == {"role": "user", "content": "<system>\nnow\n</system>"}
    assert losses == {"messages.system": "wrapped"}


def test_the_billing_block_of_claude_code_is_removed() -> None:
    """Row 19: its hash changes with each request."""
    body, losses = write(
        system(Text("x-anthropic-billing-header: cc_version=2; cch=ab12"), Text("You are")), USER
    )
    assert body["messages"][0] == {"role": "system", "content": "You are"}
    assert losses == {"system.billing_header": "dropped"}


def test_results_come_first_and_their_images_move_behind_all_of_them() -> None:
    """Rows 9 and 40."""
    turns = (
        USER,
        assistant(ToolCall("c1", "f", "{}"), ToolCall("c2", "f", "{}")),
        user(
            Text("and?"),
            ToolResult("c1", (Text("one"), PNG, PDF)),
            ToolResult("c2", (Text("two"), Text("2"))),
        ),
    )
    body, losses = write(*turns)
    assert body["messages"][2:] == [
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": "one\n[image 1 of the tool results, in the next user message]"
            "\n[document 2 of the tool results, in the next user message]",
        },
        {"role": "tool", "tool_call_id": "c2", "content": "two\n2"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "[image 1, from the result of tool call c1]"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "text", "text": "[document 2, from the result of tool call c1]"},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                },
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    assert losses == {"messages.tool_result.image": "moved", "messages.tool_result.document": "moved"}
    inline, losses = write(USER, user(ToolResult("c", (Text("x"), PNG))), profile=Profile(tool_images=True))
    assert inline["messages"][1]["content"][1]["type"] == "image_url"
    assert losses == {}


def test_a_failed_tool_is_marked_and_comes_back() -> None:
    turns = (
        USER,
        assistant(ToolCall("c", "f", "{}")),
        user(ToolResult("c", (Text("no file"),), is_error=True)),
    )
    body, losses = write(*turns)
    assert body["messages"][2]["content"] == "[tool_error]\nno file"
    assert losses == {"messages.tool_result.is_error": "marked"}
    assert decode_request(json.dumps(body).encode())[0].turns == turns


def test_assistant_messages() -> None:
    """Rows 27, 30 and 41."""
    body, losses = write(
        USER,
        assistant(Text("a"), ToolCall("c", "f", " "), Text("b")),
        user(ToolResult("c")),
        assistant(ToolCall("c", "f", '{"x":1}')),
        user(ToolResult("c")),
        assistant(Text("")),
        USER,
    )
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert body["messages"][1] == {"role": "assistant", "content": "ab", "tool_calls": [call]}
    assert body["messages"][3]["content"] is None
    assert [message["role"] for message in body["messages"]] == [
        "user", "assistant", "tool", "assistant", "tool", "user",
    ]  # fmt: skip
    assert losses == {"messages.assistant.text": "before_tool_calls"}


def test_ids_are_given_back_as_the_upstream_made_them() -> None:
    """Row 42."""
    long = "x" * 70
    calls = [ToolCall(id, "f", "{}") for id in ("gwi_ZnVuY3Rpb25zLmFkZDow", "call_0", "call_0-gwr2", long)]
    results = [ToolResult(call.id) for call in calls]
    written = messages(USER, assistant(*calls), user(*results))
    ids = [call["id"] for call in written[1]["tool_calls"]]
    assert ids[:3] == ["functions.add:0", "call_0", "call_0"]
    assert len(ids[3]) <= 64
    assert [message["tool_call_id"] for message in written[2:]] == ids


@pytest.mark.parametrize(
    ("effort", "sent"),
    [("none", "low"), ("minimal", "low"), ("medium", "medium"), ("xhigh", "high"), ("max", "high")],
)
def test_an_effort_that_the_model_does_not_know_becomes_the_nearest(effort: Any, sent: str) -> None:
    body, losses = write(effort=effort, profile=Profile(least_effort="low", most_effort="high"))
    assert body["reasoning_effort"] == sent
    assert losses == ({} if effort == sent else {"effort": "nearest"})
    assert write(effort=effort)[0]["reasoning_effort"] == effort


def test_ids_of_exactly_nine_letters_and_digits() -> None:
    """Mistral takes no others."""
    ids = ("functions.add:0", "call_0", "abcDEF123", "x" * 50)
    calls = [assistant(*(ToolCall(id, "f", "{}") for id in ids)), user(*(ToolResult(id) for id in ids))]
    body, _ = write(*calls, profile=Profile(tool_id_length=9))
    written = [call["id"] for call in body["messages"][0]["tool_calls"]]
    assert all(len(id) == 9 and id.isalnum() for id in written)
    assert len(set(written)) == 4
    assert written[2] == "abcDEF123"
    assert [message["tool_call_id"] for message in body["messages"][1:]] == written


def test_reasoning_goes_back_where_the_upstream_wants_it() -> None:
    """Row 8: DeepSeek refuses calls without their reasoning."""
    turns = (
        USER,
        assistant(Thought("think", "gw1.x"), Thought(redacted="r"), Text("a"), ToolCall("c", "f", "{}")),
        user(ToolResult("c")),
        assistant(ToolCall("d", "f", "{}")),
        user(ToolResult("d")),
        assistant(Text("b")),
        USER,
    )
    deepseek, losses = write(
        *turns, profile=Profile(reasoning_field="reasoning_content", reasoning_required=True)
    )
    assert [message.get("reasoning_content") for message in deepseek["messages"] if message["role"] == "assistant"] == [
        "think", "", None,
    ]  # fmt: skip
    assert losses == {"messages.redacted_thinking": "dropped"}
    vllm, _ = write(*turns, profile=Profile(reasoning_field="reasoning"))
    assert [message.get("reasoning") for message in vllm["messages"] if message["role"] == "assistant"] == [
        "think", None, None,
    ]  # fmt: skip
    plain, losses = write(*turns)
    assert "reasoning_content" not in json.dumps(plain)
    assert losses == {"messages.thinking": "dropped"}


def test_a_carrier_goes_back_to_its_maker_alone() -> None:
    """Row 7."""
    carrier = '[{"type":"reasoning.encrypted","data":"A","n":1.50}]'
    profile = Profile(reasoning_field="reasoning")
    for model, wanted in (("up-1", json.loads(carrier)), ("other", None)):
        thought = Thought("", sign_reasoning(ReasoningOrigin(model, carrier)))
        written = messages(
            USER, assistant(thought, ToolCall("c", "f", "{}")), user(ToolResult("c")), profile=profile
        )
        assert written[1].get("reasoning_details") == wanted
    damaged = Thought("t", sign_reasoning(ReasoningOrigin("up-1", "{oops")))
    assert messages(USER, assistant(damaged, Text("x")), USER, profile=profile)[1] == {
        "role": "assistant", "content": "x", "reasoning": "t",
    }  # fmt: skip


def test_images_and_documents() -> None:
    parts = (
        Image(url="https://a.example/b.png", detail="low"),
        PDF,
        Document(media_type="text/plain", data="body", title="t"),
    )
    (message,) = messages(user(*parts))
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "text", "text": "t\n\nbody"},
    ]
    for turn, profile in (
        (user(Image(url="https://a.example/b.png")), Profile(image_urls=False)),
        (user(Document(url="https://a.example/b.pdf")), DEFAULT_PROFILE),
    ):
        with pytest.raises(InvalidRequest) as raised:
            write(turn, profile=profile)
        assert raised.value.param == "messages"


def test_cache_marks() -> None:
    """Row 29: kept where they are known, told where not."""
    turns = (system(Text("s", cache="1h")), user(Text("u", cache="5m")))
    tools = (Tool("f", SCHEMA, cache="5m"),)
    body, losses = write(*turns, tools=tools, profile=Profile(cache_control=True))
    assert losses == {}
    assert body["messages"] == [
        {
            "role": "system",
            "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}]},
    ]
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    body, losses = write(*turns, tools=tools)
    assert "cache_control" not in json.dumps(body)
    assert losses == {"cache_control": "dropped"}


def test_a_beginning_to_go_on_from() -> None:
    turns = (USER, assistant(Text("The answer is \n")))
    with pytest.raises(InvalidRequest) as raised:
        write(*turns)
    assert raised.value.param == "messages"
    assert messages(*turns, profile=Profile(prefill="prefix"))[1] == {
        "role": "assistant", "content": "The answer is", "prefix": True,
    }  # fmt: skip
    assert messages(*turns, profile=Profile(prefill="partial"))[1]["partial"] is True


CHOICES: list[tuple[ToolChoice, object]] = [
    (ToolChoice("auto"), "auto"),
    (ToolChoice("none"), "none"),
    (ToolChoice("any"), "required"),
    (ToolChoice("tool", "f"), {"type": "function", "function": {"name": "f"}}),
]


@pytest.mark.parametrize(("choice", "wanted"), CHOICES)
def test_tool_choice(choice: ToolChoice, wanted: object) -> None:
    tools = (Tool("f", SCHEMA),)
    assert write(tools=tools, tool_choice=choice)[0]["tool_choice"] == wanted
    assert "tool_choice" not in write(tool_choice=choice)[0]
    thinking = Profile(thinking_switch="thinking", forced_while_thinking=False, thinks_by_default=True)
    forced = choice.mode in {"any", "tool"}
    body, losses = write(tools=tools, tool_choice=choice, effort="high", profile=thinking)
    assert body["tool_choice"] == ("auto" if forced else wanted)
    body, losses = write(tools=tools, tool_choice=choice, profile=thinking)
    assert body["tool_choice"] == wanted
    assert (body.get("thinking"), losses) == (
        ({"type": "disabled"}, {"effort": "disabled"}) if forced else (None, {})
    )
    body, losses = write(tools=tools, tool_choice=choice, thinking=Thinking("disabled"), profile=thinking)
    assert (body["tool_choice"], losses) == (wanted, {})
    body, losses = write(tools=tools, tool_choice=choice, thinking=Thinking("adaptive"), profile=thinking)
    assert body["tool_choice"] == ("auto" if forced else wanted)
    assert losses == ({"tool_choice": "auto"} if forced else {})


def test_parallel_tools() -> None:
    tools = (Tool("f", SCHEMA),)
    assert "parallel_tool_calls" not in write(tools=tools, parallel_tools=True)[0]
    body, losses = write(tools=tools, parallel_tools=False, profile=Profile(parallel_tool_calls=False))
    assert "parallel_tool_calls" not in body
    assert losses == {"parallel_tool_calls": "dropped"}


def test_strict_tools() -> None:
    body, losses = write(
        tools=(Tool("f", STRICT, strict=True), Tool("g", SCHEMA, strict=True), Tool("h", STRICT))
    )
    assert [tool["function"].get("strict") for tool in body["tools"]] == [True, None, None]
    assert losses == {"tools.strict": "dropped"}
    assert "strict" not in json.dumps(
        write(tools=(Tool("f", STRICT, strict=True),), profile=Profile(strict_tools=False))[0]
    )


def test_the_form_of_the_answer() -> None:
    """Row 37: the native format, never a forced tool."""
    body, losses = write(output=OutputFormat(STRICT))
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": json.loads(bytes(STRICT)), "strict": True},
    }
    assert losses == {}
    body, _ = write(output=OutputFormat(SCHEMA, "n", "d", strict=False))
    assert body["response_format"]["json_schema"] == {
        "name": "n",
        "description": "d",
        "schema": json.loads(bytes(SCHEMA)),
    }
    assert write(output=OutputFormat())[0]["response_format"] == {"type": "json_object"}
    for turns in ((USER,), (system(Text("s")), USER)):
        body, losses = write(*turns, output=OutputFormat(SCHEMA), profile=Profile(json_schema=False))
        assert body["response_format"] == {"type": "json_object"}
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert body["messages"][0]["content"].endswith(bytes(SCHEMA).decode())
        assert losses == {"output_config.format": "prompted"}


REASONING: list[tuple[Thinking | None, Effort | None, Profile, dict[str, object], dict[str, str]]] = [
    (None, None, DEFAULT_PROFILE, {}, {}),
    (None, "high", DEFAULT_PROFILE, {"reasoning_effort": "high"}, {}),
    (Thinking("adaptive"), "max", DEFAULT_PROFILE, {"reasoning_effort": "max"}, {}),
    (Thinking("adaptive"), None, DEFAULT_PROFILE, {}, {}),
    (Thinking("disabled"), "high", DEFAULT_PROFILE, {"reasoning_effort": "none"}, {}),
    (Thinking("enabled", 2048), None, DEFAULT_PROFILE, {"reasoning_effort": "low"}, {}),
    (Thinking("enabled", 8192), None, DEFAULT_PROFILE, {"reasoning_effort": "medium"}, {}),
    (Thinking("enabled", 16000), None, DEFAULT_PROFILE, {"reasoning_effort": "high"}, {}),
    (Thinking("enabled", 32000), None, DEFAULT_PROFILE, {"reasoning_effort": "xhigh"}, {}),
    (Thinking("disabled"), None, Profile(thinking_switch="thinking"), {"thinking": {"type": "disabled"}}, {}),
    (
        Thinking("adaptive"),
        "high",
        Profile(thinking_switch="thinking"),
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        {},
    ),
    (
        Thinking("enabled", 3000),
        None,
        Profile(thinking_switch="enable_thinking", reasoning_effort=False),
        {"enable_thinking": True, "thinking_budget": 3000},
        {},
    ),
    (Thinking("disabled"), None, Profile(thinking_switch="enable_thinking"), {"enable_thinking": False}, {}),
    (
        Thinking("adaptive"),
        "low",
        Profile(reasoning_effort=False),
        {},
        {"effort": "dropped", "thinking": "dropped"},
    ),
]


@pytest.mark.parametrize(("thinking", "effort", "profile", "fields", "told"), REASONING)
def test_reasoning(
    thinking: Thinking | None,
    effort: Effort | None,
    profile: Profile,
    fields: dict[str, object],
    told: dict[str, str],
) -> None:
    body, losses = write(thinking=thinking, effort=effort, profile=profile)
    asked = {"reasoning_effort", "thinking", "enable_thinking", "thinking_budget"}
    assert {name: value for name, value in body.items() if name in asked} == fields
    assert losses == told


def test_sampling() -> None:
    body, losses = write(temperature=0.5, top_p=0.9, top_k=40)
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
    assert losses == {"top_k": "dropped"}
    assert write(top_k=40, profile=Profile(top_k=True))[0]["top_k"] == 40
    body, losses = write(temperature=0.5, top_p=0.9, profile=Profile(sampling=False))
    assert not {"temperature", "top_p"} & body.keys()
    assert losses == {"temperature": "dropped", "top_p": "dropped"}


def test_stop_sequences() -> None:
    """Row 21."""
    five = ("a", "b", "c", "d", "e")
    with pytest.raises(InvalidRequest) as raised:
        write(stop=five)
    assert raised.value.param == "stop_sequences"
    assert write(stop=five, profile=Profile(max_stop=None))[0]["stop"] == list(five)


def test_the_user() -> None:
    assert write(user="u", profile=Profile(user_field="safety_identifier"))[0]["safety_identifier"] == "u"
    body, losses = write(user="x" * 200)
    assert len(body["user"]) == 64
    assert losses == {"user": "hashed"}
    body, losses = write(user="u", profile=Profile(user_field="none"))
    assert "user" not in body
    assert losses == {"user": "dropped"}


def test_nothing_to_answer_is_refused() -> None:
    for turns in ((system(Text("s")),), (user(Text("")),), (assistant(Text("")),)):
        with pytest.raises(InvalidRequest) as raised:
            write(*turns)
        assert raised.value.param == "messages"


# ---- properties

TEXT = st.text(min_size=1, max_size=8)
IDS = st.from_regex(r"call_[a-z0-9]{1,8}", fullmatch=True)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Turn, ...]:
    """Whole exchanges of what Chat says exactly: text, images, calls and their results."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(system(Text(draw(TEXT))))
    for _ in range(draw(st.integers(1, 4))):
        images = draw(st.lists(st.just(PNG), max_size=1))
        turns.append(user(Text(draw(TEXT)), *images))
        ids = draw(st.lists(IDS, max_size=2, unique=True))
        if ids:
            texts = [Text(text) for text in draw(st.lists(TEXT, max_size=1))]
            turns.append(assistant(*texts, *(ToolCall(id, "f", '{"x":[1,2]}') for id in ids)))
            results = [
                ToolResult(id, tuple(Text(text) for text in draw(st.lists(TEXT, max_size=1)))) for id in ids
            ]
            turns.append(user(*results))
        turns.append(assistant(Text(draw(TEXT))))
    return (*turns, user(Text(draw(TEXT))))


@given(conversations())
@settings(max_examples=100, deadline=None)
def test_there_and_back(turns: tuple[Turn, ...]) -> None:
    request = Request(
        model="up-1", turns=turns, tools=(Tool("f", SCHEMA, "d"),), tool_choice=ToolChoice("any"), parallel_tools=False,
        max_tokens=7, temperature=0.25, top_p=0.5, stop=("x",), stream=True, effort="low", user="u",
    )  # fmt: skip
    body, losses = encode_request(request, model="up-1", profile=DEFAULT_PROFILE)
    assert losses == []
    again, losses = decode_request(body)
    assert losses == []
    assert [bytes(tool.schema) for tool in again.tools] == [bytes(SCHEMA)]
    assert msgspec.structs.replace(again, tools=()) == msgspec.structs.replace(request, tools=())


PART: st.SearchStrategy[AnyPart] = st.one_of(
    st.builds(Text, TEXT, st.sampled_from([None, "5m", "1h"])),
    st.just(PNG),
    st.just(PDF),
    st.builds(
        Thought, TEXT, st.none() | st.just("sig") | st.just(sign_reasoning(ReasoningOrigin("up-1", "[]")))
    ),
    st.builds(ToolCall, IDS, st.just("f"), st.just("{}")),
    st.builds(
        ToolResult, IDS, st.lists(st.builds(Text, TEXT) | st.just(PNG), max_size=2).map(tuple), st.booleans()
    ),
)
ROLES: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
PROFILES = st.builds(
    Profile,
    system_anywhere=st.booleans(),
    system_as_string=st.booleans(),
    tool_images=st.booleans(),
    cache_control=st.booleans(),
    json_schema=st.booleans(),
    reasoning_field=st.sampled_from(["none", "reasoning", "reasoning_content"]),
)


@given(
    st.lists(st.builds(Turn, ROLES, st.lists(PART, max_size=3).map(tuple)), max_size=6), PROFILES, st.data()
)
@settings(max_examples=200, deadline=None)
def test_each_turn_only_adds_to_the_messages_before_it(
    turns: list[Turn], profile: Profile, data: st.DataObject
) -> None:
    """Rows 18 and 28: what was sent stays, byte for byte, so that caches hit."""
    turns = [user(Text("first")), *turns, user(Text("last"))]
    now = data.draw(st.integers(1, len(turns)))
    bodies = [
        encode_request(
            Request("m", (*part, user(Text("q"))), output=OutputFormat(SCHEMA)),
            model="up-1",
            profile=profile,
        )[0]
        for part in (turns[:now], turns)
    ]
    before, after = (msgspec.json.decode(body, type=dict[str, Raw])["messages"] for body in bodies)
    shared = msgspec.json.decode(before, type=list[Raw])[:-1]
    assert [bytes(message) for message in msgspec.json.decode(after, type=list[Raw])][: len(shared)] == [
        bytes(message) for message in shared
    ]


def test_losses_are_told_once() -> None:
    request = Request("m", (user(Text("a", cache="5m"), Text("b", cache="5m")), user(Text("c", cache="1h"))))
    assert encode_request(request, model="m", profile=DEFAULT_PROFILE)[1] == [
        Loss("cache_control", "dropped")
    ]
