"""What a Chat request asks for besides its messages: limits, tools, reasoning and the form of the answer."""

from typing import assert_never

from msgspec import UNSET, Raw

from penstock.core.dialects.chat import request_schema as wire
from penstock.core.neutral.request import (
    CacheTtl,
    CallerName,
    Effort,
    OutputFormat,
    Thinking,
    Tool,
    ToolChoice,
)
from penstock.errors import InvalidRequest

_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_CUSTOM_INPUT = Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')


def check(sent: wire.Body) -> None:
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


def tool(spec: wire.FunctionSpec, mark: wire.Cache | None, path: str) -> Tool:
    if not spec.name:
        raise InvalidRequest(f"{path}.name must not be empty.", param=f"{path}.name")
    schema = _NO_PARAMETERS
    if spec.parameters is not UNSET and bytes(spec.parameters) not in {b"null", b"{}"}:
        if bytes(spec.parameters)[:1] != b"{":
            raise InvalidRequest(f"{path}.parameters must be an object.", param=f"{path}.parameters")
        schema = spec.parameters
    return Tool(spec.name, schema, spec.description, spec.strict, ttl(mark))


def custom_tool(spec: wire.CustomSpec) -> Tool:
    """A free-text tool as a function with one string; what its grammar asks for is in words only."""
    description = spec.description or ""
    grammar = spec.format.grammar if spec.format is not None else None
    if grammar is not None and grammar.definition:
        asked = f"The input must match this {grammar.syntax or 'grammar'} definition:\n{grammar.definition}"
        description = f"{description}\n\n{asked}" if description else asked
    return Tool(spec.name, _CUSTOM_INPUT, description or None, caller=CallerName(spec.name, custom=True))


def mode(word: str, field: str) -> ToolChoice:
    match word:
        case "auto" | "none":
            return ToolChoice(word)
        case "required":
            return ToolChoice("any")
        case _:
            raise InvalidRequest(f"{field} must be none, auto, required or an object.", param=field)


def reasoning(sent: wire.Body) -> tuple[Effort | None, Thinking | None]:
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


def output(wanted: wire.PlainFormat | wire.ObjectFormat | wire.SchemaFormat | None) -> OutputFormat | None:
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


def ttl(mark: wire.Cache | None) -> CacheTtl | None:
    if mark is None:
        return None
    return "1h" if mark.ttl == "1h" else "5m"
