"""Schema of a Responses request: ``decode_request`` and ``tools`` decode into it.

Items of the input are decoded one by one, each by its ``type``, because a message may come without one. A field that is
not listed is ignored here; ``decode_request`` reports those of the top level and of items.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.neutral.request import Effort

CALL_ID_LIMIT = 64
"""The longest id of a tool call that clients of the dialect, or its API, take."""


COMPACTIONS = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Types of items that stand for a conversation; Codex has used all three."""


class Breakpoint(msgspec.Struct):
    """A prompt-cache mark."""

    ttl: str | None = None


class Part(msgspec.Struct, tag_field="type"):
    """A part of a message's content, or of a tool's output."""

    prompt_cache_breakpoint: Breakpoint | None = None


class InputText(Part, tag="input_text", kw_only=True):
    text: str


class OutputText(Part, tag="output_text", kw_only=True):
    text: str
    annotations: list[Raw] | None = None


class PlainText(Part, tag="text", kw_only=True):
    text: str


class SummaryText(Part, tag="summary_text", kw_only=True):
    text: str


class ReasoningText(Part, tag="reasoning_text", kw_only=True):
    text: str


class Refusal(Part, tag="refusal", kw_only=True):
    refusal: str


class InputImage(Part, tag="input_image", kw_only=True):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(Part, tag="input_file", kw_only=True):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class InputAudio(Part, tag="input_audio", kw_only=True):
    pass


AnyPart = (
    InputText
    | OutputText
    | PlainText
    | SummaryText
    | ReasoningText
    | Refusal
    | InputImage
    | InputFile
    | InputAudio
)
Content = str | list[AnyPart]


# ---- items of the input


class Kind(msgspec.Struct):
    """As much of an item as says what it is; one without a type is a message, or a reference by ``id`` alone."""

    type: str | None = None
    role: str | None = None


class Message(msgspec.Struct):
    """A message of any role, easy or in full."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: str | None = None


class FunctionCall(msgspec.Struct):
    call_id: str
    name: str
    arguments: str = ""
    namespace: str | None = None


class CustomCall(msgspec.Struct):
    call_id: str
    name: str
    input: str = ""
    namespace: str | None = None


class CallOutput(msgspec.Struct):
    """What a tool gave back, function or custom."""

    call_id: str
    output: Content


class Reasoning(msgspec.Struct):
    summary: list[SummaryText] = []
    content: list[ReasoningText | PlainText] | None = None
    encrypted_content: str | None = None


class AdditionalTools(msgspec.Struct):
    tools: list[Raw] = []


# ---- tools


class Format(msgspec.Struct):
    """The form of a custom tool's text."""

    type: str = "text"
    syntax: str | None = None
    definition: str | None = None


class Tool(msgspec.Struct):
    """Any tool: what of it counts depends on its ``type``."""

    type: str = "function"
    name: str | None = None
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None
    format: Format | None = None
    tools: list[Raw] | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    output_schema: Raw | UnsetType = UNSET
    execution: str | None = None
    environment: Kind | None = None


class Choice(msgspec.Struct):
    """A ``tool_choice`` that is not a word."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list["Choice"] | None = None


# ---- the form of the answer, and the whole body


class TextFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Raw | UnsetType = UNSET
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(msgspec.Struct):
    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class ConfigurationUpdate(msgspec.Struct):
    """An item that changes what the top level asked for, from there on."""

    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None


class StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None


class Body(msgspec.Struct):
    """A whole request: every field that has a meaning in the neutral form, or a type worth checking."""

    model: str
    input: str | list[Raw]
    instructions: str | None = None
    tools: list[Raw] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    store: bool | None = None
    truncation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    top_logprobs: int | None = None
    metadata: Raw | UnsetType = UNSET
