"""Every dialect under common names, which lane a request takes, and the one table of what is lost on the way.

Same dialect on both sides: the caller's bytes with another model id. Different dialects: read into the neutral form, then
written. What does not cross is a ``Loss``; each is told in ``X-Penstock-Translation``, and with ``X-Penstock-Strict: 1``
the first one refuses the request instead.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from penstock.core.body.envelope import DialectName, Envelope, too_deep
from penstock.core.dialects.chat import dialect as chat
from penstock.core.dialects.lanes import EventDecoder, EventEncoder, Lane
from penstock.core.dialects.losses import LOSSES
from penstock.core.dialects.messages import dialect as messages
from penstock.core.dialects.prepare import Prepared, passed, with_extra
from penstock.core.dialects.responses import dialect as responses
from penstock.core.neutral.events import AnyEvent, Failed, Reply
from penstock.core.neutral.request import Loss, Request
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope, restore_reasoning
from penstock.core.tools.call_ids import CHAT_LIMIT, RESPONSES_LIMIT
from penstock.core.tools.names import fit_tool_names
from penstock.errors import InvalidRequest, PenstockError

__all__ = ["CALLERS_WORDS", "DIALECTS", "LOSSES", "Dialect", "Prepared", "prepare", "translation_header"]


class WriteRequest(Protocol):
    """Writes a neutral request for one upstream: its body, and what that does not say."""

    def __call__(self, request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
        """``model`` is the upstream's own id. Raises ``InvalidRequest``."""
        ...


class MakeReader(Protocol):
    """Begins the reading of one upstream stream."""

    def __call__(self, *, profile: Profile) -> EventDecoder:
        """``profile`` is the upstream's."""
        ...


class MakeWriter(Protocol):
    """Begins the writing of one caller's stream."""

    def __call__(
        self, *, model: str, reply_id: str, created: int, include_usage: bool, input_estimate: int
    ) -> EventEncoder:
        """``created`` in Unix seconds, ``input_estimate`` in tokens."""
        ...


class MakeMeter(Protocol):
    """Begins the metering of one same-dialect stream."""

    def __call__(self, *, model: str | None, withhold_usage: bool) -> Lane:
        """``model``: the public id to put in place of the upstream's, None to leave that."""
        ...


class WriteReply(Protocol):
    """Writes a whole answer."""

    def __call__(self, reply: Reply, *, model: str, reply_id: str, created: int) -> bytes:
        """``created`` in Unix seconds."""
        ...


class MeterReply(Protocol):
    """Meters a whole same-dialect answer."""

    def __call__(self, body: bytes, *, model: str | None) -> tuple[bytes, Usage, Failed | None]:
        """The bytes to relay, the usage, and what is wrong with the answer."""
        ...


class ErrorFrame(Protocol):
    """Writes an error inside a stream, in place of the rest of it."""

    def __call__(self, error: PenstockError, request_id: str, sequence: int = 0) -> bytes:
        """``sequence`` is the number of the event, in the dialect that counts them."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect, both of its sides."""

    name: DialectName
    read_request: Callable[[bytes], tuple[Request, list[Loss]]]
    write_request: WriteRequest
    Reader: MakeReader
    read_reply: Callable[[bytes, Profile], list[AnyEvent]]
    Writer: MakeWriter
    write_reply: WriteReply
    error_frame: ErrorFrame
    KEEPALIVE: bytes
    error_text: Callable[[int, bytes], str | None]
    Meter: MakeMeter
    meter_reply: MeterReply


DIALECTS: Mapping[str, Dialect] = {
    "chat": Dialect(
        name="chat",
        read_request=chat.decode_request,
        write_request=chat.encode_request,
        Reader=chat.ResponseDecoder,
        read_reply=chat.decode_response,
        Writer=chat.ResponseEncoder,
        write_reply=chat.encode_response,
        error_frame=chat.error_frame,
        KEEPALIVE=chat.KEEPALIVE,
        error_text=chat.error_text,
        Meter=chat.Passthrough,
        meter_reply=chat.passthrough_response,
    ),
    "messages": Dialect(
        name="messages",
        read_request=messages.decode_request,
        write_request=messages.encode_request,
        Reader=messages.ResponseDecoder,
        read_reply=messages.decode_response,
        Writer=messages.ResponseEncoder,
        write_reply=messages.encode_response,
        error_frame=messages.error_frame,
        KEEPALIVE=messages.KEEPALIVE,
        error_text=messages.error_text,
        Meter=messages.Passthrough,
        meter_reply=messages.passthrough_response,
    ),
    "responses": Dialect(
        name="responses",
        read_request=responses.decode_request,
        write_request=responses.encode_request,
        Reader=responses.ResponseDecoder,
        read_reply=responses.decode_response,
        Writer=responses.ResponseEncoder,
        write_reply=responses.encode_response,
        error_frame=responses.error_frame,
        KEEPALIVE=responses.KEEPALIVE,
        error_text=responses.error_text,
        Meter=responses.Passthrough,
        meter_reply=responses.passthrough_response,
    ),
}


# ---- a request on its way


def prepare(
    envelope: Envelope,
    *,
    caller: str,
    upstream: str,
    model: str,
    profile: Profile,
    strict: bool = False,
    recall: ReasoningScope | None = None,
) -> Prepared:
    """The body for ``model`` (the upstream's own id) of an upstream that speaks ``upstream``.

    ``recall`` has the thoughts that this provider's models had for this caller.

    Deterministic. Raises ``InvalidRequest`` where the request cannot be said there, and with ``strict`` where it cannot
    be said in full.
    """
    try:
        if caller == upstream:
            prepared = passed(envelope, model, profile, recall)
        else:
            prepared = _translated(envelope, caller, upstream, model, profile, recall)
    except RecursionError as error:
        raise too_deep() from error
    if profile.extra_body:
        prepared = with_extra(prepared, profile)
    if strict and prepared.losses:
        loss = prepared.losses[0]
        raise InvalidRequest(
            f"{_told(loss)}: this cannot be carried to the model in full, and X-Penstock-Strict asks for that.",
            param=loss.field,
        )
    return prepared


_ID_LIMITS = {"chat": CHAT_LIMIT, "responses": RESPONSES_LIMIT}
"""Of the callers that may not send reasoning back; those of Messages do, since the format asks it of them."""


def _translated(
    envelope: Envelope,
    caller: str,
    upstream: str,
    model: str,
    profile: Profile,
    recall: ReasoningScope | None,
) -> Prepared:
    request, lost = DIALECTS[caller].read_request(envelope.body)
    if request.web_search:
        request = _searching(request, caller, upstream, profile, lost)
    request, names = fit_tool_names(request)
    limit = _ID_LIMITS.get(caller)
    if recall is not None and limit is not None:
        recall = replace(recall, limit=limit)
        request = restore_reasoning(request, recall)
    body, more = DIALECTS[upstream].write_request(request, model=model, profile=profile)
    words = CALLERS_WORDS.get(caller, {})
    told = (Loss(words.get(loss.field, loss.field), loss.outcome) for loss in (*lost, *more))
    keeping = recall if limit is not None and request.tools else None
    hides = request.thinking is not None and request.thinking.shown is False
    return Prepared(body, tuple(dict.fromkeys(told)), names, keeping, hides)


def _searching(request: Request, caller: str, upstream: str, profile: Profile, lost: list[Loss]) -> Request:
    """The request with what becomes of its offer of the provider's own web search.

    Codex always makes that offer, so it may be dropped there; other callers ask for a search where they say so.
    """
    field = "web_search_options" if caller == "chat" else "tools.web_search"
    taken = any(tool.name == "web_search" for tool in request.tools)
    if profile.web_search == "mapped" and upstream != "chat" and not taken:
        lost.append(Loss(field, "mapped"))
        return request
    if profile.web_search == "refused" or caller != "responses":
        param = field if caller == "chat" else "tools"
        raise InvalidRequest(
            f"{param}: the provider's web_search is not available with this model.", param=param
        )
    lost.append(Loss(field, "dropped"))
    return msgspec.structs.replace(request, web_search=False)


CALLERS_WORDS: Mapping[str, Mapping[str, str]] = {
    "chat": {
        "effort": "reasoning_effort",
        "output_config.format.strict": "response_format.json_schema.strict",
        "tools.strict": "tools.function.strict",
    },
    "responses": {
        "effort": "reasoning.effort",
        "reasoning_effort": "reasoning.effort",
        "thinking": "reasoning.summary",
        "response_format": "text.format",
        "response_format.json_schema.schema": "text.format.schema",
        "output_config.format": "text.format",
        "output_config.format.strict": "text.format.strict",
        "tools.function.strict": "tools.strict",
        "cache_control": "input.prompt_cache_breakpoint",
        "user": "safety_identifier",
        "messages.system": "input.developer",
        "messages.role": "input.role",
        "messages.thinking": "input.reasoning",
        "messages.redacted_thinking": "input.reasoning",
        "messages.image_url.detail": "input.input_image.detail",
        "messages.tool_calls.function.arguments": "input.function_call.arguments",
        "messages.tool_result.image": "input.function_call_output.input_image",
        "messages.tool_result.document": "input.function_call_output.input_file",
        "messages.tool_result.is_error": "input.function_call_output.output",
        "messages.tool_result.cache_control": "input.prompt_cache_breakpoint",
        "messages.assistant.text": "input.message",
        "messages.assistant.cache_control": "input.prompt_cache_breakpoint",
    },
    "messages": {
        "effort": "output_config.effort",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "stop": "stop_sequences",
        "user": "metadata.user_id",
    },
}
"""A writer does not know who called, and names a field as Chat does; the caller is told of it under its own name."""


def translation_header(losses: Iterable[Loss]) -> str:
    """The value of ``X-Penstock-Translation``: ``top_k=dropped; temperature=clamped(1.7->1)``, printable ASCII only."""
    told = list(dict.fromkeys(_told(loss) for loss in losses))
    rest = len(told) - _TOLD_MOST
    return "; ".join(told[:_TOLD_MOST]) + (f"; and {rest} more" if rest > 0 else "")


_TOLD_MOST = 40
_FIELD_MOST = 80
_UNTELLABLE = re.compile(r"[^A-Za-z0-9_.()<>\[\]-]")


def _told(loss: Loss) -> str:
    # a field's name may be anything that a caller wrote
    return (
        f"{_UNTELLABLE.sub('?', loss.field[:_FIELD_MOST])}={_UNTELLABLE.sub('?', loss.outcome[:_FIELD_MOST])}"
    )
