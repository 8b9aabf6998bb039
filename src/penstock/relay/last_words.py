"""Last words: what a provider says in an answer whose status has decided already, heard while the request goes on.

Nobody waits for them. What comes within a moment, and up to a size, is taken; then the connection is closed, or is in its pool
again. Of a storm of failures a part is heard: what is heard has to be compared with its request, and that takes time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from penstock.upstream import UpstreamResponse

HEARD_SECONDS: Final = 0.5
"""How long an answer may take to say what it says, after its head."""
_MOST_HEARD: Final = 16 * 1024
"""Bytes, decoded."""
_AT_ONCE: Final = 32
_COMPARED_A_SECOND: Final = 1024 * 1024
"""Bytes of requests that are compared with such words, at most; that takes a tenth of the second."""

Told = Callable[[bytes], None]


class LastWords:
    """What is being heard. One per process."""

    __slots__ = ("_clock", "_hearings", "_left", "_left_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds."""
        self._clock = clock
        self._hearings: set[_Hearing] = set()
        self._left = float(_COMPARED_A_SECOND)
        self._left_at = clock()

    def hear(self, response: UpstreamResponse, compared: int, told: Told) -> bytes | None:
        """Take over an answer whose body nobody has taken. What it says, where all of it is here; else None, and ``told`` is
        told once, unless too much is being heard: then it is closed, and b"" is what it says.

        ``compared`` is how long its request is.
        """
        if len(self._hearings) >= _AT_ONCE or not self._spend(compared):
            response.close()
            return b""
        hearing = _Hearing(response, self._hearings.discard)
        hearing.begin()
        if hearing.over:
            return hearing.body
        hearing.told = told
        self._hearings.add(hearing)
        return None

    def end(self) -> None:
        """Hear no more: what was said is told now."""
        for hearing in tuple(self._hearings):
            hearing.end()

    def _spend(self, amount: int) -> bool:
        now = self._clock()
        self._left = min(_COMPARED_A_SECOND, self._left + (now - self._left_at) * _COMPARED_A_SECOND)
        self._left_at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class _Hearing:
    __slots__ = ("_done", "_parts", "_response", "_room", "_timer", "over", "told")

    def __init__(self, response: UpstreamResponse, done: Callable[["_Hearing"], None]) -> None:
        self._response = response
        self._done = done
        self._parts: list[bytes] = []
        self._room = _MOST_HEARD
        self._timer: asyncio.TimerHandle | None = None
        self.over = False
        self.told: Told | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def begin(self) -> None:
        self._response.deliver(self._take, self._ended)
        if not self.over:
            self._timer = asyncio.get_running_loop().call_later(HEARD_SECONDS, self.end)

    def _take(self, data: bytes) -> None:
        self._parts.append(data[: self._room])
        self._room -= len(data)
        if self._room <= 0:
            self.end()

    def _ended(self, _error: BaseException | None) -> None:
        self.end()

    def end(self) -> None:
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        self._response.close()
        self._done(self)
        if self.told is not None:
            self.told(self.body)
