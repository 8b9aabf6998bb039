"""Circuit breaker state of one upstream model: what its last outcomes say about sending it more requests.

Closed: healthy. Five failures among the last ten outcomes open the circuit: the model is tried after all others. After
15 seconds one request is let through as a probe (half open); its success closes the circuit, its failure keeps it open.
Times are of a monotonic clock, in seconds.
"""

from typing import Literal

import msgspec

WINDOW = 10
OPEN_AFTER = 5
PROBE_AFTER = 15.0

# ---- what is known of its health


class CircuitState(msgspec.Struct, frozen=True, gc=False):
    """The last outcomes of one upstream model, as a circuit breaker sees them.

    ``outcomes`` holds the last ten as bits, the newest lowest, 1 for a failure. ``opened_at`` is when the circuit
    opened, ``probe_at`` when the last probe was let through.
    """

    outcomes: int = 0
    opened_at: float | None = None
    probe_at: float | None = None


CircuitKey = tuple[str, str]
"""Provider id and the provider's name of the model."""

CLOSED = CircuitState()


def after_success(health: CircuitState) -> CircuitState:
    """After a success: an open circuit closes and forgets, a closed one shifts the outcome in."""
    if health.opened_at is not None:
        return CLOSED
    return CircuitState(outcomes=(health.outcomes << 1) & ((1 << WINDOW) - 1)) if health.outcomes else health


def after_failure(health: CircuitState, now: float) -> CircuitState:
    """After a failure: it opens when five of the last ten failed; a failed probe keeps it open from now on."""
    outcomes = ((health.outcomes << 1) | 1) & ((1 << WINDOW) - 1)
    if health.opened_at is not None or outcomes.bit_count() >= OPEN_AFTER:
        return CircuitState(outcomes=outcomes, opened_at=now)
    return CircuitState(outcomes=outcomes)


def after_probe(health: CircuitState, now: float) -> CircuitState:
    """An attempt that was marked as a probe is being sent: no other goes until it reports, or for another 15 s."""
    return CircuitState(outcomes=health.outcomes, opened_at=health.opened_at, probe_at=now)


def state(health: CircuitState, now: float) -> Literal["closed", "probe", "open"]:
    """``closed``: healthy; ``probe``: open for 15 s and free for one try; ``open``: to be avoided."""
    if health.opened_at is None:
        return "closed"
    since = health.opened_at if health.probe_at is None else max(health.opened_at, health.probe_at)
    return "probe" if now - since >= PROBE_AFTER else "open"
