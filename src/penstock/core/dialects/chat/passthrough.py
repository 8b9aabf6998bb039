"""Pass-through of Chat: bytes in, the same bytes out, and what the ledger needs is read on the side."""

import re
from typing import assert_never

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.body.splice import find_values, replace_known, replace_spans
from penstock.core.dialects.chat.decode_response import ResponseDecoder
from penstock.core.dialects.chat.encode_response import ResponseEncoder
from penstock.core.dialects.chat.own_schemas import fitted_schemas
from penstock.core.dialects.chat.reasoning_restoration import REASONING_FIELDS, restore_reasoning_in_messages
from penstock.core.dialects.chat.response_schema import (
    Choice,
    Chunk,
    Counts,
    Delta,
    failure_in,
    read_chunk,
    read_regular,
    read_string,
)
from penstock.core.dialects.chat.text_form import form_of
from penstock.core.dialects.finish_words import CHAT, good_end
from penstock.core.dialects.foreign_reasoning.chat import LEFT_OUT, is_suspect, without_foreign
from penstock.core.dialects.foreign_reasoning.chat import MARKS as REASONING_MARKS
from penstock.core.dialects.forms import JSON_TEXT, LESSONS, Form, Lessons
from penstock.core.dialects.interface import PassedAnswer, Prepared
from penstock.core.dialects.openai.encode_request import refused_sampling
from penstock.core.neutral.events import (
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    HostedUsed,
    Metered,
    Scored,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
    garbled,
)
from penstock.core.neutral.request import Loss
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningScope
from penstock.core.sse import MAX_ANSWER, MAX_FRAME, complete_prefix, parse_frame, split_whole

_CALLS = b'tool_calls"'
MARKS = (_CALLS, *REASONING_MARKS)
"""What strings begin with in a body that may need a change."""


# ---- the request


def pass_request(
    envelope: Envelope, model: str, profile: Profile, reasoning: ReasoningScope | None = None
) -> Prepared:
    """The caller's body for ``model``, with the counts of a stream asked for, and with the reasoning that it left out.

    Reasoning that the upstream cannot read is left out of it, and so is sampling that the model refuses: an editor's own
    default would refuse every turn. Schemas are fitted where the upstream refuses them as they are.
    """
    changes: dict[str, bytes] = {}
    if envelope.stream and not envelope.include_usage and profile.stream_options:
        changes["stream_options"] = envelope.usage_options()
    drop: tuple[str, ...] = ()
    if not profile.sampling:
        drop = refused_sampling(envelope, profile, reasons=envelope.value("reasoning_effort") != b'"none"')
    lost = tuple(Loss(name, "dropped") for name in drop) if drop else ()
    marked = envelope.shows(*MARKS)
    if marked and is_suspect(envelope, model, profile):
        readable = without_foreign(envelope.value("messages"), model, profile)
        if readable is not None:
            changes["messages"] = readable
            lost = (*lost, LEFT_OUT)
    if profile.tool_schemas != "any" or not profile.json_schema:
        fitted, adapted = fitted_schemas(envelope, profile, changes.get("messages"))
        changes |= fitted
        lost += adapted
    kept = _kept(envelope, profile, reasoning)
    if marked and reasoning is not None and _keeps(profile) and envelope.shows(_CALLS):
        given = changes.get("messages") or envelope.value("messages")
        messages = restore_reasoning_in_messages(given, reasoning, profile)
        if messages is not None:
            changes["messages"] = messages
    return Prepared(envelope.encode(model, changes, drop), lost, reasoning=kept)


def _keeps(profile: Profile) -> bool:
    """Whether the upstream wants reasoning back."""
    return profile.reasoning_field in REASONING_FIELDS or profile.call_signatures


def _kept(envelope: Envelope, profile: Profile, reasoning: ReasoningScope | None) -> ReasoningScope | None:
    """Where the reasoning of the answer is kept, None where nobody will want it back."""
    return reasoning if reasoning is not None and _keeps(profile) and envelope.value("tools") else None


# ---- the answer


_BOM = b"\xef\xbb\xbf"
_DONE = b"data: [DONE]\n\n"
_JSON_ANSWER = re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]")
_NO_TIER = (b"", b'"default"', b"null")
_UNDECIDED = re.compile(rb"(?:\xef(?:\xbb(?:\xbf)?)?)?\s*\Z")

_encode = msgspec.json.Encoder().encode


class Passthrough:
    """Relays whole frames and keeps usage, end and failure on the side.

    The value of a frame's ``model`` becomes ``model`` (None: stays); nothing else in a frame changes. A frame that reports
    an error is not relayed: its text is the operator's, and the relay has words of its own. With ``withhold_usage`` the
    usage chunk (the one without choices) is kept back. After a failure or ``[DONE]`` nothing more is relayed.
    """

    sequence = 0  # events are not numbered in this dialect

    __slots__ = (
        "_begun",
        "_body",
        "_counts",
        "_form",
        "_head",
        "_held",
        "_include_usage",
        "_instead",
        "_lessons",
        "_model",
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
        self._begun: set[int] = set()  # the choices after the first that have not ended
        self.ended = False
        self._head = b""  # the upstream's model member as it was found last, key and value
        self._spliced = b""  # the same with our model
        self._lessons = Lessons(form_of)
        self._form: Form | None = None  # of chunks that need not be read
        self._instead = (
            b"",
            b"",
        )  # what is relayed in place of all that stands before their text, and after it
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

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """What is relayed for ``data[start:end]``, if that is whole frames of a form that was fed before."""
        return None if self._held or self.ended else self._relay_known(data, start, end)

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
        if not self.done or self._begun:
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
            known = self._relay_known(raw, 0, len(raw))
            if known is not None:
                pieces.append(known)
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
        if chunk.service_tier:
            self._counts.service_tier = chunk.service_tier
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
        self._learn(raw, relayed)
        return relayed

    def _learn(self, raw: bytes, relayed: bytes) -> None:
        """Learn the form of a chunk that was read, if it is one."""
        form = self._lessons.take(raw)
        if form is None or form is self._form:
            return
        found = form.find(raw, 0, len(raw), JSON_TEXT)
        begin, stop = (0, len(raw)) if found is None else found[:2]
        # the model stands before the text or after it
        if relayed.endswith(raw[begin:]):
            self._form, self._instead = form, (relayed[: len(relayed) - len(raw) + begin], raw[stop:])
        elif relayed.startswith(raw[:stop]):
            self._form, self._instead = form, (raw[:begin], relayed[stop:])

    def _relay_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """What is relayed for frames of the form that is known; None for others."""
        form = self._form
        if form is None:
            return None
        before, after = self._instead
        size, out = 0, b""
        while start < end:
            found = form.find(data, start, end)
            if found is None:
                return None
            begin, stop, start = found
            text = data[begin:stop]
            size += len(text) if text.isascii() else _characters(text)
            if size < 0:
                return None
            out += before + text + after
        self.output_bytes += size
        self._lessons.left = LESSONS
        return out

    def _note(self, choice: Choice) -> None:
        delta = choice.delta
        if delta is not None:
            self.output_bytes += _text_size(delta)
        if choice.index:
            if choice.finish_reason:
                self._begun.discard(choice.index)
            else:
                self._begun.add(choice.index)
        elif choice.finish_reason:
            self.done = True
            ended = good_end(CHAT, choice.finish_reason)
            # what is not known is the caller's to read
            self.stop = "end_turn" if isinstance(ended, Failed) else ended
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
                case CallOpened() | Cited() | HostedUsed() | Scored() | ThoughtSigned() | ThoughtRedacted():
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


def _characters(text: bytes) -> int:
    """How many characters it has; less than any text can have where it is not UTF-8."""
    try:
        return len(text.decode())
    except UnicodeDecodeError:
        return -MAX_FRAME


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
        start, end, tokens, tier = regular
        usage = Counts(None if tier in _NO_TIER else read_string(tier)).add(tokens)
        named = body[start + 1 : end - 1].decode()
        public = None if model is None else _encode(model)
        if public is None or body[start:end] == public:
            return body, usage, None, named
        return replace_spans(body, [(start, end)], public), usage, None, named
    text = body.removeprefix(_BOM)
    chunk = read_chunk(text)
    if chunk is None:
        return b"", Usage(), garbled("the answer is not a JSON object"), ""
    failed = failure_in(chunk, text)
    usage = Usage() if chunk.usage is None else Counts(chunk.service_tier).add(chunk.usage)
    if failed is None and not chunk.choices:
        failed = garbled("the answer has no choices")
    if failed is not None:
        return b"", usage, failed, ""
    named = chunk.model
    if model is None or named is None or named == model:
        return body, usage, None, named or ""
    return replace_known(body, ("model",), named, _encode(model)), usage, None, named
