"""Turns that a Messages upstream pauses (``pause_turn``): its answer goes back to it, and it goes on from there.

Only the Messages dialect can tell a caller of a pause, so for the others several replies of the upstream are read as
one: the blocks go back byte for byte, whatever they are, the events run on, and the counts are added up.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from penstock.core.dialects.forms import Form
from penstock.core.dialects.messages.decode_response import ResponseDecoder
from penstock.core.dialects.messages.hosted_tools import read_block
from penstock.core.dialects.messages.response_schema import Block, Delta, StreamEvent, UsageMeter
from penstock.core.neutral.events import AnyEvent, Metered, Started, Stopped
from penstock.core.neutral.text_pieces import TextPieces
from penstock.core.neutral.usage import Usage, add_special, merge_usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.sse import MAX_ANSWER


class _Started(msgspec.Struct):
    content_block: Raw | UnsetType = UNSET


class _Whole(msgspec.Struct):
    content: list[Raw] | None = None
    usage: Raw | UnsetType = UNSET


_started = msgspec.json.Decoder(_Started).decode
_whole = msgspec.json.Decoder(_Whole).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_word = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class _Block:
    """A block as it began, and what has been added to it."""

    __slots__ = ("citations", "pieces", "raw", "signature")

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.signature: str | None = None
        self.citations: list[Raw] = []
        self.pieces = TextPieces()

    def whole(self) -> Raw | None:
        """The block as it goes back; None for an empty text, which may not. Raises what decoding does."""
        text = self.pieces.text()
        fields = _fields(self.raw)
        match _text(fields, "type"):
            case "text":
                text = _text(fields, "text") + text
                if not text:
                    return None
                fields["text"] = Raw(_encode(text))
                if self.citations:
                    fields["citations"] = Raw(_encode(self.citations))
            case "thinking":
                fields["thinking"] = Raw(_encode(_text(fields, "thinking") + text))
                if self.signature is not None:
                    fields["signature"] = Raw(_encode(self.signature))
            case _ if text:
                _fields(text)
                fields["input"] = Raw(text.encode())
            case _:
                return self.raw
        return Raw(_encode(fields))


def _text(fields: dict[str, Raw], name: str) -> str:
    raw = fields.get(name)
    return _word(raw) if raw is not None and bytes(raw).startswith(b'"') else ""


class Said:
    """Told of every event of one reply by its reader; has the reply's blocks and counts at its end."""

    __slots__ = ("_blocks", "_keeps", "_last", "_meter", "_whole", "size", "usage")

    def __init__(self, keeps: int = MAX_ANSWER) -> None:
        """``keeps``: so many bytes are kept, and of a longer reply nothing."""
        self._keeps = keeps
        self._blocks: dict[int, _Block] = {}
        self._last: _Block | None = None  # the one that the last piece was added to
        self.size = 0
        self._whole: list[Raw] = []
        self._meter = UsageMeter()
        self.usage = Usage()

    def take(self, event: StreamEvent, data: bytes) -> None:
        """Take the next event; ``data`` is its JSON."""
        delta = event.delta
        if delta is not None and event.type == "content_block_delta":
            block = self._blocks.get(event.index)
            if block is not None:
                piece = delta.text or delta.thinking or delta.partial_json
                if piece:
                    self._last = block
                    self._add(block, piece)
                else:
                    self._sign(block, delta)
        elif event.type == "content_block_start":
            self._meter.saw(event.content_block)
            began = _started(data).content_block
            if began is not UNSET:
                self.size += len(data)
                self._blocks[event.index] = _Block(began.copy())
                self._bound()
        elif event.message is not None:
            self._metered(self._meter.at_start(event.message.usage))
        else:
            self._metered(self._meter.take(event.usage))

    def take_text(self, text: str) -> None:
        """Take a piece that goes where the last one went."""
        if self._last is not None:
            self._add(self._last, text)

    def take_whole(self, body: bytes) -> None:
        """Take a reply that came as one JSON object."""
        try:
            found = _whole(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._whole = found.content or []
        for raw in self._whole:
            block = read_block(raw)
            self._meter.saw(Block(block.type, name=block.name))
        self._metered(self._meter.take(found.usage))

    def content(self) -> list[Raw]:
        """The blocks in their order; none where they cannot be sent back."""
        if self.size > self._keeps:
            return []
        try:
            blocks = [*self._whole, *(block.whole() for _, block in sorted(self._blocks.items()))]
            said = [block for block in blocks if block is not None]
            for block in said:
                _fields(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
        return said

    def _add(self, block: _Block, piece: str) -> None:
        block.pieces.add(piece)
        self.size += len(piece)
        self._bound()

    def _bound(self) -> None:
        if self.size > self._keeps:
            self._blocks.clear()
            self._last = None

    def _sign(self, block: _Block, delta: Delta) -> None:
        if delta.signature:
            block.signature = delta.signature
        elif delta.citation is not UNSET:
            block.citations.append(delta.citation.copy())

    def _metered(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = merge_usage(self.usage, usage)


class PausedTurnDecoder:
    """Reads the replies of a turn, however often it is paused, as one reply."""

    __slots__ = ("_answered", "_before", "_keeps", "_pause", "_profile", "_reader", "_said")

    def __init__(self, *, profile: Profile = DEFAULT_PROFILE, keeps: int = MAX_ANSWER) -> None:
        """``keeps``: a turn that is longer, in bytes, is not kept, and its next pause is its end."""
        self._profile = profile
        self._answered = ""
        self._keeps = keeps
        self._before: Usage | None = None
        self._pause: list[AnyEvent] = []  # what ends the reply, if nobody lets the turn go on
        self._said = Said(keeps)
        self._reader = ResponseDecoder(profile=profile, heard=self._said)

    @property
    def answered(self) -> str:
        """The model that the last of the answers names."""
        return self._reader.answered or self._answered

    @property
    def paused(self) -> bool:
        """The upstream waits to be asked to go on."""
        return bool(self._pause)

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events of these bytes."""
        events = self._reader.feed(data)
        return self._joined(events) if self._before is not None or self._reader.done else events

    def form_of(self, raw: bytes) -> Form | None:
        """The form of a frame that became one event; see ``EventDecoder``."""
        return self._reader.form_of(raw)

    def skipped(self, text: str) -> None:
        """A frame of the form of the last one, with this text, was not fed."""
        self._said.take_text(text)

    def finish(self) -> list[AnyEvent]:
        """The events of the end: of the pause, where the turn has not gone on."""
        if self._pause:
            events, self._pause = self._pause, []
            return events
        return self._joined(self._reader.finish())

    def whole(self, body: bytes) -> list[AnyEvent]:
        """The events of one whole reply."""
        return self._joined([*self._reader.feed(body), *self._reader.finish()])

    def resume(self, request: bytes) -> bytes:
        """The body that lets the turn go on, where ``request`` was the last one's. The bytes of its reply come next."""
        body = continued(request, self._said.content())
        self._before = _sum(self._before, self._said.usage)
        self._pause = []
        self._answered = self.answered
        self._keeps -= self._said.size
        self._said = Said(self._keeps)
        self._reader = ResponseDecoder(profile=self._profile, heard=self._said, served=self._reader.served)
        return body

    def _joined(self, events: list[AnyEvent]) -> list[AnyEvent]:
        out: list[AnyEvent] = []
        for event in events:
            match event:
                case Started() if self._before is not None:
                    pass
                case Metered() if self._before is not None:
                    out.append(Metered(_sum(self._before, self._said.usage)))
                case Stopped("pause_turn"):
                    said = self._said.content()
                    if any(_text(_fields(block), "type") == "tool_use" for block in said):
                        out.append(Stopped("tool_use"))  # the caller has to answer that first
                    elif said:
                        self._pause.append(event)
                    else:
                        out.append(event)
                case _:
                    out.append(event)
        return out


def continued(request: bytes, said: list[Raw]) -> bytes:
    """The body of a Messages request with what the assistant ``said`` at its end; all else stays byte for byte."""
    fields = _fields(request)
    turns = _list(fields["messages"])
    last = _fields(turns[-1])
    content = bytes(last["content"])
    if _text(last, "role") == "assistant" and content.startswith(b"["):
        last["content"] = Raw(_encode([*_list(content), *said]))
        turns[-1] = Raw(_encode(last))
    else:
        turns.append(Raw(_encode({"role": "assistant", "content": said})))
    fields["messages"] = Raw(_encode(turns))
    return _encode(fields)


def _sum(before: Usage | None, usage: Usage) -> Usage:
    """The counts of the replies before and of this one; what neither tells is unknown."""
    if before is None:
        return usage
    return Usage(
        input=_plus(before.input, usage.input),
        output=_plus(before.output, usage.output),
        cache_read=_plus(before.cache_read, usage.cache_read),
        cache_write=_plus(before.cache_write, usage.cache_write),
        reasoning=_plus(before.reasoning, usage.reasoning),
        cache_write_1h=_plus(before.cache_write_1h, usage.cache_write_1h),
        special=add_special(before.special, usage.special),
    )


def _plus(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
