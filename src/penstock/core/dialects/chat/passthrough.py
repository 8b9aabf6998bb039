"""Pass-through of Chat: bytes in, the same bytes out, and what the ledger needs is read on the side."""

import re
from typing import assert_never

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.body.splice import find_values, replace_known, replace_spans
from penstock.core.dialects.chat.decode_response import ResponseDecoder
from penstock.core.dialects.chat.encode_response import ResponseEncoder
from penstock.core.dialects.chat.reasoning_restoration import REASONING_FIELDS, restore_reasoning_in_messages
from penstock.core.dialects.chat.response_schema import (
    Choice,
    Chunk,
    Counts,
    Delta,
    failure_in,
    read_chunk,
    read_regular,
)
from penstock.core.dialects.interface import PassedAnswer, Prepared
from penstock.core.neutral.events import (
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Metered,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
    garbled,
)
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.sse import MAX_ANSWER, MAX_FRAME, complete_prefix, parse_frame, split_whole

_CALLS = b'"tool_calls"'


# ---- the request


def pass_request(
    envelope: Envelope, model: str, profile: Profile, reasoning: ReasoningScope | None = None
) -> Prepared:
    """The caller's body for ``model``, with the counts of a stream asked for, and with the reasoning that it left out."""
    changes: dict[str, bytes] = {}
    if envelope.stream and not envelope.include_usage and profile.stream_options:
        changes["stream_options"] = envelope.usage_options()
    if reasoning is None or not (profile.reasoning_field in REASONING_FIELDS or profile.call_signatures):
        return Prepared(envelope.encode(model, changes))
    if _CALLS in envelope.body:
        messages = restore_reasoning_in_messages(bytes(envelope.fields["messages"]), reasoning, profile)
        if messages is not None:
            changes["messages"] = messages
    kept = reasoning if "tools" in envelope.fields else None
    return Prepared(envelope.encode(model, changes), reasoning=kept)


# ---- the answer


_KEY = b'"content":'
_PLAIN = re.compile(rb'[^"\\\x00-\x1f\x80-\xff]++')
"""Characters that stand for themselves in a JSON string; others are left to the decoder."""
_PROBE = b"probe"
_DATA = len(b"data: ")
_END = len(b"\n\n")


class TextPattern:
    """What stands before and after the text in such a chunk, and what we relay in place of what stands before."""

    __slots__ = ("_after", "_before", "_instead", "_least")

    def __init__(self, before: bytes, after: bytes, instead: bytes) -> None:
        self._before = before
        self._after = after
        self._instead = instead
        self._least = len(before) + len(after)

    def relay(self, raw: bytes) -> bytes | None:
        """The frame as it is relayed, or None for one of another form."""
        start, end = len(self._before), len(raw) - len(self._after)
        if not raw.startswith(self._before) or not raw.endswith(self._after) or end <= start:
            return None
        return self._instead + raw[start:] if _PLAIN.fullmatch(raw, start, end) else None

    def text_size(self, raw: bytes) -> int:
        """The length of the text in a frame of this form."""
        return len(raw) - self._least


def learn(raw: bytes, relayed: bytes, chunk: Chunk) -> TextPattern | None:
    """The pattern of a frame (``data: JSON`` and an empty line) that was decoded to ``chunk`` and relayed as ``relayed``.

    None for a chunk that holds anything but plain text.
    """
    text = _plain_text(chunk)
    if text is None or raw.count(_KEY) != 1:
        return None
    start = raw.find(b'"', raw.find(_KEY) + len(_KEY)) + 1
    end = start + len(text)
    if raw[start:end] != text or raw[end : end + 1] != b'"' or not relayed.endswith(raw[start:]):
        return None
    before, after = raw[:start], raw[end:]
    # The text stands where it was found only if another one there is read back.
    probe = read_chunk(before[_DATA:] + _PROBE + after[:-_END])
    if probe is None or _plain_text(probe) != _PROBE:
        return None
    return TextPattern(before, after, relayed[: len(relayed) - (len(raw) - start)])


def _plain_text(chunk: Chunk) -> bytes | None:
    """The text of a chunk that has one choice with some plain text in it, and nothing that a meter would note."""
    if chunk.usage is not None or chunk.choices is None or len(chunk.choices) != 1:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.index or choice.finish_reason is not None or choice.usage is not None:
        return None
    if delta.reasoning_content or delta.reasoning or delta.tool_calls or not delta.content:
        return None
    text = delta.content.encode("utf-8", "surrogatepass")
    return text if _PLAIN.fullmatch(text) else None


_BOM = b"\xef\xbb\xbf"
_DONE = b"data: [DONE]\n\n"
_AROUND = len(b"data: \n\n")
_LESSONS = 12
"""A stream whose chunks have no form in common is decoded chunk by chunk, without looking for one for ever."""
_JSON_ANSWER = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]")
_UNDECIDED = re.compile(rb"(?:\xef(?:\xbb(?:\xbf)?)?)?\s*\Z")

_encode = msgspec.json.Encoder().encode

_STOPS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class Passthrough:
    """Relays whole frames and keeps usage, end and failure on the side.

    The value of a frame's ``model`` becomes ``model`` (None: stays); nothing else in a frame changes. A frame that reports
    an error is not relayed: its text is the operator's, and the relay has words of its own. With ``withhold_usage`` the
    usage chunk (the one without choices) is kept back. After a failure or ``[DONE]`` nothing more is relayed.
    """

    sequence = 0  # events are not numbered in this dialect

    __slots__ = (
        "_body",
        "_counts",
        "_head",
        "_held",
        "_include_usage",
        "_lessons",
        "_model",
        "_pattern",
        "_public",
        "_sniffed",
        "_spliced",
        "answered",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "started",
        "stop",
        "usage",
    )

    def __init__(self, *, model: str | None, withhold_usage: bool) -> None:
        self._model = model
        self._public = b"" if model is None else _encode(model)
        self._include_usage = not withhold_usage
        self._held = bytearray()
        self._sniffed = False
        self._body = False  # the answer is JSON, not an event stream
        self._counts = Counts()
        self.ended = False
        self._head = b""  # the upstream's model member as it was found last, key and value
        self._spliced = b""  # the same with our model
        self._pattern: TextPattern | None = None
        self._lessons = _LESSONS  # how many more chunks a pattern may be learnt from
        self.usage = Usage()
        self.answered = ""
        self.failure: Failed | None = None
        self.done = False
        self.stop: StopReason | None = None
        self.started = False
        self.output_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What may be relayed now: the frames that ``data`` completes."""
        if self.ended:
            return b""
        held = self._held
        if not held and self._sniffed and not self._body:
            end = complete_prefix(data)
            if end == len(data):
                return self._relay(data)
            held += data[end:]
            whole = data[:end]
        else:
            known = len(held)
            held += data
            if not self._sniffed and not self._sniff():
                return b""
            if self._body:
                if len(held) > MAX_ANSWER:
                    self._fail(garbled(f"the answer is larger than {MAX_ANSWER} bytes"))
                return b""
            end = complete_prefix(held, known)
            whole = bytes(held[:end])
            del held[:end]
        out = self._relay(whole) if whole else b""
        if len(held) > MAX_FRAME:
            self._fail(garbled(f"an event of the stream is larger than {MAX_FRAME} bytes"))
        return out

    def finish(self) -> bytes:
        """What may be relayed at the upstream's end; sets ``failure`` if that came before the dialect's own."""
        if self.ended:
            return b""
        if self._body:
            return self._wrap(bytes(self._held))
        out = b""
        rest = bytes(self._held)
        frame = parse_frame(rest)
        if frame is not None and (frame.data.strip() == b"[DONE]" or read_chunk(frame.data) is not None):
            out = self._relay(rest.rstrip(b"\r\n") + b"\n\n")
        if self.ended:
            return out
        if not self.done:
            self._fail(Failed("api_error", "upstream stream truncated", truncated=True))
            return out
        self.ended = True
        return out + _DONE  # promised to every caller, and forgotten by some upstreams

    def _sniff(self) -> bool:
        """Whether there is enough to know that this is an event stream, or (``_body``) that it is not."""
        if _UNDECIDED.match(self._held):
            return False
        self._sniffed = True
        self._body = _JSON_ANSWER.match(self._held) is not None
        return True

    def _fail(self, failed: Failed) -> None:
        self.failure = failed
        self.ended = True
        self._held.clear()

    def _relay(self, whole: bytes) -> bytes:
        pieces: list[bytes] = []
        for raw in split_whole(whole):
            pattern = self._pattern
            if pattern is not None:
                like = pattern.relay(raw)
                if like is not None:
                    self.output_bytes += pattern.text_size(raw)
                    pieces.append(like)
                    continue
            if raw.startswith(b"data: ") and raw.find(b"\n") == len(raw) - 2:
                data, event = raw[6:-2], b""
            elif b"data" not in raw:  # a comment and the like
                pieces.append(raw)
                continue
            else:
                frame = parse_frame(raw if self.started else raw.removeprefix(_BOM))
                if frame is None:
                    pieces.append(raw)
                    continue
                data, event = frame.data, frame.event
            relayed = self._see(raw, data, event)
            if relayed:
                pieces.append(relayed)
            if self.ended:
                break
        return b"".join(pieces)

    def _see(self, raw: bytes, data: bytes, event: bytes) -> bytes:
        """Read one frame; what of it is relayed."""
        if data.strip() == b"[DONE]":
            if not self.started:
                self._fail(garbled("the stream ended before it began"))
                return b""
            self.done = self.ended = True
            self.stop = self.stop or "end_turn"
            return raw
        if not data or data.isspace():
            return raw
        chunk = read_chunk(data)
        if chunk is None:
            self._fail(garbled("an event of the stream is not a JSON object"))
            return b""
        failed = failure_in(chunk, data)
        if failed is not None or event == b"error":
            self._note_usage(chunk)
            self._fail(failed or Failed("api_error", "an error event"))
            return b""
        return self._take(chunk, raw, data)

    def _take(self, chunk: Chunk, raw: bytes, data: bytes) -> bytes:
        choices = chunk.choices
        if chunk.model:
            self.answered = chunk.model
        if choices:
            for choice in choices:
                self._note(choice)
        if chunk.usage is not None:
            self._note_usage(chunk)
            if choices is not None and not choices and not self._include_usage:
                return b""
        if choices is not None:
            self.started = True
        spliced = self._model is not None and chunk.model not in (None, self._model)
        relayed = self._splice(raw, data) if spliced else raw
        if self._lessons and len(raw) == len(data) + _AROUND:
            self._lessons -= 1
            self._pattern = learn(raw, relayed, chunk) or self._pattern
        return relayed

    def _note(self, choice: Choice) -> None:
        delta = choice.delta
        if delta is not None:
            self.output_bytes += _text_size(delta)
        if choice.finish_reason and not choice.index:
            self.done = True
            self.stop = _STOPS.get(choice.finish_reason, "end_turn")
        if choice.usage is not None:
            self.usage = self._counts.add(choice.usage)

    def _note_usage(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.usage = self._counts.add(chunk.usage)

    def _splice(self, raw: bytes, data: bytes) -> bytes:
        """``raw`` with our model. Where the member as last seen stands before any inner object, it needs no search."""
        head = self._head
        if head:
            at = raw.find(head)
            if (
                at > 0
                and raw[at - 1] in b"{, "
                and raw.find(b"{", raw.find(b"{") + 1, at) < 0
                and raw.count(head) == 1
            ):
                return raw[:at] + self._spliced + raw[at + len(head) :]
        spans = find_values(data, ("model",))
        if len(spans) == 1:
            start, end = spans[0]
            key = data.rfind(b'"model"', 0, start)
            if key >= 0:
                self._head = data[key:end]
                self._spliced = data[key:start] + self._public
        changed = replace_spans(data, spans, self._public)
        where = raw.find(data)
        if where < 0:  # data on several lines: one line, then, with the same event
            frame = parse_frame(raw)
            name = b"event: " + frame.event + b"\n" if frame is not None and frame.event else b""
            return name + b"data: " + changed.replace(b"\n", b" ") + b"\n\n"
        return raw[:where] + changed + raw[where + len(data) :]

    def _wrap(self, body: bytes) -> bytes:
        """A plain JSON answer (or one chunk a line) as the stream that was asked for."""
        self.ended = True
        reader = ResponseDecoder()
        events = [*reader.feed(body), *reader.finish()]
        id = ""
        for event in events:
            match event:
                case Started(id, named):
                    self.started = True
                    self.answered = named
                case TextDelta(text) | ThoughtDelta(text) | CallArgs(text):
                    self.output_bytes += len(text)
                case Metered(usage):
                    self.usage = merge_usage(self.usage, usage)
                case Stopped(reason):
                    self.done, self.stop = True, reason
                case Failed():
                    self.failure = event
                case CallOpened() | Cited() | ThoughtSigned() | ThoughtRedacted():
                    pass
                case _:
                    assert_never(event)
        if self.failure is not None:
            return b""
        whole = read_chunk(body.removeprefix(_BOM).strip())
        writer = ResponseEncoder(
            model=self._model or self.answered,
            reply_id=id,
            created=(whole.created if whole is not None else None) or 0,
            include_usage=self._include_usage,
            input_estimate=0,
        )
        return writer.write(events)


def _text_size(delta: Delta) -> int:
    """Length of the generated text in a delta, in characters, which the estimate takes for bytes."""
    size = len(delta.content or "") + len(delta.reasoning_content or delta.reasoning or "")
    for call in delta.tool_calls or ():
        if call.function is not None:
            size += len(call.function.arguments or "")
    return size


def passthrough_response(body: bytes, *, model: str | None) -> PassedAnswer:
    """A whole Chat answer to relay, with our ``model`` in place."""
    regular = read_regular(body)
    if regular is not None:
        usage, named = Counts().add(regular.usage), regular.model
    else:
        text = body.removeprefix(_BOM)
        chunk = read_chunk(text)
        if chunk is None:
            return b"", Usage(), garbled("the answer is not a JSON object"), ""
        failed = failure_in(chunk, text)
        usage = Usage() if chunk.usage is None else Counts().add(chunk.usage)
        if failed is None and not chunk.choices:
            failed = garbled("the answer has no choices")
        if failed is not None:
            return b"", usage, failed, ""
        named = chunk.model
    if model is None or named is None or named == model:
        return body, usage, None, named or ""
    return replace_known(body, ("model",), named, _encode(model)), usage, None, named
