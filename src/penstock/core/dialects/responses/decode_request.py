"""Decodes a Responses request into the neutral form: what Codex, the OpenAI SDKs and others send to ``POST /responses``."""

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.envelope import invalid
from penstock.core.dialects.openai.shared_fields import asked_metadata, asked_tier
from penstock.core.dialects.responses import request_schema as wire
from penstock.core.dialects.responses.conversation_reader import ConversationReader, bring, kind_of
from penstock.core.dialects.responses.tools import Toolbox
from penstock.core.dialects.summary import INSTRUCTION, summarising
from penstock.core.neutral.request import (
    MOST_LOSSES,
    Effort,
    Loss,
    OutputFormat,
    Request,
    Text,
    Thinking,
    Turn,
)
from penstock.errors import InvalidRequest

_CARRIED = frozenset(wire.Body.__struct_fields__) - {"store", "truncation"}
# values with which a field that cannot be carried asks for nothing
_IDLE: dict[str, frozenset[bytes]] = {
    "store": frozenset({b"false"}),
    "truncation": frozenset({b'"disabled"'}),
    "background": frozenset({b"false"}),
    "context_management": frozenset({b"[]"}),
}
_ENCRYPTED = "reasoning.encrypted_content"
"""What may be included, because it always is."""
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = frozenset({_ENCRYPTED, _LOGPROBS})

_body = msgspec.json.Decoder(wire.Body).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


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
    return finished(RequestReader(), sent, fields)


def finished(reading: "RequestReader", sent: wire.Body, fields: dict[str, Raw]) -> tuple[Request, list[Loss]]:
    """The request that ``reading`` reads, and its losses with those of the top level. Raises ``InvalidRequest``."""
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


class RequestReader:
    """One reading: the losses gathered on the way, each told once."""

    __slots__ = ("compacts", "losses", "toolbox")

    def __init__(self) -> None:
        self.compacts = False
        self.losses: dict[str, str] = {}
        self.toolbox = Toolbox(self.lose)

    def lose(self, field: str, outcome: str = "dropped") -> None:
        """Note a loss."""
        if len(self.losses) < MOST_LOSSES:
            self.losses.setdefault(field, outcome)

    def conversation(self, tools: list[Raw], items: list[Raw]) -> ConversationReader:
        """What the items say, with the tools in the toolbox. Raises ``InvalidRequest``."""
        for at, tool in enumerate(tools):
            self.toolbox.add(tool, f"tools[{at}]")
        kinds: list[str] = []
        for at, raw in enumerate(items):
            path = f"input[{at}]"
            kinds.append(kind_of(raw, path))
            bring(self.toolbox, kinds[-1], raw, path, self.lose)
        reading = ConversationReader(self.toolbox)
        reading.begin_with(kinds, items)
        for at in range(len(items)):
            reading.take(at)
        reading.finish()
        return reading

    def request(self, sent: wire.Body) -> Request:
        """The whole request. Raises ``InvalidRequest``."""
        _check(sent)
        scored = _LOGPROBS in (sent.include or ()) or bool(sent.top_logprobs)
        if any(more not in _INCLUDED for more in sent.include or ()):
            self.lose("include")
        said = self.conversation(sent.tools or [], [] if isinstance(sent.input, str) else sent.input)
        for loss in said.told:
            self.lose(loss.field, loss.outcome)
        self.compacts = said.compacts
        turns = said.turns
        if isinstance(sent.input, str) and sent.input:
            turns = [Turn("user", (Text(sent.input),))]
        if sent.instructions:
            turns = [Turn("system", (Text(sent.instructions),)), *turns]
        if not any(turn.role != "system" for turn in turns):
            raise InvalidRequest("input must hold something besides instructions.", param="input")
        choice = self.toolbox.choice(sent.tool_choice)
        effort, thinking = self.reasoning(said.reasoning or sent.reasoning)
        return Request(
            model=sent.model,
            turns=tuple(turns),
            tools=tuple(self.toolbox.tools),
            tool_choice=choice,
            parallel_tools=sent.parallel_tool_calls,
            max_tokens=sent.max_output_tokens,
            temperature=sent.temperature,
            top_p=sent.top_p,
            stream=bool(sent.stream),
            effort=effort,
            thinking=thinking,
            output=_output(said.format or (sent.text.format if sent.text is not None else None)),
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

    def reasoning(self, asked: wire.ReasoningOptions | None) -> tuple[Effort | None, Thinking | None]:
        """The effort, and with a summary asked for that the reasoning be shown."""
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
