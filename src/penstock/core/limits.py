"""Arithmetic of limits: days, resets, windows, and the headers that report a caller's limits.

A day is the UTC day number ``epoch seconds // 86400``; there is no time-zone arithmetic anywhere. Everything a caller
is told about its limit comes from one ``LimitState``, so that no two headers of a response can disagree.
"""

from functools import lru_cache

import msgspec

DAY_SECONDS = 86_400

STEP_SECONDS = 3_600
"""A wall clock that jumped forward by more than this is reported."""

Header = tuple[bytes, bytes]


def day_of(epoch_seconds: float) -> int:
    """The UTC day number of an instant."""
    return int(epoch_seconds // DAY_SECONDS)


def reset_of(day: int) -> int:
    """The end of a day: Unix seconds of the next 00:00 UTC."""
    return (day + 1) * DAY_SECONDS


class DayRule:
    """Which day counts, when the wall clock cannot be trusted to go forward.

    The highest day seen stays the day while the clock is at most one day behind it, so that a small step back never
    reopens a day that was closed. A clock that is set back further than that was wrong before: it is followed, because
    otherwise one wrong hour could close every day until it comes. No day is handed out twice either way, since the
    counts of every day are kept in the database.
    """

    __slots__ = ("_ahead", "_behind", "_day", "_offset")

    def __init__(self) -> None:
        self._day: int | None = None
        self._behind = False
        self._offset: float | None = None
        self._ahead = 0.0

    def day_at(self, now: float, monotonic: float) -> int:
        """The day to count in. ``now`` is in epoch seconds, ``monotonic`` in seconds of a clock that never steps."""
        offset = now - monotonic
        if self._offset is not None and offset - self._offset > STEP_SECONDS:
            self._ahead = offset - self._offset
        self._offset = offset
        day = int(now // DAY_SECONDS)
        held = self._day
        if held is not None and held - day == 1:
            self._behind = True
            return held
        self._behind = False
        self._day = day
        return day

    def day_told(self, now: float) -> int:
        """The day to tell a caller about whose request came at ``now``; changes nothing."""
        if self._behind and self._day is not None:
            return self._day
        return int(now // DAY_SECONDS)

    def stepped(self) -> float | None:
        """Seconds of the last forward step above an hour, once; None when there was none since the last call."""
        ahead, self._ahead = self._ahead, 0.0
        return ahead or None


class KeyLimits(msgspec.Struct, frozen=True, gc=False):
    """That a key has limits of its own, within those of its account's plan, which are said here.

    ``subject`` is what the key is counted under, beside its account.
    """

    subject: str
    account_daily: int
    account_concurrent: int


def key_subject(user_id: str, key_id: str) -> str:
    """What a key with limits of its own is counted under: no account's id has a slash."""
    return f"{user_id}/{key_id}"


class LimitState(msgspec.Struct, frozen=True, gc=False):
    """Where a caller stands. ``reset`` is in Unix seconds, ``window`` in seconds, ``policy`` is the IETF policy name."""

    limit: int
    remaining: int
    reset: int
    concurrent_limit: int
    in_use: int
    policy: str = "day"
    window: int = DAY_SECONDS


@lru_cache(maxsize=1024)
def _fixed(limit: int, reset: int, policy: bytes, window: int) -> tuple[Header, Header, Header]:
    """What stays the same for all callers with one limit and one reset."""
    return (
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-reset", b"%d" % reset),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (policy, limit, window)),
    )


def limit_headers(state: LimitState, now: float) -> list[Header]:
    """The limit headers of one response, all of the same instant ``now`` (epoch seconds)."""
    left, seconds = b"%d" % max(0, state.remaining), b"%d" % seconds_until(state.reset, now)
    return limit_headers_of(state.limit, state.reset, left, seconds, state.policy.encode(), state.window)


def limit_headers_of(
    limit: int, reset: int, left: bytes, seconds: bytes, policy: bytes = b"day", window: int = DAY_SECONDS
) -> list[Header]:
    """The same from their parts, names in lower case; ``left`` requests, and ``seconds`` until the reset, as text.

    ``X-RateLimit-*`` as documented; ``RateLimit`` and ``RateLimit-Policy`` after draft-ietf-httpapi-ratelimit-headers. A
    dialect may have more of its own (``CallerFormat.limit_headers``).
    """
    return [
        *_fixed(limit, reset, policy, window),
        (b"x-ratelimit-remaining", left),
        (b"ratelimit", b'"%b";r=%b;t=%b' % (policy, left, seconds)),
    ]


def seconds_until(instant: int, now: float) -> int:
    """Whole seconds from ``now`` until ``instant``, rounded up, never negative."""
    left = instant - int(now)
    return max(0, left)
