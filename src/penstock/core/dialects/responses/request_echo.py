"""What a Responses answer says of its request: the fields that the format repeats in every response object.

A field that was sent is said as it was sent, any other has the format's default. Built once a request, as bytes. Facts: the
response object of OpenAI's Python package 3.57.0 and of the Open Responses specification, read 2026-11-30.
"""

from typing import Literal, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.interface import Asked

_REPEATED: tuple[tuple[str, object, bytes], ...] = (
    ("background", Literal[False], b"false"),
    ("frequency_penalty", float, b"0.0"),
    ("instructions", str | None, b"null"),
    ("max_output_tokens", int | None, b"null"),
    ("max_tool_calls", int | None, b"null"),
    ("metadata", dict[str, str], b"{}"),
    ("parallel_tool_calls", bool, b"true"),
    ("presence_penalty", float, b"0.0"),
    ("previous_response_id", None, b"null"),
    ("prompt_cache_key", str | None, b"null"),
    ("prompt_cache_retention", Literal["in_memory", "24h"] | None, b"null"),
    ("safety_identifier", str | None, b"null"),
    ("store", Literal[False], b"false"),
    ("temperature", float, b"1.0"),
    ("tool_choice", Literal["none", "auto", "required"] | dict[str, Raw], b'"auto"'),
    ("top_logprobs", int, b"0"),
    ("top_p", float, b"1.0"),
    ("truncation", Literal["auto", "disabled"], b'"disabled"'),
    ("user", str | None, b"null"),
)
"""Fields that are said as they were sent: the type that a response may have there, and the default."""
_TOOLS = frozenset(
    {
        "function", "file_search", "computer", "computer_use_preview", "web_search", "web_search_2025_08_26", "mcp",
        "code_interpreter", "programmatic_tool_calling", "image_generation", "local_shell", "shell", "custom",
        "namespace", "tool_search", "web_search_preview", "web_search_preview_2025_03_11", "apply_patch",
    }
)  # fmt: skip
"""Types of tools that a response may have; another was not offered to the model either, or as a function."""
_NULL = Raw(b"null")
_TEXT = Raw(b'{"type":"text"}')
_FUNCTION = {"description": _NULL, "parameters": _NULL, "strict": _NULL}
_SCHEMA = {"description": _NULL, "strict": Raw(b"false")}

TRIGGER = "compaction_trigger"
"""The type of the item by which a client asks that its conversation be compacted."""
_MOST_KEPT = 256 * 1024
"""Bytes of the user's messages that ``/responses/compact`` repeats, the newest: Codex itself keeps 64,000 tokens of them."""


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    content: str | list[Raw] | None = None


class _Offer(msgspec.Struct):
    """As much of a tool as says whether a response can have it as it is."""

    type: str = ""
    description: Raw | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET
    strict: Raw | UnsetType = UNSET


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """A message of the user as it is given back."""

    content: list[Raw]
    role: str = "user"


class _Text(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


_encode = msgspec.json.Encoder().encode
_items = msgspec.json.Decoder(list[Raw]).decode
_item = msgspec.json.Decoder(_Item).decode
_string = msgspec.json.Decoder(str).decode
_offer = msgspec.json.Decoder(_Offer).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decoders = {
    name: (msgspec.json.Decoder(cast("type", kind)).decode, default) for name, kind, default in _REPEATED
}


_SAID = frozenset({*_decoders, "reasoning", "text", "tools"})
"""Fields of which a response says what a request says."""


def asked(envelope: Envelope) -> Asked:
    """What an answer says of this request, and whether it takes the conversation's place."""
    fields = envelope.fields
    members = DEFAULTS if _SAID.isdisjoint(fields) else echoed(fields)
    return Asked(members, compacts=wants_compaction(envelope))


def asked_to_compact(envelope: Envelope) -> Asked:
    """The same for ``/responses/compact``."""
    return Asked(echoed(envelope.fields), kept=kept_messages(envelope), compacts=True)


def echoed(fields: dict[str, Raw]) -> bytes:
    """The members of a response that repeat the request with these fields, each with a comma before it."""
    out: list[bytes] = []
    for name, (decode, default) in _decoders.items():
        raw = fields.get(name)
        value = default
        if raw is not None:
            try:
                decode(raw)
                value = default if bytes(raw) == b"null" else bytes(raw)
            except msgspec.ValidationError:  # nothing that a response may have there
                pass
        out.append(b',"%b":%b' % (name.encode(), value))
    out += (
        b',"reasoning":' + _encode(_reasoning(fields.get("reasoning"))),
        b',"text":' + _encode(_text(fields.get("text"))),
        b',"tools":' + _encode(_offered(fields.get("tools"))),
    )
    members = b"".join(out)
    if b"\n" in members or b"\r" in members:  # a line of a stream's frame ends there
        members = b"," + msgspec.json.format(b"{" + members[1:] + b"}", indent=-1)[1:-1]
    return members


def _reasoning(raw: Raw | None) -> dict[str, Raw]:
    return {"effort": _NULL, "summary": _NULL, **_object(raw)}


def _text(raw: Raw | None) -> dict[str, object]:
    given = _object(raw)
    form = _object(given.get("format"))
    if bytes(form.get("type", _NULL)) == b'"json_schema"':
        form = {**_SCHEMA, **{name: value for name, value in form.items() if bytes(value) != b"null"}}
    verbosity = given.get("verbosity", _NULL)
    plain = bytes(verbosity) == b"null"
    return {"format": form or _TEXT, "verbosity": "medium" if plain else verbosity}


def _offered(raw: Raw | None) -> list[Raw | dict[str, Raw]]:
    if raw is None or bytes(raw) == b"null":
        return []
    try:
        return [made for tool in _items(raw) if (made := _tool(tool)) is not None]
    except msgspec.ValidationError:
        return []


def _tool(raw: Raw) -> Raw | dict[str, Raw] | None:
    """A tool as a response has it; None for one that it cannot have."""
    try:
        tool = _offer(raw)
    except msgspec.ValidationError:
        return None
    if tool.type == "function" and UNSET in (tool.description, tool.parameters, tool.strict):
        return _FUNCTION | _members(raw)
    return raw if tool.type in _TOOLS else None


def _object(raw: Raw | None) -> dict[str, Raw]:
    if raw is None or not bytes(raw).startswith(b"{"):
        return {}
    return _members(raw)


DEFAULTS = echoed({})
"""What an answer says where its request is not known."""


# ---- compaction


def wants_compaction(envelope: Envelope) -> bool:
    """Whether a request asks that its conversation be compacted."""
    if TRIGGER.encode() not in envelope.body:
        return False
    return any(item.type == TRIGGER for item in _read(envelope.value("input")))


def _said(text: str) -> _Message:
    return _Message([Raw(_encode(_Text(text)))])


def kept_messages(envelope: Envelope) -> bytes:
    """The user's messages of a request, as items parted by commas: the newest ones, as far as they are kept."""
    raw = envelope.value("input")
    said = [_said(_string(raw))] if raw.startswith(b'"') else []
    for item in _read(raw):
        if item.role == "user" and item.type in (None, "message") and item.content:
            content = item.content
            said.append(_said(content) if isinstance(content, str) else _Message(content))
    kept: list[bytes] = []
    size = 0
    for message in reversed(said):
        encoded = _encode(message)
        size += len(encoded)
        if size > _MOST_KEPT:
            break
        kept.append(encoded)
    return b",".join(reversed(kept))


def _read(raw: bytes) -> list[_Item]:
    items: list[_Item] = []
    for each in _items(raw) if raw.startswith(b"[") else ():
        try:
            items.append(_item(each))
        except msgspec.ValidationError:  # an item of another kind
            continue
    return items
