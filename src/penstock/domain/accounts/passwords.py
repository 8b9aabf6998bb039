"""Passwords: which ones are taken, and their hashes, made by threads so that no request waits for them.

argon2id with 19 MiB, two passes and one lane (OWASP's password storage cheat sheet); the parameters are in each hash, and
a hash made with others is renewed when its owner signs in. A few are made at a time, and a few more wait, so that a flood
of sign-ins takes neither the processors nor the memory. Places are shared by networks: whose network has had the fewest
comes first, and where all are taken, the one that has had the most gives one up.
"""

import asyncio
from bisect import insort
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from penstock.errors import InvalidRequest, Overloaded

T = TypeVar("T")

SHORTEST = 8
LONGEST = 1024
PASSES, KIBIBYTES, LANES = 2, 19_456, 1

# The first that anybody tries, and the words they are made of; lower case, without digits and signs at the end.
_WORDS = """
password passwort passw0rd p@ssword letmein welcome iloveyou dragon monkey football baseball master superman sunshine
princess trustno starwars whatever freedom shadow michael jordan hunter computer internet secret login admin administrator
root changeme default guest test testing qwerty qwertz azerty qwertyui qwertyuiop asdfgh asdfghjkl zxcvbnm qazwsx qazwsxedc
abcdef abcdefgh abcdefghi penstock claude anthropic openai chatgpt deepseek
"""
_OBVIOUS = frozenset(_WORDS.split())
_RUNS = ("0123456789012345678901234567890", "9876543210987654321098765432109", "abcdefghijklmnopqrstuvwxyz")


class BadPassword(InvalidRequest):
    """A password that is too short, too long, or among the first that anybody would try."""


class Checked(msgspec.Struct, frozen=True):
    """What became of a try: ``renewed`` is a hash with today's parameters, where the old one had others."""

    good: bool
    renewed: str | None = None


def check_choice(password: str, email: str) -> None:
    """Whether a new password may be taken: 8 to 1024 characters, and not an obvious one. Raises ``BadPassword``."""
    if len(password) < SHORTEST:
        raise BadPassword(f"Use at least {SHORTEST} characters; 15 or more are better.", param="password")
    if len(password) > LONGEST:
        raise BadPassword(f"Use at most {LONGEST} characters.", param="password")
    plain = password.lower()
    local = email.lower().partition("@")[0]
    stem = plain.rstrip("0123456789!?.,-_*#$ ")
    obvious = (
        stem in _OBVIOUS
        or plain in _OBVIOUS
        or len(set(plain)) <= 2
        or any(plain in run for run in _RUNS)
        or stem in {email.lower(), local}
        or plain == email.lower()
    )
    if obvious:
        raise BadPassword("This is among the first passwords that anybody would try.", param="password")


class Cost(msgspec.Struct, frozen=True):
    """Cost of a hash: passes, memory and lanes."""

    passes: int = PASSES
    kibibytes: int = KIBIBYTES
    lanes: int = LANES

    @property
    def nobody(self) -> str:
        """For addresses without an account, or an account without a password: the same work, and no password that is known
        to give a digest of zeros."""
        return f"$argon2id$v=19$m={self.kibibytes},t={self.passes},p={self.lanes}${'A' * 22}${'A' * 43}"


COST = Cost()
NOBODY = COST.nobody


class _Turn(msgspec.Struct, frozen=True):
    """A hash that waits: ``rank`` is the how-manieth it is of its network, then the order of coming decides."""

    rank: tuple[int, int]
    ready: asyncio.Future[None]


_MOST_NETWORKS = 10_000
"""Networks whose hashes are counted; then the counts begin anew."""


class PasswordHasher:
    """Makes and checks hashes. One per process.

    A network's hashes are counted from when the first of them came until nobody is there any more. ``network`` '' is that
    of everybody who has none.
    """

    def __init__(self, *, at_once: int, waiting: int, cost: Cost = COST) -> None:
        """``at_once`` hashes are made at the same time, and ``waiting`` more wait for that."""
        self._hash = PasswordHash((Argon2Hasher(cost.passes, cost.kibibytes, cost.lanes),))
        self._nobody = cost.nobody
        self._at_once = at_once
        self._most_waiting = waiting
        self._running = 0
        self._waiting: list[_Turn] = []
        self._taken: dict[str, int] = {}
        self._came = 0
        self.made = 0
        """How many hashes were made or checked: what an attack costs us."""

    async def hash(self, password: str, network: str = "") -> str:
        """The hash to keep. Raises ``Overloaded``."""
        return await self._work(partial(self._hash.hash, password), network)

    async def check(self, password: str, kept: str | None, network: str = "") -> Checked:
        """Whether ``password`` is what ``kept`` was made of; the same work where there is none. Raises ``Overloaded``."""
        if len(password) > LONGEST:
            password = ""
        good, renewed = await self._work(
            partial(self._hash.verify_and_update, password, kept or self._nobody), network
        )
        return Checked(good and kept is not None, renewed if kept is not None else None)

    async def _work(self, work: Callable[[], T], network: str) -> T:
        await self._come(network)
        self.made += 1
        running = asyncio.get_running_loop().run_in_executor(None, work)
        # A thread cannot be stopped: who goes away leaves the place when its hash is done, and no sooner.
        running.add_done_callback(lambda _: self._leave())
        return await asyncio.shield(running)

    async def _come(self, network: str) -> None:
        """Take a place, or wait for one. Raises ``Overloaded``."""
        nth = self._taken.get(network, 0) + 1
        if self._running < self._at_once:
            self._running += 1
            self._count(network, nth)
            return
        if len(self._waiting) >= self._most_waiting:
            if self._waiting[-1].rank[0] <= nth:
                raise _full()
            self._waiting.pop().ready.set_exception(_full())
        self._count(network, nth)
        self._came += 1
        turn = _Turn((nth, self._came), asyncio.get_running_loop().create_future())
        insort(self._waiting, turn, key=_rank)
        try:
            await turn.ready
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.ready.cancelled() and turn.ready.exception() is None:
                self._leave()
            raise

    def _count(self, network: str, nth: int) -> None:
        if len(self._taken) >= _MOST_NETWORKS:
            self._taken.clear()
        self._taken[network] = nth

    def _leave(self) -> None:
        """Give the place to whose turn it is."""
        self._running -= 1
        while self._waiting:
            ready = self._waiting.pop(0).ready
            if not ready.done():
                self._running += 1
                ready.set_result(None)
                return
        if not self._running:
            self._taken.clear()


def _rank(turn: _Turn) -> tuple[int, int]:
    return turn.rank


def _full() -> Overloaded:
    return Overloaded("Too many people are signing in at the moment; please try again.", retry_after=2)
