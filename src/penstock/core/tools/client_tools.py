"""Tools of the Responses dialect that the caller runs itself and that are no functions: what a model is offered in their place.

Each becomes a function. Its calls go to the caller in the item form of the tool, and the items of the history are read as
call and result. Facts: the types of OpenAI's Python package 3.57.0 and Codex's protocol, read 2026-11-30.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType


class _Action(msgspec.Struct):
    """What a shell is told; one command may come where several are meant, and the other way round."""

    command: list[str] | str | None = None
    commands: list[str] | str | None = None
    timeout_ms: int | None = None
    max_output_length: int | None = None
    working_directory: str | None = None
    env: dict[str, str] | None = None
    user: str | None = None


class _Operation(msgspec.Struct):
    """A change of one file."""

    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | None = None


class _Exit(msgspec.Struct):
    type: str = ""
    exit_code: int | None = None


class _Ran(msgspec.Struct):
    """What one command gave back."""

    stdout: str = ""
    stderr: str = ""
    outcome: _Exit | None = None


class _Found(msgspec.Struct):
    """A tool that a search found, as far as a model is told of it in the result."""

    name: str | None = None
    description: str | None = None
    tools: list["_Found"] | None = None


class ClientItem(msgspec.Struct):
    """An item of the history that is a call of such a tool, or what it gave back."""

    id: str | None = None
    call_id: str | None = None
    status: str | None = None
    arguments: Raw | UnsetType = UNSET
    action: Raw | UnsetType = UNSET
    operation: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    tools: list[Raw] | None = None


_action = msgspec.json.Decoder(_Action).decode
_operation = msgspec.json.Decoder(_Operation).decode
_ran = msgspec.json.Decoder(list[_Ran]).decode
_found = msgspec.json.Decoder(_Found).decode
_text = msgspec.json.Decoder(str).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class WrittenCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call as an item of an answer; which member holds what is asked for depends on ``type``."""

    type: str
    id: str
    status: str
    call_id: str
    execution: str = ""
    arguments: Raw | UnsetType = UNSET
    action: dict[str, object] | UnsetType = UNSET
    operation: dict[str, object] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class ClientTool:
    """One row. ``kind`` is the tool's type, ``call`` and ``output`` the types of its items, ``prefix`` begins their ids.

    ``schema`` is of the arguments that the model writes. ``asks`` reads them out of an item, ``says`` what came back, and
    ``call_of`` makes an item's own members of them; it raises ``ValueError`` where they do not say what the item must.
    """

    kind: str
    call: str
    output: str
    prefix: str
    description: str
    schema: Raw
    asks: Callable[[ClientItem], str]
    says: Callable[[ClientItem], tuple[str, bool]]
    call_of: Callable[[str], dict[str, object]]


def written(tool: ClientTool, id: str, status: str, call_id: str, arguments: str) -> WrittenCall:
    """The item of a call. Raises ``ValueError`` where the model's arguments do not fit the tool."""
    if tool.kind == "apply_patch" and status == "incomplete":
        status = "completed"  # there is no other word for it, and the patch is whole
    call = WrittenCall(tool.call, id, status, call_id)
    return msgspec.structs.replace(call, **tool.call_of(arguments))


# ---- tool_search


def _search_asks(item: ClientItem) -> str:
    """Arguments are an object in this item; some write them as text."""
    if item.arguments is UNSET:
        return "{}"
    raw = bytes(item.arguments)
    return _text(raw) or "{}" if raw.startswith(b'"') else raw.decode()


def _search_says(item: ClientItem) -> tuple[str, bool]:
    lines: list[str] = []
    for raw in item.tools or ():
        try:
            lines += _described(_found(raw), "")
        except msgspec.ValidationError:  # of a type that is not known: it was left out
            continue
    return ("These tools can be called now:\n" + "\n".join(lines) if lines else "No tools were found."), False


def _described(tool: _Found, namespace: str) -> list[str]:
    name = f"{namespace}__{tool.name}" if namespace else tool.name or ""
    if tool.tools is not None:
        return [line for inner in tool.tools for line in _described(inner, name)]
    if not tool.name:
        return []
    return [f"- {name}: {tool.description}" if tool.description else f"- {name}"]


def _search_call(arguments: str) -> dict[str, object]:
    _object(arguments)
    return {"execution": "client", "arguments": Raw(msgspec.json.format(arguments.encode(), indent=-1))}


# ---- local_shell and shell


def _action_asks(item: ClientItem) -> str:
    return "{}" if item.action is UNSET else bytes(item.action).decode()


def _local_shell_call(arguments: str) -> dict[str, object]:
    asked = _action(arguments)
    given = asked.command or asked.commands
    if not given:
        raise ValueError("no command")
    command = ["bash", "-lc", given] if isinstance(given, str) else given
    more = {
        name: value
        for name, value in (
            ("timeout_ms", asked.timeout_ms),
            ("user", asked.user),
            ("working_directory", asked.working_directory),
        )
        if value is not None
    }
    return {"action": {"type": "exec", "command": command, "env": asked.env or {}, **more}}


def _shell_call(arguments: str) -> dict[str, object]:
    asked = _action(arguments)
    given = asked.commands or asked.command
    if not given:
        raise ValueError("no commands")
    commands = [given] if isinstance(given, str) else given
    return {
        "action": {
            "commands": commands,
            "timeout_ms": asked.timeout_ms,
            "max_output_length": asked.max_output_length,
        }
    }


def _shell_says(item: ClientItem) -> tuple[str, bool]:
    """What each command printed, and how it ended."""
    if item.output is UNSET:
        return "", False
    raw = bytes(item.output)
    if raw.startswith(b'"'):
        return _text(raw), False
    try:
        runs = _ran(raw)
    except msgspec.ValidationError:
        return raw.decode(), False
    told: list[str] = []
    for run in runs:
        told += [part for part in (run.stdout, run.stderr) if part]
        if run.outcome is not None and run.outcome.type == "timeout":
            told.append("[timed out]")
        elif run.outcome is not None and run.outcome.exit_code:
            told.append(f"[exit code {run.outcome.exit_code}]")
    return "\n".join(told), False


# ---- apply_patch


def _patch_asks(item: ClientItem) -> str:
    return "{}" if item.operation is UNSET else bytes(item.operation).decode()


def _patch_call(arguments: str) -> dict[str, object]:
    asked = _operation(arguments)
    if asked.type == "delete_file":
        return {"operation": {"type": asked.type, "path": asked.path}}
    if asked.diff is None:
        raise ValueError("no diff")
    return {"operation": {"type": asked.type, "path": asked.path, "diff": asked.diff}}


def _patch_says(item: ClientItem) -> tuple[str, bool]:
    raw = b"" if item.output is UNSET else bytes(item.output)
    text = _text(raw) if raw.startswith(b'"') else raw.decode().removeprefix("null")
    return text or item.status or "", item.status == "failed"


CLIENT_TOOLS = (
    ClientTool(
        "tool_search",
        "tool_search_call",
        "tool_search_output",
        "tsc",
        "Finds further tools by what they are for. What it finds can be called afterwards.",
        Raw(
            b'{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer"}},'
            b'"required":["query"]}'
        ),
        _search_asks,
        _search_says,
        _search_call,
    ),
    ClientTool(
        "local_shell",
        "local_shell_call",
        "local_shell_call_output",
        "lsh",
        "Runs a command on the user's machine and gives back what it prints.",
        Raw(
            b'{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"},'
            b'"description":"The program and its arguments"},"working_directory":{"type":"string"},'
            b'"timeout_ms":{"type":"integer"},"env":{"type":"object","additionalProperties":{"type":"string"}}},'
            b'"required":["command"]}'
        ),
        _action_asks,
        _shell_says,
        _local_shell_call,
    ),
    ClientTool(
        "shell",
        "shell_call",
        "shell_call_output",
        "sh",
        "Runs shell commands on the user's machine and gives back what they print.",
        Raw(
            b'{"type":"object","properties":{"commands":{"type":"array","items":{"type":"string"}},'
            b'"timeout_ms":{"type":"integer"},"max_output_length":{"type":"integer"}},"required":["commands"]}'
        ),
        _action_asks,
        _shell_says,
        _shell_call,
    ),
    ClientTool(
        "apply_patch",
        "apply_patch_call",
        "apply_patch_call_output",
        "apc",
        "Creates, updates or deletes one file. A diff is in the V4A format: lines that begin with a space, + or -, "
        "in sections that begin with @@.",
        Raw(
            b'{"type":"object","properties":{"type":{"type":"string","enum":["create_file","update_file",'
            b'"delete_file"]},"path":{"type":"string"},"diff":{"type":"string","description":"Not for delete_file"}},'
            b'"required":["type","path"]}'
        ),
        _patch_asks,
        _patch_says,
        _patch_call,
    ),
)
"""The table, by the types of the format."""

BY_KIND = {tool.kind: tool for tool in CLIENT_TOOLS}
BY_CALL = {tool.call: tool for tool in CLIENT_TOOLS}
BY_OUTPUT = {tool.output: tool for tool in CLIENT_TOOLS}


def run_by_client(kind: str, execution: str | None, environment: str | None) -> ClientTool | None:
    """The row of a tool that the caller runs; None where the provider would run it, or it is none of these.

    A search runs where ``execution`` says, a shell in the ``environment`` of that type.
    """
    tool = BY_KIND.get(kind)
    if tool is None or (kind == "tool_search" and execution != "client"):
        return None
    return None if kind == "shell" and environment not in (None, "local") else tool
