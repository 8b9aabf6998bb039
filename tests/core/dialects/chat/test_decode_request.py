"""Chat requests become turns: what is carried, what is told, what is refused and by which name."""

import base64
import contextlib
import json
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.dialects.chat.dialect import decode_request
from penstock.core.neutral.request import (
    Document,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Thought,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.errors import InvalidRequest

Json = dict[str, object]
USER: Json = {"role": "user", "content": "hi"}
CALL: Json = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read(*messages: Json, **fields: object) -> tuple[Request, list[Loss]]:
    return decode_request(json.dumps({"model": "m", "messages": list(messages) or [USER], **fields}).encode())


def turns(*messages: Json) -> tuple[Turn, ...]:
    request, losses = read(*messages)
    assert losses == []
    return request.turns


def refused(*messages: Json, **fields: object) -> str | None:
    with pytest.raises(InvalidRequest) as raised:
        read(*messages, **fields)
    assert raised.value.param is None or raised.value.param in raised.value.message
    return raised.value.param


def test_text_in_every_form() -> None:
    parts: list[Json] = [
        {"type": "text", "text": "a"},
        {"type": "text", "text": ""},
        {"type": "text", "text": "b"},
    ]
    assert turns(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": parts},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "yes"},
        {"role": "system", "content": "later"},
        {"role": "user", "content": "no"},
    ) == (
        Turn("system", (Text("s"),)),
        Turn("system", (Text("a"), Text("b"))),
        Turn("user", (Text("a"), Text("b"))),
        Turn("assistant", (Text("yes"),)),
        Turn("system", (Text("later"),)),
        Turn("user", (Text("no"),)),
    )


def test_messages_without_any_content_are_left_out() -> None:
    """Row 27: empty texts are refused by Anthropic."""
    assert turns(USER, {"role": "assistant", "content": ""}, {"role": "user", "content": []}, USER) == (
        Turn("user", (Text("hi"),)),
        Turn("user", (Text("hi"),)),
    )


def test_tool_messages_and_the_user_message_after_them_are_one_turn() -> None:
    """Row 40: results first and together."""
    assert turns(
        USER,
        {"role": "assistant", "content": "Looking.", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    )[1:] == (
        Turn("assistant", (Text("Looking."), ToolCall("c1", "f", '{"x":1}'), ToolCall("c2", "f", '{"x":1}'))),
        Turn("user", (ToolResult("c1", (Text("one"),)), ToolResult("c2", (Text("two"),)), Text("and?"))),
        Turn("assistant", (ToolCall("c1", "f", '{"x":1}'),)),
        Turn("user", (ToolResult("c1"),)),
    )


def test_a_tool_failure_comes_back_from_its_mark() -> None:
    results = [
        turn.parts[0]
        for content in ("[tool_error]\nno such file", "[tool_error]\n", "[tool_error] is text")
        for turn in turns({"role": "tool", "tool_call_id": "c1", "content": content})
    ]
    assert results == [
        ToolResult("c1", (Text("no such file"),), is_error=True),
        ToolResult("c1", (), is_error=True),
        ToolResult("c1", (Text("[tool_error] is text"),)),
    ]


def test_arguments() -> None:
    """Row 30: no arguments are an empty object; anything else stays the model's own text."""
    for given_, kept in (
        ("", "{}"),
        ("  \n", "{}"),
        ('{"b":1, "a":2.50}', '{"b":1, "a":2.50}'),
        ("oops", "oops"),
    ):
        call: Json = {**CALL, "function": {"name": "f", "arguments": given_}}
        (turn,) = turns({"role": "assistant", "content": None, "tool_calls": [call]})
        assert turn.parts == (ToolCall("c1", "f", kept),)


def test_coded_ids_are_read_back() -> None:
    """Row 42."""
    call = {**CALL, "id": "gwi_ZnVuY3Rpb25zLmFkZDow"}
    read_back = turns(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "gwi_ZnVuY3Rpb25zLmFkZDow", "content": "1"},
    )
    assert read_back[0].parts == (ToolCall("functions.add:0", "f", '{"x":1}'),)
    assert read_back[1].parts == (ToolResult("functions.add:0", (Text("1"),)),)


def test_images_and_files() -> None:
    png = "data:image/png;base64,iVBORw0KGgo="
    text = base64.b64encode("Grüße".encode()).decode()
    content: list[Json] = [
        {"type": "image_url", "image_url": {"url": png, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
        {"type": "image_url", "image_url": "data:image/jpg;base64,/9j/"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "file", "file": {"file_data": "JVBERi0="}},
        {
            "type": "file",
            "file": {"filename": "a.txt", "file_data": f"data:text/plain;charset=utf-8;base64,{text}"},
        },
        {"type": "file", "file": {"file_data": "data:text/csv,a%2Cb"}},
    ]
    (turn,) = turns({"role": "user", "content": content})
    assert turn.parts == (
        Image(media_type="image/png", data="iVBORw0KGgo=", detail="high"),
        Image(url="https://a.example/b.jpg"),
        Image(media_type="image/jpeg", data="/9j/"),
        Document(media_type="application/pdf", data="JVBERi0=", title="a.pdf"),
        Document(media_type="application/pdf", data="JVBERi0="),
        Document(media_type="text/plain", data="Grüße", title="a.txt"),
        Document(media_type="text/plain", data="a,b"),
    )


def test_images_in_tool_messages_are_kept() -> None:
    """Row 9: not the format's own, but some callers send them."""
    content: list[Json] = [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]
    (turn,) = turns({"role": "tool", "tool_call_id": "c", "content": content})
    assert turn.parts == (ToolResult("c", (Image(url="https://a.example/b.png"),)),)


DETAILS: list[Json] = [
    {
        "type": "reasoning.text",
        "index": 0,
        "text": "I think",
        "signature": "sig==",
        "format": "anthropic-claude-v1",
    },
    {"type": "reasoning.encrypted", "index": 1, "data": "opaque"},
    {"type": "reasoning.text", "index": 2, "signature": "only"},
]
CARRIERS: list[tuple[Json, tuple[Thought, ...]]] = [
    ({"reasoning_content": "I think"}, (Thought("I think"),)),
    ({"reasoning": "I think"}, (Thought("I think"),)),
    ({"reasoning_content": ""}, ()),
    (
        {"reasoning_content": "I think", "reasoning_details": DETAILS},
        (Thought("I think", "sig=="), Thought(redacted="opaque"), Thought("", "only")),
    ),
    (
        {
            "reasoning_details": [
                {"type": "reasoning.text", "index": 0, "text": "I "},
                {"type": "reasoning.text", "index": 0, "text": "think"},
                {"type": "reasoning.text", "index": 0, "signature": "sig=="},
            ]
        },
        (Thought("I think", "sig=="),),
    ),
    (
        {
            "reasoning_details": [
                {"type": "reasoning.encrypted", "index": 0, "data": data, "id": id}
                for data, id in (("A", "a"), ("A", None), ("B", "b"), ("B", "b"))
            ]
        },
        (Thought(redacted="AA"), Thought(redacted="BB")),
    ),
    ({"reasoning_details": [{"type": "reasoning.summary", "summary": "short"}]}, (Thought("short"),)),
    (
        {
            "reasoning_content": "no",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "I think", "signature": "sig=="},
                {"type": "redacted_thinking", "data": "opaque"},
            ],
        },
        (Thought("I think", "sig=="), Thought(redacted="opaque")),
    ),
    ({"reasoning_text": "I think", "reasoning_opaque": "sig=="}, (Thought("I think", "sig=="),)),
]  # fmt: skip


@pytest.mark.parametrize(("carrier", "thoughts"), CARRIERS)
def test_reasoning_comes_back_before_the_calls(carrier: Json, thoughts: tuple[Thought, ...]) -> None:
    """Rows 7 and 8."""
    (turn,) = turns({"role": "assistant", "content": "x", "tool_calls": [CALL], **carrier})
    assert turn.parts == (*thoughts, Text("x"), ToolCall("c1", "f", '{"x":1}'))


def test_cache_marks() -> None:
    """Row 29: every place where callers put them."""
    mark = {"type": "ephemeral"}
    hour = {"type": "ephemeral", "ttl": "1h"}
    request, losses = read(
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": hour}]},
        {"role": "user", "content": "u", "cache_control": mark},
        {"role": "assistant", "content": "a", "tool_calls": [CALL], "cache_control": mark},
        {"role": "tool", "tool_call_id": "c1", "content": "t", "cache_control": mark},
        tools=[
            {**TOOL, "cache_control": hour},
            {"type": "function", "function": {"name": "g", "cache_control": mark}},
        ],
    )
    assert losses == []
    assert [part.cache for turn in request.turns for part in turn.parts if not isinstance(part, Thought)] == [
        "1h", "5m", None, "5m", "5m",
    ]  # fmt: skip
    assert [tool.cache for tool in request.tools] == ["1h", "5m"]
    explicit = {"mode": "explicit", "ttl": "12h"}
    request, losses = read(
        {"role": "user", "content": [{"type": "text", "text": "u", "prompt_cache_breakpoint": explicit}]}
    )
    assert request.turns[0].parts == (Text("u", "1h"),)
    assert losses == [Loss("messages.prompt_cache_breakpoint", "1h")]


def test_tools() -> None:
    schema = b'{ "type":"object", "x": 1.50 }'
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        b'{"name":"f","description":"d","strict":true,"parameters":' + schema + b"}},"
        b'{"type":"function","function":{"name":"g"}}]}'
    )
    request, losses = decode_request(body)
    assert losses == []
    first, second = request.tools
    assert bytes(first.schema) == schema
    assert (first.name, first.description, first.strict) == ("f", "d", True)
    assert bytes(second.schema) == b'{"type":"object","properties":{}}'


def test_custom_tools_become_functions() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}}
    request, losses = read(
        USER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "p", "input": "a\nb"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
        tools=[{"type": "custom", "custom": {"name": "p", "description": "Patch.", "format": grammar}}],
    )
    assert losses == [Loss("tools.custom", "function"), Loss("messages.tool_calls.custom", "function")]
    assert request.tools[0].description == "Patch.\n\nThe input must match this lark definition:\nstart: WORD"
    assert json.loads(bytes(request.tools[0].schema))["required"] == ["input"]
    assert request.turns[1].parts == (ToolCall("c", "p", '{"input":"a\\nb"}'),)


def test_legacy_functions() -> None:
    request, losses = read(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}},
        {"role": "function", "name": "f", "content": "1"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    call, result = request.turns[1].parts[0], request.turns[2].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert request.tool_choice == ToolChoice("tool", "f")
    assert losses == [Loss("messages.name", "dropped")]


CHOICES: list[tuple[object, ToolChoice]] = [
    ("auto", ToolChoice("auto")),
    ("none", ToolChoice("none")),
    ("required", ToolChoice("any")),
    ({"type": "function", "function": {"name": "f"}}, ToolChoice("tool", "f")),
    ({"type": "custom", "custom": {"name": "f"}}, ToolChoice("tool", "f")),
]


@pytest.mark.parametrize(("sent", "wanted"), CHOICES)
def test_tool_choice(sent: object, wanted: ToolChoice) -> None:
    assert read(tools=[TOOL], tool_choice=sent)[0].tool_choice == wanted


def test_allowed_tools_filter() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    request, losses = read(
        tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed}
    )
    assert [tool.name for tool in request.tools] == ["g"]
    assert request.tool_choice == ToolChoice("any")
    assert losses == [Loss("tool_choice.allowed_tools", "filtered")]
    none: Json = {"mode": "auto", "tools": []}
    assert (
        refused(tools=[TOOL], tool_choice={"type": "allowed_tools", "allowed_tools": none}) == "tool_choice"
    )


def test_options() -> None:
    request, losses = read(
        max_tokens=5, max_completion_tokens=7, temperature=0, top_p=0.5, top_k=40, stop="###", stream=True,
        stream_options={"include_usage": True}, parallel_tool_calls=False, reasoning_effort="xhigh",
        user="u", safety_identifier="s", n=1, modalities=["text"],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"a": 1}}},
    )  # fmt: skip
    assert losses == []
    assert request.output is not None
    assert bytes(request.output.schema or b"") == b'{"a": 1}'
    assert msgspec.structs.replace(request, output=None) == Request(
        model="m", turns=(Turn("user", (Text("hi"),)),), parallel_tools=False, max_tokens=7, temperature=0.0,
        top_p=0.5, top_k=40, stop=("###",), stream=True, effort="xhigh", user="s",
    )  # fmt: skip
    assert read(stop=["a", "b"])[0].stop == ("a", "b")
    assert read(top_k=-1)[0].top_k is None
    assert read(max_tokens=None, stop=None, tools=None, temperature=None)[0] == read()[0]
    assert read(response_format={"type": "text"})[0].output is None
    assert read(response_format={"type": "json_object"})[0].output == OutputFormat()


REASONING: list[tuple[Json, Thinking | None, str | None]] = [
    ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking("enabled", 2048), None),
    ({"thinking": {"type": "enabled"}}, Thinking("adaptive"), None),
    ({"thinking": {"type": "disabled"}}, Thinking("disabled"), None),
    ({"reasoning": {"effort": "low"}}, None, "low"),
    ({"reasoning": {"max_tokens": 3000}}, Thinking("enabled", 3000), None),
    ({"reasoning": {"enabled": False}}, Thinking("disabled"), None),
    ({"enable_thinking": True}, Thinking("adaptive"), None),
    ({"reasoning_effort": "none"}, None, "none"),
]


@pytest.mark.parametrize(("fields", "thinking", "effort"), REASONING)
def test_reasoning_options(fields: Json, thinking: Thinking | None, effort: str | None) -> None:
    request, losses = read(**fields)
    assert (request.thinking, request.effort) == (thinking, effort)
    assert losses == []


def test_what_is_not_carried_is_told_and_what_asks_for_nothing_is_not() -> None:
    """Rows 37 and 38: dropped, told, and never a 400 for a field nobody here has heard of."""
    _, losses = read(
        {**USER, "name": "bob", "sparkle": 1},
        seed=1, logit_bias={"5": 1}, frequency_penalty=0.5, metadata={"a": "b"}, verbosity="low", store=True,
        prediction={"type": "content", "content": "x"}, context_management={"edits": []}, prompt_cache_key="k",
        service_tier="flex",
    )  # fmt: skip
    assert losses == [
        Loss(name, "dropped")
        for name in (
            "seed", "logit_bias", "frequency_penalty", "store", "prediction", "context_management",
            "messages.name", "messages.sparkle",
        )
    ]  # fmt: skip
    assert (
        read(
            frequency_penalty=0,
            presence_penalty=0.0,
            logprobs=False,
            store=False,
            seed=None,
            service_tier="auto",
        )[1]
        == []
    )


def part(part: Json) -> dict[str, list[Json]]:
    return {"messages": [{"role": "user", "content": [part]}]}


def file(file: Json) -> dict[str, list[Json]]:
    return part({"type": "file", "file": file})


def image(image: Json) -> dict[str, list[Json]]:
    return part({"type": "image_url", "image_url": image})


REFUSED: list[tuple[Mapping[str, object], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": [{"role": "system", "content": "alone"}]}, "messages"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0]"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [USER, {"role": "user", "content": 5}]}, "messages[1].content"),
    ({"messages": [USER, "x"]}, "messages[1]"),
    (part({"type": "text", "text": 1}), "messages[0].content[0].text"),
    (part({"type": "hologram"}), "messages"),
    (part({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].input_audio"),
    (file({"file_id": "f"}), "messages[0].content[0].file.file_id"),
    (file({}), "messages[0].content[0].file.file_data"),
    (file({"file_data": "data:text/plain;base64,%"}), "messages[0].content[0].file.file_data"),
    (file({"file_data": "data:video/mp4;base64,AA=="}), "messages[0].content[0].file.file_data"),
    (image({"url": "ftp://x"}), "messages[0].content[0].image_url.url"),
    (image({"url": "data:image/bmp;base64,AA"}), "messages[0].content[0].image_url.url"),
    ({"messages": [{**image({"url": "https://x"})["messages"][0], "role": "system"}]}, "messages[0].content[0].type"),
    ({"messages": [USER, {"role": "assistant", "audio": {"id": "a"}}]}, "messages[1].audio"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [{"id": 1}]}]}, "messages[1].tool_calls[0]"),
    ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1]"),
    ({"model": 5}, "model"),
    ({"model": " "}, "model"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"),
    ({"stop": [1]}, "stop[0]"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"tools": [{"type": "function"}]}, "tools[0]"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_is_wrong_is_refused_by_its_name(fields: Mapping[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decode_request(json.dumps({"model": "m", "messages": [USER], **fields}).encode())
    assert raised.value.param == param
    assert param.split("[", 1)[0] in raised.value.message


NAMES = [*Request.__struct_fields__, "messages", "content", "role", "type", "tool_calls", "function", "image_url", "url",
         "tool_call_id", "response_format", "json_schema", "tool_choice", "reasoning_details", "file", "n"]  # fmt: skip
WORDS = [
    "user",
    "assistant",
    "tool",
    "system",
    "function",
    "text",
    "image_url",
    "file",
    "auto",
    "data:x,",
    "json_schema",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


def read_or_refuse(body: bytes) -> None:
    """Fails on any exception but the one that a caller can be answered with."""
    with contextlib.suppress(InvalidRequest):
        decode_request(body)


@given(st.dictionaries(st.sampled_from(NAMES), JSON), st.lists(JSON, max_size=3) | JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_read_or_refused(fields: Json, messages: object) -> None:
    for body in ({**fields, "messages": messages}, {"model": "m", "messages": [USER], **fields}, messages):
        read_or_refuse(json.dumps(body).encode())


FULL = json.dumps(
    {
        "model": "m", "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}, "stop": ["x"],
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "image_url", "image_url": {"url": "https://x"}}]},
            {"role": "assistant", "content": "a", "tool_calls": [CALL], "reasoning_details": DETAILS},
            {"role": "tool", "tool_call_id": "c1", "content": "t"},
        ],
    }
).encode()  # fmt: skip


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bodies_are_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(FULL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    read_or_refuse(bytes(body))


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(body)
