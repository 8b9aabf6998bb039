"""How long an upstream wishes to be left alone, by the headers of its answer."""

import math
from email.utils import parsedate_to_datetime

from penstock.upstream import UpstreamResponse

_LONGEST = 86_400.0 * 31
"""Nobody means more than a month."""


def retry_after(response: UpstreamResponse, now: float) -> float | None:
    """Seconds, by ``retry-after-ms`` or ``retry-after``: a number, also a fraction, or a date. ``now`` is in epoch seconds.

    What is no wish is none: no number, less than nothing, a time that is past, or more than a month.
    """
    milliseconds = response.header(b"retry-after-ms") or response.header(b"x-ms-retry-after-ms")
    if milliseconds is not None:
        found = _number(milliseconds)
        return None if found is None else _sensible(found / 1000)
    value = response.header(b"retry-after")
    if value is None:
        return None
    found = _number(value)
    if found is None:
        found = _until(value, now)
    return None if found is None else _sensible(found)


def _number(value: bytes) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _until(value: bytes, now: float) -> float | None:
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0.0 <= seconds <= _LONGEST else None
