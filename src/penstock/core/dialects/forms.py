"""Forms of frames: what stands round the text of a frame that adds a text and nothing else, so that the next need not be read.

A dialect finds the form of a frame (``form_of`` in its ``text_form.py``) so that each frame of it says the same but for
its text. Only plain text is looked for, which stands for itself in JSON: no quote, no backslash, no control character.
Whether its bytes are UTF-8 is for those to see who decode.
"""

import re
from collections.abc import Callable
from typing import Protocol

import msgspec

PLAIN = re.compile(rb'[^"\\\x00-\x1f]++')
"""Characters that stand for themselves in a JSON string."""
JSON_TEXT = re.compile(rb'[^"\\\x00-\x1f]*+(?>(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*)')
"""All that may stand in a JSON string."""
NUMBER = re.compile(rb"(?:0|[1-9]\d{0,14})(?!\d)")
"""The number of an event."""
PADDING = re.compile(rb"[ !#-\[\]-~]*+")
"""Characters that say nothing, which hide how long a text is."""

LESSONS = 12
"""A stream whose frames have no form in common is read frame by frame, without looking for one for ever."""

Place = tuple[int, int, int]
"""Where in some bytes a frame's text begins and ends, and where the frame ends."""


_string = msgspec.json.Decoder(str).decode


def text_at(data: bytes, begin: int, stop: int) -> str | None:
    """The text that stands there, between its quotes, in JSON; None where it cannot be read."""
    try:
        return _string(data[begin - 1 : stop + 1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Form(Protocol):
    """What frames that differ in their text alone have in common."""

    def find(self, data: bytes, at: int, end: int, text: re.Pattern[bytes] = PLAIN) -> Place | None:
        """The frame of this form that begins at ``at`` and ends before ``end``, or None."""
        ...


FormOf = Callable[[bytes], Form | None]
"""The form of one frame; None where it is not a text alone."""


class TextForm:
    """A text between ``before``, which ends with its quote, and ``after``, which begins with the other one."""

    __slots__ = ("_after", "_before", "_length", "_tail")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after
        self._length = len(before)
        self._tail = len(after)

    def find(self, data: bytes, at: int, end: int, text: re.Pattern[bytes] = PLAIN) -> Place | None:
        """As ``Form`` says."""
        if not data.startswith(self._before, at):
            return None
        start = at + self._length
        found = text.match(data, start, end)
        if found is None:
            return None
        stop = found.end()
        after = stop + self._tail
        return (start, stop, after) if after <= end and data.startswith(self._after, stop) else None


class NumberedForm:
    """A text between other things that differ: the number of the event, padding.

    ``pieces`` are what does not differ, with one of ``holes`` between each two; None among these is the text's.
    """

    __slots__ = ("_last", "_steps")

    def __init__(self, pieces: list[bytes], holes: list[re.Pattern[bytes] | None]) -> None:
        self._steps = list(zip(pieces, holes, strict=False))
        self._last = pieces[-1]

    def find(self, data: bytes, at: int, end: int, text: re.Pattern[bytes] = PLAIN) -> Place | None:
        """As ``Form`` says."""
        start = stop = at
        for piece, hole in self._steps:
            if not data.startswith(piece, at):
                return None
            found = (hole or text).match(data, at + len(piece), end)
            if found is None:
                return None
            at = found.end()
            if hole is None:
                start, stop = found.span()
        after = at + len(self._last)
        return (start, stop, after) if after <= end and data.startswith(self._last, at) else None


class Lessons:
    """The form that a stream's frames have, as far as it is known: learnt from frames that were read."""

    __slots__ = ("_form_of", "form", "left")

    def __init__(self, form_of: FormOf) -> None:
        self._form_of = form_of
        self.left = LESSONS
        """How many more frames may be looked at; ``LESSONS`` again after each that was known."""
        self.form: Form | None = None

    def take(self, raw: bytes) -> Form | None:
        """The form of ``raw``, which was read and is one frame that adds a text; None where it has none."""
        form = self.form
        if form is not None and self.fits(form, raw):
            return form
        if not self.left:
            return None
        self.left -= 1
        found = self._form_of(raw)
        if found is not None:
            self.form = found
        return found

    @staticmethod
    def fits(form: Form, raw: bytes) -> bool:
        """Whether all of ``raw`` is one frame of this form, whatever its text."""
        found = form.find(raw, 0, len(raw), JSON_TEXT)
        return found is not None and found[2] == len(raw)
