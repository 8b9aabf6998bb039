"""The two ways a streamed reply crosses: bytes with a meter beside, or read into events and written again.

Both answer to one small interface, ``Lane``: upstream bytes go in, caller bytes come out, and what the ledger needs is
on the side. A dialect's ``Meter`` is the lane of same-dialect traffic; ``Translation`` is the other.
"""

from typing import Protocol

from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    Failed,
    Metered,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
)
from penstock.core.neutral.usage import Usage, merge_usage
from penstock.core.reasoning.redact import Redaction
from penstock.core.tools.names import NO_NAMES, ToolNames


class Lane(Protocol):
    """Upstream bytes in, caller bytes out; each return value ends at a frame boundary."""

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        ...

    @property
    def failure(self) -> Failed | None:
        """Set when the upstream broke off or reported an error; nothing of it was written, the relay has words of its own."""
        ...

    @property
    def done(self) -> bool:
        """The reply is complete, as far as the dialect has said it yet; something of its end may still follow."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more will come out: the dialect's last word has been written, or ``failure`` is set."""
        ...

    @property
    def stop(self) -> StopReason | None:
        """Why the reply ended."""
        ...

    @property
    def started(self) -> bool:
        """A first real event has been seen."""
        ...

    @property
    def output_bytes(self) -> int:
        """Length of the generated text so far, for an estimate where the upstream gives no usage."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the event that would come next, in the dialect that counts them."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        ...

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end; sets ``failure`` when that came too early."""
        ...


class EventDecoder(Protocol):
    """A dialect's ``Reader``."""

    def feed(self, data: bytes) -> list[AnyEvent]:
        """Events of these bytes."""
        ...

    def finish(self) -> list[AnyEvent]:
        """Events of the end."""
        ...


class EventEncoder(Protocol):
    """A dialect's ``Writer``."""

    @property
    def sequence(self) -> int:
        """The number of the next event, in the dialect that counts them."""
        ...

    def write(self, events: list[AnyEvent]) -> bytes:
        """The frames of these events."""
        ...


class EventListener(Protocol):
    """Told of every event of a reply, with the names that the upstream knows tools by."""

    def take(self, event: AnyEvent) -> None:
        """Take the next event."""
        ...


class Translation:
    """Reads one dialect and writes another, keeping usage, end and failure on the side."""

    __slots__ = (
        "_hiding",
        "_listener",
        "_names",
        "_writer",
        "done",
        "ended",
        "failure",
        "output_bytes",
        "reader",
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
        hides_thoughts: bool = False,
    ) -> None:
        """``names`` restores what the caller calls its tools; with ``hides_thoughts`` it gets no text of thoughts."""
        self._hiding = Redaction() if hides_thoughts else None
        self._listener = listener
        self.reader = reader
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
    def sequence(self) -> int:
        """The number of the event that would come next."""
        return self._writer.sequence

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        return self._cross(self.reader.feed(data))

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        return self._cross(self.reader.finish())

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
        if self._names:
            events = self._names.restored(events)
        if self._hiding is not None:
            events = self._hiding.without_text(events)
        return self._writer.write(events)


class ObservedPassthrough:
    """A lane of bytes whose reply is read on the side for a listener; nothing of what crosses is changed."""

    __slots__ = ("_lane", "_listener", "_reader")

    def __init__(self, lane: Lane, reader: EventDecoder, listener: EventListener) -> None:
        self._lane = lane
        self._reader = reader
        self._listener = listener

    @property
    def usage(self) -> Usage:
        """Of the lane itself."""
        return self._lane.usage

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

    def feed(self, data: bytes) -> bytes:
        """What the caller gets for these upstream bytes."""
        for event in self._reader.feed(data):
            self._listener.take(event)
        return self._lane.feed(data)

    def finish(self) -> bytes:
        """What the caller gets at the upstream's end."""
        for event in self._reader.finish():
            self._listener.take(event)
        return self._lane.finish()
