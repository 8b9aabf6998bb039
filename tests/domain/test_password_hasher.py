"""The hasher's places: shared by networks, given back by who goes away, and never more than there are."""

import asyncio
import threading

import pytest
from pwdlib import PasswordHash

from penstock.domain.accounts.passwords import Cost, PasswordHasher
from penstock.errors import Overloaded

CHEAP = Cost(passes=1, kibibytes=8)


class Held(PasswordHash):
    """A hash that takes until the test lets go, and knows whose it was."""

    def __init__(self, hasher: PasswordHasher) -> None:
        super().__init__(hasher._hash.hashers)
        self.let_go = threading.Event()
        self.done: list[str] = []
        self.running = self.most = 0
        self._lock = threading.Lock()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.let_go.wait(30)
        made = super().hash(password, salt=salt)
        with self._lock:
            self.done.append(str(password))
            self.running -= 1
        return made


def held(*, at_once: int, waiting: int) -> tuple[PasswordHasher, Held]:
    hasher = PasswordHasher(at_once=at_once, waiting=waiting, cost=CHEAP)
    hasher._hash = slow = Held(hasher)
    return hasher, slow


def come(hasher: PasswordHasher, name: str, network: str) -> asyncio.Task[str]:
    return asyncio.create_task(hasher.hash(name, network))


async def began(*tasks: asyncio.Task[str]) -> None:
    """Every task has run as far as it can: a place is taken or refused within one turn of the loop."""
    for _ in tasks:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_network_that_has_had_none_comes_before_one_that_has_had_many() -> None:
    hasher, slow = held(at_once=1, waiting=20)
    crowd = [come(hasher, f"crowd {n}", "198.51.100.1") for n in range(10)]
    await began(*crowd)
    guest = come(hasher, "guest", "203.0.113.5")
    await began(guest)
    slow.let_go.set()
    await asyncio.gather(guest, *crowd)
    assert slow.done[:2] == ["crowd 0", "guest"]
    assert slow.done[2:] == [f"crowd {n}" for n in range(1, 10)], "in the order of their coming"


async def test_a_network_that_holds_all_places_gives_one_up_for_another() -> None:
    hasher, slow = held(at_once=2, waiting=3)
    crowd = [come(hasher, f"crowd {n}", "198.51.100.1") for n in range(8)]
    await began(*crowd)
    assert [task.done() for task in crowd] == [False] * 5 + [True] * 3
    guests = [come(hasher, f"guest {n}", f"203.0.113.{n}") for n in range(3)]
    await began(*guests)
    assert not any(guest.done() for guest in guests)
    late = come(hasher, "late", "203.0.113.9")
    await began(late)
    assert isinstance(late.exception(), Overloaded), "all that wait are the first of their networks"
    slow.let_go.set()
    await asyncio.gather(*guests, *crowd, return_exceptions=True)
    assert sorted(slow.done) == ["crowd 0", "crowd 1", "guest 0", "guest 1", "guest 2"]
    for task in crowd[2:]:
        refused = task.exception()
        assert isinstance(refused, Overloaded)
        assert refused.retry_after


async def test_twenty_networks_do_not_keep_the_next_one_waiting_behind_all_of_theirs() -> None:
    hasher, slow = held(at_once=1, waiting=20)
    crowd = [come(hasher, f"{turn}.{n}", f"198.51.100.{n}") for turn in range(2) for n in range(20)]
    await began(*crowd)
    guest = come(hasher, "guest", "203.0.113.5")
    await began(guest)
    assert not guest.done(), "a second one of another network gave its place up"
    slow.let_go.set()
    await asyncio.gather(guest, *crowd, return_exceptions=True)
    assert len(slow.done) == 21
    assert "guest" in slow.done


async def test_counts_begin_anew_when_nobody_is_there() -> None:
    hasher, slow = held(at_once=1, waiting=2)
    slow.let_go.set()
    for _ in range(5):
        await hasher.hash("busy", "198.51.100.1")
    slow.let_go.clear()
    first = come(hasher, "first", "192.0.2.1")
    await began(first)
    again = [come(hasher, f"again {n}", "198.51.100.1") for n in range(2)]
    other = [come(hasher, f"other {n}", "203.0.113.5") for n in range(2)]
    await began(*again, *other)
    slow.let_go.set()
    await asyncio.gather(first, *again, *other, return_exceptions=True)
    assert slow.done[-3:] == ["first", "again 0", "other 0"]


async def test_who_goes_away_leaves_no_thread_uncounted() -> None:
    """Otherwise one caller that comes and goes has as many hashes made at once as it likes."""
    hasher, slow = held(at_once=1, waiting=5)
    gone = come(hasher, "gone", "198.51.100.1")
    await began(gone)
    gone.cancel()
    waits = come(hasher, "waits", "198.51.100.1")
    leaves = come(hasher, "leaves", "198.51.100.1")
    stays = come(hasher, "stays", "203.0.113.5")
    await began(gone, waits, leaves, stays)
    leaves.cancel()
    await began(leaves)
    assert gone.cancelled()
    assert not waits.done()
    slow.let_go.set()
    await asyncio.gather(waits, stays)
    assert slow.most == 1
    assert slow.done == ["gone", "stays", "waits"]
    with pytest.raises(asyncio.CancelledError):
        await leaves
    await hasher.hash("free", "198.51.100.1")
