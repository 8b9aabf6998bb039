"""How long an upstream wishes to be left alone, by its answer."""

from penstock.core.routing.bounds.rate_headers import amounts_of, told_wait
from penstock.upstream import UpstreamResponse

_TOO_MANY = 429


def retry_after(response: UpstreamResponse, body: bytes, now: float) -> float | None:
    """Seconds; None where it does not say. ``now`` is in epoch seconds.

    Where it has refused for its limits and names no time, it is when the last of those that are used up comes back.
    """
    told = told_wait(response.header, body, now)
    if told is not None or response.status != _TOO_MANY:
        return told
    resets = [
        each.reset
        for each in amounts_of(response.headers, now)
        if each.remaining <= 0 and each.reset is not None
    ]
    return max(resets, default=None)
