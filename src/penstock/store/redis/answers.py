"""Answers of Redis, read within bounds: whoever stands at its port may say anything, and costs us little by it."""

# pyright: reportUnknownMemberType=false
# hiredis gives answers of any type; the shapes below say which of them a command may have.

import re
from collections.abc import Callable
from typing import cast

import hiredis

RedisReply = object
Shape = Callable[[RedisReply], bool]
"""Whether a reply is one that its command can have."""

MOST_BYTES = 1024 * 1024
"""How much of one reply is kept until it is whole; the longest that Redis gives us is a list of slots."""
MOST_AHEAD = 16 * 1024
"""How many elements may be announced before they come: the reader makes room for them at once."""
SHORTEST_ELEMENT = 3
"""In bytes."""

_headers = re.compile(rb"([*%~>|$=!])([0-9]{1,20})\r").findall
_cut_header = re.compile(rb"[*%~>|$=!][0-9]{0,20}\Z").search
_LENGTHS = frozenset((b"$", b"=", b"!"))

_INCOMPLETE = object()


class StrangeAnswer(Exception):
    """A peer that is taken for Redis says what Redis does not say; the text is for the operator."""


class AnswerReader:
    """Reads what comes over one connection into replies.

    hiredis makes room for as many elements as an array announces, before any of them is there; so what is announced is added
    up beside it, and may not run far ahead of what has come.
    """

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._kept = 0
        self._ahead = 0
        self._cut = b""

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises ``StrangeAnswer``."""
        seen = self._cut + data
        announced = 0
        for kind, digits in _headers(seen):
            number = int(digits)
            if kind not in _LENGTHS:
                announced += number
            elif number > MOST_BYTES:
                raise StrangeAnswer("it announces an answer that is too long")
        cut = _cut_header(seen, max(0, len(seen) - 24))
        self._cut = cut[0] if cut else b""
        self._ahead = max(0, self._ahead + announced - len(data) // SHORTEST_ELEMENT)
        self._kept += len(data)
        if self._ahead > MOST_AHEAD or self._kept > MOST_BYTES:
            raise StrangeAnswer("it announces an answer that is too long")
        self._reader.feed(data)

    def replies(self) -> "list[RedisReply]":
        """Every reply that is whole by now. Raises ``StrangeAnswer``, after those before it are lost with it."""
        found: list[RedisReply] = []
        try:
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                found.append(reply)
        except (hiredis.ProtocolError, TypeError) as error:
            # a TypeError: the key of a map, or what is in a set, is itself a map or a list
            raise StrangeAnswer("what it says is not Redis's protocol") from error
        if found:
            self._kept = 0
        return found


# ---- shapes


def anything(_reply: RedisReply) -> bool:
    """Every reply: what nobody looks at."""
    return True


def is_ok(reply: RedisReply) -> bool:
    """The word OK."""
    return reply == b"OK"


def is_set(reply: RedisReply) -> bool:
    """What ``SET`` with a condition answers: OK, or nothing where it did nothing."""
    return reply is None or reply == b"OK"


def is_pong(reply: RedisReply) -> bool:
    """What ``PING`` answers."""
    return reply == b"PONG"


def is_text(reply: RedisReply) -> bool:
    """A text."""
    return isinstance(reply, bytes)


def is_number(reply: RedisReply) -> bool:
    """A whole number."""
    return type(reply) is int


def is_amount(reply: RedisReply) -> bool:
    """A whole number of something."""
    return type(reply) is int and reply >= 0


def is_stored_amount(reply: RedisReply) -> bool:
    """What ``GET`` answers for a key that holds an amount, or nothing."""
    return reply is None or (isinstance(reply, bytes) and len(reply) < 20 and reply.isdigit())


def is_texts(reply: RedisReply) -> bool:
    """A list of texts."""
    return isinstance(reply, list) and all(isinstance(one, bytes) for one in cast("list[object]", reply))


def is_texts_or_nothing(reply: RedisReply) -> bool:
    """What ``LPOP`` with a number answers."""
    return reply is None or is_texts(reply)


def is_values(reply: RedisReply) -> bool:
    """What ``MGET`` answers: a text or nothing for each key."""
    return isinstance(reply, list) and all(
        one is None or isinstance(one, bytes) for one in cast("list[object]", reply)
    )


def is_place(reply: RedisReply) -> bool:
    """``{1, counted, used}``: a place in a day, of the scripts that count."""
    parts = cast("list[object]", reply) if isinstance(reply, list) else []
    if len(parts) != 3 or not all(is_number(part) for part in parts):
        return False
    return parts[0] == 1 and parts[1] in {-1, 0, 1} and is_amount(parts[2])


def is_admission(reply: RedisReply) -> bool:
    """``{0, [who has the slots]}``, or a slot with a place in a day."""
    parts = cast("list[object]", reply) if isinstance(reply, list) else []
    return is_place(parts) or (len(parts) == 2 and parts[0] == 0 and is_texts(parts[1]))
