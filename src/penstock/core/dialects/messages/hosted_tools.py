"""Hosted tools in Messages: blocks of what a provider's tool did, read into a part of a turn and written from one.

A search, a fetch, a run of code and a call of an MCP server are two blocks each: the call, and its result, by the call's id.
What another format's upstream did is written with an id of ours, so that it is told from what Anthropic itself can go on
from: Anthropic refuses results that it did not make.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.body.nesting import is_object, nests_deeper
from penstock.core.body.value_limits import is_dense
from penstock.core.neutral.request import Citation, Hosted, HostedKind, Page
from penstock.core.tools.hosted import told

OUR_ID = "srvtoolu_gw_"
"""Begins the ids of calls that no Messages upstream made."""
CALLS = frozenset({"server_tool_use", "mcp_tool_use"})
_RESULT = "_tool_result"
_KINDS: dict[str, HostedKind] = {
    "web_search": "search",
    "web_fetch": "fetch",
    "code_execution": "code",
    "bash_code_execution": "code",
    "text_editor_code_execution": "code",
}
_NAMES: dict[HostedKind, str] = {"search": "web_search", "fetch": "web_fetch", "code": "code_execution"}


class _Source(msgspec.Struct):
    type: str = ""
    data: str | None = None


class _Document(msgspec.Struct):
    title: str | None = None
    source: _Source | None = None


class _Found(msgspec.Struct):
    """An entry of a result, or a result that is one object: what of it can be read."""

    type: str = ""
    url: str | None = None
    title: str | None = None
    page_age: str | None = None
    error_code: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    return_code: int | None = None
    text: str | None = None
    tool_name: str | None = None
    content: Raw | UnsetType = UNSET
    tool_references: list["_Found"] | None = None


class Block(msgspec.Struct):
    """The call of a hosted tool, or its result."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    server_name: str | None = None
    input: Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    content: Raw | UnsetType = UNSET
    is_error: bool | None = None


_block = msgspec.json.Decoder(Block).decode
_found = msgspec.json.Decoder(_Found).decode
_all_found = msgspec.json.Decoder(list[_Found]).decode
_document = msgspec.json.Decoder(_Document).decode
_pair = msgspec.json.Decoder(list[Raw]).decode
_blocks = msgspec.json.Decoder(list[Block]).decode
_members = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def is_result(kind: str) -> bool:
    """Whether a block of this type is what came of a hosted tool."""
    return kind.endswith(_RESULT)


# ---- read


def read_block(raw: Raw) -> Block:
    """A block of a hosted tool, as far as it can be read."""
    try:
        return _block(raw)
    except (ValueError, RecursionError):
        return Block()


def hosted_of(call: Raw | None, result: Raw | None) -> Hosted:
    """The call of a hosted tool with its result; either may be missing."""
    asked = Block() if call is None else read_block(call)
    came = Block() if result is None else read_block(result)
    id = asked.id or came.tool_use_id or ""
    name = asked.name or came.type.removesuffix(_RESULT) or "tool"
    kind: HostedKind = "mcp" if asked.type == "mcp_tool_use" else _KINDS.get(name, "other")
    pages, outputs, failed = _results(came.content)
    given = b"{}" if asked.input is UNSET or not is_object(bytes(asked.input)) else bytes(asked.input)
    raw = ""
    if call is not None and result is not None and not id.startswith(OUR_ID):
        raw = _encode([call, result]).decode("utf-8", "replace")
    return Hosted(
        kind,
        id.removeprefix(OUR_ID),
        name,
        given.decode("utf-8", "replace"),
        tuple(pages),
        "\n".join(outputs),
        failed or bool(came.is_error),
        asked.server_name or "",
        raw,
    )


def _results(content: Raw | UnsetType) -> tuple[list[Page], list[str], bool]:
    """Pages, outputs and failure of a result, without what is opaque in it."""
    if content is UNSET:
        return [], [], False
    try:
        if bytes(content).startswith(b"["):
            entries = _all_found(content)
        elif bytes(content).startswith(b'"'):
            return [], [msgspec.json.decode(content, type=str)], False
        else:
            entries = [_found(content)]
    except (ValueError, RecursionError):
        return [], [], False
    pages: list[Page] = []
    outputs: list[str] = []
    failed = False
    for entry in entries:
        if entry.error_code is not None:
            failed = True
            outputs.append(entry.error_code)
        elif entry.url is not None:
            pages.append(_page(entry))
        else:
            failed = failed or bool(entry.return_code)
            outputs += [text for text in (entry.stdout, entry.stderr, entry.text, entry.tool_name) if text]
            outputs += [tool.tool_name for tool in entry.tool_references or () if tool.tool_name]
    return pages, outputs, failed


def _page(entry: _Found) -> Page:
    title, text = entry.title or "", entry.page_age or ""
    if entry.content is not UNSET:
        try:
            document = _document(entry.content)
        except (ValueError, RecursionError):
            document = _Document()
        title = title or document.title or ""
        source = document.source
        text = source.data or "" if source is not None and source.type == "text" else text
    return Page(entry.url or "", title, text)


def raw_blocks(hosted: Hosted) -> list[dict[str, Any]]:
    """The two blocks that an upstream made, as it made them; none where they are not a call and its result.

    What a caller kept for us may be damaged, or written by the caller: it goes no further than such blocks, and their
    members stay as bytes.
    """
    text = hosted.raw.encode("utf-8", "replace")
    if nests_deeper(text) or is_dense(text):
        return []
    try:
        blocks, members = _blocks(text), _members(text)
    except (ValueError, RecursionError):
        return []
    if len(blocks) != 2:
        return []
    call, result = blocks
    if (
        call.type not in CALLS
        or not is_result(result.type)
        or call.id is None
        or call.id != result.tool_use_id
    ):
        return []
    return [{**each, "type": block.type} for block, each in zip(blocks, members, strict=True)]


# ---- written


def blocks_of(hosted: Hosted) -> list[dict[str, Any]]:
    """What an upstream of another format did, as a Messages caller gets it."""
    id = OUR_ID + hosted.id
    given = Raw(hosted.input.encode())
    match hosted.kind:
        case "mcp":
            call = {"type": "mcp_tool_use", "id": id, "name": hosted.name, "server_name": hosted.server}
            text = [{"type": "text", "text": hosted.output}] if hosted.output else []
            result: dict[str, Any] = {"type": "mcp_tool_result", "is_error": hosted.failed, "content": text}
        case "search" | "fetch" | "code":
            name = _NAMES[hosted.kind]
            call = {"type": "server_tool_use", "id": id, "name": name}
            result = {"type": name + _RESULT, "content": _content(hosted)}
        case _:
            return []
    return [{**call, "input": given}, {"type": result["type"], "tool_use_id": id, **result}]


def _content(hosted: Hosted) -> Any:
    if hosted.kind == "code":
        failed = int(hosted.failed)
        out, bad = ("", hosted.output) if failed else (hosted.output, "")
        return {
            "type": "code_execution_result",
            "stdout": out,
            "stderr": bad,
            "return_code": failed,
            "content": [],
        }
    if hosted.failed:
        kind = f"{_NAMES[hosted.kind]}{_RESULT}_error"
        return {"type": kind, "error_code": "unavailable"}
    if hosted.kind == "search":
        return [
            {
                "type": "web_search_result",
                "url": page.url,
                "title": page.title,
                "encrypted_content": OUR_ID,
                "page_age": None,
            }
            for page in hosted.pages
        ]
    page = hosted.pages[0] if hosted.pages else Page("")
    source = {"type": "text", "media_type": "text/plain", "data": page.text}
    document = {"type": "document", "source": source, "title": page.title}
    return {"type": "web_fetch_result", "url": page.url, "content": document, "retrieved_at": None}


# ---- what came of another format's tools, before an upstream that checks results

_UNCHECKED = b'"encrypted_index":""'
STRANGE = (f'"{OUR_ID}'.encode(), _UNCHECKED)
"""One of these stands where a result or a citation is that we wrote."""


def without_strange_results(turns: bytes) -> bytes:
    """Messages whose results of hosted tools are Messages upstreams' own: others become text.

    Citations that we wrote have no index that their maker could check, and are left out.
    """
    rows = msgspec.json.decode(turns, type=list[dict[str, Raw]])
    for row in rows:
        content = bytes(row.get("content", Raw()))
        if content.startswith(b"[") and any(mark in content for mark in STRANGE):
            row["content"] = Raw(_encode(list(_own(_pair(content)))))
    return _encode(rows)


def _own(blocks: list[Raw]) -> Iterable[Raw]:
    calls: dict[str, Raw] = {}
    for raw in blocks:
        block = read_block(raw)
        if block.type in CALLS and (block.id or "").startswith(OUR_ID):
            calls[block.id or ""] = raw
        elif (block.tool_use_id or "").startswith(OUR_ID):
            text = told(hosted_of(calls.pop(block.tool_use_id or "", None), raw))
            yield Raw(_encode({"type": "text", "text": text}))
        elif block.type == "text" and _UNCHECKED in bytes(raw):
            yield _cited_by_others(raw)
        else:
            yield raw
    for raw in calls.values():
        yield Raw(_encode({"type": "text", "text": told(hosted_of(raw, None))}))


def _cited_by_others(raw: Raw) -> Raw:
    """A text without the citations that we wrote."""
    fields = _fields(raw)
    given = bytes(fields.pop("citations", Raw()))
    kept = [each for each in _pair(given) if _UNCHECKED not in bytes(each)] if given.startswith(b"[") else []
    return Raw(_encode({**fields, "citations": kept} if kept else fields))


# ---- citations


class _Location(msgspec.Struct):
    type: str = ""
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None


_location = msgspec.json.Decoder(_Location).decode


def citation_of(raw: Raw) -> Citation | None:
    """The web page that a citation names; None for other kinds, which point into the caller's own documents."""
    try:
        found = _location(raw)
    except (ValueError, RecursionError):
        return None
    if found.type != "web_search_result_location" or not found.url:
        return None
    return Citation(found.url, found.title or "", found.cited_text or "")
