"""Schema of a Chat request, as the API and its common extensions define it: ``decode_request`` decodes into it.

A field that is not listed is ignored here; ``decode_request`` reports those of the top level and of messages.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.neutral.request import Effort

CALL_ID_LIMIT = 40
"""The longest id of a tool call that clients of the dialect, or its API, take."""


class Cache(msgspec.Struct):
    """Anthropic's mark, as OpenRouter, LiteLLM and opencode put it on Chat messages."""

    ttl: str | None = None


class Breakpoint(msgspec.Struct):
    """OpenAI's mark."""

    ttl: str | None = None


class Part(msgspec.Struct, tag_field="type"):
    """A part of a message's content."""

    cache_control: Cache | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class Text(Part, tag="text", kw_only=True):
    text: str


class ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class Image(Part, tag="image_url", kw_only=True):
    image_url: ImageUrl | str


class FileContent(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class File(Part, tag="file", kw_only=True):
    file: FileContent


class Audio(Part, tag="input_audio", kw_only=True):
    pass


class Refusal(Part, tag="refusal", kw_only=True):
    refusal: str


AnyPart = Text | Image | File | Audio | Refusal
Content = str | list[AnyPart] | None


class Function(msgspec.Struct):
    name: str
    arguments: str = ""


class Custom(msgspec.Struct):
    name: str
    input: str = ""


class FunctionCall(msgspec.Struct, tag_field="type", tag="function"):
    id: str
    function: Function
    extra_content: Raw | UnsetType = UNSET


class CustomCall(msgspec.Struct, tag_field="type", tag="custom"):
    id: str
    custom: Custom


class Detail(msgspec.Struct):
    """An entry of OpenRouter's ``reasoning_details``."""

    type: str = ""
    index: int | None = None
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    format: str | None = None
    id: str | None = None


class ThinkingBlock(msgspec.Struct):
    """An entry of LiteLLM's ``thinking_blocks``."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str = ""
    signature: str | None = None
    data: str | None = None


class Message(msgspec.Struct, tag_field="role"):
    """One message; ``cache_control`` on it marks its last part (opencode)."""

    name: str | None = None
    cache_control: Cache | None = None


class System(Message, tag="system", kw_only=True):
    content: Content = None


class Developer(Message, tag="developer", kw_only=True):
    content: Content = None


class User(Message, tag="user", kw_only=True):
    content: Content = None


class Assistant(Message, tag="assistant", kw_only=True):
    content: Content = None
    refusal: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: Function | None = None
    audio: Raw | UnsetType = UNSET
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Detail] | None = None
    thinking_blocks: list[ThinkingBlock] | None = None
    reasoning_text: str | None = None
    reasoning_opaque: str | None = None


class ToolMessage(Message, tag="tool", kw_only=True):
    tool_call_id: str
    content: Content = None
    is_error: bool | None = None


class FunctionMessage(Message, tag="function", kw_only=True):
    content: Content = None
    is_error: bool | None = None


AnyMessage = System | Developer | User | Assistant | ToolMessage | FunctionMessage


class FunctionSpec(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None
    cache_control: Cache | None = None


class FunctionTool(msgspec.Struct, tag_field="type", tag="function"):
    function: FunctionSpec
    cache_control: Cache | None = None


class Grammar(msgspec.Struct):
    definition: str | None = None
    syntax: str | None = None


class Format(msgspec.Struct):
    type: str = "text"
    grammar: Grammar | None = None


class CustomSpec(msgspec.Struct):
    name: str
    description: str | None = None
    format: Format | None = None


class CustomTool(msgspec.Struct, tag_field="type", tag="custom"):
    custom: CustomSpec


class Named(msgspec.Struct):
    name: str


class ChosenFunction(msgspec.Struct, tag_field="type", tag="function"):
    function: Named


class ChosenCustom(msgspec.Struct, tag_field="type", tag="custom"):
    custom: Named


class Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[ChosenFunction | ChosenCustom]


class AllowedTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: Allowed


class PlainFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class ObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class Schema(msgspec.Struct):
    name: str
    schema: Raw | UnsetType = UNSET
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: Schema


class ReasoningOptions(msgspec.Struct):
    """OpenRouter's ``reasoning``."""

    effort: Effort | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class ThinkingOptions(msgspec.Struct):
    """The ``thinking`` of DeepSeek, Z.ai and LiteLLM."""

    type: Literal["enabled", "disabled", "adaptive", "auto"]
    budget_tokens: int | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Body(msgspec.Struct):
    """A whole request: every field that has a meaning in the neutral form, or a type worth checking."""

    model: str
    messages: list[AnyMessage]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    functions: list[FunctionSpec] | None = None
    tool_choice: str | ChosenFunction | ChosenCustom | AllowedTools | None = None
    function_call: str | Named | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    reasoning: ReasoningOptions | None = None
    thinking: ThinkingOptions | None = None
    enable_thinking: bool | None = None
    response_format: PlainFormat | ObjectFormat | SchemaFormat | None = None
    n: int | None = None
    modalities: list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    store: bool | None = None
    logit_bias: dict[str, float] | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: Raw | UnsetType = UNSET
