"""Every dialect under common names, which lane a request takes, and the one table of what is lost on the way.

Same dialect on both sides: the caller's bytes with another model id. Different dialects: read into the neutral form, then
written. What does not cross is a ``Loss``; each is told in ``X-Penstock-Translation``, and with ``X-Penstock-Strict: 1``
the first one refuses the request instead.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Raw

from penstock.core import chat, messages
from penstock.core.envelope import Envelope, Name, too_deep
from penstock.core.lanes import EventReader, EventWriter, Lane
from penstock.core.losses import LOSSES
from penstock.core.profile import Profile
from penstock.core.signature import PREFIX
from penstock.core.turn import AnyEvent, Failed, Loss, Reply, Request, Usage
from penstock.errors import InvalidRequest, PenstockError

__all__ = ["DIALECTS", "LOSSES", "Dialect", "Prepared", "prepare", "translation_header"]


class WriteRequest(Protocol):
    """Writes a neutral request for one upstream: its body, and what that does not say."""

    def __call__(self, request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
        """``model`` is the upstream's own id. Raises ``InvalidRequest``."""
        ...


class MakeReader(Protocol):
    """Begins the reading of one upstream stream."""

    def __call__(self, *, profile: Profile) -> EventReader:
        """``profile`` is the upstream's."""
        ...


class MakeWriter(Protocol):
    """Begins the writing of one caller's stream."""

    def __call__(
        self, *, model: str, reply_id: str, created: int, include_usage: bool, input_estimate: int
    ) -> EventWriter:
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


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect, both of its sides."""

    name: Name
    read_request: Callable[[bytes], tuple[Request, list[Loss]]]
    write_request: WriteRequest
    Reader: MakeReader
    read_reply: Callable[[bytes, Profile], list[AnyEvent]]
    Writer: MakeWriter
    write_reply: WriteReply
    error_frame: Callable[[PenstockError, str], bytes]
    KEEPALIVE: bytes
    error_text: Callable[[int, bytes], str | None]
    Meter: MakeMeter
    meter_reply: MeterReply


DIALECTS: Mapping[str, Dialect] = {
    "chat": Dialect(
        name="chat",
        read_request=chat.read_request,
        write_request=chat.write_request,
        Reader=chat.Reader,
        read_reply=chat.read_reply,
        Writer=chat.Writer,
        write_reply=chat.write_reply,
        error_frame=chat.error_frame,
        KEEPALIVE=chat.KEEPALIVE,
        error_text=chat.error_text,
        Meter=chat.Meter,
        meter_reply=chat.meter_reply,
    ),
    "messages": Dialect(
        name="messages",
        read_request=messages.read_request,
        write_request=messages.write_request,
        Reader=messages.Reader,
        read_reply=messages.read_reply,
        Writer=messages.Writer,
        write_reply=messages.write_reply,
        error_frame=messages.error_frame,
        KEEPALIVE=messages.KEEPALIVE,
        error_text=messages.error_text,
        Meter=messages.Meter,
        meter_reply=messages.meter_reply,
    ),
}


# ---- a request on its way


class Prepared(msgspec.Struct, frozen=True):
    """What goes to the upstream, and what of the caller's request it does not say."""

    body: bytes
    losses: tuple[Loss, ...] = ()


def prepare(
    envelope: Envelope, *, caller: str, upstream: str, model: str, profile: Profile, strict: bool = False
) -> Prepared:
    """The body for ``model`` (the upstream's own id) of an upstream that speaks ``upstream``.

    Deterministic. Raises ``InvalidRequest`` where the request cannot be said there, and with ``strict`` where it cannot
    be said in full.
    """
    if caller == upstream:
        prepared = _same(envelope, model, profile)
    else:
        try:
            request, lost = DIALECTS[caller].read_request(envelope.body)
            body, more = DIALECTS[upstream].write_request(request, model=model, profile=profile)
        except RecursionError as error:
            raise too_deep() from error
        words = _CALLERS_WORDS.get(caller, {})
        told = (Loss(words.get(loss.field, loss.field), loss.outcome) for loss in (*lost, *more))
        prepared = Prepared(body, tuple(dict.fromkeys(told)))
    if strict and prepared.losses:
        loss = prepared.losses[0]
        raise InvalidRequest(
            f"{_told(loss)}: this cannot be carried to the model in full, and X-Penstock-Strict asks for that.",
            param=loss.field,
        )
    return prepared


_CALLERS_WORDS: Mapping[str, Mapping[str, str]] = {
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


# ---- the same dialect on both sides

_OUR_SIGNATURE = f'"{PREFIX}'.encode()
_list = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_blocks = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Signed(msgspec.Struct):
    type: str = ""
    signature: str | None = None


_signed = msgspec.json.Decoder(_Signed).decode


def _same(envelope: Envelope, model: str, profile: Profile) -> Prepared:
    changes: dict[str, bytes] = {}
    if (
        envelope.dialect == "chat"
        and envelope.stream
        and not envelope.include_usage
        and profile.stream_options
    ):
        changes["stream_options"] = envelope.usage_options()
    elif envelope.dialect == "messages" and profile.native_anthropic and _OUR_SIGNATURE in envelope.body:
        turns = _without_our_thoughts(bytes(envelope.fields["messages"]))
        if turns is not None:
            return Prepared(
                envelope.encode(model, {"messages": turns}), (Loss("messages.thinking", "dropped"),)
            )
    return Prepared(envelope.encode(model, changes))


def _without_our_thoughts(turns: bytes) -> bytes | None:
    """The messages without thinking that another provider's model did, or None where there is none.

    A conversation that has moved to Anthropic would be refused for signatures that Anthropic did not make. All other
    blocks stay as they were, byte for byte.
    """
    rows = _list(turns)
    changed = False
    for row in rows:
        content = bytes(row.get("content", Raw()))
        if content.startswith(b"[") and _OUR_SIGNATURE in content:
            blocks = _blocks(content)
            kept = [block for block in blocks if not _is_our_thought(block)]
            if len(kept) < len(blocks):
                changed = True
                row["content"] = Raw(_encode(kept))
    if not changed:
        return None
    return _encode([row for row in rows if bytes(row.get("content", Raw())) != b"[]"])


def _is_our_thought(block: Raw) -> bool:
    try:
        found = _signed(block)
    except msgspec.ValidationError:
        return False
    return found.type == "thinking" and (found.signature or "").startswith(PREFIX)
