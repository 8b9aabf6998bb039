"""Health of the parts that a process needs, for readiness and the metrics."""

import time
from collections.abc import Callable, Mapping

import msgspec

Trouble = Callable[[], str | None]
"""Why a part does not work at the moment, for the operator; None when all is well."""


class PartHealth(msgspec.Struct, frozen=True):
    """One part: whether it works now, and how often it was seen to stop working."""

    name: str
    works: bool
    failures: int


class JobTimes:
    """When each job of this process last came to its end, by a clock that never jumps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._every: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def expect(self, name: str, every: float) -> None:
        """From now on a job is done each so many seconds."""
        self._every[name] = every
        self._done[name] = self._clock()

    def done(self, name: str) -> None:
        """It has come to its end."""
        self._done[name] = self._clock()

    def late(self) -> dict[str, float]:
        """Those that have not come to their end for more than twice their time, with the seconds since they last did."""
        now = self._clock()
        since = {name: now - at for name, at in self._done.items()}
        return {name: seconds for name, seconds in since.items() if seconds > 2 * self._every[name]}


class Health:
    """Looks at its parts when it is asked, and remembers how often each was found to have failed."""

    def __init__(self, parts: Mapping[str, Trouble], *, owed: Callable[[], int]) -> None:
        """``owed`` tells how many ends of requests the database has not taken yet."""
        self._parts = dict(parts)
        self._owed = owed
        self.jobs = JobTimes()
        self._failing: set[str] = set()
        self._failures: dict[str, int] = {}
        self.differences: int | None = None
        """How many counts and sums of the last whole day are not those of the ledger; None before that was looked at."""
        self.trail_broken: int | None = None
        """The number of the first entry of the trail that is not as it was, where the daily look has found one."""

    def watch(self, name: str, trouble: Trouble) -> None:
        """Look at one more part."""
        self._parts[name] = trouble

    @property
    def owed(self) -> int:
        """How many ends of requests wait for the database."""
        return self._owed()

    def failing(self) -> tuple[str, ...]:
        """A line for each part that does not work, with why."""
        said = ((name, trouble()) for name, trouble in self._parts.items())
        return tuple(f"{name}: {text}" for name, text in said if text is not None)

    def down(self) -> tuple[str, ...]:
        """The names of the parts that do not work."""
        return tuple(name for name, trouble in self._parts.items() if trouble() is not None)

    def look(self) -> list[PartHealth]:
        """Every part as it is now."""
        found: list[PartHealth] = []
        for name, trouble in self._parts.items():
            works = trouble() is None
            if works:
                self._failing.discard(name)
            elif name not in self._failing:
                self._failing.add(name)
                self._failures[name] = self._failures.get(name, 0) + 1
            found.append(PartHealth(name, works, self._failures.get(name, 0)))
        return found
