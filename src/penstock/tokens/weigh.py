"""The weight of a Messages request: the texts that a model reads, and tokens for what is not text.

Every block counts, also one that is not known here, which counts as its JSON. What is only for the service is left out:
cache breakpoints, metadata, sampling.
"""

from collections.abc import Mapping
from typing import TypeGuard

import msgspec
from msgspec import Raw

from penstock.tokens.images import LARGEST_IMAGE, PAGE_TOKENS, document_tokens, image_tokens

REQUEST = 6
MESSAGE = 4
BLOCK = 3
TOOL = 12
"""Tokens of the frame that a provider writes round each of these."""

_READ = ("tool_choice", "output_config", "output_format", "mcp_servers")
"""Fields besides system, messages and tools that a model gets to see."""
_NOT_READ = ("cache_control",)
_HIDDEN = 8
"""Characters of a signed or encrypted thought that count as a token."""

WeighedJson = object


class Weighed(msgspec.Struct):
    """``texts`` to be looked up, ``fixed`` tokens beside them, and whether there are ``tools``."""

    texts: list[str]
    fixed: int = REQUEST
    tools: bool = False


def weigh(fields: Mapping[str, Raw]) -> Weighed:
    """What counts of a request's top-level fields."""
    found = Weighed([])
    _content(found, _value(fields, "system"))
    messages = _value(fields, "messages")
    for message in messages if _is_list(messages) else []:
        found.fixed += MESSAGE
        _content(found, message.get("content") if _is_object(message) else message)
    tools = _value(fields, "tools")
    for tool in tools if _is_list(tools) else []:
        found.tools = True
        found.fixed += TOOL
        _json(found, tool)
    for name in _READ:
        value = _value(fields, name)
        if value is not None:
            _json(found, value)
    return found


def _value(fields: Mapping[str, Raw], name: str) -> WeighedJson:
    raw = fields.get(name)
    return None if raw is None else msgspec.json.decode(raw)


def _content(found: Weighed, content: WeighedJson) -> None:
    if isinstance(content, str):
        found.texts.append(content)
    elif _is_list(content):
        for block in content:
            _block(found, block)
    elif content is not None:
        _json(found, content)


def _block(found: Weighed, block: WeighedJson) -> None:
    if not _is_object(block):
        _json(found, block)
        return
    match block.get("type"):
        case "text":
            _text(found, block, "text")
            if block.get("citations"):
                _json(found, block["citations"])
        case "image":
            source = block.get("source")
            found.fixed += BLOCK + (_image(source) if _is_object(source) else LARGEST_IMAGE)
        case "document":
            found.fixed += BLOCK
            _text(found, block, "title")
            _text(found, block, "context")
            source = block.get("source")
            _document(found, source if _is_object(source) else {})
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            found.fixed += TOOL
            _text(found, block, "name")
            _json(found, block.get("input"))
        case str(kind) if kind.endswith("tool_result"):
            found.fixed += TOOL
            _content(found, block.get("content"))
        case "thinking":
            found.fixed += BLOCK
            _text(found, block, "thinking")
            signature = block.get("signature")
            if not block.get("thinking") and isinstance(signature, str):
                found.fixed += len(signature) // _HIDDEN
        case "redacted_thinking":
            data = block.get("data")
            found.fixed += BLOCK + (len(data) // _HIDDEN if isinstance(data, str) else 0)
        case _:
            found.fixed += BLOCK
            _json(found, block)


def _image(source: Mapping[str, WeighedJson]) -> int:
    data = source.get("data")
    return image_tokens(data) if isinstance(data, str) else LARGEST_IMAGE


def _document(found: Weighed, source: Mapping[str, WeighedJson]) -> None:
    data = source.get("data")
    match source.get("type"):
        case "text":
            _text(found, source, "data")
        case "content":
            _content(found, source.get("content"))
        case "base64" if isinstance(data, str):
            found.fixed += document_tokens(data)
        case _:
            found.fixed += PAGE_TOKENS  # an address or a file kept elsewhere: its length is not known here


def _text(found: Weighed, block: Mapping[str, WeighedJson], name: str) -> None:
    value = block.get(name)
    if isinstance(value, str):
        found.texts.append(value)


def _json(found: Weighed, value: WeighedJson) -> None:
    if _is_object(value):
        value = {name: member for name, member in value.items() if name not in _NOT_READ}
    found.texts.append(msgspec.json.encode(value).decode())


def _is_list(value: WeighedJson) -> TypeGuard[list[WeighedJson]]:
    return isinstance(value, list)


def _is_object(value: WeighedJson) -> TypeGuard[dict[str, WeighedJson]]:
    return isinstance(value, dict)
