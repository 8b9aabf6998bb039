"""Hosted tools in Responses: items of what a provider's tool did, read into a part of a turn and written from one."""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.body.nesting import is_object
from penstock.core.neutral.request import Hosted, Page

EVENTS = {
    "web_search_call": b"response.web_search_call.completed",
    "code_interpreter_call": b"response.code_interpreter_call.completed",
    "mcp_call": b"response.mcp_call.completed",
}
"""Types of items that have a form elsewhere, and the event that says that one is complete."""
_IDS = {"web_search_call": "ws", "code_interpreter_call": "ci", "mcp_call": "mcp"}
_ITEMS = {
    "search": "web_search_call",
    "fetch": "web_search_call",
    "code": "code_interpreter_call",
    "mcp": "mcp_call",
}


class HostedItem(msgspec.Struct):
    """An item, as far as it is of hosted tools; its members may have any type."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    arguments: object = None
    status: Raw | UnsetType = UNSET
    action: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    outputs: Raw | UnsetType = UNSET
    container_id: Raw | UnsetType = UNSET
    server_label: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _Source(msgspec.Struct):
    url: str | None = None
    title: str | None = None


class _Action(msgspec.Struct):
    type: str = ""
    query: str | None = None
    queries: list[str] | None = None
    url: str | None = None
    pattern: str | None = None
    sources: list[_Source] | None = None


class _Output(msgspec.Struct):
    logs: str | None = None
    url: str | None = None


_item = msgspec.json.Decoder(HostedItem).decode
_action = msgspec.json.Decoder(_Action).decode
_outputs = msgspec.json.Decoder(list[_Output]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


# ---- read


def hosted_in(raw: Raw) -> Hosted | None:
    """What a hosted tool did, by its item in a history; None where it has no form elsewhere, or is of an odd shape."""
    try:
        return hosted_of(_item(raw))
    except (ValueError, RecursionError):
        return None


def hosted_of(item: HostedItem) -> Hosted | None:
    """The same for an item that has been read. Raises ``ValueError`` where its members are of odd types."""
    failed = _text(item.status) in ("failed", "incomplete")
    match item.type:
        case "web_search_call":
            return _search(item, failed=failed)
        case "code_interpreter_call":
            outputs = [] if _absent(item.outputs) else _outputs(item.outputs or b"[]")
            container = _text(
                item.container_id
            )  # wanted back, and nothing but what was asked is sure to come back
            asked = {"code": _text(item.code)} | ({"container_id": container} if container else {})
            text = "\n".join(each.logs or each.url or "" for each in outputs)
            return Hosted("code", item.id or "", "code_execution", _encode(asked).decode(), (), text, failed)
        case "mcp_call":
            arguments = item.arguments if isinstance(item.arguments, str) else ""
            given = arguments if is_object(arguments.encode()) else "{}"
            wrong = (
                ""
                if _absent(item.error)
                else _text(item.error) or bytes(item.error or b"").decode("utf-8", "replace")
            )
            output = _text(item.output) or wrong
            label = _text(item.server_label)
            return Hosted(
                "mcp", item.id or "", item.name or "", given, (), output, failed or bool(wrong), label
            )
        case _:
            return None


def _search(item: HostedItem, *, failed: bool) -> Hosted:
    """A search, or the opening of a page, or looking for something on one."""
    action = _Action() if _absent(item.action) else _action(item.action or b"{}")
    if action.url is not None:
        asked = {"url": action.url} | ({"pattern": action.pattern} if action.pattern else {})
        pages = (Page(action.url),)
        return Hosted("fetch", item.id or "", "web_fetch", _encode(asked).decode(), pages, "", failed)
    query = action.query or ", ".join(action.queries or ())
    found = tuple(Page(source.url, source.title or "") for source in action.sources or () if source.url)
    return Hosted(
        "search", item.id or "", "web_search", _encode({"query": query}).decode(), found, "", failed
    )


def _absent(raw: Raw | UnsetType) -> bool:
    return raw is UNSET or bytes(raw) == b"null"


def _text(raw: Raw | UnsetType) -> str:
    return "" if raw is UNSET or not bytes(raw).startswith(b'"') else _string(raw)


# ---- written


def is_from_here(hosted: Hosted) -> bool:
    """Whether an upstream of this format did it: its own id says so."""
    kind = _ITEMS.get(hosted.kind)
    return kind is not None and hosted.id.startswith(_IDS[kind] + "_")


def kind_of(hosted: Hosted) -> str | None:
    """The type of item that says it; None where there is none."""
    return _ITEMS.get(hosted.kind)


def prefix_of(kind: str) -> str:
    """What the id of such an item begins with."""
    return _IDS[kind]


def item_of(hosted: Hosted, id: str | None, status: str | None = None) -> dict[str, Any]:
    """The item that says what a tool did; ``id`` None: without one, as Codex sends those of its history."""
    item: dict[str, Any] = {} if id is None else {"id": id}
    done = status or ("failed" if hosted.failed else "completed")
    match hosted.kind:
        case "code":
            logs = [{"type": "logs", "logs": hosted.output}] if hosted.output else []
            code = _member(hosted, "code", "command")
            return {
                "type": "code_interpreter_call",
                **item,
                "status": done,
                "code": code,
                "container_id": _member(hosted, "container_id"),
                "outputs": logs,
            }
        case "mcp":
            return {
                "type": "mcp_call",
                **item,
                "status": done,
                "server_label": hosted.server,
                "name": hosted.name,
                "arguments": hosted.input,
                "output": None if hosted.failed else hosted.output,
                "error": hosted.output if hosted.failed else None,
            }
        case _:
            return {"type": "web_search_call", **item, "status": done, "action": _said(hosted)}


def _said(hosted: Hosted) -> dict[str, Any]:
    if hosted.kind == "fetch":
        url, pattern = _member(hosted, "url"), _member(hosted, "pattern")
        return (
            {"type": "find_in_page", "url": url, "pattern": pattern}
            if pattern
            else {"type": "open_page", "url": url}
        )
    sources = [{"type": "url", "url": page.url} for page in hosted.pages]
    return {"type": "search", "query": _member(hosted, "query"), "sources": sources}


def _member(hosted: Hosted, *names: str) -> str:
    """The text of one of these members of what the tool was given."""
    try:
        given: dict[str, object] = msgspec.json.decode(hosted.input, type=dict[str, object])
    except (ValueError, RecursionError):
        return ""
    found = [value for name in names if isinstance(value := given.get(name), str)]
    return found[0] if found else ""
