"""A request as the simulator reads it, leniently, in any of the three dialects.

The simulator stands in for a provider, so it reads what providers are sent and does not check it: that is what the
gateway before it is for. A request that is no JSON object is refused all the same.
"""

import re
from collections.abc import Mapping
from typing import Literal, cast

import msgspec

ChoiceMode = Literal["auto", "any", "none", "tool"]
JsonValue = object
_CHARACTERS_PER_TOKEN = 4
_SCENARIO = re.compile(r"(?:^|[^A-Za-z0-9])sim-([a-z0-9]+(?:-[a-z0-9]+)*)(?:=([^+,;]*))?")


SimulatedDialect = Literal["chat", "messages", "responses"]
"""The dialects that the simulator speaks."""


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool on offer; ``schema`` is its decoded JSON Schema. Responses has free-text ones, and namespaces."""

    name: str
    schema: Mapping[str, JsonValue]
    namespace: str | None = None
    custom: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a request that decide the answer."""

    dialect: SimulatedDialect
    model: str
    stream: bool
    text: str
    """The text of the last user turn."""
    tool_answered: bool
    """The last turn holds a tool's result."""
    tools: tuple[OfferedTool, ...]
    choice: ChoiceMode
    choice_name: str | None
    parallel: bool
    thinks: bool
    thinking_shown: bool
    output_schema: Mapping[str, JsonValue] | None
    json_wanted: bool
    max_tokens: int | None
    stop: tuple[str, ...]
    include_usage: bool
    input_tokens: int
    cached_tokens: int


class Unreadable(ValueError):
    """The body is no JSON object; the message says why."""


def scenarios_of(model: str, header: str | None) -> dict[str, str]:
    """The scenarios that a request names, with their arguments ('' for none).

    ``x-simulate: slow=50, thinking`` comes first; without that header, the model's own name is looked through for
    ``sim-slow=50+sim-thinking``.
    """
    if header is not None:
        parts = [part.strip().removeprefix("sim-").partition("=") for part in header.split(",")]
        return {name: argument for name, _, argument in parts if name}
    return {found[1]: found[2] or "" for found in _SCENARIO.finditer(model)}


def decode_object(body: bytes) -> dict[str, JsonValue]:
    """The body of a request. Raises ``Unreadable``."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the body is not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise Unreadable("the body is not a JSON object")
    return cast("dict[str, JsonValue]", decoded)


def read_request(body: bytes, dialect: SimulatedDialect) -> Ask:
    """What the request asks. Raises ``Unreadable``."""
    fields = decode_object(body)
    turns = fields.get("input" if dialect == "responses" else "messages")
    text, tool_answered = _last_turn(turns)
    mode, name, parallel = _choice(fields)
    thinking = _object(fields.get("thinking"))
    effort = fields.get("reasoning_effort") or _object(fields.get("reasoning")).get("effort")
    thinks = thinking.get("type") in ("enabled", "adaptive") or (isinstance(effort, str) and effort != "none")
    schema, json_wanted = _output(fields)
    stop = fields.get("stop") or fields.get("stop_sequences") or ()
    measured = [fields.get(key) for key in ("system", "instructions", "tools", "messages", "input")]
    size = sum(len(msgspec.json.encode(part)) for part in measured if part is not None)
    input_tokens = size // _CHARACTERS_PER_TOKEN + 3
    return Ask(
        dialect=dialect,
        model=_text(fields.get("model")) or "simulator",
        stream=fields.get("stream") is True,
        text=text,
        tool_answered=tool_answered,
        tools=(*_tools(fields.get("tools")), *_tools_of_items(fields.get("input"))),
        choice=mode,
        choice_name=name,
        parallel=parallel and fields.get("parallel_tool_calls") is not False,
        thinks=thinks,
        thinking_shown=thinking.get("display") != "omitted",
        output_schema=schema,
        json_wanted=json_wanted,
        max_tokens=_limit(fields),
        stop=(stop,)
        if isinstance(stop, str)
        else tuple(entry for entry in _list(stop) if isinstance(entry, str)),
        include_usage=_object(fields.get("stream_options")).get("include_usage") is True,
        input_tokens=input_tokens,
        cached_tokens=input_tokens // 2 if b'"cache_control"' in body else 0,
    )


# ---- shapes


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    return cast("Mapping[str, JsonValue]", value) if isinstance(value, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return cast("list[JsonValue]", value) if isinstance(value, list) else []


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _limit(fields: Mapping[str, JsonValue]) -> int | None:
    for key in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        value = fields.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _last_turn(turns: JsonValue) -> tuple[str, bool]:
    """The text of the last turn that is the user's, and whether the very last one brings a tool's result."""
    if isinstance(turns, str):
        return turns, False
    entries = [_object(turn) for turn in _list(turns)]
    said = [entry for entry in entries if entry.get("role") not in ("system", "developer")]
    last: Mapping[str, JsonValue] = said[-1] if said else {}
    blocks = [_object(block) for block in _list(last.get("content"))]
    answered = (
        last.get("role") == "tool"
        or last.get("type") in ("function_call_output", "custom_tool_call_output")
        or any(block.get("type") == "tool_result" for block in blocks)
    )
    for entry in reversed(said):
        if entry.get("role") == "user":
            content = entry.get("content")
            if isinstance(content, str):
                return content, answered
            texts = [_text(_object(block).get("text")) for block in _list(content)]
            joined = "\n".join(text for text in texts if text)
            if joined:
                return joined, answered
    return "", answered


def _tools(value: JsonValue, namespace: str | None = None) -> tuple[OfferedTool, ...]:
    tools: list[OfferedTool] = []
    for entry in _list(value):
        fields = _object(entry)
        if fields.get("type") == "namespace":
            tools += _tools(fields.get("tools"), _text(fields.get("name")))
            continue
        inner = _object(fields.get("function")) or _object(fields.get("custom")) or fields
        name = _text(inner.get("name"))
        schema = inner.get("input_schema") or inner.get("parameters")
        custom = fields.get("type") == "custom" and schema is None
        if name and (schema is not None or fields.get("type") in (None, "function", "custom")):
            tools.append(OfferedTool(name, _object(schema), namespace, custom))
    return tuple(tools)


def _tools_of_items(turns: JsonValue) -> tuple[OfferedTool, ...]:
    """What Responses' items bring along: Codex offers its tools in one for the models that it knows."""
    items = [_object(entry) for entry in _list(turns)]
    return tuple(
        tool for item in items if item.get("type") == "additional_tools" for tool in _tools(item.get("tools"))
    )


def _choice(fields: Mapping[str, JsonValue]) -> tuple[ChoiceMode, str | None, bool]:
    choice = fields.get("tool_choice")
    if isinstance(choice, str):
        return ("none" if choice == "none" else "any" if choice == "required" else "auto"), None, True
    entry = _object(choice)
    name = _text(entry.get("name")) or _text(_object(entry.get("function")).get("name"))
    parallel = entry.get("disable_parallel_tool_use") is not True
    if name:
        return "tool", name, parallel
    kind = entry.get("type")
    return ("none" if kind == "none" else "any" if kind == "any" else "auto"), None, parallel


def _output(fields: Mapping[str, JsonValue]) -> tuple[Mapping[str, JsonValue] | None, bool]:
    """The schema that the answer must fit, and whether it must be JSON at all."""
    for wanted in (
        _object(fields.get("response_format")),
        _object(_object(fields.get("output_config")).get("format")),
        _object(_object(fields.get("text")).get("format")),
    ):
        if wanted.get("type") == "json_object":
            return None, True
        if wanted.get("type") == "json_schema":
            inner = _object(wanted.get("json_schema")) or wanted
            return _object(inner.get("schema")), True
    return None, False
