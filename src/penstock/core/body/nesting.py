"""Nesting of JSON: whether a text goes deeper than a bound of our own, told without decoding all of it.

The decoder has a bound, too, but another one on each version of Python (997 levels on 3.11, where our own calls count with
them, and 9,998 on 3.13), so what it would decide depends on where it runs. Ours is met before any of them, and is the same
everywhere. Most texts have fewer brackets than the bound has levels, whatever their strings hold, and are done with after
one look; longer ones are looked at part by part, so that the strings in them are stepped over as fast as can be.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

MAX_NESTING = 500
"""Levels of objects and lists in what an upstream sends, and in a request unless the operator says otherwise."""

_NO_OPENING = bytes(octet for octet in range(256) if octet not in b"{[")
_NO_STRUCTURE = bytes(octet for octet in range(256) if octet not in b'{}[]"')
_ALIKE = bytes.maketrans(b"[]", b"{}")
_OPENING = b"{"[0]
_PARTED = 3
"""How many levels are taken apart; what is below is read by its brackets."""
_SPARSE = 64
"""Bytes for each opening bracket from which on a text is taken apart: there is much between them to be stepped over."""

_SHORT = 16 * 1024
"""Bytes of a body up to which one look at the whole is cheaper than one at each member."""
_BLOCK = 256
"""Brackets that are counted at once, where they cannot reach the bound."""

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode


def nests_deeper(text: bytes, most: int = MAX_NESTING) -> bool:
    """Whether JSON text has more than ``most`` levels of objects and lists; of other text the answer means nothing."""
    return _deeper(text, most, _PARTED)


def body_nests_deeper(body: bytes, members: Iterable[Raw], most: int) -> bool:
    """Whether a body, whose ``members`` have been found, has more than ``most`` levels."""
    if len(body) <= _SHORT and len(body.translate(None, _NO_OPENING)) <= most:
        return False
    return any_nests_deeper(members, most - 1)


def in_utf8(text: bytes) -> bytes | None:
    """The same with U+FFFD for what is no UTF-8; None where all of it is."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return None


def is_object(text: bytes) -> bool:
    """Whether a text is an object of JSON, with no more levels than ``MAX_NESTING``."""
    try:
        _members(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return not nests_deeper(text)


def any_nests_deeper(values: Iterable[Raw], most: int, parted: int = _PARTED) -> bool:
    """Whether one of some values of JSON has more than ``most`` levels; ``parted`` of them are taken apart."""
    return any(len(memoryview(value)) > most and _deeper(bytes(value), most, parted) for value in values)


def _deeper(text: bytes, most: int, parted: int) -> bool:
    if len(text) <= most:
        return False
    opened = len(text.translate(None, _NO_OPENING))
    if opened <= most:
        return False
    if not parted or opened * _SPARSE > len(text):
        return _depth_exceeds(text, most)
    try:
        parts = _members(text).values() if text.lstrip()[:1] == b"{" else _items(text)
    except (ValueError, RecursionError):
        return _depth_exceeds(text, most)
    return any_nests_deeper(parts, most - 1, parted - 1)


def _depth_exceeds(text: bytes, most: int) -> bool:
    """By the brackets alone, those in strings left out."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # two quotes side by side are a string without brackets, or end and begin of two that have none between them
    structure = text.translate(_ALIKE, _NO_STRUCTURE).replace(b'""', b"")
    if b'"' in structure:
        structure = b"".join(structure.split(b'"')[::2])
    depth = 0
    for at in range(0, len(structure), _BLOCK):
        block = structure[at : at + _BLOCK]
        opened = block.count(b"{")
        if depth + opened > most and _reaches(block, depth, most):
            return True
        depth += 2 * opened - len(block)
    return False


def _reaches(block: bytes, depth: int, most: int) -> bool:
    for bracket in block:
        depth += 1 if bracket == _OPENING else -1
        if depth > most:
            return True
    return False
