"""Prompt-cache affinity: which upstream a conversation goes to, so that it meets the cache that its last turn has filled.

A conversation has a number, which follows from what its turns have in common. Every upstream has one too, and the two
together give the order in which the conversation would have the upstreams (rendezvous hashing). Nothing is remembered: the
order is the same in every process and on every server, and who leaves takes only its own conversations along.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

_WHOLE = (1 << 64) - 1
_ODD, _OTHER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_PERSON = b"penstock-places"
_LONG = 4096
"""Bytes of a body, below which no provider keeps anything of it."""
_HEAD = 1024
_BESIDE = 2048
"""Bytes that are looked at: of the turns, and on each side of them."""
_MANY = 16
_FEW = 8
"""Among more than so many upstreams a conversation looks at this many alone."""
_NAMES = (
    re.compile(rb'"prompt_cache_key"\s*:\s*"((?:[^"\\]|\\.){1,256})"'),
    re.compile(rb'\\?"session_id\\?"\s*:\s*\\?"([^"\\]{1,256})'),
    re.compile(rb'"user_id"\s*:\s*"[^"\\]{0,200}_session_([^"\\]{1,64})"'),
)
"""How a body names its conversation: OpenAI's field, OpenRouter's and Claude Code's newer one, Claude Code's older one."""


class Affinity(msgspec.Struct, frozen=True, gc=False):
    """A conversation's number, and the class of what is asked by which the model's times are known (``pace.py``)."""

    key: int
    kind: int


def mark_of(*names: str) -> int:
    """An upstream's number, by what it is called."""
    return int.from_bytes(_digest("\0".join(names).encode("utf-8", "surrogatepass")), "big")


def conversation(user: str, model: str, session: bytes, length: int, beside: bytes, turns: bytes) -> int:
    """The number of a conversation; 0 where nothing would be kept of it.

    ``session`` is what the request's headers call it, ``length`` of the body in bytes, ``beside`` what stands in the body
    beside its turns, ``turns`` their beginning. No two users have a conversation in common.
    """
    name = session or _named(beside)
    if not name:
        if length < _LONG:
            return 0
        name = b"\0" + turns[:_HEAD]
    text = b"%b\0%b\0%b" % (
        user.encode("utf-8", "surrogatepass"),
        model.encode("utf-8", "surrogatepass"),
        name,
    )
    return int.from_bytes(_digest(text), "big") or 1


def beside_turns(body: bytes, start: int, end: int) -> bytes:
    """What stands beside the turns, which go from ``start`` to ``end``: as far as a name is looked for."""
    return body[: min(start, _BESIDE)] + body[max(end, len(body) - _BESIDE) :]


def _named(beside: bytes) -> bytes:
    for name in _NAMES:
        found = name.search(beside)
        if found is not None:
            return found.group(1)
    return b""


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=8, person=_PERSON).digest()


def liking(key: int, mark: int) -> int:
    """How much a conversation would have an upstream, from 0 to 2^64 - 1."""
    mixed = (key ^ mark) * _ODD & _WHOLE
    return (mixed ^ mixed >> 29) * _OTHER & _WHOLE


def favourite(key: int, marks: Sequence[int], weights: Sequence[float]) -> int:
    """Which of the upstreams with these numbers a conversation would have; each gets its weight's share of them."""
    best, most = 0, -1.0
    if weights.count(weights[0]) == len(weights):
        for at, mark in enumerate(marks):  # ``liking``, without a call for each
            mixed = (key ^ mark) * _ODD & _WHOLE
            mixed = (mixed ^ mixed >> 29) * _OTHER & _WHOLE
            if mixed > most:
                best, most = at, mixed
        return best
    for at, mark in enumerate(marks):
        found = -weights[at] / math.log((liking(key, mark) + 0.5) / (_WHOLE + 1.0))
        if found > most:
            best, most = at, found
    return best


def few_of(key: int, cumulative: Sequence[float]) -> tuple[int, int]:
    """Which upstreams a conversation looks at, from the first to before the second: all, or neighbours among many.

    ``cumulative`` are the sums of the weights, by which the neighbours are drawn.
    """
    many = len(cumulative)
    if many <= _MANY:
        return 0, many
    point = liking(key, _ODD) / (_WHOLE + 1.0) * cumulative[-1]
    parts = many // _FEW
    part = min(bisect_right(cumulative, point), many - 1) * parts // many
    # where the parts begin: the first place whose part is this one, and the next
    return -(-part * many // parts), -(-(part + 1) * many // parts)
