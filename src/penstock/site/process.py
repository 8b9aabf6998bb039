"""The pages of one serving process, with what goes on behind them: mails on their way, and what is over being deleted."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from penstock.core.limits import day_of
from penstock.domain.accounts import accounts, attempt_limits, one_time_codes, sessions
from penstock.domain.accounts.attempt_limits import attempt_limits_of
from penstock.domain.accounts.passwords import PasswordHasher
from penstock.domain.accounts.sessions import Lifetime
from penstock.domain.accounts.sign_in import Rules, SignIn
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.ledger import retention
from penstock.domain.ledger.reconciliation import compare
from penstock.domain.limits import Gate
from penstock.errors import DatabaseUnavailable
from penstock.operations.health import Health
from penstock.operations.mail_sender import MailSender, mail_transport
from penstock.operations.metrics import SharedMetrics
from penstock.settings import Settings, SettingsError
from penstock.site.context import SiteContext
from penstock.site.oauth.providers import NoOAuth, OAuthAsking, providers_of
from penstock.site.pages import Pages
from penstock.site.site import Site
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database

log = logging.getLogger("penstock.site.process")

_TIDY_SECONDS = 300.0
_DAY_SETTLES = 900.0
"""Seconds after midnight when what a server recorded in the day before is surely in the database."""
_DIFFERENCES_LOGGED = 10


class SiteProcess:
    """The site, its postman and its broom. ``site`` serves while ``running`` is entered."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        secrets_file: SecretsFile,
        catalog: Callable[[], Catalog],
        gate: Gate,
        metrics: SharedMetrics,
        health: Health,
        now: Callable[[], float],
        not_ready: Callable[[], str],
    ) -> None:
        """``now`` gives epoch seconds, ``not_ready`` '' or why none should come."""
        self._database = database
        self._now = now
        self._health = health
        self._reconciled = 0
        self._retain_days = settings.retain_days
        self._lifetime = Lifetime(int(settings.session_idle * 1000), int(settings.session_lifetime * 1000))
        self.hasher = PasswordHasher(at_once=settings.passwords_at_once, waiting=settings.passwords_waiting)
        self.mail_sender = MailSender(
            database, secrets_file, mail_transport(settings.mail_url), settings.mail_from, now
        )
        rules = _rules(settings)
        self.oauth = federation_of(settings)
        context = SiteContext(
            database=database,
            secrets_file=secrets_file,
            catalog=catalog,
            gate=gate,
            sign_in=SignIn(
                database, secrets_file, self.hasher, rules, secrets.token_bytes, self.mail_sender.wake
            ),
            pages=Pages(
                brand=settings.brand,
                public_url=settings.public_url,
                catalog=catalog,
                signup=rules.open,
                oauth=self.oauth.providers,
            ),
            lifetime=self._lifetime,
            entropy=secrets.token_bytes,
            clock=now,
            answer_floor=settings.answer_floor,
        )
        self.site = Site(
            context,
            oauth=self.oauth,
            mail_queued=self.mail_sender.wake,
            keep_keys=settings.keys_reveal,
            texts=settings.data / "pages",
            metrics=metrics,
            metrics_token=settings.metrics_token,
            ready=not_ready,
            health=health,
        ).app()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Mails are sent and what is over is deleted, until the end."""
        tasks = [asyncio.create_task(self.mail_sender.run()), asyncio.create_task(self._tidy())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def _tidy(self) -> None:
        """Every few minutes: sessions, codes and counts that are over, and accounts whose owners have left."""
        while True:
            try:
                at = int(self._now() * 1000)
                async with self._database.transaction() as conn:
                    await sessions.tidy(conn, self._lifetime, now=at)
                    await one_time_codes.tidy(conn, now=at)
                    await attempt_limits.tidy(conn, now=at)
                    gone = await accounts.delete_leavers(conn, now=at)
                if gone:
                    log.info("accounts deleted, as their owners had asked", extra={"rows": gone})
                await self._reconcile()
                await retention.keep(self._database, day_of(self._now()), self._retain_days)
            except DatabaseUnavailable:
                log.warning("the database does not answer; what is over stays for now")
            await asyncio.sleep(_TIDY_SECONDS)

    async def _reconcile(self) -> None:
        """Once a day: whether yesterday's counts and sums are the ledger's rows."""
        yesterday = day_of(self._now() - _DAY_SETTLES) - 1
        if yesterday <= self._reconciled:
            return
        async with self._database.connect() as conn:
            found = await compare(conn, yesterday)
        self._reconciled = yesterday
        self._health.differences = len(found)
        for it in found[:_DIFFERENCES_LOGGED]:
            log.error("%s.%s of %s is %d, its rows say %d", it.table, it.column, it.of, it.kept, it.rows)
        if found:
            log.error("counts differ from the ledger; see penstock reconcile", extra={"rows": len(found)})


def federation_of(settings: Settings) -> OAuthAsking:
    """What asks the configured providers. Raises ``SettingsError`` when the extra is missing."""
    providers = providers_of(settings)
    if not providers:
        return NoOAuth()
    try:
        from penstock.site.oauth.client import ProviderClient  # noqa: PLC0415 - 6 MB, for those who sign in through others
    except ImportError as error:
        named = ", ".join(provider.name for provider in providers.values())
        raise SettingsError(
            [f"sign-in through {named} needs more packages: pip install 'penstock[oidc]'"]
        ) from error
    return ProviderClient(providers)


def _rules(settings: Settings) -> Rules:
    return Rules(
        brand=settings.brand,
        url=settings.url(settings.port),
        open=settings.signup == "open",
        domains=settings.signup_domains,
        first_plan=settings.signup_plan,
        keep_keys=settings.keys_reveal,
        guards=attempt_limits_of(settings),
    )
