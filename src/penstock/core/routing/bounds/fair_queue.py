"""The fair queue: whose turn it is where more requests wait than an upstream takes.

Each account has a counter of what it was given: tokens, by estimate, divided by its weight. The lowest is next, and its own
requests come in the order in which they came. One that comes back after a while begins where the others are, so nobody
saves up turns.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")

_MOST_ACCOUNTS = 4096
"""Counters that are kept."""


class Ticket(Generic[Waiter]):
    """One request that waits, as it stands in the queue."""

    __slots__ = ("account", "share", "subject", "waiter")

    def __init__(self, waiter: Waiter, account: str, subject: str, share: float) -> None:
        self.waiter = waiter
        self.account = account
        self.subject = subject
        self.share = share


class FairQueue(Generic[Waiter]):
    """The requests that wait. ``subject`` is what one waits for: of each only so many may wait."""

    def __init__(self) -> None:
        self._counters: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, deque[Ticket[Waiter]]] = {}
        self._subjects: dict[str, int] = {}
        self._floor = 0.0
        """The counter of the last one that was served."""

    def __len__(self) -> int:
        return sum(self._subjects.values())

    def waiting(self, subject: str) -> int:
        """How many wait for it."""
        return self._subjects.get(subject, 0)

    def join(
        self, waiter: Waiter, account: str, subject: str, tokens: float, weight: float
    ) -> Ticket[Waiter]:
        """One more waits, to be given ``tokens``; its account has a share of ``weight``."""
        self._lift(account)
        turn = Ticket(waiter, account, subject, max(tokens, 1.0) / weight)
        self._waiting.setdefault(account, deque()).append(turn)
        self._subjects[subject] = self._subjects.get(subject, 0) + 1
        return turn

    def leave(self, turn: Ticket[Waiter]) -> bool:
        """It waits no more, for whatever reason; whether it did."""
        turns = self._waiting.get(turn.account)
        if turns is None or turn not in turns:
            return False
        turns.remove(turn)
        if not turns:
            del self._waiting[turn.account]
        left = self._subjects[turn.subject] - 1
        if left:
            self._subjects[turn.subject] = left
        else:
            del self._subjects[turn.subject]
        return True

    def serve(self, turn: Ticket[Waiter]) -> None:
        """It has its place: it waits no more, and its account has been given that."""
        if self.leave(turn):
            self._floor = max(self._floor, self._counters.get(turn.account, 0.0))
            self._give(turn.account, turn.share)

    def served_at_once(self, account: str, tokens: float, weight: float) -> None:
        """A request of the account had a place without waiting."""
        self._lift(account)
        self._give(account, max(tokens, 1.0) / weight)

    def order(self) -> Iterator[Ticket[Waiter]]:
        """The first of each account that waits, the one whose turn it is first."""
        accounts = sorted(self._waiting, key=lambda account: self._counters.get(account, self._floor))
        return iter([self._waiting[account][0] for account in accounts])

    def _lift(self, account: str) -> None:
        known = self._counters.get(account, 0.0)
        if account not in self._waiting and known < self._floor:
            self._counters[account] = self._floor
        else:
            self._counters[account] = known
        self._counters.move_to_end(account)

    def _give(self, account: str, share: float) -> None:
        self._counters[account] = self._counters.get(account, self._floor) + share
        if len(self._counters) > _MOST_ACCOUNTS:
            self._counters.popitem(last=False)  # it is taken for one that has just come
