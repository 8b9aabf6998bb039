"""Decodes the answers of a Responses upstream, streamed or whole, into events; each ends with one Stopped or one Failed."""

from contextlib import suppress
from typing import Literal, assert_never

import msgspec
from msgspec import Raw

from penstock.core.dialects.forms import Form
from penstock.core.dialects.responses.hosted_tools import hosted_of
from penstock.core.dialects.responses.response_schema import (
    CALLS,
    HOSTED,
    Item,
    Part,
    Response,
    StreamEvent,
    cited,
    decode_whole,
    end_of,
    failure_in,
    hosted_run,
    is_json,
    read_event,
    scores_of,
    unknown_state,
    usage_in,
)
from penstock.core.dialects.responses.text_form import form_of
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Failed,
    HostedUsed,
    Metered,
    Scored,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
    garbled,
)
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.encrypted_reasoning import Carrier, carrier_signature
from penstock.core.sse import MAX_ANSWER, Frame, Frames, FrameTooLarge, parse_frame
from penstock.core.tools.call_ids import ReplyCalls

Kind = Literal["text", "refusal", "call", "summary", "reasoning"]
"""What a part of an item is."""

_DELTAS: dict[str, Kind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "call",
    "response.custom_tool_call_input.delta": "call",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "reasoning",
}
_DONES: dict[str, Kind] = {name.removesuffix("delta") + "done": kind for name, kind in _DELTAS.items()}
_ITEM_OF: dict[Kind, str] = {
    "text": "message",
    "refusal": "message",
    "call": "function_call",
    "summary": "reasoning",
    "reasoning": "reasoning",
}
_NONE = Raw()
_EMPTY = len("[]")
_GAP = "\n\n"
"""Between two messages, or two parts of a summary, which are paragraphs of their own."""
_STRAY = garbled("a tool call without a name")

_encode = msgspec.json.Encoder().encode


class _Open:
    """An item that has begun, ``at`` its place. ``waiting`` are its events while an earlier item is still going."""

    __slots__ = ("at", "ended", "given", "kind", "named", "pieces", "raw", "waiting")

    def __init__(self, kind: str, at: int) -> None:
        self.kind = kind
        self.at = at
        self.given: set[tuple[Kind, int]] = set()  # parts of which something has been given out
        self.waiting: list[AnyEvent] = []
        self.ended = False
        self.named = False  # of a call: its name is known and has been given out
        self.pieces: list[str] = []  # of a call: what came before its name was known
        self.raw = False  # of a thought: full reasoning, not a summary

    @property
    def calls(self) -> bool:
        """Whether it is a tool call."""
        return self.kind in CALLS

    def takes(self, kind: str) -> bool:
        """Whether something that belongs to an item of this kind can be of this one."""
        return self.kind == kind or (self.calls and kind in CALLS)


class Assembly:
    """One answer under way: events of the dialect in, neutral events out. ``done`` once the terminal one was given."""

    __slots__ = (
        "_by_id",
        "_by_index",
        "_called",
        "_current",
        "_good_ends",
        "_model",
        "_names",
        "_order",
        "_ran",
        "_refusal",
        "answered",
        "done",
        "started",
    )

    def __init__(self, profile: Profile) -> None:
        self._good_ends = profile.good_ends
        self.started = False
        self.done = False
        self._model = ""
        self.answered = ""  # the model that was named last
        self._order: list[_Open] = []
        self._current = 0  # the item of the order whose events go straight out
        self._by_id: dict[str, _Open] = {}
        self._by_index: dict[int, _Open] = {}
        self._names = ReplyCalls()
        self._called = False
        self._ran: list[str] = []  # tools of the provider
        self._refusal: list[str] = []

    def take(self, event: StreamEvent, out: list[AnyEvent]) -> None:
        """Add what an event brings."""
        if not self.started:
            self._begin(event.response or Response(), out)
        if event.response is not None and event.response.model:
            self.answered = event.response.model
        kind = _DELTAS.get(event.type)
        if kind is not None:
            if event.delta:
                opened = self._item(event, _ITEM_OF[kind])
                self._give(opened, kind, _place(event, kind), event.delta, out, event.logprobs)
            return
        kind = _DONES.get(event.type)
        if kind is not None:
            text = event.text or event.refusal or event.arguments or event.input
            opened = self._item(event, _ITEM_OF[kind])
            self._rest(opened, kind, _place(event, kind), text, out, event.logprobs)
            return
        item = event.item
        match event.type:
            case "response.output_text.annotation.added":
                found = cited(event.annotation)
                if found is not None:
                    self._emit(self._item(event, "message"), [found], out)
            case "response.output_item.added" if item is not None:
                opened = self._new(item.type, item.id or event.item_id, event.output_index)
                self._name(opened, item, out)
            case "response.output_item.done" if item is not None:
                if item.type in HOSTED:
                    self._ran.append(hosted_run(item))
                self._item_done(self._item(event, item.type), item, out)
            case "response.completed" | "response.incomplete":
                self._end(event.response or Response(), event.type, out)
            case _:
                pass  # created, in_progress and queued say nothing more

    def whole(self, response: Response, out: list[AnyEvent]) -> None:
        """Take a whole answer."""
        self._begin(response, out)
        complete = response.status != "incomplete"
        self._end(response, "response.completed" if complete else "response.incomplete", out)

    def fail(self, failed: Failed, out: list[AnyEvent]) -> None:
        """End with a failure; what was waiting is not given out, it may be half of something."""
        self.done = True
        out.append(failed)

    def _begin(self, response: Response, out: list[AnyEvent]) -> None:
        self.started = True
        self._model = self.answered = response.model or ""
        self._names.begin(response.id or "")
        out.append(Started(response.id or "", self._model))

    # ---- items

    def _new(self, kind: str, id: str | None, index: int | None) -> _Open:
        """Begin an item. Only a call keeps the items after it waiting until it is done."""
        if self._order:  # those before the last were ended by the one after them
            last = self._order[-1]
            last.ended = last.ended or not last.calls
        opened = _Open(kind, len(self._order))
        self._order.append(opened)
        if id:
            self._by_id[id] = opened
        if index is not None:
            self._by_index[index] = opened
        return opened

    def _item(self, event: StreamEvent, kind: str) -> _Open:
        """The item that an event belongs to; it begins here where nothing has said so."""
        id = event.item_id or (event.item.id if event.item is not None else None)
        index = event.output_index
        found = self._by_id.get(id) if id else None
        if found is None and index is not None:
            found = self._by_index.get(index)
        if found is None and id is None and index is None and self._order:
            found = self._order[-1]
        return self._new(kind, id, index) if found is None or not found.takes(kind) else found

    def _name(self, opened: _Open, item: Item, out: list[AnyEvent]) -> None:
        """Give a call out once its name is known, with the arguments that came before that."""
        if opened.named or not opened.calls or not item.name:
            return
        opened.named = self._called = True
        custom = opened.kind == "custom_tool_call"
        id = self._names.name(item.call_id or item.id or "")
        events: list[AnyEvent] = [CallOpened(id, item.name, item.namespace, custom)]
        if custom:
            events.append(CallArgs('{"input":"'))
        events += [CallArgs(_argument(opened, piece)) for piece in opened.pieces]
        opened.pieces = []
        self._emit(opened, events, out)

    def _rest(
        self, opened: _Open, kind: Kind, at: int, text: str | None, out: list[AnyEvent], logprobs: Raw = _NONE
    ) -> None:
        """Give out a part that is done, if no delta has brought it."""
        if text and (kind, at) not in opened.given:
            self._give(opened, kind, at, text, out, logprobs)

    def _give(
        self, opened: _Open, kind: Kind, at: int, text: str, out: list[AnyEvent], logprobs: Raw = _NONE
    ) -> None:
        begins = (kind, at) not in opened.given
        fresh = not opened.given
        opened.given.add((kind, at))
        match kind:
            case "call":
                if not opened.named:
                    opened.pieces.append(text)
                elif not opened.ended:  # else it is too late for the arguments
                    self._emit(opened, [CallArgs(_argument(opened, text))], out)
            case "text" | "refusal":
                if kind == "refusal":
                    self._refusal.append(text)
                gap: list[AnyEvent] = [TextDelta(_GAP)] if fresh and self._follows_text(opened) else []
                if len(logprobs) > _EMPTY and (scores := scores_of(logprobs)):
                    gap.append(Scored(scores))
                self._emit(opened, [*gap, TextDelta(text)], out)
            case "summary" | "reasoning":
                opened.raw = opened.raw or kind == "reasoning"
                gap = [ThoughtDelta(_GAP)] if begins and not fresh else []
                self._emit(opened, [*gap, ThoughtDelta(text)], out)
            case _:
                assert_never(kind)

    def _follows_text(self, opened: _Open) -> bool:
        at = opened.at
        return at > 0 and self._order[at - 1].kind == "message" and bool(self._order[at - 1].given)

    def _item_done(self, opened: _Open, item: Item, out: list[AnyEvent]) -> None:
        """What an item holds besides what has been given out of it, and its end."""
        if opened.ended and opened.calls:
            return
        match item.type:
            case "function_call" | "custom_tool_call":
                if not opened.named:
                    opened.kind = item.type
                self._name(opened, item, out)
                self._rest(opened, "call", 0, _given(item), out)
                self._close_text(opened, out)
            case "reasoning":
                self._parts(opened, "summary", item.summary or [], out)
                if not any(kind == "summary" for kind, _ in opened.given):
                    self._parts(opened, "reasoning", item.content or [], out)
                if opened.given or item.encrypted_content:
                    carrier = Carrier(item.id or "", item.encrypted_content, opened.raw)
                    self._emit(opened, [ThoughtSigned(carrier_signature(self._model, carrier))], out)
            case "message":
                self._message(opened, item.content or [], out)
            case _:
                self._hosted(opened, item, out)
        opened.ended = True
        self._advance(out)

    def _hosted(self, opened: _Open, item: Item, out: list[AnyEvent]) -> None:
        """What a tool of the provider did, once; an odd item of one is left out."""
        with suppress(ValueError, RecursionError):
            hosted = hosted_of(item)
            if hosted is not None and not opened.ended:
                self._emit(opened, [HostedUsed(hosted)], out)

    def _close_text(self, opened: _Open, out: list[AnyEvent]) -> None:
        if opened.kind == "custom_tool_call" and opened.named and not opened.ended:
            self._emit(opened, [CallArgs('"}')], out)

    def _parts(self, opened: _Open, kind: Kind, parts: list[Part], out: list[AnyEvent]) -> None:
        for at, part in enumerate(parts):
            self._rest(opened, kind, at, part.text, out)

    def _message(self, opened: _Open, parts: list[Part], out: list[AnyEvent]) -> None:
        for at, part in enumerate(parts):
            kind: Kind = "refusal" if part.type == "refusal" else "text"
            if (kind, at) not in opened.given:
                said = part.refusal if kind == "refusal" else part.text
                self._rest(opened, kind, at, said, out, part.logprobs)
                found = [one for raw in part.annotations or () if (one := cited(raw)) is not None]
                self._emit(opened, [*found], out)

    # ---- order

    def _emit(self, opened: _Open, events: list[AnyEvent], out: list[AnyEvent]) -> None:
        """Give events out, or keep them while an item that began earlier is not done."""
        if not events:
            return
        order = self._order
        while (
            self._current < len(order) and order[self._current] is not opened and order[self._current].ended
        ):
            self._next(out)
        if self._current == len(order):
            out += events
        elif order[self._current] is opened:
            out += opened.waiting
            opened.waiting = []
            out += events
        elif opened.at > self._current:
            opened.waiting += events
        elif not opened.calls:  # late, and something else has begun: after that, then
            late = _Open(opened.kind, len(order))
            late.ended = True
            late.waiting = events
            order.append(late)

    def _advance(self, out: list[AnyEvent]) -> None:
        """Let the items that waited go on, up to one that is not done."""
        while self._current < len(self._order) and self._order[self._current].ended:
            self._next(out)
        if self._current < len(self._order):
            opened = self._order[self._current]
            out += opened.waiting
            opened.waiting = []

    def _next(self, out: list[AnyEvent]) -> None:
        out += self._order[self._current].waiting
        self._order[self._current].waiting = []
        self._current += 1

    # ---- the end

    def _end(self, response: Response, kind: str, out: list[AnyEvent]) -> None:
        """Give out what only the whole response holds, end what is open, and stop."""
        self._reconcile(response.output or [], out)
        if any(opened.calls and opened.pieces and not opened.named for opened in self._order):
            self.fail(_STRAY, out)
            return
        for opened in self._order:
            self._close_text(opened, out)
            opened.ended = True
        self._advance(out)
        usage = usage_in(response, self._ran)
        if usage is not None:
            out.append(Metered(usage))
        self.done = True
        ended = end_of(response, kind, called=self._called, refused=bool(self._refusal), own=self._good_ends)
        if isinstance(ended, Failed):
            out.append(ended)
            return
        detail = "".join(self._refusal) or None if ended == "refusal" else None
        out.append(Stopped(ended, None, detail, response.service_tier))

    def _reconcile(self, output: list[Item], out: list[AnyEvent]) -> None:
        """Items of the whole response that never came by themselves, or never were done."""
        alone = not self._order
        for at, item in enumerate(output):
            found = self._by_id.get(item.id or "") or self._by_index.get(at)
            if alone:
                self._item_done(self._new(item.type, item.id, at), item, out)
            elif found is not None and not found.ended and found.calls == (item.type in CALLS):
                self._item_done(found, item, out)


def _place(event: StreamEvent, kind: Kind) -> int:
    """The number of a part among those of its kind in the item."""
    at = event.summary_index if kind == "summary" else event.content_index
    return 0 if kind == "call" else at or 0


def _argument(opened: _Open, text: str) -> str:
    """A fragment of a call's arguments; free text goes on inside a JSON string."""
    return _encode(text).decode()[1:-1] if opened.kind == "custom_tool_call" else text


"""Bytes of an answer that is plain JSON although a stream was asked for."""

_BOM = b"\xef\xbb\xbf"
_SSE_STARTS = (b"data:", b":", b"event:", b"id:", b"retry:")


def _given(item: Item) -> str | None:
    """What a call is given, where that is a text."""
    given = item.arguments or item.input
    return given if isinstance(given, str) else None


class ResponseDecoder:
    """A Responses stream as events; the result does not depend on where the bytes were cut."""

    __slots__ = ("_assembly", "_body", "_frames", "_size", "_sniffed")

    def __init__(self, *, profile: Profile = DEFAULT_PROFILE) -> None:
        self._frames = Frames()
        self._assembly = Assembly(profile)
        self._sniffed = False
        self._body: list[bytes] | None = None  # the body, where it turned out to be plain JSON
        self._size = 0

    @property
    def answered(self) -> str:
        """The model that the answer names, the last one where it names several."""
        return self._assembly.answered

    @property
    def done(self) -> bool:
        """Whether the terminal event was given; what follows it is ignored."""
        return self._assembly.done

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events completed by ``data``; none after the end."""
        out: list[AnyEvent] = []
        if self._assembly.done or not data:
            return out
        if not self._sniffed:
            start = data.removeprefix(_BOM).lstrip()
            if start:
                self._sniffed = True
                if start.startswith(b"{"):
                    self._body = []
        if self._body is not None:
            self._body.append(data)
            self._size += len(data)
            if self._size > MAX_ANSWER:
                self._assembly.fail(garbled(f"the answer is larger than {MAX_ANSWER} bytes"), out)
            return out
        try:
            frames = self._frames.feed(data)
        except FrameTooLarge as error:
            self._assembly.fail(garbled(str(error)), out)
            return out
        self._take(frames, out)
        return out

    def finish(self) -> list[AnyEvent]:
        """The events of the stream's end. Gives the terminal event if ``feed`` has not."""
        out: list[AnyEvent] = []
        assembly = self._assembly
        if assembly.done:
            return out
        if self._body is not None:
            _take_whole(b"".join(self._body), assembly, out)
            return out
        self._take([frame for frame in self._frames.finish() if is_json(frame.data)], out)
        if not assembly.done:
            text = "upstream stream truncated" if assembly.started else "the stream ended before it began"
            assembly.fail(Failed("api_error", text, truncated=True), out)
        return out

    def form_of(self, raw: bytes) -> Form | None:
        """The form of a frame that became one event; see ``EventDecoder``. A refusal's text is kept: it has none."""
        frame = parse_frame(raw)
        event = None if frame is None else read_event(frame.event, frame.data)
        known = isinstance(event, StreamEvent) and _DELTAS.get(event.type, "refusal") != "refusal"
        return form_of(raw) if known else None

    def _take(self, frames: list[Frame], out: list[AnyEvent]) -> None:
        assembly = self._assembly
        for frame in frames:
            event = read_event(frame.event, frame.data)
            if isinstance(event, Failed):
                assembly.fail(event, out)
            elif event is not None:
                assembly.take(event, out)
            if assembly.done:
                return


def decode_response(body: bytes, profile: Profile = DEFAULT_PROFILE) -> list[AnyEvent]:
    """A whole answer as events; an error object or something else than an answer is one ``Failed``."""
    if body.removeprefix(_BOM).lstrip().startswith(_SSE_STARTS):  # a stream although none was asked for
        reader = ResponseDecoder(profile=profile)
        return [*reader.feed(body), *reader.finish()]
    out: list[AnyEvent] = []
    _take_whole(body, Assembly(profile), out)
    return out


def _take_whole(body: bytes, assembly: Assembly, out: list[AnyEvent]) -> None:
    text = body.removeprefix(_BOM).strip()
    response = decode_whole(text)
    if response is None:
        assembly.fail(garbled("the upstream's answer is not a Responses reply"), out)
        return
    failed = failure_in(response, text) or unknown_state(response)
    if failed is not None:
        assembly.fail(failed, out)
        return
    assembly.whole(response, out)
