"""Day notices: mails that say how much of a day is used, found and queued by a round beside the requests."""

from collections.abc import Callable

from penstock.core.limits import day_of, reset_of
from penstock.domain.accounts import day_mails
from penstock.domain.mail import messages, outbox
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database

_AT_ONCE = 50
"""Mails of one transaction: others wait for its end, and each end is a journey to the disk."""


class DayNotices:
    """One round at a time; a round reads the counts that the ledger has written."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        *,
        brand: str,
        url: str,
        now: Callable[[], float],
        entropy: Entropy,
        queued: Callable[[], None],
    ) -> None:
        """``url`` is where the pages are; ``now`` gives epoch seconds; ``queued`` is called after a mail was queued."""
        self._database = database
        self._secrets_file = secrets_file
        self._brand = brand
        self._url = url
        self._now = now
        self._entropy = entropy
        self._queued = queued

    async def round(self) -> int:
        """Queue what is due; how many mails. Raises ``DatabaseUnavailable``."""
        now = self._now()
        day = day_of(now)
        async with self._database.connect() as conn:
            found = await day_mails.due(conn, day)
        count = 0
        for start in range(0, len(found), _AT_ONCE):
            async with self._database.transaction() as conn:
                for notice in found[start : start + _AT_ONCE]:
                    if not await day_mails.take(conn, notice, day):
                        continue  # another server was first, or the owner has switched them off
                    mail = messages.day_used(
                        self._brand,
                        notice.email,
                        self._url,
                        plan=notice.plan,
                        used=notice.used,
                        limit=notice.limit,
                        share=notice.share,
                        hours=max(1, round((reset_of(day) - now) / 3600)),
                    )
                    await outbox.queue(
                        conn, self._secrets_file, mail, now=int(now * 1000), entropy=self._entropy
                    )
                    count += 1
        if count:
            self._queued()
        return count
