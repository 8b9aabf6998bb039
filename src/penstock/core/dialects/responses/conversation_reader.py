"""The conversation of a Responses request, one item after the other.

Items lie side by side in the input; adjacent ones of the assistant (reasoning, text, calls) are one turn, and so are the
outputs of tools with the user's message after them, as Messages has it.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from typing import TypeVar, assert_never

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.openai.attachments import document_of, image_at
from penstock.core.dialects.openai.encode_request import TOOL_ERROR_MARK
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.dialects.responses.hosted_tools import EVENTS, hosted_in
from penstock.core.dialects.responses.request_echo import TRIGGER
from penstock.core.dialects.responses.response_schema import cited
from penstock.core.dialects.responses.tools import Toolbox
from penstock.core.dialects.summary import INTRODUCTION, UNREADABLE, opened_summary
from penstock.core.dialects.unknown import said_by
from penstock.core.neutral.request import (
    MOST_LOSSES,
    AnyPart,
    CacheTtl,
    Citation,
    Document,
    Hosted,
    Image,
    Loss,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from penstock.core.reasoning.encrypted_reasoning import opened, opened_hosted
from penstock.core.tools.call_ids import inward
from penstock.core.tools.client_tools import BY_CALL, BY_OUTPUT, ClientItem, ClientTool
from penstock.errors import InvalidRequest

T = TypeVar("T")

# what answers carry and callers send back as they got it
_ITEM_FIELDS = frozenset({"type", "id", "status", "role", "content", "annotations"})
_HOSTED = frozenset(
    {
        "web_search_call", "file_search_call", "code_interpreter_call", "mcp_list_tools", "mcp_call",
        "mcp_approval_request", "mcp_approval_response",
    }
)  # fmt: skip
"""Items of the provider's tools: what they hold stays in the conversation as text."""
_BACK = ("_output", "_response")
"""So end the types of items that the caller said."""
_HOISTED = "additional_tools"
_FOUND = "tool_search_output"
BRINGING = frozenset({_HOISTED, _FOUND})
"""Types of items that bring tools."""

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_kind = msgspec.json.Decoder(wire.Kind).decode
_key = msgspec.json.Decoder(tuple[str | None, str]).decode
_message = msgspec.json.Decoder(wire.Message).decode
_function_call = msgspec.json.Decoder(wire.FunctionCall).decode
_custom_call = msgspec.json.Decoder(wire.CustomCall).decode
_call_output = msgspec.json.Decoder(wire.CallOutput).decode
_reasoning = msgspec.json.Decoder(wire.Reasoning).decode
_additional = msgspec.json.Decoder(wire.AdditionalTools).decode
_client = msgspec.json.Decoder(ClientItem).decode
_update = msgspec.json.Decoder(wire.ConfigurationUpdate).decode
_encode = msgspec.json.Encoder().encode


def kind_of(raw: Raw, path: str) -> str:
    """The type of an item; one without is a message, or a reference. Raises ``InvalidRequest``."""
    kind = _decoded(_kind, raw, path)
    return kind.type or ("message" if kind.role is not None else "item_reference")


def bring(toolbox: Toolbox, kind: str, raw: Raw, path: str, lose: Callable[[str, str], None]) -> None:
    """Put the tools that an item brings into the toolbox. Raises ``InvalidRequest``.

    All of them are there before the history is read, because the names of its calls depend on them.
    """
    if kind == _HOISTED:
        lose("input.additional_tools", "hoisted")
        tools: Sequence[Raw] = _decoded(_additional, raw, path).tools
    elif kind == _FOUND:
        tools = _decoded(_client, raw, path).tools or ()
    else:
        return
    for nth, tool in enumerate(tools):
        toolbox.add(tool, f"{path}.tools[{nth}]", again=True)


class ConversationReader:
    """The items of a request, one after the other; ``toolbox`` has the names of all tools.

    ``reasoning`` and ``format`` are what the items said last of what the top level asks for, ``compacts`` whether they
    ask for a summary. ``names`` are keys of the toolbox that only calls of the history have put there, as JSON text.
    """

    __slots__ = (
        "_left", "_losses", "_results", "_served", "_toolbox", "called", "compacts", "format", "names",
        "reasoning", "turns",
    )  # fmt: skip

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._left: Iterator[tuple[str, Raw]] = iter(())
        self._losses: dict[str, str] = {}
        self._results: list[AnyPart] = []
        self._served: Hosted | None = None  # what a hosted tool did, whose own item comes next
        self.turns: list[Turn] = []
        self.names: dict[str, None] = {}
        self.called = ""
        self.compacts = False
        self.reasoning: wire.ReasoningOptions | None = None
        self.format: wire.TextFormat | None = None

    @property
    def told(self) -> list[Loss]:
        """The losses so far."""
        return [Loss(field, outcome) for field, outcome in self._losses.items()]

    @property
    def lost(self) -> int:
        """How many."""
        return len(self._losses)

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        if len(self._losses) < MOST_LOSSES:
            self._losses.setdefault(field, outcome)

    def begin(self, messages: bytes) -> None:
        """These are the items, after those that were taken by then. Raises ``ValueError`` or ``InvalidRequest``."""
        for key in self.names:
            self._toolbox.recall(_key(key))
        items = _items(messages)
        self.begin_with([kind_of(raw, "input") for raw in items], items)

    def begin_with(self, kinds: list[str], items: list[Raw]) -> None:
        """These are the items, and their types."""
        self._left = zip(kinds, items, strict=True)

    def take(self, at: int) -> bool:
        """Take the next item, number ``at``; whether all that it says is in the turns. Raises ``InvalidRequest``."""
        kind, raw = next(self._left)
        had = self._toolbox.known
        self.take_item(kind, raw, f"input[{at}]")
        for key in self._toolbox.keys(had):
            self.names[_encode(key).decode()] = None
        changed = self.reasoning is not None or self.format is not None or self.compacts
        return not self._results and self._served is None and not changed

    def finish(self) -> None:
        """There are no more."""
        self.add("user", self._results)

    def take_item(self, kind: str, raw: Raw, path: str) -> None:
        """Take an item of a type. Raises ``InvalidRequest``."""
        results = self._results
        if kind in ("function_call_output", "custom_tool_call_output"):
            results.append(self.result(_decoded(_call_output, raw, path), path))
            return
        if kind in BY_OUTPUT:
            result = self.client_result(BY_OUTPUT[kind], _decoded(_client, raw, path))
            if result is not None:
                results.append(result)
                return
        self._results = []
        if kind == "message":
            message = _decoded(_message, raw, path)
            if message.role == "user":
                self.add("user", [*results, *self.parts(message.content, f"{path}.content", "user")])
                self.tell(raw, _ITEM_FIELDS)
                return
        self.add("user", results)
        self.item(kind, raw, path)

    def item(self, kind: str, raw: Raw, path: str) -> None:
        """Any item but a tool's output and a message of the user."""
        match kind:
            case "message":
                message = _decoded(_message, raw, path)
                role = "assistant" if message.role == "assistant" else "system"
                if message.phase is not None:
                    self.lose("input.phase")
                self.tell(raw, _ITEM_FIELDS | {"phase"})
                self.add(role, [*self.parts(message.content, f"{path}.content", role)])
            case "function_call":
                call = _decoded(_function_call, raw, path)
                arguments = call.arguments if call.arguments.strip() else "{}"
                self.call(call.call_id, call.namespace, call.name, arguments)
            case "custom_tool_call":
                custom = _decoded(_custom_call, raw, path)
                self.lose("input.custom_tool_call", "function")
                arguments = _encode({"input": custom.input}).decode()
                self.call(custom.call_id, custom.namespace, custom.name, arguments)
            case "reasoning":
                self.thought(_decoded(_reasoning, raw, path))
            case _ if kind in EVENTS and self.hosted(kind, raw):
                pass
            case "additional_tools":
                pass
            case "configuration_update":
                update = _decoded(_update, raw, path)
                self.reasoning = update.reasoning or self.reasoning
                if update.text is not None:
                    self.format = update.text.format or self.format
            case "item_reference":
                raise InvalidRequest(
                    f"{path}: nothing is stored here that an item could refer to; send the item itself "
                    '(in clients: "store": false).',
                    param=path,
                )
            case _:
                self.rarer(kind, raw, path)

    def rarer(self, kind: str, raw: Raw, path: str) -> None:
        """An item of a kind that is known by a table, or not at all."""
        match kind:
            case _ if kind == TRIGGER:
                self.compacts = True
            case _ if kind in wire.COMPACTIONS:
                summary = opened_summary(_decoded(_reasoning, raw, path).encrypted_content)
                if summary is None:
                    self.lose(f"input.{kind}")
                self.add("user", [Text(UNREADABLE if summary is None else INTRODUCTION + summary)])
            case _ if kind in _HOSTED:
                self.lose(f"input.{kind}", "text")
                told = Text(f"[{kind.replace('_', ' ')}: {_without_ids(raw)}]")
                self.add("user" if kind.endswith(_BACK) else "assistant", [told])
            case _ if kind in BY_CALL and self.client_called(BY_CALL[kind], _decoded(_client, raw, path)):
                pass
            case _:
                self.unknown(kind, raw)

    def client_called(self, client: ClientTool, item: ClientItem) -> bool:
        """Add a call of a tool that the caller runs. False where the item is no such call: the provider ran it."""
        call_id = item.call_id or (item.id if client.kind == "local_shell" else None)
        if call_id is None:
            return False
        self.lose(f"input.{client.call}", "function")
        arguments = client.asks(item).strip() or "{}"
        self.add("assistant", [ToolCall(inward(call_id), self._toolbox.client_name(client), arguments)])
        return True

    def client_result(self, client: ClientTool, item: ClientItem) -> ToolResult | None:
        call_id = item.call_id or (item.id if client.kind == "local_shell" else None)
        if call_id is None:
            return None
        text, failed = client.says(item)
        return ToolResult(inward(call_id), (Text(text),) if text else (), failed)

    def unknown(self, kind: str, raw: Raw) -> None:
        """An item of a type that has no form elsewhere: what it says stays as text."""
        said = said_by(kind, _fields(raw))
        if said is None:
            self.lose(f"input.{kind}")
            return
        self.lose(f"input.{kind}", "text")
        self.add("user" if kind.endswith(_BACK) else "assistant", [Text(said)])

    def call(self, call_id: str, namespace: str | None, name: str, arguments: str) -> None:
        self.add("assistant", [ToolCall(inward(call_id), self._toolbox.name(namespace, name), arguments)])

    def result(self, item: wire.CallOutput, path: str) -> ToolResult:
        output = item.output
        is_error = isinstance(output, str) and output.startswith(TOOL_ERROR_MARK)
        if isinstance(output, str):
            output = output.removeprefix(TOOL_ERROR_MARK)
        parts = self.parts(output, f"{path}.output", "user")
        return ToolResult(inward(item.call_id), tuple(parts), is_error)

    def hosted(self, kind: str, raw: Raw) -> bool:
        """What a tool of the provider did, unless the item before it has said that whole; whether it could be read."""
        found = hosted_in(raw)
        if found is None:
            return False
        before, self._served = self._served, None
        if before is None or before.kind != found.kind:
            self.lose(f"input.{kind}", "text")
            self.add("assistant", [found])
        return True

    def thought(self, item: wire.Reasoning) -> None:
        self._served = opened_hosted(item.encrypted_content)
        if self._served is not None:
            self.add("assistant", [self._served])
            return
        text = "\n\n".join(part.text for part in item.summary)
        if not text and item.content:
            text = "".join(part.text for part in item.content)
        thought = opened(text, item.encrypted_content)
        if thought is None:
            if item.encrypted_content:
                self.lose("input.reasoning.encrypted_content")
            return
        self.add("assistant", [thought])

    # ---- content

    def parts(self, content: wire.Content, path: str, role: str) -> list[Text | Image | Document]:
        if isinstance(content, str):
            return [Text(content)] if content else []
        parts: list[Text | Image | Document] = []
        for at, part in enumerate(content):
            where = f"{path}[{at}]"
            if role != "user" and isinstance(part, wire.InputImage | wire.InputFile):
                raise InvalidRequest(f"{where}: only text is allowed in a message of {role}.", param=where)
            cache = self.cache(part)
            match part:
                case wire.Refusal(refusal=text):
                    self.lose("input.content.refusal", "text")
                    parts.append(Text(text, cache))
                case wire.InputImage():
                    parts.append(self.image(part, where, cache))
                case wire.InputFile():
                    parts.append(self.file(part, where, cache))
                case wire.InputAudio():
                    raise InvalidRequest(f"{where}: audio input is not supported.", param=where)
                case wire.OutputText(text=text):
                    cites = [cited(each) for each in part.annotations or ()]
                    pages = tuple(Citation(page.url, page.title) for page in cites if page is not None)
                    if text:
                        parts.append(Text(text, cache, pages))
                case (
                    wire.InputText(text=text)
                    | wire.PlainText(text=text)
                    | wire.SummaryText(text=text)
                    | wire.ReasoningText(text=text)
                ):
                    if text:
                        parts.append(Text(text, cache))
                case _:
                    assert_never(part)
        return parts

    def image(self, part: wire.InputImage, where: str, cache: CacheTtl | None) -> Image:
        if part.image_url is None:
            raise _stored(f"{where}.file_id" if part.file_id is not None else f"{where}.image_url")
        return image_at(part.image_url, part.detail, f"{where}.image_url", cache)

    def file(self, part: wire.InputFile, where: str, cache: CacheTtl | None) -> Document:
        if part.file_url is not None:
            return Document(url=part.file_url, title=part.filename, cache=cache)
        if part.file_data is None:
            raise _stored(f"{where}.file_id" if part.file_id is not None else f"{where}.file_data")
        return document_of(part.file_data, part.filename, f"{where}.file_data", cache)

    def cache(self, part: wire.AnyPart) -> CacheTtl | None:
        mark = part.prompt_cache_breakpoint
        if mark is None:
            return None
        ttl: CacheTtl = "1h" if mark.ttl == "12h" else "5m"
        self.lose("input.prompt_cache_breakpoint", ttl)
        return ttl

    def tell(self, raw: Raw, known: frozenset[str]) -> None:
        """Tell of an item's fields that are not known."""
        for name in nsmallest(MOST_LOSSES, _fields(raw).keys() - known):
            self.lose(f"input.{name}")

    def add(self, role: Role, parts: list[AnyPart]) -> None:
        """Add what an item says. What the assistant said in several items is one turn; nothing is no turn."""
        if not parts:
            return
        last = self.turns[-1] if self.turns else None
        if role == "assistant" and last is not None and last.role == "assistant":
            self.turns[-1] = Turn(role, (*last.parts, *parts))
        else:
            self.turns.append(Turn(role, tuple(parts)))


def _decoded(decode: Callable[[Raw], T], raw: Raw, path: str) -> T:
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(error, path) from error


def _stored(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: stored files are not available; send the data or a URL.", param=param)


def _without_ids(raw: Raw) -> str:
    """An item's own content as JSON text: ids and states mean nothing to another model."""
    kept = {
        name: value for name, value in _fields(raw).items() if name not in {"id", "type", "status", "call_id"}
    }
    return _encode(kept).decode()
