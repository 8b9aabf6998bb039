"""Capacity: how many requests an upstream is sent at once, and the places that requests have there.

A place is taken when an upstream is chosen and left when its attempt is over, by whichever way; each knows for itself
whether it was left, so none is given back twice.
"""

from collections.abc import Callable


class Capacity:
    """What has a limit: a provider, or one of its models. ``taken`` are the places that requests have."""

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


class Seat:
    """A place at one upstream, which may be one at each of several capacities."""

    __slots__ = ("_capacities", "_freed")

    def __init__(self, capacities: tuple[Capacity, ...], freed: Callable[[], None]) -> None:
        """It is taken from now on; ``freed`` is called when it is left."""
        for each in capacities:
            each.taken += 1
        self._capacities = capacities
        self._freed = freed

    def leave(self) -> None:
        """Give it back, if that was not done."""
        capacities, self._capacities = self._capacities, ()
        for each in capacities:
            each.taken -= 1
        if capacities:
            self._freed()


def is_full(capacities: tuple[Capacity, ...]) -> bool:
    """Whether no more requests can be sent."""
    return any(each.taken >= each.limit for each in capacities)
