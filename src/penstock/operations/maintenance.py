"""Maintenance beside the requests, in two rounds: one every second or so, one every few minutes.

The quick round follows catalogue, keys, secrets and the key ring, looks at the health of every part, tells the metrics of
this worker, hears of other processes what they have met at upstreams, writes when keys were last used, and mails those who
have used most of a day. The slow round deletes what is over (sessions, codes, counts of attempts, accounts whose owners have
left, old rows of the ledger), seals anew what an older key of the ring has sealed, puts hours together that no page shows
apart any more, and once a day compares yesterday's counts with the ledger's rows.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from penstock.core.dialects.translation_memory import TranslationMemory
from penstock.core.limits import day_of
from penstock.domain.accounts import accounts, attempt_limits, one_time_codes, sessions
from penstock.domain.accounts.sessions import Lifetime
from penstock.domain.captures.kept import forget_captures
from penstock.domain.catalog import kept_keys
from penstock.domain.catalog.catalog_store import CatalogSource, load_document
from penstock.domain.keys.authentication import Keyring
from penstock.domain.ledger import retention
from penstock.domain.ledger.attempts import AttemptLog
from penstock.domain.ledger.attempts import forget_before as forget_attempts
from penstock.domain.ledger.latency import merge_hours
from penstock.domain.ledger.reconciliation import RowsGone, compare
from penstock.domain.ledger.refusals import Refusals, forget_before
from penstock.domain.limits import Gate
from penstock.domain.mail import outbox
from penstock.domain.staff import idempotency, provider_changes
from penstock.domain.trail import chain
from penstock.errors import DatabaseUnavailable
from penstock.operations.alerts import Alerts
from penstock.operations.background import running_beside
from penstock.operations.captures import Captures
from penstock.operations.day_notices import DayNotices
from penstock.operations.drill import Drills
from penstock.operations.health import Health
from penstock.operations.key_ring import KeyRing
from penstock.operations.metrics import SharedMetrics
from penstock.operations.shared_hints import SharedHints
from penstock.operations.upstreams import UpstreamWatch
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database
from penstock.timeouts import to_its_end

log = logging.getLogger("penstock.operations.maintenance")

FOLLOWING = "following changes"
MAINTENANCE = "maintenance"
"""The names of the two rounds, as staff are told of them."""
_FOLLOWED_SECONDS = 60.0
"""Within which the quick round has to come to its end, however often it is begun."""
_FLUSH_SECONDS = 30.0
_NOTICES_SECONDS = 30.0
"""Between two looks at who has used most of a day."""
_AGE_SECONDS = 1800.0
"""What was translated and is not used for so long is forgotten, up to as long after that."""
_FIRST_SLOW_SECONDS = 10.0
"""After the start."""
_SLOW_SECONDS = 300.0
_DAY_SETTLES = 900.0
_DAY_MS = 86_400_000
"""Seconds after midnight when what a server recorded in the day before is surely in the database."""
_DIFFERENCES_LOGGED = 10


class Maintenance:
    """Both rounds of one serving process. They run while ``running`` is entered."""

    def __init__(  # noqa: PLR0913 - what has to be looked after, each named
        self,
        *,
        database: Database,
        catalog: CatalogSource,
        keyring: Keyring,
        refusals: Refusals,
        attempts: AttemptLog,
        watch: UpstreamWatch,
        alerts: Alerts,
        gate: Gate,
        secrets_of: Secrets,
        health: Health,
        hints: SharedHints,
        metrics: SharedMetrics,
        lifetime: Lifetime,
        translations: TranslationMemory,
        drills: Drills,
        quick_seconds: float,
        retain_days: int,
        admin_api_answers: float,
        notices: DayNotices,
        trail_days: int,
        captures: Captures | None,
        capture_days: int,
        mail_days: int,
        secrets_file: SecretsFile,
        now: Callable[[], float],
    ) -> None:
        """``quick_seconds`` lie between two quick rounds; ``now`` gives epoch seconds."""
        self._database = database
        self._catalog = catalog
        self._keyring = keyring
        self._refusals = refusals
        self._attempts = attempts
        self._watch = watch
        self._alerts = alerts
        self._gate = gate
        self._secrets = secrets_of
        self._health, self._hints = health, hints
        self._metrics = metrics
        self._lifetime = lifetime
        self._translations = translations
        self._drills = drills
        self._quick_seconds = quick_seconds
        self._retain_days = retain_days
        self._answers_ms = int(admin_api_answers * 1000)
        self._notices = notices
        self._now = now
        self._flushed = self._aged = self._noticed = time.monotonic()
        self._trail_days = trail_days
        self._captures = captures
        self._capture_days = capture_days
        self._mail_days = mail_days
        self._secrets_file, self._ring = secrets_file, KeyRing(database, secrets_file)
        self._checked = 0
        """The day of the last checkpoint of the trail."""
        self._reconciled = 0
        """The last day that was compared."""
        self._merged = 0
        """The last day on which hours were put together."""

    @asynccontextmanager
    async def running(self, at_end: Callable[[], None]) -> AsyncGenerator[None]:
        """Both rounds go on until the end; what is not written by then is written last, after ``at_end``."""
        self._health.jobs.expect(FOLLOWING, max(self._quick_seconds, _FOLLOWED_SECONDS))
        self._health.jobs.expect(MAINTENANCE, _SLOW_SECONDS)
        try:
            async with running_beside(self._quick(), self._slow()):
                yield
        finally:
            at_end()
            with suppress(DatabaseUnavailable):
                await self._refusals.flush()
                await self._attempts.flush()
                if self._captures is not None:
                    await self._captures.flush()
                await self._flush_keys()

    # ---- the quick round

    async def _quick(self) -> None:
        while True:
            await asyncio.sleep(self._quick_seconds)
            await to_its_end(self._quick_round())

    async def _quick_round(self) -> None:
        self._health.look()
        self._drills.follow()
        self._metrics.tell()
        if time.monotonic() - self._aged >= _AGE_SECONDS:
            self._aged = time.monotonic()
            self._translations.grow_older()
        ahead = self._gate.clock_stepped()
        if ahead is not None:
            log.warning("the wall clock jumped forward", extra={"seconds": int(ahead)})
        self._ring.follow()
        try:
            await self._hints.round()
            self._secrets.refresh()
            seen = await self._keyring.follow()
            if await self._catalog.refresh(seen.catalog):
                log.info("catalogue changed", extra={"revision": self._catalog.current.revision})
            if self._keyring.untold and time.monotonic() - self._flushed >= _FLUSH_SECONDS:
                self._flushed = time.monotonic()
                await self._flush_keys()
            await self._refusals.flush()
            if time.monotonic() - self._noticed >= _NOTICES_SECONDS:
                self._noticed = time.monotonic()
                await self._notices.round()
            await self._attempts.flush()
            if self._captures is not None:
                await self._captures.round()
            await self._alerts.tell(self._watch.look(), now=int(self._now() * 1000))
            await self._seal()
            self._health.jobs.done(FOLLOWING)
        except DatabaseUnavailable:
            # Requests go on with what is known, and are recorded in the journal.
            log.warning("the database does not answer")
        except Exception:
            log.exception("a round of maintenance failed")

    async def _flush_keys(self) -> None:
        async with self._database.transaction() as conn:
            await self._keyring.flush(conn)

    async def _seal(self) -> None:
        """Number and hash what the trail has got since."""
        async with self._database.connect() as conn:
            waits = await chain.any_unsealed(conn)
        if waits:
            async with self._database.transaction() as conn:
                await chain.seal(conn)

    # ---- the slow round

    async def _slow(self) -> None:
        await asyncio.sleep(_FIRST_SLOW_SECONDS)  # a server that starts has callers who wait
        while True:
            await to_its_end(self._slow_round())
            await asyncio.sleep(_SLOW_SECONDS)

    async def _slow_round(self) -> None:
        """Each step by itself: one that fails again and again, such as a comparison that takes too long, stops no other."""
        steps = (
            self._delete_what_is_over,
            self._ring.reseal,
            self._reconcile,
            self._merge,
            self._checkpoint,
            self._keep,
        )
        if all([await self._is_done(step) for step in steps]):
            self._health.jobs.done(MAINTENANCE)

    async def _is_done(self, step: Callable[[], Awaitable[object]]) -> bool:
        try:
            await step()
        except DatabaseUnavailable:
            log.warning("the database does not answer; what is over stays for now")
        except Exception:
            log.exception("a step of maintenance failed")
        else:
            return True
        return False

    async def _keep(self) -> None:
        """Remove days that are too old, and make room for those that come."""
        await retention.keep(self._database, day_of(self._now()), self._retain_days)

    async def _delete_what_is_over(self) -> None:
        at = int(self._now() * 1000)
        async with self._database.transaction() as conn:
            await sessions.tidy(conn, self._lifetime, now=at)
            await one_time_codes.tidy(conn, now=at)
            await attempt_limits.tidy(conn, now=at)
            await idempotency.tidy_answers(conn, before=at - self._answers_ms)
            if self._retain_days:
                await forget_before(conn, at - self._retain_days * _DAY_MS)
                await forget_attempts(conn, day_of(self._now()) - self._retain_days)
            await forget_captures(conn, before=at - self._capture_days * _DAY_MS)
            await outbox.forget_mails(conn, before=at - self._mail_days * _DAY_MS)
            gone = await accounts.delete_leavers(conn, now=at)
            system = provider_changes.system_change(
                conn, self._secrets_file, KINDS, now=at, entropy=secrets.token_bytes
            )
            retired = await provider_changes.retire_due(system)
            await kept_keys.tidy_keys(conn, (await load_document(conn, KINDS)).providers, now=at)
        if retired:
            log.info("keys of providers left their pools after their rotation", extra={"rows": retired})
        if gone:
            log.info("accounts deleted, as their owners had asked", extra={"rows": gone})

    async def _merge(self) -> None:
        """Once a day, since all of the times are looked through for it."""
        today = day_of(self._now())
        if today > self._merged:
            await merge_hours(self._database, today)
            self._merged = today

    async def _checkpoint(self) -> None:
        """Once a day: whether the trail is whole since the last time; where it has come to goes to the log, outside of the
        database; and what is too old goes. One that is broken gets no checkpoint: the next look would begin behind the break.
        """
        today = day_of(self._now())
        if today <= self._checked:
            return
        at = int(self._now() * 1000)
        async with self._database.connect() as conn:
            found = await chain.verify(conn, from_checkpoint=True)
        self._health.trail_broken = found.broken
        if found.broken is not None:
            log.error("the trail is broken at %d: %s; see penstock audit verify", found.broken, found.why)
        async with self._database.transaction() as conn:
            if self._trail_days:
                before = at - self._trail_days * _DAY_MS
                await chain.prune(conn, before=before, now=at, entropy=secrets.token_bytes)
            made = await chain.make_checkpoint(conn, now=at) if found.broken is None else None
        self._checked = today
        if made is not None:
            log.info("the trail has come to %d:%s", made.seq, made.hash.hex())

    async def _reconcile(self) -> None:
        """Once a day: whether yesterday's counts and sums are the ledger's rows."""
        yesterday = day_of(self._now() - _DAY_SETTLES) - 1
        if yesterday <= self._reconciled:
            return
        try:
            async with self._database.connect() as conn:
                found = await compare(conn, yesterday)
        except RowsGone:
            log.warning(
                "the rows of yesterday are not all kept, so its counts have nothing to be compared with"
            )
            found = []
        self._reconciled = yesterday
        self._health.differences = len(found)
        for it in found[:_DIFFERENCES_LOGGED]:
            log.error("%s.%s of %s is %d, its rows say %d", it.table, it.column, it.of, it.kept, it.rows)
        if found:
            log.error("counts differ from the ledger; see penstock reconcile", extra={"rows": len(found)})
