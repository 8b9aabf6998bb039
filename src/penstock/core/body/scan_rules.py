"""Scan rules: which members an object may have, what each has to look like, and of which ones a scanner tells the places.

A scanner (``scanner.py``) knows nothing of any format. The rules of one are made once, from its table of cost fields and
its own checks, and are packed into bytes then, so that one pass in C needs no Python object but them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

MAX_DEPTH = 256
"""Open brackets at one time that the scanner in C puts up with. A decoder's own bound is higher."""
MAX_NAMES = 64
MAX_NAME = 40
"""Letters of a name."""
MAX_WORDS = 8
MAX_MARKS = 16
UNBOUNDED = 2**62
"""A number of values that no body has."""
_REQUIRED = 0x40
_LETTERS = b"etaoinsrhldcumfpgwybvkxjqz"
"""From the most frequent in texts to the rarest."""

Spans = tuple[int, ...]
"""Offsets into the scanned data: of the object's opening bracket, of its closing one, and then, for each wanted member, of
its value's first byte and of the one after its last; both 0 where it is not there. ``ScanRules.places`` tells which. The
last number has a bit for each mark that a string begins with (``ScanRules.bits``), and ``ESCAPED``."""
OPEN, CLOSE, MARKS = 0, 1, -1
ESCAPED = 1 << MAX_MARKS
"""A letter of ASCII, or what is near to one, is written with an escape somewhere (``\\u0050`` to ``\\u007f``)."""


class Form(IntEnum):
    """What the value of a member has to look like. Numbers longer than 18 digits, and with exponents, are left to a decoder."""

    ANY = 0
    """Any value."""
    NAME = 1
    """A string without escapes, in which at least one character of ASCII is to be seen."""
    FLAG = 2
    """true, false or null."""
    WHOLE = 3
    """An integer or null."""
    NATURAL = 4
    """An integer from 0 on, or null."""
    POSITIVE = 5
    """An integer from 1 on, or null."""
    NUMBER = 6
    """A number or null."""
    TEMPERATURE = 7
    """A number from 0 to 2, or null."""
    OPTIONS = 8
    """An object whose ``include_usage`` is a flag, or null."""
    TURNS = 9
    """A list of objects that have a string as their ``role``, and a string, a list or null as their ``content``."""
    ITEMS = 10
    """A string, or a list of objects that have the names of ``ScanRules.items`` alone, and refer to nothing."""
    TOOLS = 11
    """Anything that neither names a model nor runs one."""
    TEXTS = 12
    """A string, a list of strings, or a list of integers; not empty."""
    FILLED = 13
    """A list that is not empty."""
    OBJECT = 14
    """An object."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member that an object may have. ``required``: it has to be there, and not null."""

    name: str
    form: Form = Form.ANY
    required: bool = False


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What an object may be. Of the first ``wanted`` members the places are told.

    ``max_values`` bounds objects, lists and their members, ``max_entries`` the turns, items or texts. ``items`` are the names
    of an item (``type`` and ``id`` first). A tool that has the names of ``tools`` alone (``type`` first), and that the
    caller runs, is looked through for the words of ``running`` (in lower case), any other for those of ``naming``, too.
    ``marks`` are what strings, names of members among them, may begin with that is told: who wants to know whether one is
    there need not search through the body once more.
    """

    members: tuple[Member, ...]
    wanted: int
    max_values: int = UNBOUNDED
    max_entries: int = UNBOUNDED
    items: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    running: tuple[bytes, ...] = ()
    naming: tuple[bytes, ...] = ()
    marks: tuple[bytes, ...] = ()
    places: Mapping[str, int] = field(init=False, compare=False)
    """Where in ``Spans`` the place of a wanted member begins."""
    named: Mapping[str, Member] = field(init=False, compare=False)
    """The members by their names."""
    required: frozenset[str] = field(init=False, compare=False)
    """The names of the members that have to be there."""
    bits: Mapping[bytes, int] = field(init=False, compare=False)
    """The bit of each mark."""
    patterns: tuple[tuple[bytes, re.Pattern[bytes], int], ...] = field(init=False, compare=False)
    """Of each mark: what to search for, what that has to be, and its bit."""
    packed: bytes = field(init=False, compare=False)
    """The same as a scanner in C reads it."""

    def __post_init__(self) -> None:
        """Pack the rules. Raises ``ValueError`` where there are more of something than a scanner takes, or it is longer."""
        for names in ([member.name for member in self.members], self.items, self.tools):
            if len(names) > MAX_NAMES or any(len(name) > MAX_NAME or not name.isascii() for name in names):
                raise ValueError("more names, or longer ones, than a scanner takes")
        if len(self.running) + len(self.naming) > MAX_WORDS:
            raise ValueError("more words than a scanner takes")
        if len(self.marks) > MAX_MARKS or not all(1 < len(mark) <= MAX_NAME for mark in self.marks):
            raise ValueError("more marks, or longer ones, than a scanner takes")
        wanted = self.members[: self.wanted]
        places = {member.name: CLOSE + 1 + 2 * at for at, member in enumerate(wanted)}
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "named", {member.name: member for member in self.members})
        required = frozenset(member.name for member in self.members if member.required)
        object.__setattr__(self, "required", required)
        bits = {mark: 1 << at for at, mark in enumerate(self.marks)}
        object.__setattr__(self, "bits", bits)
        # a quotation mark within a string has a backslash before it, and no letter follows that at a string's end
        patterns = tuple(
            (b'"' + mark, re.compile(rb'(?<!\\)"' + re.escape(mark)), bit) for mark, bit in bits.items()
        )
        object.__setattr__(self, "patterns", patterns)
        object.__setattr__(self, "packed", self._pack())

    def _pack(self) -> bytes:
        members = [
            (each.form | (_REQUIRED if each.required else 0), each.name.encode()) for each in self.members
        ]
        words = (*self.running, *self.naming)
        return b"".join(
            (
                self.max_values.to_bytes(8, "little"),
                self.max_entries.to_bytes(8, "little"),
                bytes((self.wanted, len(members))),
                _entries(members),
                *(
                    bytes((len(names),)) + _entries([(Form.ANY, name.encode()) for name in names])
                    for names in (self.items, self.tools)
                ),
                bytes((len(self.running), len(words))),
                _entries([(_rarest(word), word) for word in words]),
                bytes((len(self.marks),)),
                b"".join(bytes((len(mark),)) + mark for mark in self.marks),
            )
        )


def _entries(entries: list[tuple[int, bytes]]) -> bytes:
    """Each as a byte for its number, a byte for its length, and itself."""
    return b"".join(bytes((number, len(text))) + text for number, text in entries)


def _rarest(word: bytes) -> int:
    """Where in a word the two letters are that are rarest in other texts, which is what a scanner looks for first."""
    return max(range(len(word) - 1), key=lambda at: _LETTERS.find(word[at]) + _LETTERS.find(word[at + 1]))
