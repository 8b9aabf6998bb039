"""Decodes the answers of a Messages upstream, streamed or whole, into events.

Blocks of a Messages stream come one after another, and then this is little more than a change of words. Imitations of the
format open a second block before they have closed the first, repeat an index, or forget a stop: what belongs to a later
block then waits until the call before it is complete.
"""

from typing import Protocol

import msgspec
from msgspec import UNSET, Raw

from penstock.core.body.nesting import is_object
from penstock.core.dialects.forms import Form
from penstock.core.dialects.messages.hosted_tools import CALLS, hosted_of, is_result
from penstock.core.dialects.messages.response_schema import (
    Block,
    Delta,
    Message,
    StreamEvent,
    UsageMeter,
    cited,
    decode_whole,
    end_of,
    explanation_of,
    failure_of,
    metered,
    read_event,
)
from penstock.core.dialects.messages.text_form import form_of
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Failed,
    HostedUsed,
    Metered,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
    garbled,
)
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.sse import MAX_ANSWER, Frame, Frames, FrameTooLarge
from penstock.core.tools.call_ids import ReplyCalls

"""Bytes of an answer that is plain JSON although a stream was asked for."""

_BOM = b"\xef\xbb\xbf"


Served = dict[str, tuple[Raw, list[str]]]
"""Calls of hosted tools without a result yet, by their ids, and the pieces of their arguments."""


class Heard(Protocol):
    """Told of the events as the upstream wrote them, beside what they mean."""

    def take(self, event: StreamEvent, data: bytes) -> None:
        """Take the next event; ``data`` is its JSON."""
        ...

    def take_whole(self, body: bytes) -> None:
        """Take an answer that came as one JSON object."""
        ...


class _Open:
    """A block that has begun. ``waiting`` are its events while an earlier block is still going."""

    __slots__ = ("called", "ended", "given", "served", "signature", "waiting")

    def __init__(self, *, called: bool) -> None:
        self.called = called
        self.served: list[str] | None = None  # the arguments of a hosted tool's call
        self.signature = ""
        self.given: str | None = None  # a call's whole input, until a fragment of it comes
        self.ended = False
        self.waiting: list[AnyEvent] = []


class ResponseDecoder:
    """A Messages stream as events; the result does not depend on where the bytes were cut."""

    __slots__ = (
        "_blocks",
        "_called",
        "_current",
        "_detail",
        "_frames",
        "_heard",
        "_json",
        "_meter",
        "_names",
        "_profile",
        "_reason",
        "_sequence",
        "_size",
        "_sniffed",
        "_started",
        "answered",
        "done",
        "served",
    )

    def __init__(
        self,
        *,
        profile: Profile = DEFAULT_PROFILE,
        heard: Heard | None = None,
        served: Served | None = None,
    ) -> None:
        """``served``: calls of hosted tools of a reply that this one goes on from."""
        self._frames = Frames()
        self._profile = profile
        self._heard = heard
        self._sniffed = False
        self._json: list[bytes] | None = None  # the body, where it turned out to be plain JSON
        self._size = 0
        self._started = False
        self._blocks: dict[int, _Open] = {}
        self._current: int | None = None  # the block whose events go straight out
        self._called = False
        self._names = ReplyCalls()
        self.served: Served = {} if served is None else served
        self._reason: str | None = None
        self._sequence: str | None = None
        self._detail: str | None = None
        self.answered = ""
        self._meter = UsageMeter()
        self.done = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events completed by ``data``; none after the end."""
        if self.done or not data:
            return []
        if not self._sniffed:
            start = data.removeprefix(_BOM).lstrip()
            if start:
                self._sniffed = True
                if start.startswith(b"{"):
                    self._json = []
        if self._json is not None:
            self._json.append(data)
            self._size += len(data)
            if self._size > MAX_ANSWER:
                self.done = True
                return [garbled(f"the answer is larger than {MAX_ANSWER} bytes")]
            return []
        try:
            return self._take(self._frames.feed(data))
        except FrameTooLarge as error:
            self.done = True
            return [garbled(str(error))]

    def finish(self) -> list[AnyEvent]:
        """The events of the end of the body: ``Failed`` if the stream was not complete."""
        if self.done:
            return []
        if self._json is not None:
            self.done = True
            body = b"".join(self._json).removeprefix(_BOM)
            if self._heard is not None:
                self._heard.take_whole(body)
            events = decode_response(body, self._profile, self.served)
            if isinstance(events[0], Started):
                self.answered = events[0].model
            return events
        out = self._take(self._frames.finish())
        if not self.done:
            self.done = True
            out.append(Failed("api_error", "upstream stream truncated", truncated=True))
        return out

    def form_of(self, raw: bytes) -> Form | None:
        """The form of a frame that became one event; see ``EventDecoder``."""
        return form_of(raw)

    def _take(self, frames: list[Frame]) -> list[AnyEvent]:
        out: list[AnyEvent] = []
        for frame in frames:
            event = read_event(frame.event, frame.data)
            if isinstance(event, Failed):
                out.append(event)
                self.done = True
            elif event is not None:
                if self._heard is not None:
                    self._heard.take(event, frame.data)
                self._event(event, frame.data, out)
            if self.done:
                break
        return out

    def _event(self, event: StreamEvent, data: bytes, out: list[AnyEvent]) -> None:
        if not self._started:
            self._begin(event.message, out)
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._delta(event.index, event.delta, out)
            case "content_block_start":
                self._meter.saw(event.content_block)
                if event.content_block is not None:
                    self._start(event.index, event.content_block, data, out)
            case "content_block_stop":
                self._stop(event.index, out)
            case "message_delta":
                self._message_delta(event, out)
            case "message_stop":
                self._flush(out)
                self.done = True
                if self._reason != "pause_turn":  # else its result comes once the turn goes on
                    out += [HostedUsed(hosted_of(_asked(*call), None)) for call in self.served.values()]
                out.append(self._end())
            case _:
                pass

    def _end(self) -> Stopped | Failed:
        ended = end_of(self._reason, called=self._called, own=self._profile.good_ends)
        if isinstance(ended, Failed):
            return ended
        return Stopped(ended, self._sequence, self._detail, self._meter.service_tier)

    def _begin(self, message: Message | None, out: list[AnyEvent]) -> None:
        self._started = True
        message = message or Message()
        self.answered = message.model or ""
        self._names.begin(message.id or "")
        out.append(Started(message.id or "", self.answered))
        usage = self._meter.at_start(message.usage)
        if usage is not None:
            out.append(Metered(usage))

    def _message_delta(self, event: StreamEvent, out: list[AnyEvent]) -> None:
        self._flush(out)
        delta = event.delta
        if delta is not None and delta.stop_reason is not None:
            # a later delta without a reason takes nothing back
            self._reason = delta.stop_reason
            self._sequence = delta.stop_sequence
            self._detail = explanation_of(delta.stop_details)
        usage = self._meter.take(event.usage)
        self.answered = self._meter.served or self.answered
        if usage is not None:
            out.append(Metered(usage))

    # ---- blocks

    def _start(self, index: int, block: Block, data: bytes, out: list[AnyEvent]) -> None:
        if index in self._blocks:
            self._stop(index, out)
        current = self._current
        if current is not None and not self._blocks[current].called:
            self._stop_at(current, out)
        opened = self._blocks[index] = _Open(called=_calls(block))
        if self._current is None:
            self._current = index
        events: list[AnyEvent] = []
        match block.type:
            case "text":
                if block.text:
                    events.append(TextDelta(block.text))
            case "thinking":
                if block.thinking:
                    events.append(ThoughtDelta(block.thinking))
                opened.signature = block.signature or ""
            case "redacted_thinking":
                events.append(ThoughtRedacted(block.data or ""))
            case "tool_use" if block.name:
                self._called = True
                events.append(CallOpened(self._names.name(block.id or ""), block.name))
                opened.given = _input(block)
            case kind if kind in CALLS:
                opened.served = []
                self.served[block.id or ""] = (_started(data).content_block, opened.served)
            case kind if is_result(kind):
                call = self.served.pop(block.tool_use_id or "", None)
                asked = None if call is None else _asked(*call)
                events.append(HostedUsed(hosted_of(asked, _started(data).content_block)))
            case _:
                pass
        self._emit(index, events, out)

    def _delta(self, index: int, delta: Delta, out: list[AnyEvent]) -> None:
        events: list[AnyEvent] = []
        opened = self._blocks.get(index)
        match delta.type:
            case "text_delta":
                if delta.text:
                    events.append(TextDelta(delta.text))
            case "thinking_delta":
                if delta.thinking:
                    events.append(ThoughtDelta(delta.thinking))
            case "input_json_delta":
                if opened is None:
                    self._fail("the upstream sent arguments of a tool call that it never began", out)
                elif opened.served is not None:
                    opened.served.append(delta.partial_json or "")
                elif delta.partial_json and opened.called:
                    opened.given = None
                    events.append(CallArgs(delta.partial_json))
            case "signature_delta":
                if opened is not None:
                    opened.signature = delta.signature or opened.signature
                elif delta.signature:
                    events.append(ThoughtSigned(delta.signature))
            case "citations_delta":
                if delta.citation is not UNSET:
                    events += cited(delta.citation)
            case _:
                pass
        if events:
            self._emit(index, events, out)

    def _emit(self, index: int, events: list[AnyEvent], out: list[AnyEvent]) -> None:
        """Give events out, or keep them while a call that began earlier is not complete."""
        current = self._current
        if current is None or current == index:
            out += events
        elif index in self._blocks:
            self._blocks[index].waiting += events
        else:
            # text of a block that never began: it gets one, so that it can wait
            self._blocks[index] = late = _Open(called=False)
            late.waiting += events

    def _stop(self, index: int, out: list[AnyEvent]) -> None:
        if index in self._blocks:
            self._stop_at(index, out)

    def _stop_at(self, index: int, out: list[AnyEvent]) -> None:
        block = self._blocks[index]
        block.ended = True
        events: list[AnyEvent] = []
        if block.signature:
            events.append(ThoughtSigned(block.signature))
        if block.given is not None:
            events.append(CallArgs(block.given))
        self._emit(index, events, out)
        if index == self._current:
            del self._blocks[index]
            self._advance(out)

    def _advance(self, out: list[AnyEvent]) -> None:
        """Let the blocks that waited go on, up to one that has not ended."""
        self._current = None
        for index in sorted(self._blocks):
            block = self._blocks[index]
            out += block.waiting
            block.waiting = []
            if not block.ended:
                self._current = index
                return
            del self._blocks[index]

    def _flush(self, out: list[AnyEvent]) -> None:
        """End whatever is still open."""
        while self._current is not None:
            self._stop_at(self._current, out)

    def _fail(self, message: str, out: list[AnyEvent]) -> None:
        self.done = True
        out.append(garbled(message))


class _Started(msgspec.Struct):
    content_block: Raw


_started = msgspec.json.Decoder(_Started).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def _asked(call: Raw, pieces: list[str]) -> Raw:
    """The call of a hosted tool, with the arguments that came after it."""
    given = "".join(pieces).encode()
    if not is_object(given):
        return call
    try:
        return Raw(_encode({**_fields(call), "input": Raw(given)}))
    except ValueError:  # a member's name is no text
        return call


def _input(block: Block) -> str | None:
    """A call's input where it came whole; the usual ``{}`` of a stream is only a placeholder."""
    if block.input is UNSET:
        return None
    text = bytes(block.input).decode("utf-8", "replace")
    return None if text in ("{}", "null", '""') else text


_SSE_STARTS = (b"event:", b"data:", b":")


def decode_response(
    body: bytes, profile: Profile = DEFAULT_PROFILE, served: Served | None = None
) -> list[AnyEvent]:
    """A whole answer as events, or a stream that is read to its end; anything else is one ``Failed``.

    ``served``: of a reply that this one goes on from.
    """
    if body.lstrip().startswith(_SSE_STARTS):
        reader = ResponseDecoder(profile=profile, served=served)
        return [*reader.feed(body), *reader.finish()]
    message = decode_whole(body)
    if message is None:
        return [garbled("the upstream's answer is not a Messages reply")]
    if message.type == "error" or (message.error is not UNSET and bytes(message.error) != b"null"):
        return [failure_of(body)]
    if message.content is None:
        return [garbled("the upstream's answer has no content")]
    usage, meter = metered(message)
    events: list[AnyEvent] = [Started(message.id or "", meter.served or message.model or "")]
    if usage is not None:
        events.append(Metered(usage))
    called, names = False, ReplyCalls()
    names.begin(message.id or "")
    served = {} if served is None else served
    for at, block in enumerate(message.content):
        called = called or _calls(block)
        if block.type in CALLS:
            served[block.id or ""] = (_raw_block(body, at), [])
        elif is_result(block.type):
            call = served.pop(block.tool_use_id or "", None)
            asked = None if call is None else _asked(*call)
            events.append(HostedUsed(hosted_of(asked, _raw_block(body, at))))
        else:
            events += _whole(block, names)
    if message.stop_reason != "pause_turn":
        events += [HostedUsed(hosted_of(_asked(*call), None)) for call in served.values()]
    ended = end_of(message.stop_reason, called=called, own=profile.good_ends)
    if isinstance(ended, Failed):
        return [*events, ended]
    explained = explanation_of(message.stop_details)
    return [*events, Stopped(ended, message.stop_sequence, explained, meter.service_tier)]


class _Content(msgspec.Struct):
    content: list[Raw]


_content = msgspec.json.Decoder(_Content).decode


def _raw_block(body: bytes, at: int) -> Raw:
    return _content(body).content[at]


def _calls(block: Block) -> bool:
    """Whether a block calls a tool. One without a name calls none: no client could tell which."""
    return block.type == "tool_use" and bool(block.name)


def _whole(block: Block, names: ReplyCalls) -> list[AnyEvent]:
    match block.type:
        case "text":
            events: list[AnyEvent] = [TextDelta(block.text)] if block.text else []
            for citation in block.citations or ():
                events += cited(citation)
            return events
        case "thinking":
            thought: list[AnyEvent] = [ThoughtDelta(block.thinking)] if block.thinking else []
            return [*thought, ThoughtSigned(block.signature)] if block.signature else thought
        case "redacted_thinking":
            return [ThoughtRedacted(block.data or "")]
        case "tool_use" if block.name:
            given = _input(block)
            opened = CallOpened(names.name(block.id or ""), block.name)
            return [opened] if given is None else [opened, CallArgs(given)]
        case _:
            return []
