"""Decodes a Chat request into the neutral form: ``docs/translation.md``, "Chat callers", row by row."""

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import assert_never

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.chat import request_schema as wire
from penstock.core.dialects.chat.conversation_reader import ConversationReader, ttl_of
from penstock.core.dialects.openai.attachments import document_of, image_at
from penstock.core.dialects.openai.deviations import regular
from penstock.core.dialects.openai.encode_request import TOOL_ERROR_MARK
from penstock.core.dialects.openai.shared_fields import asked_metadata, asked_tier
from penstock.core.dialects.unknown import KnownTypes, Loosened
from penstock.core.neutral.request import (
    MOST_LOSSES,
    AnyPart,
    CacheTtl,
    CallerName,
    Document,
    Effort,
    Image,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from penstock.core.reasoning.signature import is_ours
from penstock.core.reasoning.tool_call_signatures import signature_of
from penstock.core.tools.call_ids import inward
from penstock.errors import InvalidRequest

_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_CUSTOM_INPUT = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')


def _check(sent: wire.Body) -> None:
    """What a type cannot say."""
    if not sent.model.strip():
        raise InvalidRequest("model must not be empty.", param="model")
    for name, limit in (
        ("max_completion_tokens", sent.max_completion_tokens),
        ("max_tokens", sent.max_tokens),
    ):
        if limit is not None and limit < 1:
            raise InvalidRequest(f"{name} must be at least 1.", param=name)
    if sent.temperature is not None and not 0 <= sent.temperature <= 2:
        raise InvalidRequest("temperature must be between 0 and 2.", param="temperature")
    if sent.top_p is not None and not 0 <= sent.top_p <= 1:
        raise InvalidRequest("top_p must be between 0 and 1.", param="top_p")
    if sent.n is not None and sent.n != 1:
        raise InvalidRequest("n must be 1: this model gives one answer a request.", param="n")
    if sent.modalities and any(kind != "text" for kind in sent.modalities):
        raise InvalidRequest("modalities may only be text for this model.", param="modalities")


def _tool(spec: wire.FunctionSpec, mark: wire.Cache | None, path: str) -> Tool:
    if not spec.name:
        raise InvalidRequest(f"{path}.name must not be empty.", param=f"{path}.name")
    schema = _NO_PARAMETERS
    if spec.parameters is not UNSET and bytes(spec.parameters) not in {b"null", b"{}"}:
        if bytes(spec.parameters)[:1] != b"{":
            raise InvalidRequest(f"{path}.parameters must be an object.", param=f"{path}.parameters")
        schema = spec.parameters
    return Tool(spec.name, schema, spec.description, spec.strict, ttl_of(mark))


def _custom_tool(spec: wire.CustomSpec) -> Tool:
    """A free-text tool as a function with one string; what its grammar asks for is in words only."""
    description = spec.description or ""
    grammar = spec.format.grammar if spec.format is not None else None
    if grammar is not None and grammar.definition:
        asked = f"The input must match this {grammar.syntax or 'grammar'} definition:\n{grammar.definition}"
        description = f"{description}\n\n{asked}" if description else asked
    return Tool(spec.name, _CUSTOM_INPUT, description or None, caller=CallerName(spec.name, custom=True))


def _choice_mode(word: str, field: str) -> ToolChoice:
    match word:
        case "auto" | "none":
            return ToolChoice(word)
        case "required":
            return ToolChoice("any")
        case _:
            raise InvalidRequest(f"{field} must be none, auto, required or an object.", param=field)


def _reasoning(sent: wire.Body) -> tuple[Effort | None, Thinking | None]:
    """Effort and thinking, from OpenAI's field or the extensions of others."""
    effort = sent.reasoning_effort
    thinking: Thinking | None = None
    if sent.thinking is not None:
        match sent.thinking.type:
            case "enabled":
                budget = sent.thinking.budget_tokens
                thinking = Thinking("enabled", budget) if budget is not None else Thinking("adaptive")
            case "disabled":
                thinking = Thinking("disabled")
            case "adaptive" | "auto":
                thinking = Thinking("adaptive")
            case _:
                assert_never(sent.thinking.type)
    elif sent.reasoning is not None:
        effort = effort or sent.reasoning.effort
        if sent.reasoning.max_tokens is not None:
            thinking = Thinking("enabled", sent.reasoning.max_tokens)
        elif sent.reasoning.enabled is not None:
            thinking = Thinking("adaptive" if sent.reasoning.enabled else "disabled")
    elif sent.enable_thinking is not None:
        thinking = Thinking("adaptive" if sent.enable_thinking else "disabled")
    return effort, thinking


def _output(wanted: wire.PlainFormat | wire.ObjectFormat | wire.SchemaFormat | None) -> OutputFormat | None:
    match wanted:
        case None | wire.PlainFormat():
            return None
        case wire.ObjectFormat():
            return OutputFormat()
        case wire.SchemaFormat(json_schema=schema):
            if schema.schema is UNSET or bytes(schema.schema)[:1] != b"{":
                raise InvalidRequest(
                    "response_format.json_schema.schema must be an object.",
                    param="response_format.json_schema.schema",
                )
            return OutputFormat(schema.schema, schema.name, schema.description, schema.strict)
        case _:
            assert_never(wanted)


def thoughts(message: wire.Assistant) -> list[Thought]:
    """The reasoning that a caller sends back, from whichever carrier keeps most of it."""
    if message.thinking_blocks:
        return [
            Thought(redacted=block.data)
            if block.data is not None
            else Thought(block.thinking, block.signature)
            for block in message.thinking_blocks
        ]
    details = _joined(message.reasoning_details or [])
    if any(entry.signature or entry.data for entry in details):
        return [
            Thought(redacted=entry.data)
            if entry.data is not None
            else Thought(entry.text or entry.summary or "", entry.signature)
            for entry in details
        ]
    if message.reasoning_opaque:
        return [Thought(message.reasoning_text or "", message.reasoning_opaque)]
    text = message.reasoning_content or message.reasoning or message.reasoning_text
    if not text:
        text = "".join(entry.text or entry.summary or "" for entry in details)
    return [Thought(text)] if text else []


def _joined(details: list[wire.Detail]) -> list[wire.Detail]:
    """Entries of one index as one: a caller that just keeps the deltas of a stream sends them back in pieces."""
    joined: list[wire.Detail] = []
    for entry in details:
        last = joined[-1] if joined else None
        if (
            last is None
            or entry.index is None
            or (last.index, last.type) != (entry.index, entry.type)
            or (last.id is not None and entry.id not in {None, last.id})
        ):
            joined.append(entry)
            continue
        joined[-1] = wire.Detail(
            entry.type,
            entry.index,
            text=(last.text or "") + (entry.text or ""),
            summary=(last.summary or "") + (entry.summary or ""),
            data=last.data if entry.data is None else (last.data or "") + entry.data,
            signature=entry.signature or last.signature,
            format=last.format or entry.format,
            id=last.id or entry.id,
        )
    return joined


def image(source: wire.ImageUrl, where: str, cache: CacheTtl | None) -> Image:
    return image_at(source.url, source.detail, f"{where}.image_url.url", cache)


def document(file: wire.FileContent, where: str, cache: CacheTtl | None) -> Document:
    if file.file_id is not None:
        param = f"{where}.file.file_id"
        raise InvalidRequest(f"{param}: stored files are not available; send file_data.", param=param)
    param = f"{where}.file.file_data"
    if not file.file_data:
        raise InvalidRequest(f"{param} is required.", param=param)
    return document_of(file.file_data, file.filename, param, cache)


# top-level fields that are carried, checked or of no consequence for the answer
_CARRIED = frozenset(
    {
        "model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "stop", "stream",
        "stream_options", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls",
        "reasoning_effort", "reasoning", "thinking", "enable_thinking", "response_format", "n", "modalities", "user",
        "safety_identifier", "verbosity", "service_tier", "prompt_cache_key", "prompt_cache_retention", "metadata",
        "logprobs", "top_logprobs",
    }
)  # fmt: skip
# values with which a field that cannot be carried asks for nothing
_IDLE: dict[str, frozenset[bytes]] = {
    "frequency_penalty": frozenset({b"0", b"0.0"}),
    "presence_penalty": frozenset({b"0", b"0.0"}),
    "logit_bias": frozenset({b"{}"}),
    "store": frozenset({b"false"}),
}
_PARTS = frozenset({"text", "image_url", "file", "input_audio", "refusal"})
_MESSAGE_FIELDS = frozenset(
    {
        "role", "content", "cache_control", "refusal", "tool_calls", "function_call", "audio", "reasoning_content",
        "reasoning", "reasoning_details", "thinking_blocks", "reasoning_text", "reasoning_opaque", "tool_call_id",
        # what answers carry and callers send back as they got it, or marks of a beginning to go on from
        "annotations", "prefix", "partial", "provider_specific_fields", "is_error",
    }
)  # fmt: skip

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_typed_messages = msgspec.json.Decoder(list[wire.AnyMessage]).decode
_encode = msgspec.json.Encoder().encode


def _function_of(tool: dict[str, Raw]) -> Raw | None:
    """A tool of an unknown type as a function, where it has what one has."""
    own = tool.get("function")
    if own is not None and bytes(own).startswith(b"{"):
        return Raw(_encode({"type": "function", "function": own}))
    if "name" not in tool or not bytes(tool.get("parameters", b"")).startswith(b"{"):
        return None
    return Raw(
        _encode({"type": "function", "function": {name: tool[name] for name in tool if name != "type"}})
    )


_KNOWN = KnownTypes(lambda kind: kind in ("function", "custom"), _PARTS, _function_of)


def decode_request(body: bytes) -> tuple[Request, list[Loss]]:
    """The request in ``body`` (checked by the envelope before), and what of it the neutral form does not carry.

    Raises ``InvalidRequest`` naming the field.
    """
    losses: dict[str, str] = {}
    web_search = False
    try:
        try:
            sent = _body(body)
        except msgspec.ValidationError:
            body, losses, web_search = _mended(body)
            sent = _body(body)
        fields = _fields(body)
        names: set[str] = set()
        for message in _messages(fields["messages"]):
            names.update(message)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    reading = RequestReader()
    reading.losses |= losses
    request, told = finished(reading, sent, fields, names)
    return (msgspec.structs.replace(request, web_search=True) if web_search else request), told


def finished(
    reading: "RequestReader", sent: wire.Body, fields: dict[str, Raw], names: Iterable[str]
) -> tuple[Request, list[Loss]]:
    """What was read, with the losses of fields that are not known; ``names`` are those of the messages."""
    request = reading.request(sent)
    for name, raw in fields.items():
        if name not in _CARRIED and bytes(raw) != b"null" and bytes(raw) not in _IDLE.get(name, ()):
            if name == "audio":
                raise InvalidRequest(f"{name} is not available for this model.", param=name)
            if name == "web_search_options":
                request = msgspec.structs.replace(request, web_search=True)
            else:
                reading.lose(name)
    unknown = {*names} - _MESSAGE_FIELDS
    if unknown:
        for name in nsmallest(MOST_LOSSES, unknown):
            reading.lose(f"messages.{name}")
    return request, reading.told


def _mended(body: bytes) -> tuple[bytes, dict[str, str], bool]:
    """A body that is none of Chat, as far as it can be read all the same; its losses; whether a search was offered."""
    made = regular(_fields(body))
    losses: dict[str, str] = {}
    if made is not None:
        body, losses = _encode(made[0]), dict.fromkeys(made[1], "dropped")
    loosened = Loosened(body, _KNOWN)
    return loosened.body, losses | loosened.losses, loosened.web_search


class RequestReader:
    """One reading: the losses gathered on the way, each told once."""

    __slots__ = ("losses",)

    def __init__(self) -> None:
        self.losses: dict[str, str] = {}

    def lose(self, field: str, outcome: str = "dropped") -> None:
        if len(self.losses) < MOST_LOSSES:
            self.losses.setdefault(field, outcome)

    @property
    def told(self) -> list[Loss]:
        """The losses so far."""
        return [Loss(field, outcome) for field, outcome in self.losses.items()]

    def request(self, sent: wire.Body) -> Request:
        _check(sent)
        tools = self.tools(sent)
        choice, tools = self.tool_choice(sent, tools)
        effort, thinking = _reasoning(sent)
        limit = sent.max_completion_tokens
        return Request(
            model=sent.model,
            turns=self.turns(sent.messages),
            tools=tools,
            tool_choice=choice,
            parallel_tools=sent.parallel_tool_calls,
            max_tokens=sent.max_tokens if limit is None else limit,
            temperature=sent.temperature,
            top_p=sent.top_p,
            top_k=sent.top_k if sent.top_k is not None and sent.top_k > 0 else None,  # 0 and -1 switch it off
            stop=(sent.stop,) if isinstance(sent.stop, str) else tuple(sent.stop or ()),
            stream=bool(sent.stream),
            effort=effort,
            thinking=thinking,
            output=_output(sent.response_format),
            user=sent.safety_identifier or sent.user or None,
            verbosity=sent.verbosity,
            service_tier=asked_tier(sent.service_tier),
            cache_key=sent.prompt_cache_key,
            cache_retention=sent.prompt_cache_retention,
            metadata=asked_metadata(sent.metadata),
            logprobs=bool(sent.logprobs),
            top_logprobs=sent.top_logprobs if sent.logprobs else None,
        )

    # ---- tools

    def tools(self, sent: wire.Body) -> tuple[Tool, ...]:
        tools = self.offered(sent.tools or ())
        for at, spec in enumerate(sent.functions or ()):
            tools.append(_tool(spec, spec.cache_control, f"functions[{at}]"))
        return tuple(tools)

    def offered(self, offered: Sequence[wire.FunctionTool | wire.CustomTool]) -> list[Tool]:
        tools: list[Tool] = []
        for at, tool in enumerate(offered):
            match tool:
                case wire.FunctionTool(function=spec):
                    mark = tool.cache_control or spec.cache_control
                    tools.append(_tool(spec, mark, f"tools[{at}].function"))
                case wire.CustomTool(custom=spec):
                    self.lose("tools.custom", "function")
                    tools.append(_custom_tool(spec))
                case _:
                    assert_never(tool)
        return tools

    def tool_choice(
        self, sent: wire.Body, tools: tuple[Tool, ...]
    ) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
        choice = sent.tool_choice
        if choice is None:
            match sent.function_call:
                case None:
                    return None, tools
                case wire.Named(name=name):
                    return ToolChoice("tool", name), tools
                case str():
                    return _choice_mode(sent.function_call, "function_call"), tools
                case _:
                    assert_never(sent.function_call)
        match choice:
            case str():
                return _choice_mode(choice, "tool_choice"), tools
            case wire.ChosenFunction(function=named) | wire.ChosenCustom(custom=named):
                return ToolChoice("tool", named.name), tools
            case wire.AllowedTools(allowed_tools=allowed):
                self.lose("tool_choice.allowed_tools", "filtered")
                names = {
                    tool.function.name if isinstance(tool, wire.ChosenFunction) else tool.custom.name
                    for tool in allowed.tools
                }
                kept = tuple(tool for tool in tools if tool.name in names)
                if not kept:
                    raise InvalidRequest("tool_choice allows none of the tools.", param="tool_choice")
                return ToolChoice("any" if allowed.mode == "required" else "auto"), kept
            case _:
                assert_never(choice)

    # ---- messages

    def turns(self, messages: list[wire.AnyMessage]) -> tuple[Turn, ...]:
        """One turn a message, but tool results and the user message after them are one, as Messages has it."""
        if not messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        conversation = ConversationReader(self)
        for at, message in enumerate(messages):
            conversation.add(at, message)
        conversation.finish()
        return tuple(conversation.turns)

    def result(self, call_id: str, message: wire.ToolMessage | wire.FunctionMessage, path: str) -> ToolResult:
        parts = self.parts(message.content, path, "tool")
        is_error = bool(parts) and isinstance(parts[0], Text) and parts[0].text.startswith(TOOL_ERROR_MARK)
        if is_error and isinstance(parts[0], Text):
            rest = Text(parts[0].text.removeprefix(TOOL_ERROR_MARK), parts[0].cache)
            parts = [rest, *parts[1:]] if rest.text else parts[1:]
        return ToolResult(
            call_id, tuple(parts), is_error or bool(message.is_error), ttl_of(message.cache_control)
        )

    def assistant(self, message: wire.Assistant, path: str, function_id: str) -> list[AnyPart]:
        if message.audio is not UNSET and bytes(message.audio) != b"null":
            raise InvalidRequest(f"{path}.audio: audio is not supported.", param=f"{path}.audio")
        parts: list[AnyPart] = [*thoughts(message)]
        if message.content is not None:
            parts += self.parts(message.content, path, "assistant")
        if message.refusal:
            self.lose("messages.refusal", "text")
            parts.append(Text(message.refusal))
        for call in message.tool_calls or ():
            match call:
                case wire.FunctionCall(id=id, function=function):
                    self.signed(call, parts)
                    parts.append(_call(inward(id), function))
                case wire.CustomCall(id=id, custom=custom):
                    self.lose("messages.tool_calls.custom", "function")
                    arguments = _encode({"input": custom.input}).decode()
                    parts.append(ToolCall(inward(id), custom.name, arguments))
                case _:
                    assert_never(call)
        if message.function_call is not None:
            parts.append(_call(function_id, message.function_call))
        return parts

    def signed(self, call: wire.FunctionCall, parts: list[AnyPart]) -> None:
        """Add the thought whose signature came back on a call, unless it came back whole; Google's is only Google's."""
        signed = signature_of(call.extra_content) if call.extra_content is not UNSET else None
        if signed is None:
            return
        if not is_ours(signed):
            self.lose("messages.thinking")
            return
        thoughts = [part for part in parts if isinstance(part, Thought)]
        if any(thought.signature == signed for thought in thoughts):
            return
        text = ""
        if (
            parts
            and isinstance(parts[0], Thought)
            and parts[0].signature is None
            and parts[0].redacted is None
        ):
            text = parts[0].text
            del parts[0]
        parts.append(Thought(text, signed))

    def parts(self, content: wire.Content, path: str, role: str) -> list[Text | Image | Document]:
        if content is None:
            raise InvalidRequest(f"{path}.content is required.", param=f"{path}.content")
        if isinstance(content, str):
            return [Text(content)] if content else []
        parts: list[Text | Image | Document] = []
        for at, part in enumerate(content):
            where = f"{path}.content[{at}]"
            cache = self.cache(part)
            if role in {"system", "assistant"} and not isinstance(part, wire.Text | wire.Refusal):
                raise InvalidRequest(
                    f"{where}: only text is allowed in a {role} message.", param=f"{where}.type"
                )
            match part:
                case wire.Text(text=text) | wire.Refusal(refusal=text):
                    if isinstance(part, wire.Refusal):
                        self.lose("messages.content.refusal", "text")
                    if text:
                        parts.append(Text(text, cache))
                case wire.Image(image_url=source):
                    parts.append(
                        image(wire.ImageUrl(source) if isinstance(source, str) else source, where, cache)
                    )
                case wire.File(file=file):
                    parts.append(document(file, where, cache))
                case wire.Audio():
                    raise InvalidRequest(
                        f"{where}: audio input is not supported.", param=f"{where}.input_audio"
                    )
                case _:
                    assert_never(part)
        return parts

    def cache(self, part: wire.AnyPart) -> CacheTtl | None:
        if part.cache_control is not None:
            return ttl_of(part.cache_control)
        mark = part.prompt_cache_breakpoint
        if mark is None:
            return None
        self.lose("messages.prompt_cache_breakpoint", "1h" if mark.ttl == "12h" else "5m")
        return "1h" if mark.ttl == "12h" else "5m"


def _call(id: str, function: wire.Function) -> ToolCall:
    return ToolCall(id, function.name, function.arguments if function.arguments.strip() else "{}")
