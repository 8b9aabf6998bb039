"""Memory of whole answers: what providers send that is no stream is held until it can be given on, within one common bound.

An answer takes its room as it arrives. The first step of each is free, so that ordinary answers go on whatever large ones
there are.
"""

from penstock.errors import Overloaded

STEP = 1024 * 1024
"""Bytes that an answer takes at a time; the first ones are free."""


class AnswerMemory:
    """The whole answers of one process. All on one event loop."""

    __slots__ = ("_most", "taken")

    def __init__(self, most: int) -> None:
        """``most``: bytes of all answers together, beyond the first step of each."""
        self._most = most
        self.taken = 0

    def take(self, size: int) -> None:
        """Raises ``Overloaded`` where there is no room for so much more."""
        if self.taken + size > self._most:
            raise Overloaded(
                "The service has no room for so long an answer now; try again in a moment.", retry_after=2
            )
        self.taken += size

    def free(self, size: int) -> None:
        """An answer has been given on."""
        self.taken -= size


class AnswerRoom:
    """What the answer of one request takes, in bytes, until ``leave``; a turn that pauses has several bodies."""

    __slots__ = ("_memory", "_size", "_whole")

    def __init__(self, memory: AnswerMemory) -> None:
        self._memory = memory
        self._size = STEP
        self._whole = 0

    def arrived(self, size: int) -> None:
        """So many more bytes are here. Raises ``Overloaded``."""
        self._whole += size
        if self._whole > self._size:
            more = -(-(self._whole - self._size) // STEP) * STEP
            self._memory.take(more)
            self._size += more

    def leave(self) -> None:
        """The request has ended."""
        self._memory.free(self._size - STEP)
        self._size, self._whole = STEP, 0
