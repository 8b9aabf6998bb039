"""Refusals that only the operator can mend: a credential not taken, an account without money, a model that is not there.

Each is kept with the provider's own status and text, and mailed to the operators: one mail an hour for each provider and
kind, whichever server has seen it. What is kept is bounded by what the catalogue has, and goes with the process.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.failure_classes.classes import FailureClass
from penstock.domain.accounts import accounts
from penstock.domain.mail import messages, outbox
from penstock.errors import DatabaseUnavailable
from penstock.operations.background import running_beside
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.provider_refusals")

OPERATORS_TOLD = frozenset((FailureClass.AUTH, FailureClass.QUOTA, FailureClass.MISSING))
"""What the operator is told of."""
AGAIN_SECONDS = 3600.0
"""How long after a mail another of the same kind may go out."""
_LAST_WORD = 2.0
_MOST_KEPT = 256


class ProviderRefusal(msgspec.Struct, frozen=True):
    """The newest of its kind, and how many there were since ``first_at`` (epoch seconds)."""

    provider: str
    model: str
    failure_class: str
    status: int | None
    text: str
    """In the provider's own words, without those of the caller; '' where there are none."""
    count: int
    first_at: float
    last_at: float


class ProviderRefusals:
    """What this process has seen. ``note`` is called where a request fails; mails go out from a task of their own."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        *,
        brand: str,
        entropy: Entropy,
        now: Callable[[], float],
        queued: Callable[[], None],
    ) -> None:
        """``now`` gives epoch seconds; ``queued`` is called when a mail was put into the outbox."""
        self._database = database
        self._secrets_file = secrets_file
        self._brand = brand
        self._entropy = entropy
        self._now = now
        self._queued = queued
        self._kept: dict[tuple[str, str], ProviderRefusal] = {}
        self._due: set[tuple[str, str]] = set()
        self._told_at: dict[tuple[str, str], float] = {}
        self._woken = asyncio.Event()
        self._round = asyncio.Lock()

    def note(self, provider: str, model: str, failure_class: str, status: int | None, text: str) -> None:
        """A provider has refused a request; other failures are passed over."""
        if failure_class not in OPERATORS_TOLD:
            return
        key, now = (provider, failure_class), self._now()
        known = self._kept.get(key)
        if known is None and len(self._kept) >= _MOST_KEPT:
            return
        count, first = (1, now) if known is None else (known.count + 1, known.first_at)
        self._kept[key] = ProviderRefusal(provider, model, failure_class, status, text, count, first, now)
        if now - self._told_at.get(key, -AGAIN_SECONDS) >= AGAIN_SECONDS:
            self._due.add(key)
            self._woken.set()

    def recent(self, seconds: float = AGAIN_SECONDS) -> tuple[ProviderRefusal, ...]:
        """Those that were seen in the last ``seconds``, the newest first."""
        since = self._now() - seconds
        found = [row for row in self._kept.values() if row.last_at >= since]
        return tuple(sorted(found, key=lambda row: -row.last_at))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Mails are queued, until the end."""
        async with running_beside(self._run()):
            yield

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await to_its_end(self.tell_due(), _LAST_WORD)

    async def tell_due(self) -> None:
        """Queue the mails that are due. One round at a time, so that its end means that they are in the outbox."""
        async with self._round:
            await self._tell_due()

    async def _tell_due(self) -> None:
        due, self._due = self._due, set()
        for key in due:
            now = self._now()
            try:
                async with self._database.transaction() as conn:
                    told = await self._tell(conn, self._kept[key], now)
            except DatabaseUnavailable:
                log.warning("the database does not answer; the operators are told later")
                continue
            self._told_at[key] = now
            if told:
                self._queued()

    async def _tell(self, conn: AsyncConnection, refusal: ProviderRefusal, now: float) -> bool:
        """Mail each operator, unless a server has done so within the hour."""
        kind, at = _kind(refusal), int(now * 1000)
        if await outbox.was_queued(conn, kind, since=at - int(AGAIN_SECONDS * 1000)):
            return False
        operators = await accounts.admins(conn)
        for operator in operators:
            mail = messages.provider_refused(
                self._brand,
                operator,
                kind=kind,
                provider=refusal.provider,
                model=refusal.model,
                what=refusal.failure_class,
                status=refusal.status,
                text=refusal.text,
            )
            await outbox.queue(conn, self._secrets_file, mail, now=at, entropy=self._entropy)
        return bool(operators)


def _kind(refusal: ProviderRefusal) -> str:
    """The kind of its mail, by which servers know that another has sent it."""
    name = f"{refusal.provider}|{refusal.failure_class}".encode()
    return f"provider_refused_{hashlib.sha256(name).hexdigest()[:12]}"
