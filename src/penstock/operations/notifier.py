"""The notifier: sees what lasts, has it told by the rules, and sends what is due to webhooks and mail addresses.

Every process says what it sees. What is seen in the database, what is over, what is said with others and the daily digest are
one server's work at a time; each message is sent by one server, and one that dies with a message in hand leaves it due again.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock import __version__
from penstock.domain.accounts import accounts
from penstock.domain.mail import messages, outbox
from penstock.domain.notifications import deliveries, digest, staff_events, watch, webhooks
from penstock.domain.notifications.deliveries import Custom, DueLetter
from penstock.domain.notifications.jobs import done_until, held_elsewhere, job_done, take_job
from penstock.domain.notifications.letters import Letter, body_of_letter
from penstock.domain.notifications.staff_events import Condition, Teller
from penstock.domain.notifications.watch import Thresholds
from penstock.domain.notifications.webhooks import NoSuchWebhook, Webhook
from penstock.errors import DatabaseUnavailable
from penstock.operations.background import all_of, running_beside
from penstock.operations.metrics import Metrics
from penstock.operations.release_watch import ReleaseWatch
from penstock.operations.signed_post import NotTaken, Outward, outward, post_signed
from penstock.settings import Settings
from penstock.settings.zones import zone_of
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.notifier")

AGENT: Final = f"Penstock/{__version__}"
LEAD: Final = "notices"
DIGEST: Final = "digest"
_MIDNIGHT: Final = "00:00"
"""When what rules collect is sent where admins want no digest."""
LEASE_MS: Final = 60_000
_SEEN_SECONDS: Final = 30.0
"""What lasts is said again so often, so that nobody takes it for over."""
_LAST_WORD: Final = 6.0
"""Seconds that messages on their way have when the server stops: as long as a receiver may take."""
_SPARE_MS: Final = 30_000
"""For how much longer a message is this server's own than its receiver may take."""
_IN_A_ROW: Final = 20
"""Messages that one target gets before it is asked who else is due some."""
_LOOK_BACK_MS: Final = 7 * 86_400_000


class Notifier:
    """One per process. ``sees`` are asked in each round what lasts at the moment."""

    def __init__(
        self,
        database: Database,
        secrets_file: SecretsFile,
        settings: Settings,
        metrics: Metrics,
        *,
        sees: Sequence[Callable[[], list[Condition]]],
        now: Callable[[], float],
        mail_queued: Callable[[], None],
        releases: ReleaseWatch | None = None,
    ) -> None:
        """``now`` gives epoch seconds; ``mail_queued`` is called after a mail was queued."""
        self._database = database
        self._secrets_file = secrets_file
        self._settings = settings
        self._metrics = metrics
        self._sees = tuple(sees)
        self._now = now
        self._mail_queued = mail_queued
        self._zone = zone_of(settings.report_zone)
        self._custom = Custom(self._zone, settings.notify_per_hour, settings.brand)
        self._teller = Teller(
            secrets_file, self._custom, int(settings.notify_again * 1000), secrets.token_bytes
        )
        self._thresholds = Thresholds(
            settings.backup_hours * 3_600_000, settings.abuse_sign_ups, settings.abuse_refusals
        )
        self._releases = releases
        self._outward = outward_of(settings)
        self._holder = secrets.token_hex(16)
        self._said: frozenset[tuple[str, str]] = frozenset()
        self._said_at = 0.0
        self._unseen_ms = int(settings.notify_over * 1000)
        self._say_every = min(_SEEN_SECONDS, settings.notify_over / 4)
        late_ms = int((self._say_every + settings.notify_poll) * 1000)
        self._gap_ms = max(self._unseen_ms - late_ms, int(2000 * settings.notify_poll))
        self._led_at = self._close_from = 0
        self._hold_ms = int(settings.webhook_seconds * 1000) + _SPARE_MS
        self._woken, self._due = asyncio.Event(), asyncio.Event()
        self._turn, self._sending = asyncio.Lock(), asyncio.Lock()

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()
        self._due.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Events are told, until the end. A receiver that takes its time holds up what is sent, and not what is seen."""
        async with running_beside(
            self._run(self._woken, self._look_and_tell), self._run(self._due, self._send_due)
        ):
            yield

    async def _run(self, woken: asyncio.Event, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.notify_poll):
                    await woken.wait()
            except TimeoutError:
                pass
            woken.clear()
            await to_its_end(self._guarded(work), _LAST_WORD)

    async def _guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except DatabaseUnavailable:
            log.warning("the database does not answer; the staff are told later")
        except Exception:
            log.exception("a round of notifications failed")

    async def round(self) -> int:
        """See, tell and send; how many messages have arrived. Raises ``DatabaseUnavailable``."""
        await self._look()
        count = await self._send_due()
        await self._tell_backlog()
        return count

    async def _look(self) -> None:
        async with self._turn:
            await self._say_what_lasts()
            await self._lead()
            await self._tell_backlog()

    async def _look_and_tell(self) -> None:
        await self._look()
        self._due.set()

    # ---- what this process sees

    async def _say_what_lasts(self) -> None:
        seen = [each for sees in self._sees for each in sees()]
        named = frozenset((each.event, each.object) for each in seen)
        now = self._now()
        if not seen or (named == self._said and abs(now - self._said_at) < self._say_every):
            self._said = named
            return
        async with self._database.transaction() as conn:
            await staff_events.observe(conn, self._teller, seen, now=int(now * 1000))
        self._said, self._said_at = named, now

    # ---- what one server does

    async def _lead(self) -> None:
        now = self._now_ms()
        async with self._database.connect() as conn:
            if await held_elsewhere(conn, LEAD, self._holder, now=now):
                return
        async with self._database.transaction() as conn:
            since = await take_job(conn, LEAD, self._holder, lease_ms=LEASE_MS, now=now)
            if since is None:
                return
            found = await watch.conditions_in_books(
                conn, self._thresholds, since=now - _LOOK_BACK_MS, now=now
            )
            await staff_events.observe(conn, self._teller, found, now=now)
            accounts_made, through = await watch.new_accounts(conn, after=since, now=now)
            for what, at in accounts_made:
                await staff_events.happened(conn, self._teller, what, at, now=now)
            if self._may_close(now):
                await staff_events.close_unseen(conn, self._teller, unseen_ms=self._unseen_ms, now=now)
            await deliveries.bundle_hours(
                conn, self._secrets_file, self._custom, now=now, entropy=secrets.token_bytes
            )
            await job_done(conn, LEAD, before=since, at=through)
        self._led_at = now
        await self._look_for_releases()
        await self._digest(now)

    def _may_close(self, now: int) -> bool:
        """Whether what is unseen by now could have been said: after a while without us, as of a database that was away, the
        others have as long again to say what they see."""
        if now - self._led_at > self._gap_ms:
            self._close_from = now + self._unseen_ms
        return now >= self._close_from

    async def _look_for_releases(self) -> None:
        if self._releases is None:
            return
        await self._releases.look()
        if not self._releases.knows:
            async with self._database.connect() as conn:
                for it in await staff_events.lasting_events(conn):
                    if it.event == "release.available":
                        self._releases.suppose(it.object)

    async def _digest(self, now: int) -> None:
        """Once a day, whichever server comes first: what rules collect is sent, what is old is tidied, and admins are mailed
        where they want that."""
        mailed = self._settings.digest_at != "never"
        due = digest.digest_due(now, self._settings.digest_at if mailed else _MIDNIGHT, self._zone)
        async with self._database.connect() as conn:
            known = await done_until(conn, DIGEST)
            if known is not None and known >= due:
                return
        async with self._database.transaction() as conn:
            since = await take_job(conn, DIGEST, self._holder, lease_ms=LEASE_MS, now=now)
            if since is None or since >= due:
                return
            await deliveries.bundle_digests(conn, self._secrets_file, now=now, entropy=secrets.token_bytes)
            await staff_events.tidy_events(conn, now=now)
            await deliveries.tidy_deliveries(conn, now=now)
            await webhooks.tidy_webhooks(conn, now=now)
            if mailed:
                await self._mail_digest(conn, since, now)
            await job_done(conn, DIGEST, before=since, at=now)
        self._mail_queued()

    async def _mail_digest(self, conn: AsyncConnection, since: int, now: int) -> None:
        found = await digest.gather_digest(conn, since=since, now=now)
        if found.is_empty:
            return
        url = self._settings.url(self._settings.port)
        for operator in await accounts.admins(conn):
            mail = messages.daily_digest(self._custom.brand, operator, url, found.waits, found.changed)
            await outbox.queue(conn, self._secrets_file, mail, now=now, entropy=secrets.token_bytes)

    async def _tell_backlog(self) -> None:
        async with self._database.connect() as conn:
            found = await deliveries.backlog(conn, now=self._now_ms())
        now = self._now()
        self._metrics.outbox = {
            kind: (count, 0.0 if since is None else max(0.0, now - since / 1000))
            for kind, count, since in (
                ("mail", found.mails, found.mails_since),
                ("webhook", found.webhooks, found.webhooks_since),
            )
        }

    # ---- sending

    async def _send_due(self) -> int:
        async with self._sending:
            count = 0
            while True:
                async with self._database.connect() as conn:
                    targets = await deliveries.due_targets(conn, now=self._now_ms())
                if not targets:
                    return count
                count += sum(await all_of(*(self._send_to(target) for target in targets)))

    async def _send_to(self, target: tuple[str, str]) -> int:
        """What is due there, one after the other until one is not taken: the others wait for a hanging one once, not for all
        that it is due."""
        for count in range(_IN_A_ROW):
            async with self._database.transaction() as conn:
                due = await deliveries.take_due(
                    conn, self._secrets_file, target, now=self._now_ms(), hold_ms=self._hold_ms
                )
            if due is None or not await self._send(due):
                return count
        return _IN_A_ROW

    async def _send(self, due: DueLetter) -> bool:
        if due.kind == "mail":
            async with self._database.transaction() as conn:
                await deliveries.hand_to_mail(
                    conn,
                    self._secrets_file,
                    due,
                    self._custom,
                    now=self._now_ms(),
                    entropy=secrets.token_bytes,
                )
            self._mail_queued()
            return True
        try:
            await self._post(due)
        except NotTaken as error:
            log.warning("a webhook did not take a message", extra={"code": due.target, "error": str(error)})
            async with self._database.transaction() as conn:
                await deliveries.delivery_failed(
                    conn, due, str(error), lasting=error.lasting, now=self._now_ms()
                )
            return False
        async with self._database.transaction() as conn:
            await deliveries.delivered(conn, due, now=self._now_ms())
        return True

    async def _post(self, due: DueLetter) -> None:
        try:
            async with self._database.connect() as conn:
                webhook, address = await webhooks.opened_webhook(conn, self._secrets_file, due.target)
        except NoSuchWebhook:
            raise NotTaken("the webhook was removed", lasting=True) from None
        except SecretsFileError as error:
            raise NotTaken(f"its address cannot be opened: {error}") from error
        body = body_of_letter(due.letter, webhook.shape, self._custom.brand)
        at = int(self._now())
        await post_signed(address, due.id, body, self._outward, at=at, user_agent=AGENT)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


class WebhookTested(msgspec.Struct, frozen=True):
    """What came of a test. ``error`` is '' where it was taken."""

    webhook: str
    taken: bool
    status: int | None
    error: str


async def try_webhook(
    database: Database, secrets_file: SecretsFile, settings: Settings, name: str, *, now: float
) -> tuple[Webhook, WebhookTested]:
    """Send a test there at once. ``now`` is epoch seconds. Raises ``NoSuchWebhook``, ``SecretsFileError``."""
    async with database.connect() as conn:
        webhook, address = await webhooks.opened_webhook(conn, secrets_file, name)
    body = body_of_letter(Letter("webhook.test", int(now * 1000)), webhook.shape, settings.brand)
    id = f"msg_test_{secrets.token_hex(12)}"
    try:
        status = await post_signed(address, id, body, outward_of(settings), at=int(now), user_agent=AGENT)
    except NotTaken as error:
        return webhook, WebhookTested(webhook.name, taken=False, status=None, error=str(error))
    return webhook, WebhookTested(webhook.name, taken=True, status=status, error="")


def outward_of(settings: Settings) -> Outward:
    """What the operator has set for what is posted."""
    ca = "" if settings.webhook_ca is None else str(settings.webhook_ca)
    return outward(settings.webhook_addresses, ca, settings.webhook_seconds)
