"""Names of tools that an upstream would refuse: renamed on the way there, the caller's own again on the way back."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.catalog import DialectName
from penstock.core.dialects.lanes import Translation
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope, upstream_side
from penstock.core.neutral.events import CallArgs, CallOpened, Started, Stopped
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import CallerName, ToolCall
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.tools.names import NO_NAMES, fit_tool_names, joined, legal

LONG = "mcp__a_server_with_a_very_long_name__" + "x" * 60
DOTTED = "functions.get weather"
SCHEMA = {"type": "object", "properties": {}}
MADE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def body(dialect: str, name: str) -> bytes:
    """A request with a tool of that name, called before, and forced now."""
    ask = "Hello"
    match dialect:
        case "chat":
            called = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
            fields: dict[str, Any] = {
                "messages": [
                    {"role": "user", "content": ask},
                    {"role": "assistant", "content": None, "tool_calls": [called]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
                ],
                "tools": [{"type": "function", "function": {"name": name, "parameters": SCHEMA}}],
                "tool_choice": {"type": "function", "function": {"name": name}},
            }
        case "messages":
            fields = {
                "max_tokens": 99,
                "messages": [
                    {"role": "user", "content": ask},
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "call_1", "name": name, "input": {}}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}],
                    },
                ],
                "tools": [{"name": name, "input_schema": SCHEMA}],
                "tool_choice": {"type": "tool", "name": name},
            }
        case _:
            fields = {
                "input": [
                    {"role": "user", "content": ask},
                    {"type": "function_call", "call_id": "call_1", "name": name, "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
                ],
                "tools": [{"type": "function", "name": name, "parameters": SCHEMA}],
                "tool_choice": {"type": "function", "name": name},
            }
    return json.dumps({"model": "m", **fields}).encode()


PAIRS: list[tuple[DialectName, DialectName]] = [
    ("chat", "messages"),
    ("chat", "responses"),
    ("messages", "chat"),
    ("messages", "responses"),
    ("responses", "chat"),
    ("responses", "messages"),
]


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
@pytest.mark.parametrize("name", [LONG, DOTTED])
def test_there_and_back(caller: DialectName, upstream: DialectName, name: str) -> None:
    envelope = read_envelope(body(caller, name), caller)
    prepared = prepare(envelope, caller=caller, upstream=upstream, model="up", profile=Profile())
    sent = prepared.body.decode()
    (told,) = prepared.names.callers
    assert MADE.fullmatch(told)
    assert name not in sent
    assert sent.count(f'"{told}"') == 3, "offered, called before, and forced"
    # the upstream calls it by the name that it knows
    events = [Started("r", "up"), CallOpened("call_2", told), CallArgs("{}"), Stopped("tool_use")]
    spoken = caller_side(upstream).ResponseEncoder(
        model="up", reply_id="r", created=1, include_usage=True, input_estimate=1
    )
    stream = spoken.write([*events])
    writer = caller_side(caller).ResponseEncoder(
        model="m", reply_id="r", created=1, include_usage=True, input_estimate=1
    )
    lane = Translation(
        upstream_side(upstream).ResponseDecoder(profile=DEFAULT_PROFILE), writer, prepared.names
    )
    answer = lane.feed(stream) + lane.finish()
    reader = upstream_side(caller).ResponseDecoder(profile=DEFAULT_PROFILE)
    heard = fold([*reader.feed(answer), *reader.finish()])
    assert [part.name for part in heard.parts if isinstance(part, ToolCall)] == [name]


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
def test_legal_names_stay(caller: DialectName, upstream: DialectName) -> None:
    envelope = read_envelope(body(caller, "get_weather"), caller)
    prepared = prepare(envelope, caller=caller, upstream=upstream, model="up", profile=Profile())
    assert prepared.names is NO_NAMES
    assert prepared.body.count(b'"get_weather"') == 3


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_every_name_gets_a_legal_one_of_its_own(name: str, other: str) -> None:
    assert MADE.fullmatch(legal(name))
    assert legal(legal(name)) == legal(name)
    if name != other:
        assert legal(name) != legal(other)


def test_namespaces_and_free_text() -> None:
    tools = [
        {"type": "function", "name": "agents__close", "parameters": SCHEMA},
        {
            "type": "namespace",
            "name": "agents",
            "description": "Agents.",
            "tools": [{"type": "function", "name": "close"}, {"type": "custom", "name": "patch"}],
        },
        {"type": "custom", "name": "patch"},
    ]
    history = [
        {"role": "user", "content": "Hello"},
        {"type": "function_call", "call_id": "c", "name": "close", "namespace": "agents", "arguments": "{}"},
    ]
    request, _ = caller_side("responses").decode_request(
        json.dumps({"model": "m", "input": history, "tools": tools}).encode()
    )
    request, names = fit_tool_names(request)
    plain, close, patch, free = (tool.name for tool in request.tools)
    assert (plain, patch, free) == ("agents__close", "agents__patch", "patch")
    assert close.startswith("agents__close_"), "told apart from the tool that has its name already"
    assert names.callers == {
        close: CallerName("close", "agents"),
        patch: CallerName("patch", "agents", custom=True),
        free: CallerName("patch", None, custom=True),
    }
    call = request.turns[1].parts[0]
    assert isinstance(call, ToolCall)
    assert call.name == close
    restored = names.restored([CallOpened("c", close), CallOpened("d", free), CallOpened("e", plain)])
    assert restored == [
        CallOpened("c", "close", "agents"),
        CallOpened("d", "patch", None, custom=True),
        CallOpened("e", "agents__close"),
    ]


def test_a_name_depends_on_nothing_else() -> None:
    assert joined("a", "b") == "a__b"
    assert joined(None, "b") == "b"
    assert legal(LONG) == legal(LONG) != legal(LONG + "y")
