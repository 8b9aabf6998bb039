"""Deviations from Chat that clients are known to send to its route, and how each is read: as what it means.

A body that has one of them is made a body of Chat before anything else looks at it, so that all upstreams, Chat's own
included, get what the format says. ``DEVIATIONS`` is the table; ``docs/translation.md`` has it too. What a neighbouring
format says and Chat does not is left out and told.
"""

import re
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from penstock.core.neutral.request import MOST_LOSSES


@dataclass(frozen=True, slots=True)
class Deviation:
    """One row: what is sent, which clients do so, since when it is known from where, and what it is read as."""

    sent: str
    clients: str
    known: str
    read_as: str


DEVIATIONS = (
    Deviation(
        "a body of Responses: `input` in place of `messages`",
        "Cursor (agent mode, models named gpt-5 and the like)",
        "2025-12-22, router-for-me/CLIProxyAPI#658; 2026-07-20, BerriAI/litellm#34029",
        "the messages that its items say; `instructions`, `reasoning.effort`, `text`, `max_output_tokens` by Chat's names",
    ),
    Deviation(
        "flat tools of Responses: `name` and `parameters` or `format` beside `type`",
        "Cursor (all modes, also beside nested ones)",
        "2026-07-20, BerriAI/litellm#34029; 2026-08-20, Wei-Shaw/sub2api#5861",
        "`function` or `custom` with the same inside",
    ),
    Deviation(
        "an empty list as the `content` of an assistant's message",
        "Cursor",
        "2026-07-20, BerriAI/litellm#34029",
        "`null` beside `tool_calls`, an empty text elsewhere",
    ),
    Deviation(
        "tools of Messages: `input_schema`, and no `type` or `custom`",
        "Cursor (models with claude in their names)",
        "2026, archestra-ai/archestra#7375; automazeio/vibeproxy#411",
        "functions",
    ),
    Deviation(
        "blocks of Messages in `content`: `tool_use`, `tool_result`, `image`, `thinking`",
        "Cursor (models with claude in their names)",
        "2026, archestra-ai/archestra#7375; automazeio/vibeproxy#411",
        "`tool_calls`, messages of tools, `image_url`; thinking is left out",
    ),
    Deviation(
        "top-level fields of Messages: `system`, `stop_sequences`, `tool_choice` by `type` alone",
        "Cursor (models with claude in their names)",
        "2026, archestra-ai/archestra#7375",
        "a first message of the system, `stop`, and Chat's words",
    ),
)
"""Threads are public ones at github.com, read 2026-11-30 as far as a search shows them."""

Members = dict[str, Raw]

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(Members).decode
_objects = msgspec.json.Decoder(list[Members]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_text = msgspec.json.Decoder(str).decode

_NULL = Raw(b"null")
_NOTHING = frozenset((b"", b"null"))
_EMPTY = Raw(b'""')
_NESTED = re.compile(rb'\s*\[\s*(?:\]|\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"function"\s*:)')
"""Begins tools as Chat has them."""
_RENAMED = {"max_output_tokens": "max_completion_tokens", "stop_sequences": "stop"}
_SAME = frozenset(
    {
        "model", "stream", "stream_options", "temperature", "top_p", "parallel_tool_calls", "metadata", "user",
        "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "tools",
        "tool_choice", "messages", "max_completion_tokens", "max_tokens", "stop",
    }
)  # fmt: skip
"""Fields of a body of Responses that Chat has by the same name, and what others were renamed to."""
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text"})


def may_deviate(tools: bytes) -> bool:
    """Whether tools are others than Chat's, judged by the first: a look at all of them would cost every request."""
    return bool(tools) and _NESTED.match(tools) is None


def regular(fields: Members) -> tuple[Members, tuple[str, ...]] | None:
    """The body as Chat has it, and what of it was left out; None where it is so already, or is nothing that we know."""
    reading = _Reading()
    try:
        changed = reading.body(fields)
    except msgspec.ValidationError:  # something is of another kind; Chat's own checks have the words
        return None
    return None if changed is None else (changed, tuple(reading.left_out))


class _Reading:
    """One reading of a body."""

    __slots__ = ("left_out",)

    def __init__(self) -> None:
        self.left_out: dict[str, None] = {}

    def lose(self, field: str) -> None:
        if len(self.left_out) < MOST_LOSSES:
            self.left_out[field] = None

    def body(self, fields: Members) -> Members | None:
        sent, changed = fields, Members()
        if _absent(fields.get("messages")) and not _absent(fields.get("input")):
            fields = self.of_responses(fields)
            changed = dict(fields)
        messages = fields.get("messages")
        if messages is not None:
            made = self.messages(messages, fields.get("system"))
            if made is not None:
                changed["messages"] = made
        tools = fields.get("tools")
        if tools is not None and bytes(tools).startswith(b"["):
            given = _list(tools)
            mended = [_tool(tool) for tool in given]
            if mended != given:
                changed["tools"] = Raw(_encode(mended))
        choice = fields.get("tool_choice")
        if choice is not None and bytes(choice).startswith(b"{"):
            changed["tool_choice"] = _choice(choice)
        if not changed or all(sent.get(name) == value for name, value in changed.items()):
            return None
        whole = {_RENAMED.get(name, name): value for name, value in (fields | changed).items()}
        whole.pop("system", None)
        return whole

    # ---- a body of Responses

    def of_responses(self, fields: Members) -> Members:
        """The top level of a body of Responses as Chat has it; its tools and choice are still flat."""
        made: Members = {}
        for name, raw in fields.items():
            own = _RENAMED.get(name, name)
            if own in _SAME:
                made[own] = raw
            elif name == "reasoning":
                effort = _members(raw).get("effort")
                if effort is not None:
                    made["reasoning_effort"] = effort
            elif name == "text":
                self.text(_members(raw), made)
            elif name not in ("input", "instructions", "include") and bytes(raw) not in _NOTHING:
                self.lose(name)
        instructions = fields.get("instructions", _NULL)
        head = [] if _absent(instructions) else [_said("system", instructions)]
        made["messages"] = Raw(_encode([*head, *self.items(fields["input"])]))
        tools = made.get("tools")
        if tools is not None and bytes(tools).startswith(b"["):
            made["tools"] = self.offered(_objects(tools))
        return made

    def text(self, text: Members, made: Members) -> None:
        verbosity, form = text.get("verbosity"), _members(text.get("format"))
        if verbosity is not None:
            made["verbosity"] = verbosity
        kind = form.pop("type", _NULL)
        if bytes(kind) == b'"json_schema"':
            made["response_format"] = Raw(_encode({"type": kind, "json_schema": form}))
        elif not _absent(kind):
            made["response_format"] = Raw(_encode({"type": kind}))

    def offered(self, tools: list[Members]) -> Raw:
        """The tools that Chat has too."""
        kept: list[Members] = []
        for tool in tools:
            if bytes(tool.get("type", _NULL)) in (b'"function"', b'"custom"'):
                kept.append(tool)
            else:
                self.lose(f"tools.{_word(tool.get('type'))}")
        return Raw(_encode(kept))

    def items(self, raw: Raw) -> list[Members]:
        if bytes(raw).startswith(b'"'):
            return [_said("user", raw)]
        messages: list[Members] = []
        calls: list[Members] = []
        for item in _objects(raw):
            kind = _word(item.get("type")) or "message"
            if kind in ("function_call", "custom_tool_call"):
                calls.append(_item_call(item, kind))
                continue
            if calls:
                _add_calls(messages, calls)
                calls = []
            if kind == "message":
                messages.append(_said(_word(item.get("role")), self.parts(item.get("content", _NULL))))
            elif kind in ("function_call_output", "custom_tool_call_output"):
                messages.append(
                    {
                        "role": Raw(b'"tool"'),
                        "tool_call_id": item.get("call_id", _NULL),
                        "content": self.parts(item.get("output", _NULL)),
                    }
                )
            else:
                self.lose(f"input.{kind}")
        if calls:
            _add_calls(messages, calls)
        return messages

    def parts(self, content: Raw) -> Raw:
        """Parts of Responses as parts of Chat."""
        if not bytes(content).startswith(b"["):
            return content
        parts: list[Members] = []
        for part in _objects(content):
            kind = _word(part.get("type"))
            if kind in _TEXTS:
                parts.append({**part, "type": Raw(b'"text"')})
            elif kind == "input_image":
                url = {
                    name: part[member]
                    for name, member in (("url", "image_url"), ("detail", "detail"))
                    if member in part
                }
                parts.append({"type": Raw(b'"image_url"'), "image_url": Raw(_encode(url))})
            elif kind == "input_file":
                file = {name: raw for name, raw in part.items() if name != "type"}
                parts.append({"type": Raw(b'"file"'), "file": Raw(_encode(file))})
            else:
                parts.append(part)
        if all(bytes(part["type"]) == b'"text"' for part in parts if "type" in part) and len(parts) == 1:
            return parts[0].get("text", _EMPTY)
        return Raw(_encode(parts))

    # ---- messages

    def messages(self, raw: Raw, system: Raw | None) -> Raw | None:
        """The messages without what Chat has not; None: unchanged."""
        if not bytes(raw).startswith(b"["):
            return None
        changed = False
        made: list[Members] = []
        if system is not None and not _absent(system):
            changed = True
            made.append(_said("system", system))
        for message in _objects(raw):
            content = bytes(message.get("content", b""))
            if not content.startswith(b"["):
                made.append(message)
                continue
            parts = _list(content)
            if not parts and bytes(message.get("role", b"")) == b'"assistant"':
                changed = True
                called = bytes(message.get("tool_calls", b"")) not in (b"", b"null", b"[]")
                made.append({**message, "content": _NULL if called else _EMPTY})
                continue
            blocks = self.blocks(message, [_members(part) for part in parts])
            if blocks is None:
                made.append(message)
            else:
                changed = True
                made += blocks
        return Raw(_encode(made)) if changed else None

    def blocks(self, message: Members, parts: list[Members]) -> list[Members] | None:
        """A message with blocks of Messages as those that Chat has in its place; None: there are none."""
        rest: list[Members] = []
        calls: list[Members] = []
        results: list[Members] = []
        changed = False
        for part in parts:
            match _word(part.get("type")):
                case "tool_use":
                    arguments = _encode(bytes(part.get("input", b"{}")).decode())
                    function = {"name": part.get("name", _NULL), "arguments": Raw(arguments)}
                    calls.append(
                        {
                            "id": part.get("id", _NULL),
                            "type": Raw(b'"function"'),
                            "function": Raw(_encode(function)),
                        }
                    )
                case "tool_result":
                    results.append(self.result(part))
                case "image":
                    changed = True
                    rest.append(_image(part))
                case "thinking" | "redacted_thinking":
                    changed = True
                    self.lose("messages.thinking")
                case _:
                    rest.append(part)
        if not (calls or results or changed):
            return None
        out = results
        if calls:
            given = message.get("tool_calls", _NULL)
            known = [] if _absent(given) else _list(given)
            content = Raw(_encode(rest)) if rest else _NULL
            out.append({**message, "content": content, "tool_calls": Raw(_encode([*known, *calls]))})
        elif rest:
            out.append({**message, "content": Raw(_encode(rest))})
        return out

    def result(self, part: Members) -> Members:
        content = part.get("content", _EMPTY)
        if bytes(content).startswith(b"["):
            parts = [
                _image(each) if _word(each.get("type")) == "image" else each for each in _objects(content)
            ]
            content = Raw(_encode(parts))
        made = {"role": Raw(b'"tool"'), "tool_call_id": part.get("tool_use_id", _NULL), "content": content}
        if bytes(part.get("is_error", b"")) == b"true":
            made["is_error"] = part["is_error"]
        return made


# ---- single things


def _absent(raw: Raw | None) -> bool:
    return raw is None or bytes(raw) in (b"null", b"[]", b'""')


def _members(raw: Raw | None) -> Members:
    return _object(raw) if raw is not None and bytes(raw).startswith(b"{") else {}


def _word(raw: Raw | None) -> str:
    return _text(raw) if raw is not None and bytes(raw).startswith(b'"') else ""


def _said(role: str, content: Raw) -> Members:
    return {"role": Raw(_encode(role)), "content": content}


def _item_call(item: Members, kind: str) -> Members:
    id, name = item.get("call_id", _NULL), item.get("name", _NULL)
    if kind == "custom_tool_call":
        custom = {"name": name, "input": item.get("input", _EMPTY)}
        return {"id": id, "type": Raw(b'"custom"'), "custom": Raw(_encode(custom))}
    function = {"name": name, "arguments": item.get("arguments", _EMPTY)}
    return {"id": id, "type": Raw(b'"function"'), "function": Raw(_encode(function))}


def _add_calls(messages: list[Members], calls: list[Members]) -> None:
    """Add calls to what the assistant has just said, or as a message of their own."""
    encoded = Raw(_encode(calls))
    last = messages[-1] if messages else None
    if last is not None and bytes(last["role"]) == b'"assistant"' and "tool_calls" not in last:
        messages[-1] = {**last, "tool_calls": encoded}
    else:
        messages.append({"role": Raw(b'"assistant"'), "content": _NULL, "tool_calls": encoded})


def _image(part: Members) -> Members:
    """An image of Messages as Chat has it."""
    source = _members(part.get("source"))
    url = source.get("url")
    if url is None:
        media, data = _word(source.get("media_type")), _word(source.get("data"))
        url = Raw(_encode(f"data:{media};base64,{data}"))
    more = {name: raw for name, raw in part.items() if name == "cache_control"}
    return {"type": Raw(b'"image_url"'), "image_url": Raw(_encode({"url": url})), **more}


def _tool(raw: Raw) -> Raw:
    """A tool as Chat has it; one that is nothing of the kind stays."""
    tool = _members(raw)
    kind = _word(tool.get("type")) or "function"
    if kind not in ("function", "custom") or "function" in tool or "custom" in tool or "name" not in tool:
        return raw
    mark = {name: value for name, value in tool.items() if name == "cache_control"}
    inner = {name: value for name, value in tool.items() if name not in ("type", "cache_control")}
    if "input_schema" in inner:
        inner["parameters"] = inner.pop("input_schema")
        kind = "function"
    if kind == "custom":
        inner = {name: value for name, value in inner.items() if name in ("name", "description", "format")}
        form = _members(inner.get("format"))
        if "definition" in form:
            grammar = {name: value for name, value in form.items() if name != "type"}
            inner["format"] = Raw(_encode({"type": "grammar", "grammar": grammar}))
    return Raw(_encode({"type": kind, kind: inner, **mark}))


def _choice(raw: Raw) -> Raw:
    """A choice as Chat has it."""
    choice = _members(raw)
    kind = _word(choice.get("type"))
    if kind in ("function", "custom") and "name" in choice:
        return Raw(_encode({"type": kind, kind: {"name": choice["name"]}}))
    if kind == "tool" and "name" in choice:
        return Raw(_encode({"type": "function", "function": {"name": choice["name"]}}))
    if kind == "allowed_tools" and "tools" in choice:
        tools = [_choice(each) for each in _list(choice["tools"])]
        mode = choice.get("mode", Raw(b'"auto"'))
        return Raw(_encode({"type": kind, "allowed_tools": {"mode": mode, "tools": tools}}))
    return Raw({"auto": b'"auto"', "none": b'"none"', "any": b'"required"'}.get(kind, bytes(raw)))
