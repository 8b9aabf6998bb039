"""Many callers' keys, used in turn, so that no key is used twice before the gateway has stopped trusting its last look-up."""

from dataclasses import dataclass
from pathlib import Path

COUNT = 5000
"""Accounts with a key each. At ``KEYS_A_SECOND`` of ``bench/scenarios.py`` each is used once a minute."""
REST_SECONDS = 6.0
"""How long a key is left alone at least: longer than ``cache_seconds``, which is five by default."""


@dataclass(slots=True)
class Rotation:
    """A file of keys, one a line, and whose turn it is. Times are monotonic seconds.

    A run takes the keys from ``first`` on, each of them once at most, and begins when those of the run before have rested.
    """

    file: Path
    count: int
    first: int = 0
    ended: float = float("-inf")
    warm: bool = False
    """Whether each key has been used once, so that the gateway has seen them all."""

    def rest(self, now: float) -> float:
        """Seconds to wait before the next run."""
        return max(0.0, self.ended + REST_SECONDS - now)

    def used(self, keys: int, now: float) -> None:
        """Note that a run has ended that took so many keys."""
        self.first = (self.first + keys) % self.count
        self.ended = now
