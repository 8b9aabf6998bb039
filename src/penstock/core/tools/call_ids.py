"""Tool-call ids between dialects: an id that one side does not take is coded, and decoded when it comes back.

Anthropic takes ``[A-Za-z0-9_-]+`` only, OpenAI's Chat format at most 40 characters, and upstreams send things like
``functions.add:0``. Nothing is remembered: a coded id holds the original, and one too long for that becomes a hash, which
is enough because a call and its result travel in the same request.
"""

import base64
import hashlib
import re

_LEGAL = re.compile(r"[A-Za-z0-9_-]+\Z")
_CODED = "gwi_"
_HASHED = "gwh_"
_UNSAFE = re.compile(r"[^A-Za-z0-9]")
_REPEATED = re.compile(r"-gwr\d+\Z")


def outward(id: str, limit: int) -> str:
    """``id`` as the caller may see it: itself where it is legal and not longer than ``limit``, else coded.

    Deterministic. ``inward`` gives the original back unless it had to be hashed (its coded form is over ``limit``).
    """
    if len(id) <= limit and _LEGAL.match(id) and not id.startswith((_CODED, _HASHED)):
        return id
    raw = id.encode("utf-8", "surrogatepass")
    coded = _CODED + base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
    return coded if len(coded) <= limit and raw else _hashed(raw)


def inward(id: str) -> str:
    """The upstream's own id for one that ``outward`` gave; any other id is returned as it is."""
    text = id.removeprefix(_CODED)
    if text in {id, ""}:
        return id
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return raw.decode()
    except (
        ValueError
    ):  # not ours after all, or damaged: not base64, not ASCII, not UTF-8, or half a character
        return id


def shortened(id: str, limit: int) -> str:
    """``id`` for an upstream that takes any characters but only ``limit`` of them: itself, or its hash."""
    return id if len(id) <= limit else _hashed(id.encode("utf-8", "surrogatepass"))


def exact(id: str, length: int) -> str:
    """``id`` for an upstream whose ids are exactly ``length`` letters and digits: itself, or so much of its hash."""
    if len(id) == length and id.isascii() and id.isalnum():
        return id
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def distinct(id: str, nth: int) -> str:
    """The id for the ``nth`` call (2, 3 ...) of a reply in which an upstream used ``id`` again; ``plain`` undoes it."""
    return f"{id}-gwr{nth}"


def plain(id: str) -> str:
    """The id that the upstream itself used for a call that ``distinct`` renamed; any other is returned as it is."""
    return _REPEATED.sub("", id)


class ReplyCalls:
    """Gives each call of one reply an id of its own: the upstream's, or one of the reply's id and the call's number in it.

    Two calls by one id would get each other's results.
    """

    __slots__ = ("_count", "_reply_id", "_seen")

    def __init__(self) -> None:
        self._count = 0
        self._reply_id = ""
        self._seen: dict[str, int] = {}

    def begin(self, reply_id: str) -> None:
        """Say which reply it is, so that made ids differ from those of the replies before it."""
        self._reply_id = _UNSAFE.sub("", reply_id)[-20:]

    def name(self, id: str) -> str:
        """The id of the next call; ``id`` '': the upstream gives none."""
        id = id or f"call_{self._reply_id}_{self._count}"
        self._count += 1
        nth = self._seen.get(id, 0) + 1
        name = id if nth == 1 else distinct(id, nth)
        while nth > 1 and name in self._seen:
            nth += 1
            name = distinct(id, nth)
        self._seen[id] = nth
        self._seen.setdefault(name, 1)
        return name


def _hashed(raw: bytes) -> str:
    return _HASHED + hashlib.sha256(raw).hexdigest()[:24]
