"""A decoder that reads a frame of a form it has met no more than it must: its text alone.

The machine, in words. It *reads*: whatever is fed goes to the decoder of the dialect. A frame that was fed alone and
became one piece of text, of reasoning or of arguments, after it was asked about in vain, makes it *know* the form of that
frame: further ones are cut out by their bytes, become the same kind of event, and change nothing in the decoder. Whatever
else is fed makes it *read* again, since it may have changed what such a frame means, until the next frame that teaches.
"""

from penstock.core.dialects.forms import JSON_TEXT, LESSONS, Form, Lessons, text_at
from penstock.core.dialects.interface import EventDecoder
from penstock.core.neutral.events import AnyEvent, CallArgs, TextDelta, ThoughtDelta

Piece = TextDelta | ThoughtDelta | CallArgs


class LearningDecoder:
    """Decodes one stream. ``known`` is asked first, where bytes are whole frames; what it does not know is fed."""

    __slots__ = ("_asked", "_decoder", "_form", "_kind", "_lessons")

    def __init__(self, decoder: EventDecoder) -> None:
        self._decoder = decoder
        self._lessons = Lessons(decoder.form_of)
        self._asked = False  # since something was fed last: else there is nobody to learn for
        self._form: Form | None = None
        """The form that is known now."""
        self._kind: type[Piece] = TextDelta
        """What frames of it become."""

    @property
    def answered(self) -> str:
        """The model that the answer names."""
        return self._decoder.answered

    def feed(self, data: bytes) -> list[AnyEvent]:
        """The events of these bytes."""
        events = self._decoder.feed(data)
        self._form = None
        asked, self._asked = self._asked, False
        if asked and len(events) == 1:
            event = events[0]
            if isinstance(event, TextDelta | ThoughtDelta | CallArgs):
                self._learn(data, event)
        return events

    def finish(self) -> list[AnyEvent]:
        """The events of the end."""
        self._form = None
        return self._decoder.finish()

    def known(self, data: bytes, start: int, end: int) -> list[Piece] | None:
        """The events of ``data[start:end]``, if that is whole frames of the known form; else it has to be fed."""
        form = self._form
        self._asked = True
        if form is None:
            return None
        events: list[Piece] = []
        while start < end:
            found = form.find(data, start, end)
            if found is None:
                return None
            begin, stop, start = found
            try:
                events.append(self._kind(data[begin:stop].decode()))
            except UnicodeDecodeError:
                return None
        self._lessons.left = LESSONS
        return events

    def _learn(self, data: bytes, event: Piece) -> None:
        kind = type(event)
        known = self._lessons.form
        if known is not None and kind is self._kind and Lessons.fits(known, data):
            self._form = known
            return
        form = self._lessons.take(data)
        found = None if form is None else form.find(data, 0, len(data), JSON_TEXT)
        if found is not None and text_at(data, found[0], found[1]) == text_of(event):
            self._form, self._kind = form, kind


def text_of(event: Piece) -> str:
    """What a piece adds."""
    return event.fragment if isinstance(event, CallArgs) else event.text
