"""Mails about models that end: to the operators thirty days ahead, seven days ahead, and on the day; and once,
thirty days ahead, to the accounts that use a model which nothing else serves.

Each is one mail for each operator or account, whichever server sends it: its kind names the model and how near the end
is, and the outbox knows which kinds went out.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.limits import day_of
from penstock.domain.accounts import accounts
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.ledger import rollups
from penstock.domain.mail import messages, outbox
from penstock.errors import DatabaseUnavailable
from penstock.operations.background import running_beside
from penstock.operations.model_endings import Ending, end_of, endings
from penstock.operations.model_proposals import NOTICE_DAYS
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.ending_notices")

LOOK_SECONDS = 6 * 3600.0
"""How often the catalogue is looked through."""
_NEAR = (0, 7, 30)
"""Days before the end; the least that is not passed is what a mail is about."""
_NOTICE = timedelta(days=NOTICE_DAYS)
_LAST_WORD = 2.0
_USED_DAYS = 28
"""Who used a model in the last so many days is told of its end."""
_AT_ONCE = 100
"""Mails that are queued in one transaction."""


class EndingNotices:
    """Tells the operators of one service. One per process."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        catalog: Callable[[], Catalog],
        *,
        brand: str,
        url: str = "",
        entropy: Entropy,
        now: Callable[[], float],
        queued: Callable[[], None],
    ) -> None:
        """``url`` is where the pages are; ``now`` gives epoch seconds; ``queued`` is called after a mail was queued."""
        self._database = database
        self._secrets_file = secrets_file
        self._catalog = catalog
        self._brand = brand
        self._url = url
        self._entropy = entropy
        self._now = now
        self._queued = queued

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The catalogue is looked through now and then, until the end."""
        async with running_beside(self._run()):
            yield

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
        for model in {ending.model: None for ending in found if not ending.others}:
            count += await self._tell_accounts(model, today)
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

    async def _tell_accounts(self, id: str, today: date) -> int:
        catalog, day = self._catalog(), day_of(self._now())
        model = catalog.models.get(id)
        end = "" if model is None else end_of(catalog, model)
        if model is None or not end or not today < date.fromisoformat(end) <= today + _NOTICE:
            return 0
        kind = f"model_leaves_{hashlib.sha256(f'{id}|{end}'.encode()).hexdigest()[:16]}"
        async with self._database.connect() as conn:
            using = await rollups.addresses_using(conn, id, range(day - _USED_DAYS, day + 1))
        count = 0
        for start in range(0, len(using), _AT_ONCE):
            async with self._database.transaction() as conn:
                told = await outbox.told_of(conn, kind)
                new = [each for each in using[start : start + _AT_ONCE] if each not in told]
                for recipient in new:
                    mail = messages.model_leaves(
                        self._brand,
                        recipient,
                        self._url,
                        kind=kind,
                        model=id,
                        day=end,
                        successor=model.successor,
                    )
                    await outbox.queue(
                        conn, self._secrets_file, mail, now=int(self._now() * 1000), entropy=self._entropy
                    )
            count += len(new)
        return count


def _kind(ending: Ending, today: date) -> str:
    left = (date.fromisoformat(ending.day) - today).days if ending.day else 0
    near = next(days for days in _NEAR if left <= days)
    name = f"{ending.model}|{ending.provider}|{ending.name}|{ending.day}|{near}".encode()
    return f"model_ending_{hashlib.sha256(name).hexdigest()[:16]}"
