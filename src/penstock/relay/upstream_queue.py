"""The queue before upstreams that take only so many requests at once; one for a process.

A request that finds all of its model's upstreams full waits here, for a bounded time. Whenever a place is left, those that
wait are asked in the order of the fair queue (``core/routing/bounds/fair_queue.py``) whether they have a use for it.
"""

import asyncio
from collections.abc import Callable

from penstock.core.routing.bounds.fair_queue import FairQueue, Ticket
from penstock.errors import Overloaded

FLEXIBLE_WEIGHT = 0.1
"""The part of its weight that an account has for requests whose caller has time."""
TakePlace = Callable[[], bool]
"""Try to take a place; whether it was taken, or is not wanted any more."""


class UpstreamQueue:
    """Who waits for a place, and who has it next. All on one event loop."""

    __slots__ = ("_queue", "_stirred", "most_seconds")

    def __init__(self, most_seconds: float) -> None:
        """A request waits for at most so long."""
        self.most_seconds = most_seconds
        self._queue: FairQueue[TakePlace] = FairQueue()
        self._stirred = False

    def waiting(self, model: str) -> int:
        """How many wait for a model."""
        return self._queue.waiting(model)

    def join(
        self, model: str, account: str, tokens: float, weight: float, most: int, offer: TakePlace
    ) -> Ticket[TakePlace]:
        """Wait for a place at the model, as one of ``most``. Raises ``Overloaded`` where so many wait already."""
        if self._queue.waiting(model) >= most:
            raise crowded(model)
        turn = self._queue.join(offer, account, model, tokens, weight)
        self.stir()
        return turn

    def leave(self, turn: Ticket[TakePlace]) -> None:
        """It waits no more."""
        self._queue.leave(turn)

    def served_at_once(self, account: str, tokens: float, weight: float) -> None:
        """A place was there without waiting."""
        self._queue.served_at_once(account, tokens, weight)

    def stir(self) -> None:
        """Something may have become free: those that wait are asked in a moment, once for all that happens in this one."""
        if len(self._queue) and not self._stirred:
            self._stirred = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        self._stirred = False
        served = True
        while served:
            served = False
            for turn in self._queue.order():
                if turn.waiter():
                    self._queue.serve(turn)
                    served = True
                    break


def crowded(model: str) -> Overloaded:
    """All places are taken, and nobody has left one in time."""
    return Overloaded(f"All places for {model} are taken. Send the request again in a moment.", retry_after=1)
