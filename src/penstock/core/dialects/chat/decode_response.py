"""Decodes the answers of a Chat upstream, streamed or whole, into events; each ends with one Stopped or one Failed."""

from typing import Literal, cast

import msgspec
from msgspec import Raw

from penstock.core.dialects.chat.response_schema import (
    CallFragment,
    Choice,
    Chunk,
    Counts,
    Delta,
    failure_in,
    present,
    read_chunk,
    read_loosely,
    scores_of,
)
from penstock.core.dialects.chat.text_form import form_of
from penstock.core.dialects.chat.tool_call_assembly import Calls
from penstock.core.dialects.finish_words import CHAT, good_end, meaning_in
from penstock.core.dialects.forms import Form
from penstock.core.dialects.upstream_error_text import kind_of, words
from penstock.core.neutral.events import (
    AnyEvent,
    Cited,
    Failed,
    Metered,
    Scored,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
    garbled,
)
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.signature import ReasoningOrigin, sign_reasoning
from penstock.core.reasoning.think_tags import ThinkTags
from penstock.core.sse import MAX_ANSWER, Frame, Frames, FrameTooLarge

_encode = msgspec.json.Encoder().encode

# vendors that repeat their finish reason as stop_reason: no stop sequence of the caller's
_NOT_A_SEQUENCE = frozenset(
    {
        "stop",
        "length",
        "end_turn",
        "eos",
        "tool_calls",
        "tool_use",
        "max_tokens",
        "stop_sequence",
        "content_filter",
    }
)


_NULL = len("null")


class Assembly:
    """One answer under way: chunks and choices in, events in the neutral order out."""

    __slots__ = (
        "_blank",
        "_calls",
        "_cited",
        "_counts",
        "_details",
        "_finish",
        "_good_ends",
        "_kind",
        "_late",
        "_model",
        "_native",
        "_refusal",
        "_sequence",
        "_tags",
        "_tier",
        "answered",
        "done",
        "finished",
        "reads_tags",
        "started",
    )

    def __init__(self, profile: Profile = DEFAULT_PROFILE) -> None:
        self._tags = ThinkTags() if profile.think_tags else None
        self.reads_tags = profile.think_tags
        """Tags in the text say what is reasoning."""
        self.started = False
        self.finished = False  # a finish_reason came
        self.done = False  # the terminal event was given
        self._kind: Literal["", "text", "thought", "call"] = ""
        self._calls = Calls()
        self._blank = ""  # white space that may be nothing, or the beginning of a text
        self._late: list[tuple[Literal["text", "thought"], str]] = []  # what came while a call was incomplete
        self._details: list[dict[str, object]] = []  # of the open thought
        self._counts = Counts()
        self._finish = ""
        self._native = ""
        self._tier: str | None = None
        self._sequence: str | None = None
        self._refusal: list[str] = []
        self._cited: set[str] = set()
        self._model = ""
        self._good_ends = profile.good_ends
        self.answered = ""  # the model that was named last

    def take(self, chunk: Chunk, out: list[AnyEvent]) -> None:
        """Add what a chunk or a whole answer holds."""
        if chunk.model:
            self.answered = chunk.model
        if chunk.service_tier:
            self._tier = self._counts.service_tier = chunk.service_tier
        if not self.started:
            self.started = True
            self._model = chunk.model or ""
            self._calls.name_reply(chunk.id or "", self._model)
            out.append(Started(chunk.id or "", self._model))
        if chunk.choices:
            for choice in chunk.choices:
                if not choice.index:  # 0, or not given
                    delta = choice.delta
                    if delta is not None:
                        self._delta(delta, out, choice.logprobs)
                    elif choice.message is not None and not self.finished:
                        self._delta(choice.message, out, choice.logprobs)
                    if choice.finish_reason:
                        self._finished(choice)
                    if choice.usage is not None:
                        out.append(Metered(self._counts.add(choice.usage)))
                    break
        if chunk.usage is not None:
            usage = self._counts.add(chunk.usage)
            if usage != Usage():
                out.append(Metered(usage))

    def goes_on(self, chunk: Chunk, out: list[AnyEvent]) -> bool:
        """Take a chunk that only goes on with the open text, as nearly all do; False (and nothing done) for others."""
        choices = chunk.choices
        if self._kind != "text" or not choices or chunk.usage is not None or chunk.error:
            return False
        choice = choices[0]
        delta = choice.delta
        if (
            delta is None
            or not delta.content
            or choice.finish_reason is not None
            or choice.index
            or delta.tool_calls is not None
            or delta.reasoning_content is not None
            or delta.reasoning is not None
            or delta.reasoning_details
            or delta.refusal is not None
            or delta.function_call is not None
            or delta.annotations
            or choice.usage is not None
            or choice.error
            or len(choice.logprobs) > _NULL
            or chunk.base_resp is not None
        ):
            return False
        out.append(TextDelta(delta.content))
        return True

    def end(self, out: list[AnyEvent]) -> None:
        """Close what is open and stop, as the dialect's own end allows."""
        if self._tags is not None:
            for kind, piece in self._tags.finish():
                self._say(kind, piece, out)
        waiting = self._calls.flush()
        if waiting:
            self._open("call", out)
            out += waiting
        self._calls.close()
        if self._calls.nameless:
            self.fail(garbled("a tool call without a name"), out)
            return
        self._give_late(out)
        if self._blank and not self._calls.any and self._kind != "text":
            text, self._blank = self._blank, ""
            self._open("text", out)
            out.append(TextDelta(text))
        self._open("", out)
        self.done = True
        out.append(self._end())

    def fail(self, failed: Failed, out: list[AnyEvent]) -> None:
        """End with a failure; what was waiting is not given out, it may be half of something."""
        self.done = True
        out.append(failed)

    # ---- one delta

    def _delta(self, delta: Delta, out: list[AnyEvent], logprobs: Raw) -> None:
        """The channels of one delta, in the order in which a model fills them."""
        details = delta.reasoning_details
        thought = delta.reasoning_content or delta.reasoning or ""
        if details or thought:
            self._reason(thought, details, out)
        if len(logprobs) > _NULL and (delta.content or delta.refusal):
            scores = scores_of(logprobs)
            if scores:
                out.append(Scored(scores))
        if delta.refusal:
            self._refusal.append(delta.refusal)
            self._say("text", delta.refusal, out)
        if delta.content:
            self._content(delta.content, out)
        if delta.annotations:
            self._cite(delta.annotations, out)
        calls = delta.tool_calls
        if calls is None and delta.function_call is not None:
            calls = [CallFragment(index=0, function=delta.function_call)]
        if calls:
            events = self._calls.add(calls)
            if events:
                self._open("call", out)
                out += events
            if self._late and not self._calls.busy:
                self._give_late(out)

    def _content(self, text: str, out: list[AnyEvent]) -> None:
        if self._tags is None:
            self._say("text", text, out)
            return
        for kind, piece in self._tags.feed(text):
            self._say(kind, piece, out)

    def _say(self, kind: Literal["text", "thought"], text: str, out: list[AnyEvent]) -> None:
        if self._kind == kind:
            out.append(TextDelta(text) if kind == "text" else ThoughtDelta(text))
        elif self._calls.busy:
            self._late.append((kind, text))
        elif kind == "thought":
            self._open("thought", out)
            out.append(ThoughtDelta(text))
        elif text.isspace():
            self._blank += text
        else:
            text, self._blank = self._blank + text, ""
            self._open("text", out)
            out.append(TextDelta(text))

    def _give_late(self, out: list[AnyEvent]) -> None:
        late, self._late = self._late, []
        for kind, text in late:
            self._say(kind, text, out)

    def _open(self, kind: Literal["", "text", "thought", "call"], out: list[AnyEvent]) -> None:
        """Let a block of another kind begin; a thought that ends is signed."""
        if kind == self._kind:
            return
        if self._kind == "thought":
            out.append(ThoughtSigned(sign_reasoning(ReasoningOrigin(self._model, self._carrier()))))
            self._details = []
        elif self._kind == "call":
            self._calls.close()
        if kind == "call":
            self._blank = ""
        self._kind = kind

    # ---- reasoning

    def _reason(self, thought: str, details: Raw, out: list[AnyEvent]) -> None:
        entries = _entries(details) if present(details) else []
        thought = thought or "".join(_detail_text(entry) for entry in entries)
        if thought:
            self._say("thought", thought, out)
        if entries:
            if self._kind != "thought" and not self._calls.busy:
                self._open("thought", out)
            earlier = len(self._details)
            for entry in entries:
                _merge(self._details, entry, earlier)

    def _carrier(self) -> str:
        """What has to go back to this upstream besides the text: its details, where they hold more than the text."""
        if any(entry.keys() & {"signature", "data"} for entry in self._details):
            return _encode(self._details).decode()
        return ""

    # ---- ends

    def _finished(self, choice: Choice) -> None:
        self.finished = True
        self._finish = choice.finish_reason or ""
        self._native = choice.native_finish_reason or ""
        for matched in (choice.stop_reason, choice.matched_stop):
            if isinstance(matched, str) and matched and matched not in _NOT_A_SEQUENCE:
                self._sequence = matched

    def _end(self) -> Stopped | Failed:
        ended = good_end(CHAT, self._finish, self._good_ends) if self._finish else "end_turn"
        if isinstance(ended, Failed):
            return ended
        reason: StopReason
        sequence = detail = None
        if ended in {"max_tokens", "context_window"}:
            windowed = "context_window" in {ended, meaning_in(CHAT, self._native)}
            reason = "context_window" if windowed else "max_tokens"
        elif ended == "refusal" or self._refusal:
            reason, detail = "refusal", "".join(self._refusal) or None
        elif self._calls.any:
            reason = "tool_use"
        elif self._sequence is not None:
            reason, sequence = "stop_sequence", self._sequence
        else:
            reason = "pause_turn" if "pause_turn" in {ended, self._native} else "end_turn"
        return Stopped(reason, sequence, detail, self._tier)

    def _cite(self, annotations: Raw, out: list[AnyEvent]) -> None:
        """Annotations as citations, each once: some upstreams repeat the whole list in every chunk."""
        for entry in _entries(annotations):
            page = entry.get("url_citation")
            if not isinstance(page, dict):
                continue
            page = cast("dict[str, object]", page)
            key = f"{page.get('url')} {page.get('start_index')} {page.get('end_index')}"
            if key not in self._cited:
                self._cited.add(key)
                out.append(
                    Cited(_text(page.get("url")), _text(page.get("title")), _text(page.get("content")))
                )


def _entries(raw: Raw) -> list[dict[str, object]]:
    value = read_loosely(bytes(raw))
    if not isinstance(value, list):
        return []
    items = cast("list[object]", value)
    return [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]


def _detail_text(entry: dict[str, object]) -> str:
    return _text(entry.get("text")) or _text(entry.get("summary"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _merge(details: list[dict[str, object]], entry: dict[str, object], earlier: int) -> None:
    """Add a streamed detail: what has the index and type of an earlier one goes on from it, unless its id is another.

    Without an index it goes on from one of the ``earlier``, before its own list: entries of one list are entries of their own.
    """
    last = earlier if entry.get("index") is None else len(details)
    for known in reversed(details[:last]):
        if (known.get("index"), known.get("type")) != (entry.get("index"), entry.get("type")):
            continue
        if known.get("id") is None or entry.get("id") is None or known["id"] == entry["id"]:
            for key, value in entry.items():
                before = known.get(key)
                if key in {"text", "summary", "data"} and isinstance(before, str) and isinstance(value, str):
                    known[key] = before + value
                elif value is not None:
                    known[key] = value
            return
    details.append({key: value for key, value in entry.items() if value is not None})


"""Bytes of an answer that is plain JSON although a stream was asked for."""

_BOM = b"\xef\xbb\xbf"
_SSE_STARTS = (b"data:", b":", b"event:", b"id:", b"retry:")


class ResponseDecoder:
    """A Chat upstream's stream as events. ``done`` once the terminal event was given; what follows it is ignored."""

    __slots__ = ("_assembly", "_body", "_frames", "_sniffed", "_start")

    def __init__(self, *, profile: Profile = DEFAULT_PROFILE) -> None:
        self._frames = Frames()
        self._assembly = Assembly(profile)
        self._sniffed = False
        self._start: bytes = b""  # too little to see what it is
        self._body: bytearray | None = None  # JSON without frames: a whole answer, or one chunk a line

    @property
    def answered(self) -> str:
        """The model that the answer names, the last one where it names several."""
        return self._assembly.answered

    @property
    def done(self) -> bool:
        """Whether the terminal event was given."""
        return self._assembly.done

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events of the next bytes, cut anywhere."""
        out: list[AnyEvent] = []
        if self._assembly.done:
            return out
        if not self._sniffed or self._body is not None:
            data = self._sniff(data, out)
        try:
            frames = self._frames.feed(data)
        except FrameTooLarge as error:
            self._assembly.fail(garbled(str(error)), out)
            return out
        for frame in frames:
            self._frame(frame, out)
            if self._assembly.done:
                break
        return out

    def finish(self) -> list[AnyEvent]:
        """The events of the stream's end. Gives the terminal event if ``feed`` has not."""
        out: list[AnyEvent] = []
        if self._assembly.done:
            return out
        if self._body is not None:
            return self._whole(out)
        for frame in self._frames.finish():
            if not self._assembly.done and (
                frame.data.strip() == b"[DONE]" or read_chunk(frame.data) is not None
            ):
                self._frame(frame, out)
        if not self._assembly.done:
            self._end(out, clean=False)
        return out

    def form_of(self, raw: bytes) -> Form | None:
        """The form of a frame that became one event; see ``EventDecoder``. Where texts may be tags, none is like another."""
        return None if self._assembly.reads_tags else form_of(raw)

    def _frame(self, frame: Frame, out: list[AnyEvent]) -> None:
        data = frame.data
        if data.startswith(b"{") and frame.event != b"error":
            self._chunk(data, out)
            return
        if data.strip() == b"[DONE]":
            self._end(out, clean=True)
            return
        if frame.event == b"error":
            error = read_loosely(data)
            text = words(error) or data.decode("utf-8", "replace")
            self._assembly.fail(Failed(kind_of(error), text), out)
            return
        if data and not data.isspace():
            self._chunk(data, out)

    def _chunk(self, data: bytes, out: list[AnyEvent]) -> None:
        chunk = read_chunk(data)
        if chunk is None:
            self._assembly.fail(garbled("an event of the stream is not a JSON object"), out)
            return
        if self._assembly.goes_on(chunk, out):
            return
        failed = failure_in(chunk, data)
        if failed is not None:
            if chunk.usage is not None and self._assembly.started:
                self._assembly.take(Chunk(id=chunk.id, model=chunk.model, usage=chunk.usage), out)
            self._assembly.fail(failed, out)
        elif chunk.choices is not None or chunk.usage is not None:
            self._assembly.take(chunk, out)

    def _end(self, out: list[AnyEvent], *, clean: bool) -> None:
        assembly = self._assembly
        if not assembly.started:
            text = "the stream ended before it began"
            assembly.fail(garbled(text) if clean else Failed("api_error", text, truncated=True), out)
        elif clean or assembly.finished:
            assembly.end(out)
        else:
            assembly.fail(Failed("api_error", "upstream stream truncated", truncated=True), out)

    # ---- no event stream after all

    def _sniff(self, data: bytes, out: list[AnyEvent]) -> bytes:
        """What of ``data`` is for the frame splitter: nothing, if the body turns out to be JSON."""
        if self._body is None:
            data = self._start + data
            start = data.removeprefix(_BOM).lstrip()
            if not start or _BOM.startswith(start):
                self._start = data
                return b""
            self._start = b""
            self._sniffed = True
            if start[0] not in b"{[":
                return data
            self._body = bytearray()
        self._body += data
        self._lines(out)
        if len(self._body) > MAX_ANSWER and not self._assembly.done:
            self._assembly.fail(garbled(f"the answer is larger than {MAX_ANSWER} bytes"), out)
        return b""

    def _lines(self, out: list[AnyEvent]) -> None:
        """Take chunks that come one a line, as soon as they come; a whole answer is not one."""
        body = cast("bytearray", self._body)
        while not self._assembly.done:
            end = body.find(b"\n")
            line = bytes(body[:end]).strip() if end >= 0 else b""
            if end < 0 or not (_is_chunk(line) or (self._assembly.started and not line)):
                return
            del body[: end + 1]
            if line:
                self._chunk(line, out)

    def _whole(self, out: list[AnyEvent]) -> list[AnyEvent]:
        rest = bytes(self._body or b"").strip()
        if not self._assembly.started:
            _take_whole(rest, self._assembly, out)
            return out
        if _is_chunk(rest):
            self._chunk(rest, out)
        if not self._assembly.done:
            self._end(out, clean=False)
        return out


def _is_chunk(line: bytes) -> bool:
    chunk = read_chunk(line) if line[:1] == b"{" and line[-1:] == b"}" else None
    if chunk is None:
        return False
    return present(chunk.error) or any(choice.delta is not None for choice in chunk.choices or ())


def decode_response(body: bytes, profile: Profile = DEFAULT_PROFILE) -> list[AnyEvent]:
    """A whole answer of a Chat upstream as the events that fold to it; anything but an answer is one ``Failed``."""
    text = body.removeprefix(_BOM).strip()
    if text.startswith(_SSE_STARTS):  # a stream although none was asked for
        reader = ResponseDecoder(profile=profile)
        return [*reader.feed(body), *reader.finish()]
    out: list[AnyEvent] = []
    _take_whole(text, Assembly(profile), out)
    return out


def _take_whole(text: bytes, assembly: Assembly, out: list[AnyEvent]) -> None:
    chunk = read_chunk(text)
    if chunk is None:
        assembly.fail(garbled("the answer is not a JSON object"), out)
        return
    failed = failure_in(chunk, text)
    if failed is None and not chunk.choices:
        failed = garbled("the answer has no choices")
    if failed is not None:
        assembly.fail(failed, out)
        return
    assembly.take(chunk, out)
    assembly.end(out)
