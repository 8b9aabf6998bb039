"""Alerts: what an operator has to hear of, by mail to all administrators and in the log, once an hour for each cause.

The hour is counted in the database, so that many workers and servers tell of one cause once.
"""

import logging

from penstock.domain.accounts import accounts, attempt_limits
from penstock.domain.accounts.attempt_limits import Limit, TooOften
from penstock.domain.mail import messages, outbox
from penstock.operations.upstreams import Alert
from penstock.store.secrets_file import Entropy, SecretsFile
from penstock.store.sql.database import Database

log = logging.getLogger("penstock.operations.alerts")

_HOUR = 3600
_ONCE_AN_HOUR = Limit("alert", 1, _HOUR)
_MAILS = Limit("alert_mail", 1, _HOUR)
"""One mail of a kind, however many causes it has; the log has all of them."""


class Alerts:
    """Tells of causes. One per process."""

    def __init__(
        self, database: Database, secrets_file: SecretsFile, *, brand: str, entropy: Entropy
    ) -> None:
        self._database = database
        self._secrets_file = secrets_file
        self._brand = brand
        self._entropy = entropy
        self._told: dict[tuple[str, str], int] = {}
        """In which hour this process has seen to a cause: most rounds find what the last one found."""

    async def tell(self, found: list[Alert], *, now: int) -> None:
        """Tell of what was found, where nobody has within the hour. ``now`` is epoch milliseconds.

        Raises ``DatabaseUnavailable``.
        """
        hour = now // (_HOUR * 1000)
        for alert in found:
            cause = (alert.kind, alert.about)
            if self._told.get(cause) == hour:
                continue
            self._told = {each: at for each, at in self._told.items() if at == hour}
            if await self._is_first(alert, now):
                log.error("%s", alert.text, extra={"code": alert.kind})
                if alert.mailed:
                    await self._mail(alert, now)
            self._told[cause] = hour

    async def _is_first(self, alert: Alert, now: int) -> bool:
        try:
            async with self._database.transaction() as conn:
                await attempt_limits.spend(conn, _ONCE_AN_HOUR, f"{alert.kind} {alert.about}", now=now)
        except TooOften:
            return False
        return True

    async def _mail(self, alert: Alert, now: int) -> None:
        try:
            async with self._database.transaction() as conn:
                await attempt_limits.spend(conn, _MAILS, alert.kind, now=now)
                for admin in await accounts.admins(conn):
                    mail = messages.upstream_alert(self._brand, admin, alert.text)
                    await outbox.queue(conn, self._secrets_file, mail, now=now, entropy=self._entropy)
        except TooOften:
            log.info("no further mail of this kind within the hour", extra={"code": alert.kind})
