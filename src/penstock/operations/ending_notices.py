"""Mails to the operators about models that their vendors end: thirty days ahead, seven days ahead, and on the day.

Each is one mail for each operator, whichever server sends it: its kind names the model and how near the end is, and the
outbox knows which kinds went out.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.mail import messages, outbox
from penstock.errors import DatabaseUnavailable
from penstock.operations.model_endings import Ending, endings
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.ending_notices")

LOOK_SECONDS = 6 * 3600.0
"""How often the catalogue is looked through."""
_NEAR = (0, 7, 30)
"""Days before the end; the least that is not passed is what a mail is about."""
_LAST_WORD = 2.0


class EndingNotices:
    """Tells the operators of one service. One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        catalog: Callable[[], Catalog],
        *,
        brand: str,
        entropy: Entropy,
        now: Callable[[], float],
        queued: Callable[[], None],
    ) -> None:
        """``now`` gives epoch seconds; ``queued`` is called when a mail was put into the outbox."""
        self._database = database
        self._secrets_file = secrets_file
        self._catalog = catalog
        self._brand = brand
        self._entropy = entropy
        self._now = now
        self._queued = queued

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The catalogue is looked through now and then, until the end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await to_its_end(self._round(), _LAST_WORD)
            await asyncio.sleep(LOOK_SECONDS)

    async def _round(self) -> None:
        try:
            await self.tell_due()
        except DatabaseUnavailable:
            log.warning("the database does not answer; the operators are told later")

    async def tell_due(self) -> int:
        """Queue what has not been told yet; how many mails. Raises ``DatabaseUnavailable``."""
        today = datetime.fromtimestamp(self._now(), UTC).date()
        found = list(endings(self._catalog(), today))
        if not found:
            return 0
        async with self._database.transaction() as conn:
            count = sum([await self._tell(conn, ending, today) for ending in found])
        if count:
            self._queued()
        return count

    async def _tell(self, conn: AsyncConnection, ending: Ending, today: date) -> int:
        kind = _kind(ending, today)
        if await outbox.was_queued(conn, kind):
            return 0
        operators = await accounts.admins(conn)
        for operator in operators:
            mail = messages.model_ending(
                self._brand,
                operator,
                kind=kind,
                model=ending.model,
                text=ending.told(today),
                source=ending.source,
            )
            await outbox.queue(
                conn, self._secrets_file, mail, now=int(self._now() * 1000), entropy=self._entropy
            )
        return len(operators)


def _kind(ending: Ending, today: date) -> str:
    left = (date.fromisoformat(ending.day) - today).days if ending.day else 0
    near = next(days for days in _NEAR if left <= days)
    name = f"{ending.model}|{ending.provider}|{ending.name}|{ending.day}|{near}".encode()
    return f"model_ending_{hashlib.sha256(name).hexdigest()[:16]}"
