"""A whole Chat answer, and the shapes that it shares with the chunks of a streamed one."""

from typing import assert_never

import msgspec

from penstock.core.neutral.request import (
    Document,
    Image,
    Reply,
    StopReason,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
)
from penstock.core.reasoning.signature import is_ours
from penstock.core.tools.call_ids import CHAT_LIMIT, outward
from penstock.core.tools.custom_input import text_of

THOUGHT_FORMAT = "anthropic-claude-v1"

_encode = msgspec.json.Encoder().encode

FINISH: dict[StopReason, str] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "context_window": "length",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "stop",
}
# what the caller's word cannot say is beside it, under the name that OpenRouter gave to such things
NATIVE: dict[StopReason, str] = {
    "context_window": "model_context_window_exceeded",
    "pause_turn": "pause_turn",
}


class PromptDetails(msgspec.Struct, frozen=True):
    """The part of the prompt that a cache served or took."""

    cached_tokens: int
    cache_write_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True):
    """The part of the completion that was reasoning."""

    reasoning_tokens: int


class TokenCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Chat's usage object: the prompt includes what the cache held."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of ``reasoning_details``. ``index`` is always there: the OpenAI SDK fails on a list without it."""

    type: str
    index: int
    text: str | None = None
    data: str | None = None
    format: str | None = None
    signature: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A web page that a stretch of the answer's text cites; offsets in characters."""

    start_index: int
    end_index: int
    url: str
    title: str


class Annotation(msgspec.Struct, frozen=True):
    """A citation."""

    url_citation: Page
    type: str = "url_citation"


class CalledFunction(msgspec.Struct, frozen=True):
    """Name and arguments of a call."""

    name: str
    arguments: str


class Call(msgspec.Struct, frozen=True):
    """A tool call of a whole answer."""

    id: str
    function: CalledFunction
    type: str = "function"


class CalledCustom(msgspec.Struct, frozen=True):
    """Name and text of a free-text call."""

    name: str
    input: str


class CustomCall(msgspec.Struct, frozen=True):
    """A call of a tool that takes free text."""

    id: str
    custom: CalledCustom
    type: str = "custom"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """The assistant's message of a whole answer; ``content`` and ``refusal`` are always there, if only as null."""

    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    reasoning_details: list[Detail] = []
    tool_calls: list[Call | CustomCall] = []
    annotations: list[Annotation] = []


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one choice of a whole answer."""

    index: int
    message: Message
    logprobs: None
    finish_reason: str
    matched_stop: str | None = None
    native_finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Alternative]
    usage: TokenCounts | None = None


def token_counts(usage: Usage, *, input_estimate: int = 0, output_estimate: int = 0) -> TokenCounts:
    """Usage in Chat's form; the estimates stand where the upstream reported nothing at all of that side."""
    known = [count for count in (usage.input, usage.cache_read, usage.cache_write) if count is not None]
    prompt = sum(known) if known else input_estimate
    completion = output_estimate if usage.output is None else usage.output
    cached = usage.cache_read is not None or usage.cache_write is not None
    return TokenCounts(
        prompt,
        completion,
        prompt + completion,
        PromptDetails(usage.cache_read or 0, usage.cache_write or 0) if cached else None,
        None if usage.reasoning is None else CompletionDetails(usage.reasoning),
    )


def write_reply(reply: Reply, *, model: str, reply_id: str, created: int) -> bytes:
    """A whole answer. ``reply.failure`` is the relay's to answer; here it would end as an empty stop."""
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[Detail] = []
    calls: list[Call | CustomCall] = []
    for part in reply.parts:
        match part:
            case Text(text):
                texts.append(text)
            case Thought():
                thoughts.append(part.text)
                detail = _detail(part, len(details))
                if detail is not None:
                    details.append(detail)
            case ToolCall(id, name, arguments):
                own = outward(id, CHAT_LIMIT)
                if part.custom:
                    calls.append(CustomCall(own, CalledCustom(name, text_of(arguments))))
                else:
                    calls.append(Call(own, CalledFunction(name, arguments)))
            case Image() | Document() | ToolResult():
                pass
            case _:
                assert_never(part)
    content = "".join(texts)
    reason: StopReason = reply.reason or "end_turn"
    pages = [Annotation(Page(0, len(content), cited.url, cited.title)) for cited in reply.citations]
    message = Message(
        "assistant",
        content if texts or not calls else None,
        reply.detail if reason == "refusal" else None,
        "".join(thoughts) or None,
        details,
        calls,
        pages,
    )
    choice = Alternative(0, message, None, FINISH[reason], reply.stop_sequence, NATIVE.get(reason))
    usage = None if reply.usage == Usage() else token_counts(reply.usage)
    return _encode(Completion(reply_id, "chat.completion", created, model, [choice], usage))


def _detail(thought: Thought, index: int) -> Detail | None:
    if thought.redacted is not None:
        return Detail("reasoning.encrypted", index, data=thought.redacted, format=THOUGHT_FORMAT)
    signature = thought.signature
    if signature is not None and is_ours(signature):
        signature = None
    if not thought.text and signature is None:
        return None
    return Detail(
        "reasoning.text", index, text=thought.text or None, signature=signature, format=THOUGHT_FORMAT
    )
