"""Deadlines: how long an upstream may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take, in seconds."""

    connect: float = 5.0
    """Name resolution, TCP and TLS together."""
    first_byte: float = 60.0
    """From the request's last progress on the wire to the first byte of the answer; streams only."""
    idle: float = 60.0
    """Between two bytes of the answer, suspended while we do not read; streams only."""
    total: float = 1800.0
    """From the call of ``send`` to the end of the body, without the time for which its reader paused it."""
