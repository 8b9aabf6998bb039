"""Tools that the caller runs and that are no functions: offered as functions, called and answered in their own form."""

import json
from typing import Any

import pytest
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import caller_side, read_envelope
from penstock.core.dialects.responses.dialect import decode_request
from penstock.core.neutral.events import AnyEvent, CallArgs, CallOpened, Started, Stopped
from penstock.core.neutral.fold import events_of, fold
from penstock.core.neutral.request import CallerName, Text, ToolCall, ToolChoice, ToolResult
from penstock.core.profile import Profile
from penstock.core.sse import Frames
from penstock.core.tools.client_tools import CLIENT_TOOLS
from penstock.core.tools.names import ToolNames
from penstock.errors import InvalidRequest

USER = {"role": "user", "content": "Hello"}
SEARCH = {
    "type": "tool_search",
    "execution": "client",
    "description": "finds tools",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}
OFFERS: dict[str, dict[str, Any]] = {
    "tool_search": SEARCH,
    "local_shell": {"type": "local_shell"},
    "shell": {"type": "shell", "environment": {"type": "local"}},
    "apply_patch": {"type": "apply_patch"},
}
ARGUMENTS = {
    "tool_search": {"query": "calendar"},
    "local_shell": {"command": ["ls", "-l"], "working_directory": "/tmp", "timeout_ms": 5},
    "shell": {"commands": ["ls", "pwd"]},
    "apply_patch": {"type": "update_file", "path": "a.txt", "diff": "@@\n-a\n+b"},
}
MEMBERS: dict[str, dict[str, Any]] = {
    "tool_search": {"execution": "client", "arguments": {"query": "calendar"}},
    "local_shell": {
        "action": {
            "type": "exec",
            "command": ["ls", "-l"],
            "env": {},
            "working_directory": "/tmp",
            "timeout_ms": 5,
        }
    },
    "shell": {"action": {"commands": ["ls", "pwd"], "timeout_ms": None, "max_output_length": None}},
    "apply_patch": {"operation": {"type": "update_file", "path": "a.txt", "diff": "@@\n-a\n+b"}},
}
KINDS = [tool.kind for tool in CLIENT_TOOLS]
STRICT: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)


def body(*items: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": [USER, *items], **fields}).encode()


def written(events: list[AnyEvent], kinds: list[str]) -> list[dict[str, Any]]:
    """The events of the stream that a caller gets who offers these tools."""
    writer = caller_side("responses").ResponseEncoder(
        model="m", reply_id="resp_1", created=1, include_usage=True, input_estimate=1
    )
    names = ToolNames({kind: CallerName(kind, kind=kind) for kind in kinds})
    out = writer.write(names.restored(events))
    return [json.loads(frame.data) for frame in Frames().feed(out)]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_function_and_its_call_has_its_own_form(kind: str) -> None:
    request, lost = decode_request(body(tools=[OFFERS[kind]]))
    (tool,) = request.tools
    assert (tool.name, tool.caller) == (kind, CallerName(kind, kind=kind))
    assert json.loads(bytes(tool.schema))["type"] == "object"
    assert tool.description
    assert [(loss.field, loss.outcome) for loss in lost] == [(f"tools.{kind}", "function")]
    arguments = json.dumps(ARGUMENTS[kind], indent=1)
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("call_1", kind),
        *(CallArgs(piece) for piece in (arguments[:5], arguments[5:])),
        Stopped("tool_use"),
    ]
    frames = written(events, [kind])
    row = next(row for row in CLIENT_TOOLS if row.kind == kind)
    item = {
        "type": row.call,
        "id": f"{row.prefix}_1_0",
        "status": "completed",
        "call_id": "call_1",
        **MEMBERS[kind],
    }
    assert [frame["type"].removeprefix("response.") for frame in frames[2:]] == [
        "output_item.added", "output_item.done", "completed",
    ]  # fmt: skip
    added, done, completed = frames[2:]
    assert added["item"] == {**item, "status": "in_progress"}
    assert done["item"] == item
    assert completed["response"]["output"] == [item]
    assert [frame["sequence_number"] for frame in frames] == list(range(5))
    for each in (added["item"], item):
        STRICT.validate_python(each, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_answers_have_the_same_items(kind: str) -> None:
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("call_1", kind, None, kind=kind),
        CallArgs(json.dumps(ARGUMENTS[kind])),
        Stopped("tool_use"),
    ]
    reply = fold(events)
    assert events_of(reply)[1] == events[1]
    whole = caller_side("responses").encode_response(reply, model="m", reply_id="resp_1", created=1)
    assert json.loads(whole)["output"] == written(events, [])[-1]["response"]["output"]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("tool_search", "[]"),
        ("local_shell", "{}"),
        ("shell", '{"commands":5}'),
        ("apply_patch", '{"type":"update_file","path":"a"}'),
        ("apply_patch", '{"type":"rename_file","path":"a","diff":""}'),
        ("shell", '{"commands":["l'),
    ],
)
def test_a_call_that_does_not_fit_the_tool_is_a_function_call(kind: str, arguments: str) -> None:
    """So the caller tells the model of it, and the loop goes on."""
    frames = written(
        [Started("x", "m"), CallOpened("c", kind), CallArgs(arguments), Stopped("tool_use")], [kind]
    )
    item = frames[-1]["response"]["output"][0]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", kind, arguments)
    request, _ = decode_request(body(item, tools=[OFFERS[kind]]))
    (call,) = request.turns[1].parts
    assert isinstance(call, ToolCall)
    assert call.name == request.tools[0].name, "it is the tool that is offered"


@pytest.mark.parametrize(
    ("kind", "output", "said", "failed"),
    [
        ("local_shell", {"output": "a.txt"}, "a.txt", False),
        (
            "shell",
            {
                "output": [
                    {"stdout": "x", "stderr": "e", "outcome": {"type": "exit", "exit_code": 2}},
                    {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
                    {"stdout": "y", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
                ]
            },
            "x\ne\n[exit code 2]\n[timed out]\ny",
            False,
        ),
        ("shell", {"output": "plain"}, "plain", False),
        ("shell", {"output": {"new": 1}}, '{"new": 1}', False),
        ("apply_patch", {"status": "completed", "output": "done"}, "done", False),
        ("apply_patch", {"status": "failed"}, "failed", True),
        ("apply_patch", {"status": "completed", "output": None}, "completed", False),
        ("tool_search", {"tools": []}, "No tools were found.", False),
    ],
)
def test_items_of_the_history_are_call_and_result(
    kind: str, output: dict[str, Any], said: str, failed: bool
) -> None:
    row = next(row for row in CLIENT_TOOLS if row.kind == kind)
    call = {"type": row.call, "call_id": "c1", "status": "completed", **MEMBERS[kind]}
    request, lost = decode_request(body(call, {"type": row.output, "call_id": "c1", **output}))
    (called,), (result,) = request.turns[1].parts, request.turns[2].parts
    assert isinstance(called, ToolCall)
    assert isinstance(result, ToolResult)
    assert (called.id, called.name, result.call_id) == ("c1", kind, "c1")
    kept = MEMBERS[kind].get("arguments") or MEMBERS[kind].get("action") or MEMBERS[kind]["operation"]
    assert json.loads(called.arguments) == kept
    assert result == ToolResult("c1", (Text(said),), failed)
    assert (f"input.{row.call}", "function") in [(loss.field, loss.outcome) for loss in lost]


def test_the_ids_of_a_local_shell_are_those_of_its_items() -> None:
    call = {"type": "local_shell_call", "id": "ls_1", **MEMBERS["local_shell"]}
    request, _ = decode_request(body(call, {"type": "local_shell_call_output", "id": "ls_1", "output": "x"}))
    assert request.turns[2].parts == (ToolResult("ls_1", (Text("x"),)),)


def test_a_search_that_the_provider_ran_is_text_and_what_it_found_can_be_called() -> None:
    """It has no call id: nobody but its maker could go on from the call."""
    found = {"type": "function", "name": "mail", "description": "Sends.", "parameters": {"type": "object"}}
    request, _ = decode_request(
        body(
            {
                "type": "tool_search_call",
                "call_id": None,
                "execution": "server",
                "arguments": {"paths": ["x"]},
            },
            {"type": "tool_search_output", "call_id": None, "execution": "server", "tools": [found]},
        )
    )
    assert [tool.name for tool in request.tools] == ["mail"]
    assert all(isinstance(part, Text) for turn in request.turns for part in turn.parts)


def test_tools_that_a_search_found_can_be_called_once_and_by_their_own_names() -> None:
    here = {"type": "function", "name": "mail", "parameters": {"type": "object"}}
    space = {
        "type": "namespace",
        "name": "mcp__cal",
        "description": "c",
        "tools": [
            {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}
        ],
    }
    call = {"type": "tool_search_call", "call_id": "c1", "execution": "client", "arguments": {"query": "x"}}
    found = {
        "type": "tool_search_output",
        "call_id": "c1",
        "execution": "client",
        "tools": [here, space, {"type": "mcp"}],
    }
    sent = body(call, found, call | {"call_id": "c2"}, found | {"call_id": "c2"}, tools=[here, SEARCH])
    request, _ = decode_request(sent)
    assert [tool.name for tool in request.tools] == ["mail", "tool_search", "mcp__cal__add"]
    (result,) = request.turns[2].parts
    assert result == ToolResult(
        "c1", (Text("These tools can be called now:\n- mail\n- mcp__cal__add: Adds."),)
    )
    for upstream in ("chat", "messages"):
        prepared = prepare(
            read_envelope(sent, "responses"),
            caller="responses",
            upstream=upstream,
            model="up",
            profile=Profile(),
        )
        (opened,) = prepared.names.restored([CallOpened("c", "mcp__cal__add")])
        assert opened == CallOpened("c", "add", "mcp__cal")


def test_a_function_beside_it_may_have_its_name() -> None:
    function = {"type": "function", "name": "shell", "parameters": {"type": "object"}}
    request, _ = decode_request(body(tools=[function, {"type": "shell"}]))
    first, second = request.tools
    assert first.name == "shell"
    assert second.name.startswith("shell_")
    assert second.caller == CallerName("shell", kind="shell")
    request, _ = decode_request(body(tools=[{"type": "shell"}, function]))
    first, second = request.tools
    assert first.name == "shell"
    assert second.name.startswith("shell_")
    assert second.caller == CallerName("shell")


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_chosen_where_it_is_offered(kind: str) -> None:
    choice = {"type": kind}
    request, _ = decode_request(body(tools=[OFFERS[kind]], tool_choice=choice))
    assert request.tool_choice == ToolChoice("tool", kind)
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [choice, {"type": "image_generation"}]}
    get = {"type": "function", "name": "get"}
    request, _ = decode_request(body(tools=[get, OFFERS[kind]], tool_choice=allowed))
    assert [tool.name for tool in request.tools] == [kind]
    with pytest.raises(InvalidRequest, match="tool_choice"):
        decode_request(body(tools=[get], tool_choice=choice))


# ---- what is rare


@pytest.mark.parametrize(
    ("kind", "item", "arguments"),
    [
        ("tool_search", {"arguments": '{"query":"x"}'}, '{"query":"x"}'),
        ("tool_search", {"arguments": ""}, "{}"),
        ("tool_search", {}, "{}"),
        ("shell", {}, "{}"),
        ("apply_patch", {}, "{}"),
    ],
)
def test_calls_of_the_history_in_other_shapes(kind: str, item: dict[str, Any], arguments: str) -> None:
    row = next(row for row in CLIENT_TOOLS if row.kind == kind)
    request, _ = decode_request(body({"type": row.call, "call_id": "c", **item}))
    (call,) = request.turns[1].parts
    assert isinstance(call, ToolCall)
    assert call.arguments == arguments


def test_outputs_of_the_history_in_other_shapes() -> None:
    request, _ = decode_request(
        body(
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["x"]}},
            {"type": "shell_call_output", "call_id": "c"},
            {"type": "apply_patch_call_output", "call_id": "d"},
            {"type": "apply_patch_call_output", "call_id": "e", "output": 5},
        )
    )
    results = request.turns[2].parts
    assert results == (ToolResult("c"), ToolResult("d"), ToolResult("e", (Text("5"),)))


def test_a_search_may_find_what_is_not_known() -> None:
    found = [{"type": "brand_new", "name": 5}, {"type": "other"}, {"type": "function", "name": "mail"}]
    request, lost = decode_request(
        body(
            {"type": "tool_search_call", "call_id": "c", "arguments": {}},
            {"type": "tool_search_output", "call_id": "c", "tools": found},
        )
    )
    assert [tool.name for tool in request.tools] == ["mail"]
    assert request.turns[2].parts == (ToolResult("c", (Text("These tools can be called now:\n- mail"),)),)
    assert {loss.field: loss.outcome for loss in lost} == {
        "tools.brand_new": "dropped",
        "tools.other": "dropped",
        "input.tool_search_call": "function",
    }


def test_a_search_may_find_a_tool_that_the_caller_runs_and_offers_already() -> None:
    again = {
        "type": "tool_search_output",
        "call_id": "c",
        "tools": [{"type": "shell"}, {"type": "custom", "name": "p"}],
    }
    request, _ = decode_request(body(again, tools=[{"type": "shell"}, {"type": "custom", "name": "p"}]))
    assert [tool.name for tool in request.tools] == ["shell", "p"]


@pytest.mark.parametrize("extra", ["allowed_callers", "output_schema", "defer_loading"])
def test_members_that_nobody_else_knows_are_told(extra: str) -> None:
    value: Any = {"allowed_callers": ["direct"], "output_schema": {}, "defer_loading": True}[extra]
    tool = {"type": "function", "name": "get", extra: value}
    outcome = "loaded" if extra == "defer_loading" else "dropped"
    assert [(loss.field, loss.outcome) for loss in decode_request(body(tools=[tool]))[1]] == [
        (f"tools.{extra}", outcome)
    ]


def test_a_patch_that_was_cut_is_whole_or_a_function_call() -> None:
    writer = caller_side("responses").ResponseEncoder(
        model="m", reply_id="resp_1", created=1, include_usage=True, input_estimate=1
    )
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("c", "apply_patch", None, kind="apply_patch"),
        CallArgs('{"type":"delete_file","path":"a"}'),
        Stopped("max_tokens"),
    ]
    last = json.loads(Frames().feed(writer.write(events))[-1].data)["response"]
    assert (last["status"], last["output"][0]["status"]) == ("incomplete", "completed")
    assert last["output"][0]["operation"] == {"type": "delete_file", "path": "a"}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ('{"command":"ls | wc"}', ["bash", "-lc", "ls | wc"]),
        ('{"commands":["ls","-l"]}', ["ls", "-l"]),
    ],
)
def test_a_local_shell_takes_a_line_as_a_shell_does(arguments: str, command: list[str]) -> None:
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("c", "local_shell"),
        CallArgs(arguments),
        Stopped("tool_use"),
    ]
    action = written(events, ["local_shell"])[-1]["response"]["output"][0]["action"]
    assert action == {"type": "exec", "command": command, "env": {}}


def test_a_shell_takes_one_command_as_a_list_of_one() -> None:
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("c", "shell"),
        CallArgs('{"command":"ls"}'),
        Stopped("tool_use"),
    ]
    assert written(events, ["shell"])[-1]["response"]["output"][0]["action"]["commands"] == ["ls"]


def test_an_empty_command_is_none() -> None:
    events: list[AnyEvent] = [
        Started("x", "m"),
        CallOpened("c", "shell"),
        CallArgs('{"commands":[]}'),
        Stopped("tool_use"),
    ]
    assert written(events, ["shell"])[-1]["response"]["output"][0]["type"] == "function_call"
