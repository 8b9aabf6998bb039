"""Requests that cross from one dialect to the other, by the rules of ``docs/translation.md``."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import DialectName
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.request import Text, ToolResult, Turn
from penstock.core.profile import Profile
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.errors import InvalidRequest

NATIVE = Profile(native_anthropic=True, system_turns=True, thinking="adaptive", sampling=False)
DEEPSEEK = Profile(reasoning_field="reasoning_content", thinking_switch="thinking")
OPENAI = Profile(max_tokens_field="max_completion_tokens", system_role="developer")


def crossed(body: dict[str, Any], caller: DialectName, profile: Profile) -> tuple[dict[str, Any], list[str]]:
    upstream = "messages" if caller == "chat" else "chat"
    raw = json.dumps(body).encode()
    prepared = prepare(
        read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile
    )
    again = prepare(read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile)
    assert prepared == again
    return json.loads(prepared.body), [f"{loss.field}={loss.outcome}" for loss in prepared.losses]


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **fields}


def messages(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": list(rows), **fields}


USER = {"role": "user", "content": "hi"}


# ---- Chat callers of Messages upstreams


def test_a_tool_conversation_of_a_chat_caller() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"b": 1, "a": 2}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = chat(
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        {"role": "user", "content": "go on"},
        max_tokens=50,
        temperature=0.5,
        stop="###",
        user="u",
        tools=[
            {
                "type": "function",
                "function": {"name": "get", "parameters": {"type": "object", "properties": {}}},
            }
        ],
        tool_choice="required",
        parallel_tool_calls=False,
        seed=1,
    )
    out, told = crossed(body, "chat", Profile())
    assert out == {
        "model": "up",
        "system": [{"type": "text", "text": "S"}],
        "tools": [{"name": "get", "input_schema": {"type": "object", "properties": {}}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "call_1", "name": "get", "input": {"b": 1, "a": 2}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "found"}],
                    },
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "max_tokens": 50,
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "temperature": 0.5,
        "stop_sequences": ["###"],
        "metadata": {"user_id": "u"},
    }
    assert told == ["seed=dropped"]


def test_thinking_goes_out_to_a_chat_caller_and_comes_back_whole() -> None:
    details = [
        {
            "type": "reasoning.text",
            "index": 0,
            "text": "hm",
            "signature": "EuSig",
            "format": "anthropic-claude-v1",
        },
        {"type": "reasoning.encrypted", "index": 1, "data": "==", "format": "anthropic-claude-v1"},
    ]
    call = {"id": "toolu_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    assistant = {"role": "assistant", "content": None, "reasoning_details": details, "tool_calls": [call]}
    out, told = crossed(
        chat(USER, assistant, {"role": "tool", "tool_call_id": "toolu_1", "content": "x"}), "chat", NATIVE
    )
    assert out["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "EuSig"},
        {"type": "redacted_thinking", "data": "=="},
        {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {}},
    ]
    assert told == []


# row 29
def test_cache_marks_cross_to_messages() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    body = chat({"role": "system", "content": [{"type": "text", "text": "S", **mark}]}, {**USER, **mark})
    out, _ = crossed(body, "chat", NATIVE)
    assert out["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert out["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


# row 26, and 45
def test_the_limit_of_tokens_has_one_name_for_each_upstream() -> None:
    assert crossed(chat(USER, max_completion_tokens=9), "chat", NATIVE)[0]["max_tokens"] == 9
    assert crossed(chat(USER), "chat", Profile(default_max_tokens=64_000))[0]["max_tokens"] == 64_000
    assert crossed(messages(USER), "messages", OPENAI)[0]["max_completion_tokens"] == 100
    assert crossed(messages(USER), "messages", Profile())[0]["max_tokens"] == 100


def test_sampling_is_clamped_and_told() -> None:
    out, told = crossed(chat(USER, temperature=1.7), "chat", Profile())
    assert out["temperature"] == 1
    assert told == ["temperature=clamped(1.7->1)"]
    assert crossed(chat(USER, temperature=1), "chat", NATIVE)[1] == ["temperature=dropped"]


# ---- Messages callers of Chat upstreams


CLAUDE_CODE = messages(
    {"role": "user", "content": [{"type": "text", "text": "fix it", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "system",
        "content": [{"type": "text", "text": "Today is Monday."}],
        "output_config": {"effort": "low"},
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": sign_reasoning(ReasoningOrigin("up"))},
            {"type": "text", "text": "I read."},
            {"type": "tool_use", "id": "gwi_ZnVuY3Rpb25zLnJlYWQ6MA", "name": "Read", "input": {"path": "a"}},
            {"type": "text", "text": "Then I write."},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "gwi_ZnVuY3Rpb25zLnJlYWQ6MA",
                "is_error": True,
                "content": [
                    {"type": "text", "text": "no such file"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                    },
                ],
            },
            {"type": "text", "text": "and now?"},
        ],
    },
    system=[
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
    ],
    tools=[{"name": "Read", "input_schema": {"type": "object", "properties": {}}, "defer_loading": True}],
    stream=True,
    thinking={"type": "adaptive", "display": "omitted"},
    output_config={"effort": "high"},
    context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    metadata={"user_id": '{"session_id":"s"}'},
)


# rows 8, 9, 19, 38, 40 and 41
def test_a_turn_of_claude_code_for_a_chat_upstream() -> None:
    out, told = crossed(CLAUDE_CODE, "messages", DEEPSEEK)
    roles = [row["role"] for row in out["messages"]]
    assert roles == ["system", "user", "system", "assistant", "tool", "user"]
    system, _, _, assistant, tool, user = out["messages"]
    assert "billing" not in json.dumps(out)
    assert "You are Claude Code." in json.dumps(system)
    assert assistant["content"] == "I read.Then I write."
    assert assistant["reasoning_content"] == "hm"
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"] == "functions.read:0"
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"path": "a"}
    assert "no such file" in tool["content"]
    assert "data:image/png;base64,AA==" in json.dumps(user)
    assert json.dumps(user).index("AA==") < json.dumps(user).index("and now?")
    assert out["stream_options"] == {"include_usage": True}
    assert out["thinking"] == {"type": "enabled"}
    assert {
        "context_management=dropped",
        "messages.output_config=dropped",
        "messages.tool_result.image=moved",
        "messages.tool_result.is_error=marked",
        "messages.assistant.text=before_tool_calls",
        "tools.defer_loading=loaded",
        "system.billing_header=dropped",
        "cache_control=dropped",
    } == set(told)


def test_an_error_mark_of_a_tool_comes_back() -> None:
    out, _ = crossed(CLAUDE_CODE, "messages", DEEPSEEK)
    back, _ = caller_side("chat").decode_request(json.dumps(out).encode())
    result = next(part for turn in back.turns for part in turn.parts if isinstance(part, ToolResult))
    assert result.is_error
    first = result.parts[0]
    assert isinstance(first, Text)
    assert first.text.startswith("no such file")


@pytest.mark.parametrize(
    ("body", "caller", "param"),
    [
        (chat(USER, n=2), "chat", "n"),
        (chat(USER, modalities=["text", "audio"]), "chat", "modalities"),
        (chat(USER, audio={"voice": "x"}), "chat", "audio"),
        ({**messages(USER), "max_tokens": 0}, "messages", "max_tokens"),
        (messages(USER, stop_sequences=["a", "b", "c", "d", "e"]), "messages", "stop_sequences"),
        (messages(USER, {"role": "assistant", "content": "The"}), "messages", "messages"),
    ],
)  # fmt: skip
def test_what_would_change_the_answer_is_refused(
    body: dict[str, Any], caller: DialectName, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        crossed(body, caller, Profile())
    assert caught.value.param == param


# ---- what caches and preserved thinking depend on


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """The messages a Chat caller sends from turn to turn: each a longer list that begins with the one before."""
    rows: list[dict[str, Any]] = [{"role": "system", "content": draw(words)}]
    rounds: list[list[dict[str, Any]]] = []
    for number in range(draw(st.integers(2, 4))):
        rows = [*rows, {"role": "user", "content": draw(words)}]
        if draw(st.booleans()):
            rows = [*rows, {"role": "system", "content": draw(words)}]
        rounds.append(rows)
        answer: dict[str, Any] = {"role": "assistant", "content": draw(words)}
        if draw(st.booleans()):
            calls = [
                {"id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": '{"x": 1.0}'}}
                for at in range(draw(st.integers(1, 3)))
            ]
            rows = [*rows, {**answer, "tool_calls": calls}]
            rows += [{"role": "tool", "tool_call_id": call["id"], "content": f"{number}"} for call in calls]
            rounds.append(rows)
            rows = [*rows, {"role": "assistant", "content": draw(words)}]
        else:
            rows = [*rows, answer]
    return rounds


@given(conversations(), st.sampled_from([NATIVE, Profile()]))
def test_each_turn_is_a_prefix_of_the_next(rounds: list[list[dict[str, Any]]], profile: Profile) -> None:
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "b": 1, "a": 2.50}}}
    ]
    before: bytes | None = None
    for rows in rounds:
        raw = json.dumps(chat(*rows, tools=tools), separators=(",", ":")).encode()
        body = prepare(
            read_envelope(raw, "chat"), caller="chat", upstream="messages", model="up", profile=profile
        ).body
        if before is not None:
            # everything up to where the list of messages ended, which now goes on
            assert body.startswith(before[: before.rindex(b"]" + before[before.rindex(b',"max_tokens"') :])])
        before = body


@given(conversations())
def test_there_and_back_keeps_the_conversation(rounds: list[list[dict[str, Any]]]) -> None:
    rows = [row for row in rounds[-1] if row["role"] != "system"]
    request, _ = caller_side("chat").decode_request(json.dumps(chat(*rows)).encode())
    body, _ = upstream_side("messages").encode_request(request, model="m", profile=NATIVE)
    there, lost = caller_side("messages").decode_request(body)
    assert lost == []
    back, _ = caller_side("chat").decode_request(
        upstream_side("chat").encode_request(there, model="m", profile=Profile())[0]
    )
    again, _ = caller_side("messages").decode_request(
        upstream_side("messages").encode_request(back, model="m", profile=NATIVE)[0]
    )
    assert _said(again.turns) == _said(there.turns)


def _said(turns: tuple[Turn, ...]) -> list[tuple[str, str]]:
    return [(turn.role, str(turn.parts)) for turn in turns]
