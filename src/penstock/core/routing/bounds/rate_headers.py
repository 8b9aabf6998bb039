"""Rate headers: what upstreams say of their limits, and how long they wish to be left alone, in all the forms there are.

Vendors agree in nothing. A reset is an instant (RFC 3339, Anthropic), a Go duration (OpenAI, Groq), seconds (Azure, the
IETF's drafts), or seconds or milliseconds since 1970 (OpenRouter and others); a wish is a number, a date, or a word in the
body. What makes no sense (-1, a time that is past, 1e300) says nothing.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

_LONGEST = 86_400.0 * 31
"""Seconds; nobody means more than a month."""
_EPOCH, _EPOCH_MS = 1e9, 1e12
"""From here on a number is an instant, in seconds or in milliseconds since 1970."""
_NUMBER = re.compile(rb"\d{1,18}(?:\.\d{1,18})?")
_GO = re.compile(rb"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_GO_FINE = re.compile(rb"\d+(?:\.\d+)?(?:us|\xc2\xb5s|\xce\xbcs|\xb5s|ns)")
_IETF = re.compile(rb"(?:^|[;,]\s*)(?P<name>limit|remaining|reset|q|r|t|w)\s*=\s*(?P<value>\d+(?:\.\d+)?)")
_IN_BODY = (
    re.compile(rb'"retryDelay"\s*:\s*"(?P<number>\d+(?:\.\d+)?)(?P<unit>s)"'),
    re.compile(rb"(?i)(?:try again|retry(?:ing)?) (?:in|after) (?P<number>\d+(?:\.\d+)?) ?(?P<unit>ms|s|m)"),
)
_UNITS = {b"ms": 0.001, b"s": 1.0, b"m": 60.0}
_LONGEST_LOOKED_AT = 4096
"""Bytes of a refusal's body."""
_LONGEST_VALUE = 64


class Amount(msgspec.Struct, frozen=True, gc=False):
    """What is left of one allowance: of ``requests``, ``tokens``, ``input`` or ``output``.

    ``reset`` is in how many seconds it is whole again; None where that is not said. ``refills``: it grows all the time,
    and does not come back at once.
    """

    kind: str
    limit: float | None
    remaining: float
    reset: float | None = None
    refills: bool = False


# ---- single values


def reset_seconds(value: bytes, now: float) -> float | None:
    """In how many seconds that is, whichever form ``value`` has; None where it makes no sense. ``now`` is epoch seconds."""
    value = value.strip()
    if not value or len(value) > _LONGEST_VALUE:
        return None
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number >= _EPOCH_MS:
            number = number / 1000 - now
        elif number >= _EPOCH:
            number -= now
        return _sensible(number) if number > 0 else None
    duration = _duration(value)
    return _sensible(duration if duration is not None else _instant(value) - now)


def _duration(value: bytes) -> float | None:
    if _GO_FINE.fullmatch(value):
        return 0.0
    found = _GO.fullmatch(value)
    if found is None:
        return None
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _instant(value: bytes) -> float:
    """Epoch seconds of an RFC 3339 instant or an HTTP date; not a number where it is neither."""
    text = value.decode("latin-1")
    try:
        found = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return math.nan
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0.0 <= seconds <= _LONGEST else None


def _amount(value: bytes | None) -> float | None:
    """A limit, or what is left of it."""
    if value is None or not _NUMBER.fullmatch(value.strip()):
        return None
    return float(value)


# ---- how long to leave it alone


def told_wait(header: Callable[[bytes], bytes | None], body: bytes, now: float) -> float | None:
    """Seconds that an upstream wishes to be left alone, by its headers, else by what it says in the ``body`` of a refusal.

    ``header`` gives the value of a header by its name in lower case. ``now`` is in epoch seconds.
    """
    for name in (b"retry-after-ms", b"x-ms-retry-after-ms"):
        value = header(name)
        if value is not None:
            number = _float(value)
            return None if number is None else _sensible(number / 1000)
    value = header(b"retry-after")
    if value is not None:
        number = _float(value)
        return _sensible(_instant(value.strip()) - now if number is None else number)
    for form in _IN_BODY:
        found = form.search(body[:_LONGEST_LOOKED_AT])
        if found is not None:
            return _sensible(float(found["number"]) * _UNITS[found["unit"]])
    return None


def _float(value: bytes) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


# ---- what is left


_PREFIXES = (b"anthropic-ratelimit-", b"x-ratelimit-", b"x-rate-limit-", b"ratelimit")
_KINDS = {
    b"requests": "requests",
    b"tokens": "tokens",
    b"input-tokens": "input",
    b"output-tokens": "output",
}
_ANTHROPIC = b"anthropic-ratelimit-"


def amounts_of(headers: Iterable[tuple[bytes, bytes]], now: float) -> tuple[Amount, ...]:
    """What the headers of an answer (names in lower case) say is left. ``now`` is in epoch seconds."""
    found = {name: value for name, value in headers if name.startswith(_PREFIXES)}
    if not found:
        return ()
    made: list[Amount] = []
    for word, kind in _KINDS.items():
        before = _ANTHROPIC + word
        made += _of(
            kind, found, (before + b"-limit", before + b"-remaining", before + b"-reset"), now, refills=True
        )
    for word in (b"requests", b"tokens"):
        for prefix in (b"x-ratelimit-", b"x-rate-limit-"):
            names = (prefix + b"limit-" + word, prefix + b"remaining-" + word, prefix + b"reset-" + word)
            made += _of(_KINDS[word], found, names, now)
    for prefix in (b"x-ratelimit-", b"ratelimit-"):
        made += _of("requests", found, (prefix + b"limit", prefix + b"remaining", prefix + b"reset"), now)
    return (*made, *_ietf(found))


def _of(
    kind: str,
    found: dict[bytes, bytes],
    names: tuple[bytes, bytes, bytes],
    now: float,
    *,
    refills: bool = False,
) -> tuple[Amount, ...]:
    limit, remaining, reset = (found.get(name) for name in names)
    left = _amount(remaining)
    if left is None:
        return ()
    whole = _amount(limit)
    return (Amount(kind, whole or None, left, None if reset is None else reset_seconds(reset, now), refills),)


def _ietf(found: dict[bytes, bytes]) -> tuple[Amount, ...]:
    """``ratelimit`` with ``ratelimit-policy``, after the drafts of the IETF: the first policy."""
    value = found.get(b"ratelimit")
    if value is None:
        return ()
    words = _words(value)
    left = words.get(b"r", words.get(b"remaining"))
    if left is None:
        return ()
    policy = _words(found.get(b"ratelimit-policy", b""))
    limit = policy.get(b"q", words.get(b"limit"))
    reset = words.get(b"t", words.get(b"reset"))
    return (Amount("requests", limit or None, left, None if reset is None else _sensible(reset)),)


def _words(value: bytes) -> dict[bytes, float]:
    words: dict[bytes, float] = {}
    for each in _IETF.finditer(value):
        words.setdefault(each["name"], float(each["value"]))
    return words
