"""The pages of one serving process, with what goes on behind them: mails on their way, and what is over being deleted."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from penstock.core.limits import day_of
from penstock.domain import accounts, codes, retention, sessions, tallies
from penstock.domain.catalog import Catalog
from penstock.domain.entrance import Entrance, Rules
from penstock.domain.guards import guards_of
from penstock.domain.limits import Gate
from penstock.domain.passwords import Cost, PasswordHasher
from penstock.domain.reconciliation import compare
from penstock.domain.sessions import Lifetime
from penstock.errors import DatabaseUnavailable
from penstock.federation import Federation, Unfederated, providers_of
from penstock.health import Health
from penstock.metrics import SharedMetrics
from penstock.postman import Postman, route_of
from penstock.settings import Settings, SettingsError
from penstock.store.database import Database
from penstock.store.vault import Vault
from penstock.web.context import SiteContext
from penstock.web.pages import Pages
from penstock.web.site import Site

log = logging.getLogger("penstock.front")

_TIDY_SECONDS = 300.0
_DAY_SETTLES = 900.0
"""Seconds after midnight when what a server recorded in the day before is surely in the database."""
_DIFFERENCES_LOGGED = 10


class Front:
    """The site, its postman and its broom. ``site`` serves while ``running`` is entered."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        vault: Vault,
        catalog: Callable[[], Catalog],
        gate: Gate,
        metrics: SharedMetrics,
        health: Health,
        now: Callable[[], float],
        not_ready: Callable[[], str],
        hashing: Cost,
    ) -> None:
        """``now`` gives epoch seconds, ``not_ready`` '' or why none should come; ``hashing`` is the cost of a password."""
        self._database = database
        self._now = now
        self._health = health
        self._reconciled = 0
        self._retain_days = settings.retain_days
        self._lifetime = Lifetime(int(settings.session_idle * 1000), int(settings.session_lifetime * 1000))
        self.hasher = PasswordHasher(
            at_once=settings.passwords_at_once, waiting=settings.passwords_waiting, cost=hashing
        )
        self.postman = Postman(database, vault, route_of(settings.mail_url), settings.mail_from, now)
        rules = _rules(settings)
        self.federation = federation_of(settings)
        context = SiteContext(
            database=database,
            vault=vault,
            catalog=catalog,
            gate=gate,
            entrance=Entrance(database, vault, self.hasher, rules, secrets.token_bytes, self.postman.wake),
            pages=Pages(
                brand=settings.brand,
                public_url=settings.public_url,
                catalog=catalog,
                signup=rules.open,
                federation=self.federation.providers,
            ),
            lifetime=self._lifetime,
            entropy=secrets.token_bytes,
            clock=now,
            answer_floor=settings.answer_floor,
        )
        self.site = Site(
            context,
            federation=self.federation,
            mail_queued=self.postman.wake,
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
        tasks = [asyncio.create_task(self.postman.run()), asyncio.create_task(self._tidy())]
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
                    await codes.tidy(conn, now=at)
                    await tallies.tidy(conn, now=at)
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


def federation_of(settings: Settings) -> Federation:
    """What asks the configured providers. Raises ``SettingsError`` when the extra is missing."""
    providers = providers_of(settings)
    if not providers:
        return Unfederated()
    try:
        from penstock.oauth import ProviderClient  # noqa: PLC0415 - 6 MB, for those who sign in through others
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
        guards=guards_of(settings),
    )
