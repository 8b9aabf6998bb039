"""Bodies of neighbouring formats on Chat's route: read as what they mean, for upstreams of every dialect."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.client_families import DEVIATING, client_family
from penstock.core.dialects.chat.decode_request import decode_request
from penstock.core.dialects.openai.deviations import DEVIATIONS, may_deviate, regular
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.dialects.registry import caller_side, read_envelope
from penstock.core.neutral.events import AnyEvent, CallArgs, CallOpened, Started, Stopped
from penstock.core.neutral.request import MOST_LOSSES
from penstock.core.profile import Profile
from penstock.core.sse import Frames
from penstock.errors import InvalidRequest

DOCS = Path(__file__).parents[4] / "docs" / "translation.md"
SHELL = {"name": "Shell", "parameters": {"type": "object", "properties": {}}}
NESTED = {"type": "function", "function": SHELL}
PATCH = {
    "type": "custom",
    "name": "ApplyPatch",
    "description": "p",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
USER = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "Shell", "arguments": "{}"}}


def sent(upstream: str, **body: Any) -> tuple[dict[str, Any], str]:
    """What an upstream gets, and what the caller is told."""
    envelope = read_envelope(json.dumps({"model": "M", **body}).encode(), "chat")
    prepared = prepare(envelope, caller="chat", upstream=upstream, model="up", profile=Profile())
    return json.loads(prepared.body), translation_header(prepared.losses)


def chat(**body: Any) -> dict[str, Any]:
    made, told = sent("chat", **body)
    assert told == ""
    return made


# ---- the four of Cursor's


def test_a_body_of_responses() -> None:
    body: dict[str, Any] = {
        "stream": True,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "tools": [{"type": "function", **SHELL}],
        "reasoning": {"effort": "medium"},
    }
    assert chat(**body) == {
        "model": "up",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [USER],
        "tools": [NESTED],
        "reasoning_effort": "medium",
    }
    made, _ = sent("messages", **body)
    assert made["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert made["tools"] == [{"name": "Shell", "input_schema": SHELL["parameters"]}]


def test_a_flat_free_text_tool_beside_nested_ones() -> None:
    made = chat(messages=[USER], tools=[NESTED, PATCH])
    assert made["tools"] == [
        NESTED,
        {
            "type": "custom",
            "custom": {
                "name": "ApplyPatch",
                "description": "p",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /.+/"}},
            },
        },
    ]
    envelope = read_envelope(
        json.dumps({"model": "M", "messages": [USER], "tools": [PATCH]}).encode(), "chat"
    )
    prepared = prepare(envelope, caller="chat", upstream="messages", model="up", profile=Profile())
    writer = caller_side("chat").ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=False, input_estimate=0
    )
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("c", "ApplyPatch"),
        CallArgs('{"input":"*** Begin"}'),
        Stopped("tool_use"),
    ]
    frames = Frames().feed(writer.write(prepared.names.restored(events)))
    calls = [
        call
        for frame in frames
        if frame.data != b"[DONE]"
        for call in json.loads(frame.data)["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert [call["custom"] for call in calls] == [{"name": "ApplyPatch", "input": ""}, {"input": "*** Begin"}]
    assert frames[-1].data == b"[DONE]"


def test_an_empty_list_as_content() -> None:
    said = {"role": "assistant", "content": [], "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "r"}
    made = chat(messages=[USER, said, result])
    assert made["messages"] == [USER, {**said, "content": None}, result]
    made = chat(messages=[USER, {"role": "assistant", "content": []}, USER])
    assert made["messages"][1]["content"] == ""


def test_tools_and_blocks_of_messages() -> None:
    tool = {
        "name": "Shell",
        "description": "d",
        "input_schema": {"type": "object", "properties": {"c": {"type": "string"}}},
    }
    body: dict[str, Any] = {
        "system": "sys",
        "tools": [tool],
        "tool_choice": {"type": "any"},
        "stop_sequences": ["x"],
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "ok"},
                    {"type": "tool_use", "id": "toolu_1", "name": "Shell", "input": {"c": "ls"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt", "is_error": True},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
    }
    made = chat(**body)
    assert made["messages"] == [
        {"role": "system", "content": "sys"},
        USER,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "ok"}],
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "Shell", "arguments": '{"c": "ls"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "a.txt", "is_error": True},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
    ]
    assert made["tools"] == [
        {
            "type": "function",
            "function": {"name": "Shell", "description": "d", "parameters": tool["input_schema"]},
        }
    ]
    assert (made["tool_choice"], made["stop"]) == ("required", ["x"])
    back, _ = sent("messages", **body)
    result = back["messages"][-1]["content"][0]
    assert (result["type"], result["tool_use_id"], result["is_error"]) == ("tool_result", "toolu_1", True)
    assert back["tools"] == [tool]


# ---- their neighbours


def test_a_whole_conversation_of_responses() -> None:
    made, told = sent(
        "chat",
        instructions="I",
        input=[
            {"role": "user", "content": "q"},
            {"type": "reasoning", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
            {"type": "function_call", "call_id": "c", "name": "S", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "d", "name": "P", "input": "x"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {
                "type": "custom_tool_call_output",
                "call_id": "d",
                "output": [{"type": "input_text", "text": "p"}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "w"},
                    {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
                    {"type": "input_file", "file_data": "data:application/pdf;base64,eA=="},
                ],
            },
            {"type": "function_call", "call_id": "e", "name": "S", "arguments": "{}"},
        ],
        tools=[{"type": "custom", "name": "P"}, {"type": "web_search"}],
        tool_choice={"type": "custom", "name": "P"},
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
        },
        max_output_tokens=5,
        include=["reasoning.encrypted_content"],
        truncation="auto",
        prompt_cache_key="k",
    )
    assert made == {
        "model": "up",
        "tools": [{"type": "custom", "custom": {"name": "P"}}],
        "tool_choice": {"type": "custom", "custom": {"name": "P"}},
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {}, "strict": True},
        },
        "max_completion_tokens": 5,
        "prompt_cache_key": "k",
        "messages": [
            {"role": "system", "content": "I"},
            {"role": "user", "content": "q"},
            {
                "role": "assistant",
                "content": "A",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "S", "arguments": "{}"}},
                    {"id": "d", "type": "custom", "custom": {"name": "P", "input": "x"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "o"},
            {"role": "tool", "tool_call_id": "d", "content": "p"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "w"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,eA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "e", "type": "function", "function": {"name": "S", "arguments": "{}"}}],
            },
        ],
    }
    assert told == "truncation=dropped; input.reasoning=dropped; tools.web_search=dropped"


def test_an_input_that_is_a_text_and_messages_that_are_empty() -> None:
    assert chat(input="hi", messages=[])["messages"] == [USER]
    assert chat(input="hi", messages=None)["messages"] == [USER]
    made = chat(messages=[USER], input="not this")
    assert made["messages"] == [USER]


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ({"type": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"type": "text"}, {"response_format": {"type": "text"}}),
        (None, {}),
    ],
)
def test_forms_of_the_answer(form: Any, asked: dict[str, Any]) -> None:
    made = chat(input="hi", text={"format": form})
    assert {name: value for name, value in made.items() if name not in ("model", "messages")} == asked


@pytest.mark.parametrize(
    ("tool", "made"),
    [
        ({"type": "function", **SHELL, "strict": True}, {"type": "function", "function": {**SHELL, "strict": True}}),
        (SHELL, NESTED),
        ({"type": "custom", "name": "Shell", "input_schema": SHELL["parameters"]}, NESTED),
        (
            {"type": "custom", "name": "S", "format": {"type": "text"}},
            {"type": "custom", "custom": {"name": "S", "format": {"type": "text"}}},
        ),
        (
            {"name": "S", "input_schema": {}, "cache_control": {"type": "ephemeral"}},
            {"type": "function", "function": {"name": "S", "parameters": {}}, "cache_control": {"type": "ephemeral"}},
        ),
        (NESTED, NESTED),
        ({"type": "brand_new", "name": "x"}, {"type": "brand_new", "name": "x"}),
    ],
)  # fmt: skip
def test_each_kind_of_tool(tool: dict[str, Any], made: dict[str, Any]) -> None:
    assert chat(messages=[USER], tools=[PATCH, tool])["tools"][1] == made


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "function", "name": "Shell"}, {"type": "function", "function": {"name": "Shell"}}),
        ({"type": "tool", "name": "Shell"}, {"type": "function", "function": {"name": "Shell"}}),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "Shell"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "Shell"}}],
                },
            },
        ),
        (
            {"type": "function", "function": {"name": "Shell"}},
            {"type": "function", "function": {"name": "Shell"}},
        ),
    ],
)
def test_each_kind_of_choice(choice: Any, made: Any) -> None:
    assert chat(messages=[USER], tools=[NESTED], tool_choice=choice)["tool_choice"] == made


def test_images_and_thoughts_of_messages() -> None:
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
    url = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    made, told = sent(
        "chat",
        messages=[
            {"role": "user", "content": [png, url]},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "x"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [png]}]},
        ],
    )
    first, second, third = made["messages"]
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}
    assert first["content"] == [data, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]
    assert second["content"] == [{"type": "text", "text": "x"}]
    assert third == {"role": "tool", "tool_call_id": "t", "content": [data]}
    assert told == "messages.thinking=dropped"


def test_what_is_chats_own_stays_as_it_is() -> None:
    body = json.dumps(
        {
            "model": "M",
            "messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}],
            "tools": [{"function": SHELL, "type": "function"}],
        },
        indent=1,
    ).encode()
    assert read_envelope(body, "chat").body == body
    assert not may_deviate(json.dumps([NESTED, NESTED]).encode())
    assert not may_deviate(b"[]")
    assert not may_deviate(b"")
    assert not may_deviate(json.dumps([NESTED, PATCH]).encode()), "it is read where it is translated"
    assert may_deviate(json.dumps([SHELL]).encode())


def test_what_is_neither_is_refused_in_chats_words() -> None:
    for body in ({"model": "M"}, {"model": "M", "input": 5}, {"model": "M", "input": [5]}):
        with pytest.raises(InvalidRequest, match="messages is required"):
            read_envelope(json.dumps(body).encode(), "chat")
    with pytest.raises(InvalidRequest, match="messages"):
        read_envelope(b'{"model":"M","messages":[5],"tools":[{"name":"x"}]}', "chat")


_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "name", "content", "input", "role", "source", "tools", "format", "call_id")
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(("messages", "input", "tools", "tool_choice", "text", "system")), _JSON)
)
def test_any_json_is_read_or_refused_and_never_twice_changed(fields: dict[str, Any]) -> None:
    try:
        envelope = read_envelope(json.dumps({"model": "M", **fields}).encode(), "chat")
    except InvalidRequest:
        return
    assert regular(envelope.fields) is None


def test_the_clients_of_the_table_are_known_and_the_page_has_it() -> None:
    assert client_family(b"Cursor/1.0").name in DEVIATING
    page = DOCS.read_text()
    for row in DEVIATIONS:
        assert row.clients.startswith("Cursor")
        assert f"| {row.sent} | {row.clients} | {row.read_as} | {row.known} |" in page


def test_of_very_many_fields_not_all_are_told() -> None:
    fields = {f"new_{at}": 1 for at in range(2 * MOST_LOSSES)}
    envelope = read_envelope(json.dumps({"model": "M", "input": "hi", **fields}).encode(), "chat")
    assert len(envelope.left_out) == MOST_LOSSES


def test_parts_that_are_not_known_stay() -> None:
    part = {"type": "input_video", "video": "x"}
    envelope = read_envelope(
        json.dumps({"model": "M", "input": [{"role": "user", "content": [part]}]}).encode(), "chat"
    )
    assert json.loads(envelope.body)["messages"] == [{"role": "user", "content": [part]}]


def test_an_effort_that_is_not_said() -> None:
    made = chat(input="hi", reasoning={"summary": "auto"})
    assert "reasoning_effort" not in made


def test_what_the_scanner_took_is_read_where_it_is_translated() -> None:
    """A client that is not in the table, whose first tool is Chat's own: nothing looks at the others before."""
    body = json.dumps(
        {
            "model": "M",
            "messages": [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}],
            "tools": [NESTED, PATCH],
        }
    ).encode()
    request, losses = decode_request(body)
    assert [tool.name for tool in request.tools] == ["Shell", "ApplyPatch"]
    assert [(loss.field, loss.outcome) for loss in losses] == [
        ("messages.thinking", "dropped"),
        ("tools.custom", "function"),
    ]
