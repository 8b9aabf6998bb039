"""Decodes a Responses request into the neutral form: what Codex, the OpenAI SDKs and others send to ``POST /responses``.

Items lie side by side in the input; adjacent ones of the assistant (reasoning, text, calls) are one turn, and so are the
outputs of tools with the user's message after them, as Messages has it.
"""

from collections.abc import Callable
from heapq import nsmallest
from typing import TypeVar, assert_never

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.openai.attachments import document_of, image_at
from penstock.core.dialects.openai.encode_request import TOOL_ERROR_MARK
from penstock.core.dialects.openai.shared_fields import asked_metadata, asked_tier
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.dialects.responses.encrypted_reasoning import opened, opened_hosted
from penstock.core.dialects.responses.hosted_tools import EVENTS, hosted_in
from penstock.core.dialects.responses.request_echo import TRIGGER
from penstock.core.dialects.responses.response_schema import cited
from penstock.core.dialects.responses.tools import Toolbox
from penstock.core.dialects.summary import INSTRUCTION, INTRODUCTION, UNREADABLE, opened_summary, summarising
from penstock.core.dialects.unknown import said_by
from penstock.core.neutral.request import (
    MOST_LOSSES,
    AnyPart,
    CacheTtl,
    Citation,
    Document,
    Effort,
    Hosted,
    Image,
    Loss,
    OutputFormat,
    Request,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from penstock.core.tools.call_ids import inward
from penstock.core.tools.client_tools import BY_CALL, BY_OUTPUT, ClientItem, ClientTool
from penstock.errors import InvalidRequest

T = TypeVar("T")

_CARRIED = frozenset(wire.Body.__struct_fields__) - {"store", "truncation"}
# values with which a field that cannot be carried asks for nothing
_IDLE: dict[str, frozenset[bytes]] = {
    "store": frozenset({b"false"}),
    "truncation": frozenset({b'"disabled"'}),
    "background": frozenset({b"false"}),
    "context_management": frozenset({b"[]"}),
}
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
_ENCRYPTED = "reasoning.encrypted_content"
"""What may be included, because it always is."""
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = frozenset({_ENCRYPTED, _LOGPROBS})

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_kind = msgspec.json.Decoder(wire.Kind).decode
_message = msgspec.json.Decoder(wire.Message).decode
_function_call = msgspec.json.Decoder(wire.FunctionCall).decode
_custom_call = msgspec.json.Decoder(wire.CustomCall).decode
_call_output = msgspec.json.Decoder(wire.CallOutput).decode
_reasoning = msgspec.json.Decoder(wire.Reasoning).decode
_additional = msgspec.json.Decoder(wire.AdditionalTools).decode
_client = msgspec.json.Decoder(ClientItem).decode
_update = msgspec.json.Decoder(wire.ConfigurationUpdate).decode
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes) -> tuple[Request, list[Loss]]:
    """The request in ``body`` (checked by the envelope before), and what of it the neutral form does not carry.

    Raises ``InvalidRequest`` naming the field or the item.
    """
    try:
        sent = _body(body)
        fields = _fields(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    reading = _Reading()
    request = reading.request(sent)
    for name, raw in fields.items():
        if name not in _CARRIED and bytes(raw) != b"null" and bytes(raw) not in _IDLE.get(name, ()):
            reading.lose(name)
    if reading.compacts:
        request = summarising(request)
    return request, [Loss(field, outcome) for field, outcome in reading.losses.items()]


def decode_compact_request(body: bytes) -> tuple[Request, list[Loss]]:
    """The request of ``POST /responses/compact``, which asks for a compaction by its path."""
    request, losses = decode_request(body)
    asked = request.turns[-1].parts == (Text(INSTRUCTION),)
    return request if asked else summarising(request), losses


class _Reading:
    """One reading: the losses gathered on the way, each told once."""

    __slots__ = ("_format", "_reasoning", "_served", "compacts", "losses", "toolbox", "turns")

    def __init__(self) -> None:
        self.compacts = False
        self.losses: dict[str, str] = {}
        self.toolbox = Toolbox(self.lose)
        self.turns: list[Turn] = []
        self._reasoning: wire.ReasoningOptions | None = None
        self._served: Hosted | None = None  # what a hosted tool did, whose own item comes next
        self._format: wire.TextFormat | None = None

    def lose(self, field: str, outcome: str = "dropped") -> None:
        if len(self.losses) < MOST_LOSSES:
            self.losses.setdefault(field, outcome)

    def request(self, sent: wire.Body) -> Request:
        _check(sent)
        self._reasoning = sent.reasoning
        self._format = sent.text.format if sent.text is not None else None
        scored = _LOGPROBS in (sent.include or ()) or bool(sent.top_logprobs)
        if any(more not in _INCLUDED for more in sent.include or ()):
            self.lose("include")
        for at, tool in enumerate(sent.tools or ()):
            self.toolbox.add(tool, f"tools[{at}]")
        if sent.instructions:
            self.add("system", [Text(sent.instructions)])
        if isinstance(sent.input, str):
            self.add("user", [Text(sent.input)] if sent.input else [])
        else:
            self.items(sent.input)
        if not any(turn.role != "system" for turn in self.turns):
            raise InvalidRequest("input must hold something besides instructions.", param="input")
        choice = self.toolbox.choice(sent.tool_choice)
        effort, thinking = self.reasoning()
        return Request(
            model=sent.model,
            turns=tuple(self.turns),
            tools=tuple(self.toolbox.tools),
            tool_choice=choice,
            parallel_tools=sent.parallel_tool_calls,
            max_tokens=sent.max_output_tokens,
            temperature=sent.temperature,
            top_p=sent.top_p,
            stream=bool(sent.stream),
            effort=effort,
            thinking=thinking,
            output=_output(self._format),
            user=sent.safety_identifier or sent.user or None,
            web_search=self.toolbox.web_search,
            verbosity=None if sent.text is None else sent.text.verbosity,
            service_tier=asked_tier(sent.service_tier),
            cache_key=sent.prompt_cache_key,
            cache_retention=sent.prompt_cache_retention,
            metadata=asked_metadata(sent.metadata),
            logprobs=scored,
            top_logprobs=sent.top_logprobs if scored else None,
        )

    def reasoning(self) -> tuple[Effort | None, Thinking | None]:
        """The effort, and with a summary asked for that the reasoning be shown."""
        asked = self._reasoning
        if asked is None:
            return None, None
        if asked.context not in (None, "auto"):
            self.lose("reasoning.context")
        if asked.mode is not None:
            self.lose("reasoning.mode")
        shown = (asked.summary or asked.generate_summary) is not None
        if asked.effort in (None, "none") or not shown:
            return asked.effort, None
        return asked.effort, Thinking("adaptive", shown=True)

    # ---- items

    def items(self, items: list[Raw]) -> None:
        kinds: list[str] = []
        for at, raw in enumerate(items):
            kind = _decoded(_kind, raw, f"input[{at}]")
            kinds.append(kind.type or ("message" if kind.role is not None else "item_reference"))
            if kind.type == "additional_tools":  # before the calls of the history, whose names depend on them
                self.lose("input.additional_tools", "hoisted")
                for nth, tool in enumerate(_decoded(_additional, raw, f"input[{at}]").tools):
                    self.toolbox.add(tool, f"input[{at}].tools[{nth}]", again=True)
            elif kind.type == "tool_search_output":
                for nth, tool in enumerate(_decoded(_client, raw, f"input[{at}]").tools or ()):
                    self.toolbox.add(tool, f"input[{at}].tools[{nth}]", again=True)
        results: list[AnyPart] = []
        for at, (kind, raw) in enumerate(zip(kinds, items, strict=True)):
            path = f"input[{at}]"
            if kind in ("function_call_output", "custom_tool_call_output"):
                results.append(self.result(_decoded(_call_output, raw, path), path))
                continue
            if kind in BY_OUTPUT:
                result = self.client_result(BY_OUTPUT[kind], _decoded(_client, raw, path))
                if result is not None:
                    results.append(result)
                    continue
            if kind == "message":
                message = _decoded(_message, raw, path)
                if message.role == "user":
                    self.add("user", [*results, *self.parts(message.content, f"{path}.content", "user")])
                    results = []
                    self.tell(raw, _ITEM_FIELDS)
                    continue
            self.add("user", results)
            results = []
            self.item(kind, raw, path)
        self.add("user", results)

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
                self.called(call.call_id, call.namespace, call.name, arguments)
            case "custom_tool_call":
                custom = _decoded(_custom_call, raw, path)
                self.lose("input.custom_tool_call", "function")
                arguments = _encode({"input": custom.input}).decode()
                self.called(custom.call_id, custom.namespace, custom.name, arguments)
            case "reasoning":
                self.thought(_decoded(_reasoning, raw, path))
            case _ if kind in EVENTS and self.hosted(kind, raw):
                pass
            case "additional_tools":
                pass
            case "configuration_update":
                update = _decoded(_update, raw, path)
                self._reasoning = update.reasoning or self._reasoning
                if update.text is not None:
                    self._format = update.text.format or self._format
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
        self.add("assistant", [ToolCall(inward(call_id), self.toolbox.client_name(client), arguments)])
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

    def called(self, call_id: str, namespace: str | None, name: str, arguments: str) -> None:
        self.add("assistant", [ToolCall(inward(call_id), self.toolbox.name(namespace, name), arguments)])

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


def _check(sent: wire.Body) -> None:
    """What a type cannot say."""
    if not sent.model.strip():
        raise InvalidRequest("model must not be empty.", param="model")
    if sent.max_output_tokens is not None and sent.max_output_tokens < 1:
        raise InvalidRequest("max_output_tokens must be at least 1.", param="max_output_tokens")
    if sent.temperature is not None and not 0 <= sent.temperature <= 2:
        raise InvalidRequest("temperature must be between 0 and 2.", param="temperature")
    if sent.top_p is not None and not 0 <= sent.top_p <= 1:
        raise InvalidRequest("top_p must be between 0 and 1.", param="top_p")


def _output(wanted: wire.TextFormat | None) -> OutputFormat | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return OutputFormat()
    if wanted.schema is UNSET or bytes(wanted.schema)[:1] != b"{":
        raise InvalidRequest("text.format.schema must be an object.", param="text.format.schema")
    return OutputFormat(wanted.schema.copy(), wanted.name, wanted.description, wanted.strict)


def _stored(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: stored files are not available; send the data or a URL.", param=param)


def _without_ids(raw: Raw) -> str:
    """An item's own content as JSON text: ids and states mean nothing to another model."""
    kept = {
        name: value for name, value in _fields(raw).items() if name not in {"id", "type", "status", "call_id"}
    }
    return _encode(kept).decode()
