"""The site process: the pages of one serving process, and the mails that they send."""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property

import msgspec
from starlette.applications import Starlette

from penstock.core.catalog import Upstream
from penstock.core.routing.switches import Reach
from penstock.domain.accounts.attempt_limits import attempt_limits_of
from penstock.domain.accounts.passwords import Cost, PasswordHasher
from penstock.domain.accounts.sessions import Lifetime
from penstock.domain.accounts.sign_in import Rules, SignIn
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.domain.ledger.attempts import AttemptLog
from penstock.domain.ledger.refusals import Refusals
from penstock.domain.limits import Gate
from penstock.operations.background import running_beside
from penstock.operations.health import Health
from penstock.operations.mail_sender import MailSender, mail_transport
from penstock.operations.metrics import SharedMetrics
from penstock.operations.provider_check import ProviderChecks
from penstock.operations.upstream_test import Tested
from penstock.settings import Settings, SettingsError
from penstock.site.admin.admin_site import AdminSite
from penstock.site.admin.context import AdminContext, Operation, RunningRequest
from penstock.site.admin_api.api import admin_api
from penstock.site.brand import BrandFiles
from penstock.site.context import SiteContext
from penstock.site.notice_board import NoticeBoard
from penstock.site.oauth.providers import NoOAuth, OAuthAsking, providers_of
from penstock.site.pages import Pages
from penstock.site.protection import Hsts
from penstock.site.site import Site
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database


class OperationParts(msgspec.Struct, frozen=True):
    """What the admin pages are told by the parts of the service that the site does not know (``admin/context.py``)."""

    kinds: Mapping[str, Upstream]
    origins: Mapping[str, str]
    secret_problem: Callable[[str], str | None]
    checks: ProviderChecks
    running: Callable[[], list[RunningRequest]]
    try_upstreams: Callable[[CatalogDocument, Reach], Awaitable[list[Tested]]]


class SiteProcess:
    """The site and its mail sender. ``site`` serves while ``running`` is entered."""

    def __init__(  # noqa: PLR0913 - what the pages show comes together here, each named
        self,
        *,
        settings: Settings,
        database: Database,
        secrets_file: SecretsFile,
        catalog: Callable[[], Catalog],
        gate: Gate,
        refusals: Refusals,
        attempts: AttemptLog,
        metrics: SharedMetrics,
        health: Health,
        now: Callable[[], float],
        not_ready: Callable[[], str],
        hashing: Cost,
        operation: OperationParts,
    ) -> None:
        """``now`` gives epoch seconds, ``not_ready`` '' or why none should come; ``hashing`` is the cost of a password."""
        self.lifetime = Lifetime(int(settings.session_idle * 1000), int(settings.session_lifetime * 1000))
        self.hasher = PasswordHasher(
            at_once=settings.passwords_at_once, waiting=settings.passwords_waiting, cost=hashing
        )
        self.mail_sender = _mail_sender(settings, database, secrets_file, now)
        brand = BrandFiles(settings)
        self.oauth = oauth_of(settings)
        context = self._context(
            settings, database, secrets_file, catalog, gate, refusals, attempts, brand, now
        )
        admin = AdminContext(
            context,
            Operation(
                kinds=operation.kinds,
                settings=settings,
                origins=operation.origins,
                secret_problem=operation.secret_problem,
                checks=operation.checks,
                health=health,
                running=operation.running,
                mail_queued=self.mail_sender.wake,
                try_upstreams=operation.try_upstreams,
            ),
        )
        self.admin_site = AdminSite(admin)
        site = Site(
            context,
            admin=self.admin_site,
            admin_api=admin_api(admin),
            oauth=self.oauth,
            mail_queued=self.mail_sender.wake,
            keep_keys=settings.keys_reveal,
            texts=settings.data / "pages",
            brand=brand,
            metrics=metrics,
            metrics_token=settings.metrics_token,
            ready=not_ready,
            health=health,
            hsts=Hsts(settings.hsts_seconds, settings.public_url.startswith("https:")),
        )
        self.admin_api = site.admin_api
        self._site = site

    @cached_property
    def site(self) -> Starlette:
        """The ASGI application. Its routes are made for the first who asks: a start need not wait for them."""
        return self._site.app()

    def _context(
        self,
        settings: Settings,
        database: Database,
        secrets_file: SecretsFile,
        catalog: Callable[[], Catalog],
        gate: Gate,
        refusals: Refusals,
        attempts: AttemptLog,
        brand: BrandFiles,
        now: Callable[[], float],
    ) -> SiteContext:
        rules = _rules(settings)
        board = NoticeBoard(database, now)
        return SiteContext(
            database=database,
            secrets_file=secrets_file,
            catalog=catalog,
            gate=gate,
            refusals=refusals,
            attempts=attempts,
            sign_in=SignIn(
                database, secrets_file, self.hasher, rules, secrets.token_bytes, self.mail_sender.wake
            ),
            pages=_pages(settings, catalog, self.oauth, brand, board, signup=rules.open),
            board=board,
            lifetime=self.lifetime,
            entropy=secrets.token_bytes,
            clock=now,
            providers_told=settings.providers_told,
            answer_floor=settings.answer_floor,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Mails are sent, until the end."""
        async with running_beside(self.mail_sender.run()):
            yield


def _pages(
    settings: Settings,
    catalog: Callable[[], Catalog],
    oauth: OAuthAsking,
    brand: BrandFiles,
    board: NoticeBoard,
    *,
    signup: bool,
) -> Pages:
    return Pages(
        brand=settings.brand,
        public_url=settings.public_url,
        catalog=catalog,
        signup=signup,
        mails_printed=settings.mail_url == "console:",
        oauth=oauth.providers,
        look=brand.brand,
        board=board,
    )


def _mail_sender(
    settings: Settings, database: Database, secrets_file: SecretsFile, now: Callable[[], float]
) -> MailSender:
    route = mail_transport(settings.mail_url)
    return MailSender(database, secrets_file, route, settings.mail_from, now, support=settings.support)


def oauth_of(settings: Settings) -> OAuthAsking:
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
