"""The shapes of a Responses answer: the response object, its items, its counts and its error event."""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.neutral.request import Cited, StopReason, Usage
from penstock.errors import PenstockError

Status = Literal["in_progress", "completed", "incomplete", "failed"]

_CODES = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}

_encode = msgspec.json.Encoder().encode

INCOMPLETE: dict[StopReason, str] = {
    "max_tokens": "max_output_tokens",
    "context_window": "max_output_tokens",
    "refusal": "content_filter",
}
"""Ends that leave a response incomplete, and the reason it gives."""


class Error(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is incomplete."""

    reason: str


class InputDetails(msgspec.Struct, frozen=True):
    """The part of the input that a cache served or took."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """The part of the output that was reasoning."""

    reasoning_tokens: int


class TokenCounts(msgspec.Struct, frozen=True):
    """The usage object: the input includes what the cache held."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The response object. What the request held is not repeated in it, but for the members that clients insist on."""

    id: str
    object: str = "response"
    created_at: int
    status: Status
    model: str
    output: list[Raw]
    error: Error | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: TokenCounts | None = None
    background: bool = False
    instructions: None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    store: bool = False
    tool_choice: str = "auto"
    tools: tuple[()] = ()


class Annotation(msgspec.Struct, frozen=True, tag_field="type", tag="url_citation"):
    """A web page that a stretch of a message's text cites; offsets in characters."""

    start_index: int
    end_index: int
    url: str
    title: str

    @classmethod
    def of(cls, cited: Cited, start: int, end: int) -> "Annotation":
        """The citation of the text between two offsets."""
        return cls(start, end, cited.url, cited.title)


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """The text of a message."""

    text: str
    annotations: list[Annotation] = []
    logprobs: tuple[()] = ()


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """A refusal in place of a message's text."""

    refusal: str


class Message(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """Text of the model."""

    id: str
    status: Status
    content: list[OutputText | Refusal]
    role: str = "assistant"


class SummaryText(msgspec.Struct, frozen=True, tag_field="type", tag="summary_text"):
    """Reasoning as it is shown."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning, and what has to come back with it."""

    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


class FunctionCall(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a function."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomCall(msgspec.Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A call of a tool that takes free text."""

    id: str
    status: Status
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


def token_counts(usage: Usage, *, input_estimate: int = 0, output_estimate: int = 0) -> TokenCounts:
    """Usage in this dialect's form; the estimates stand where the upstream reported nothing at all of that side."""
    known = [count for count in (usage.input, usage.cache_read, usage.cache_write) if count is not None]
    given = sum(known) if known else input_estimate
    made = output_estimate if usage.output is None else usage.output
    return TokenCounts(
        given,
        InputDetails(usage.cache_read or 0, usage.cache_write or 0),
        made,
        OutputDetails(usage.reasoning or 0),
        given + made,
    )


def frame(kind: bytes, number: int, members: bytes) -> bytes:
    """One event; ``members`` begin with a comma."""
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (kind, kind, number, members)


def failure(error: PenstockError) -> Error:
    """An error as a response tells of it."""
    return Error(_CODES.get(error.kind, "server_error"), error.message)


def failed_frame(response: Response, number: int) -> bytes:
    """The event that ends a stream with a failure."""
    return frame(b"response.failed", number, b',"response":' + _encode(response))


def error_frame(error: PenstockError, request_id: str, sequence: int = 0) -> bytes:
    """An error inside a stream: a response that failed, the terminal event that every client of this dialect waits for.

    ``sequence`` is the number of the event.
    """
    id = "resp_" + request_id.removeprefix("req_")
    return failed_frame(
        Response(id=id, created_at=0, status="failed", model="", output=[], error=failure(error)), sequence
    )
