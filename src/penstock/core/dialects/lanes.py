"""Lanes, the two ways in which an answer crosses: passed through as bytes, or decoded into events and encoded again.

Both answer to one small interface, ``Lane``: upstream bytes go in, caller bytes come out, and what the ledger needs is on
the side. A dialect's ``Passthrough`` is the lane of same-dialect traffic; ``Translation`` is the other. Whole answers
cross in the same two ways.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from penstock.core.body.envelope import Envelope
from penstock.core.dialects.interface import (
    NOTHING_ASKED,
    Asked,
    CallerSide,
    EventDecoder,
    EventEncoder,
    Lane,
    Marking,
    PausableDecoder,
    Prepared,
    UpstreamSide,
)
from penstock.core.dialects.learning_decoder import LearningDecoder, text_of
from penstock.core.dialects.summary import SummaryDecoder, SummaryText
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    Failed,
    Metered,
    Reply,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
)
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.profile import Profile
from penstock.core.reasoning.cache import ReasoningRecorder, ReasoningScope
from penstock.core.reasoning.maker import marked_events
from penstock.core.reasoning.redact import Redaction
from penstock.core.sse import MAX_ANSWER
from penstock.core.tools.names import NO_NAMES, ToolNames

TOO_LONG = "answer_too_long"
"""The kind of a failure that is our own: more would have to be kept of a stream than may be."""


class EventListener(Protocol):
    """Told of every event of a reply, with the names that the upstream knows tools by."""

    def take(self, event: AnyEvent) -> None:
        """Take the next event."""
        ...


class Translation:
    """Reads one dialect and writes another, keeping usage, end and failure on the side."""

    __slots__ = (
        "_decoder",
        "_keeps",
        "_listener",
        "_mark",
        "_names",
        "_redaction",
        "_writer",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "pausable",
        "started",
        "stop",
        "usage",
    )

    def __init__(
        self,
        reader: EventDecoder,
        writer: EventEncoder,
        names: ToolNames = NO_NAMES,
        listener: EventListener | None = None,
        *,
        hides_reasoning: bool = False,
        keeps: int = MAX_ANSWER,
        mark: str = "",
    ) -> None:
        """``names`` restores what the caller calls its tools; with ``hides_reasoning`` it gets no text of reasoning.

        ``mark`` goes in front of signatures; ``keeps``: an answer whose end says it again fails where that would be more bytes.
        """
        self._redaction = Redaction(keeps) if hides_reasoning else None
        self._keeps = keeps
        self._mark = mark
        self._listener = listener
        self._decoder = LearningDecoder(reader)
        self.pausable: PausableDecoder | None = None
        """Decodes the turn, where its upstream may pause it."""
        self._writer = writer
        self._names = names
        self.usage = Usage()
        self.failure: Failed | None = None
        self.done = False
        self.ended = False
        self.stop: StopReason | None = None
        self.started = False
        self.output_bytes = 0

    @property
    def answered(self) -> str:
        """The model that the answer names."""
        return self._decoder.answered

    @property
    def sequence(self) -> int:
        """The number of the event that would come next."""
        return self._writer.sequence

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        return self._cross(self._decoder.feed(data))

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """What the caller gets for ``data[start:end]``, if its frames are known."""
        pieces = None if self.ended else self._decoder.known(data, start, end)
        # near the bound all is fed, so that the answer fails where it would have failed; free text is kept twice
        if pieces is None or self._writer.kept + 2 * (end - start) > self._keeps:
            return None
        for piece in pieces:
            text = text_of(piece)
            self.output_bytes += len(text)
            if self._listener is not None:
                self._listener.take(piece)
            if self.pausable is not None:
                self.pausable.skipped(text)
        events: list[AnyEvent] = [*pieces]
        if self._redaction is not None:
            events = self._redaction.without_text(events)
        return self._writer.write(events)

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        return self._cross(self._decoder.finish())

    def _cross(self, events: list[AnyEvent]) -> bytes:
        if not events or self.failure is not None:
            return b""
        for event in events:
            if isinstance(event, TextDelta | ThoughtDelta):
                self.output_bytes += len(event.text)
            elif isinstance(event, CallArgs):
                self.output_bytes += len(event.fragment)
            elif isinstance(event, Metered):
                self.usage = merge_usage(self.usage, event.usage)
            elif isinstance(event, Stopped):
                self.done = self.ended = True
                self.stop = event.reason
            elif isinstance(event, Started):
                self.started = True
            elif isinstance(event, Failed):
                self.failure = event
                self.ended = True
        if self._listener is not None:
            for event in events:
                self._listener.take(event)
        if self.failure is not None:
            events = [event for event in events if not isinstance(event, Failed)]
        if self._mark:
            events = marked_events(events, self._mark)
        if self._names:
            events = self._names.restored(events)
        if self._redaction is not None:
            events = self._redaction.without_text(events)
        return self._written(events)

    def _written(self, events: list[AnyEvent]) -> bytes:
        out = self._writer.write(events)
        if self._writer.kept > self._keeps and not self.ended:
            self.failure = Failed(
                TOO_LONG, f"over {self._keeps} bytes of the answer would have to be kept for its end"
            )
            self.ended = True
        return out


class _Around:
    """A lane of bytes with something round it: what is known of it is what its lane knows."""

    __slots__ = ("_lane",)

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    @property
    def usage(self) -> Usage:
        """Of the lane itself."""
        return self._lane.usage

    @property
    def answered(self) -> str:
        """Of the lane itself."""
        return self._lane.answered

    @property
    def failure(self) -> Failed | None:
        """Of the lane itself."""
        return self._lane.failure

    @property
    def done(self) -> bool:
        """Of the lane itself."""
        return self._lane.done

    @property
    def ended(self) -> bool:
        """Of the lane itself."""
        return self._lane.ended

    @property
    def stop(self) -> StopReason | None:
        """Of the lane itself."""
        return self._lane.stop

    @property
    def started(self) -> bool:
        """Of the lane itself."""
        return self._lane.started

    @property
    def output_bytes(self) -> int:
        """Of the lane itself."""
        return self._lane.output_bytes

    @property
    def sequence(self) -> int:
        """Of the lane itself."""
        return self._lane.sequence


class MarkedPassthrough(_Around):
    """A lane of bytes whose signatures get a mark of who made them."""

    __slots__ = ("_mark", "_marking")

    def __init__(self, lane: Lane, marking: Marking, mark: str) -> None:
        super().__init__(lane)
        self._marking = marking
        self._mark = mark

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        return self._marking.frames(self._lane.feed(data), self._mark)

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """What the caller gets for frames of a known form: they hold text and no signature."""
        return self._lane.feed_known(data, start, end)

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        return self._marking.frames(self._lane.finish(), self._mark)


class ObservedPassthrough(_Around):
    """A lane of bytes whose reply is read on the side for a listener; nothing of what crosses is changed."""

    __slots__ = ("_decoder", "_listener")

    def __init__(self, lane: Lane, reader: EventDecoder, listener: EventListener) -> None:
        super().__init__(lane)
        self._decoder = LearningDecoder(reader)
        self._listener = listener

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        for event in self._decoder.feed(data):
            self._listener.take(event)
        return self._lane.feed(data)

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        """What the caller gets for ``data[start:end]``, if its frames are known to both readers."""
        pieces = self._decoder.known(data, start, end)
        out = None if pieces is None else self._lane.feed_known(data, start, end)
        if pieces is None or out is None:
            return None
        for piece in pieces:
            self._listener.take(piece)
        return out

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        for event in self._decoder.finish():
            self._listener.take(event)
        return self._lane.finish()


# ---- which way an answer crosses


class Crossing(msgspec.Struct, frozen=True):
    """From which upstream to which caller an answer crosses, and what we write ourselves into it.

    ``same``: both speak the same. ``public`` is the public model id, ``reply_id`` the id of an answer that we encode,
    ``created`` its time in Unix seconds. ``keeps``: so many bytes of a stream are kept where its end needs them. ``clock``
    gives epoch seconds.
    """

    caller: CallerSide
    upstream: UpstreamSide
    same: bool
    profile: Profile
    public: str
    reply_id: str
    created: int
    keeps: int = MAX_ANSWER
    clock: Callable[[], float] | None = None

    def asked(self, envelope: Envelope) -> Asked:
        """What an answer that we write has of its request."""
        read = self.caller.asked
        if read is None:
            return NOTHING_ASKED
        return msgspec.structs.replace(
            read(envelope), model=self.public, created=self.created, clock=self.clock
        )


def stream_lane(crossing: Crossing, envelope: Envelope, prepared: Prepared, content_type: bytes) -> Lane:
    """Bytes where both sides speak the same dialect in the same form, events elsewhere."""
    caller, upstream, profile = crossing.caller, crossing.upstream, crossing.profile
    recorder = None if prepared.reasoning is None else ReasoningRecorder(prepared.reasoning)
    passing = upstream.passing
    if (
        crossing.same
        and passing is not None
        and passing.Stream is not None
        and not content_type.startswith(b"application/json")
    ):
        lane = passing.Stream(model=crossing.public, withhold_usage=not envelope.include_usage)
        if prepared.mark and passing.marking is not None:
            return MarkedPassthrough(lane, passing.marking, prepared.mark)
        if recorder is None:
            return lane
        return ObservedPassthrough(lane, upstream.ResponseDecoder(profile=profile), recorder)
    asked = crossing.asked(envelope)
    encoder = caller.ResponseEncoder(
        model=crossing.public,
        reply_id=crossing.reply_id,
        created=crossing.created,
        include_usage=envelope.include_usage,
        input_estimate=envelope.estimate_input(),
        asked=asked,
    )
    pausable: PausableDecoder | None = None
    if prepared.may_pause and upstream.pauses is not None and not caller.resumes_pauses:
        pausable = upstream.pauses.Decoder(profile=profile, keeps=crossing.keeps)
    decoder = pausable or upstream.ResponseDecoder(profile=profile)
    if asked.compacts:
        decoder = SummaryDecoder(decoder)
    lane = Translation(
        decoder,
        encoder,
        prepared.names,
        recorder,
        hides_reasoning=prepared.hides_reasoning,
        keeps=crossing.keeps,
        mark=prepared.mark,
    )
    lane.pausable = pausable
    return lane


def whole_reply(
    crossing: Crossing,
    prepared: Prepared,
    body: bytes,
    events: Sequence[AnyEvent] | None = None,
    asked: Asked = NOTHING_ASKED,
) -> Reply:
    """An upstream's whole answer in the neutral form, with the caller's own names of tools.

    ``events`` is what the answer says, where that is known already.
    """
    decoded = (
        list(events) if events is not None else crossing.upstream.decode_response(body, crossing.profile)
    )
    if prepared.reasoning is not None:
        record_reasoning(prepared.reasoning, decoded)
    if asked.compacts:
        decoded = SummaryText().of(decoded)
    if prepared.mark:
        decoded = marked_events(decoded, prepared.mark)
    decoded = prepared.names.restored(decoded)
    if prepared.hides_reasoning:
        decoded = Redaction().without_text(decoded)
    return fold(decoded)


def record_reasoning(scope: ReasoningScope, events: Sequence[AnyEvent]) -> None:
    """Keep the reasoning of a whole answer."""
    recorder = ReasoningRecorder(scope)
    for event in events:
        recorder.take(event)
