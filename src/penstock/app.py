"""Where the parts meet: one serving process, built from its settings, started and stopped in order."""

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from penstock.aside import Aside
from penstock.core.limits import day_of
from penstock.core.recall import Thoughts
from penstock.domain.catalog_store import CatalogSource
from penstock.domain.keys import Keyring
from penstock.domain.ledger import Ledger
from penstock.domain.limits import Gate
from penstock.domain.passwords import COST, Cost
from penstock.errors import DatabaseUnavailable, InternalError, PenstockError
from penstock.exchange import Exchange
from penstock.front import Front
from penstock.health import Health, Trouble
from penstock.metrics import Metrics, SharedMetrics
from penstock.providers.detect import Secrets
from penstock.providers.simulator import simulate
from penstock.providers.table import KINDS
from penstock.relay import Relay, Timings
from penstock.server import Application, Listener, ServerLimits, listen
from penstock.settings import Settings
from penstock.store.counters import Counters, MemoryCounters
from penstock.store.database import Database
from penstock.store.opening import open_database
from penstock.store.vault import Vault
from penstock.switchboard import Switchboard
from penstock.token_counting import TokenCounter, Turns
from penstock.tokens.estimator import Estimator
from penstock.upstream import Deadlines, UpstreamClient
from penstock.web.api import Api, owns
from penstock.web.asking import BodyReader
from penstock.web.intake import Intake

log = logging.getLogger("penstock.app")

_FLUSH_SECONDS = 30.0
_COUNTING = 30.0
"""Seconds an upstream may take to count tokens."""


class Service:
    """One serving process. ``application`` is what a server serves while ``running`` is entered."""

    def __init__(
        self,
        settings: Settings,
        secrets_of: Secrets,
        *,
        now: Callable[[], float] = time.time,
        hashing: Cost = COST,
    ) -> None:
        """``now`` gives epoch seconds: days, resets and expiries go by it. ``hashing`` is what a password's hash costs."""
        self._settings = settings
        self._secrets = secrets_of
        self._now = now
        self._hashing = hashing
        self._not_ready = "starting"
        self._api: Api | None = None
        self.front: Front | None = None
        self.application = Application(
            handler=self._handle, owns=owns, site=self._serve_site, reject=self._reject, draining=self._drain
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Everything opened, in order; closed in the opposite one. Raises ``StoreError`` or ``VaultError``."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            boot = secrets.token_hex(8)
            clock = asyncio.get_running_loop().time
            database = await open_database(settings)
            stack.push_async_callback(database.close)
            if not settings.redis_url:
                await stack.enter_async_context(database.claimed())
            vault = Vault.make(settings.secret_path, secrets.token_bytes)
            ledger = await Ledger.open(
                database,
                boot=boot,
                journal_bytes=settings.journal_bytes,
                pace=settings.journal_pace,
                durable=settings.database_synchronous == "FULL",
            )
            stack.push_async_callback(ledger.close)
            counters, redis = await stack.enter_async_context(_counters(settings, database, self._now, boot))
            gate = _gate(settings, counters, self._now)
            keyring = Keyring(
                database, vault, cache_seconds=settings.cache_seconds, clock=clock, now=self._now
            )
            simulator = await _simulator()
            stack.push_async_callback(simulator.close)
            source = CatalogSource(
                database, KINDS, self._secrets.has, f"http://127.0.0.1:{simulator.port}/v1"
            )
            await source.refresh()
            client = UpstreamClient()
            stack.push_async_callback(client.close)
            health = _health(database, ledger, redis)
            metrics = Metrics(health)
            shared = SharedMetrics(metrics, settings.data / "metrics", alone=settings.workers == 1)
            stack.callback(shared.forget)
            switchboard = Switchboard(source.get, self._secrets, random.random)
            timings = _timings(settings)
            estimator = Estimator(most_text=settings.token_count_text)
            stack.callback(estimator.close)
            aside = Aside(settings.thread_above)
            stack.callback(aside.close)
            relay = Relay(
                client=client,
                ledger=ledger,
                gate=gate,
                switchboard=switchboard,
                metrics=metrics,
                timings=timings,
                aside=aside,
                thoughts=Thoughts(settings.thoughts_kept),
                clock=clock,
            )
            gate.ended_by(relay.end)
            self._api = Api(
                relay=relay,
                counter=_counter(settings, client, switchboard, estimator, clock),
                keyring=keyring,
                gate=gate,
                intake=Intake(max_body=settings.max_body, most=settings.max_bodies),
                catalog=source.get,
                metrics=metrics,
                reader=BodyReader(aside, max_values=settings.max_values),
                new_id=_ids(boot),
                now=self._now,
                clock=clock,
            )
            self.front = Front(
                settings,
                database,
                vault,
                source.get,
                gate,
                shared,
                health,
                self._now,
                lambda: self._not_ready,
                self._hashing,
            )
            await stack.enter_async_context(self.front.running())
            keeping = asyncio.create_task(
                _keep(settings, database, source, keyring, gate, self._secrets, health, shared)
            )
            stack.push_async_callback(_stop_keeping, keeping, database, keyring)
            self._not_ready = ""
            try:
                yield
            finally:
                self._not_ready = "stopping"

    def _handle(self, exchange: Exchange) -> Awaitable[None]:
        if self._api is None:
            raise InternalError("The service has not started.")
        return self._api(exchange)

    def _reject(self, exchange: Exchange, error: PenstockError) -> None:
        if self._api is None:
            raise InternalError("The service has not started.")
        self._api.reject(exchange, error)

    async def _serve_site(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.front is None:
            raise InternalError("The service has not started.")
        await self.front.site(scope, receive, send)

    def _drain(self) -> None:
        self._not_ready = "draining"


async def _keep(
    settings: Settings,
    database: Database,
    source: CatalogSource,
    keyring: Keyring,
    gate: Gate,
    secrets_of: Secrets,
    health: Health,
    metrics: SharedMetrics,
) -> None:
    """What is done every few seconds beside the requests: follow the catalogue, write when keys were last used."""
    flushed = time.monotonic()
    while True:
        await asyncio.sleep(settings.revision_poll)
        health.look()
        metrics.tell()
        ahead = gate.clock_stepped()
        if ahead is not None:
            log.warning("the wall clock jumped forward", extra={"seconds": int(ahead)})
        try:
            secrets_of.forget()
            if await source.refresh():
                log.info("catalogue changed", extra={"revision": source.current.revision})
            if keyring.untold and time.monotonic() - flushed >= _FLUSH_SECONDS:
                flushed = time.monotonic()
                async with database.transaction() as conn:
                    await keyring.flush(conn)
        except DatabaseUnavailable:
            # Requests go on with what is known, and are recorded in the journal.
            log.warning("the database does not answer")
        except Exception:
            log.exception("a round of housekeeping failed")


async def _stop_keeping(keeping: asyncio.Task[None], database: Database, keyring: Keyring) -> None:
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    with suppress(DatabaseUnavailable):
        async with database.transaction() as conn:
            await keyring.flush(conn)


@asynccontextmanager
async def _counters(
    settings: Settings, database: Database, now: Callable[[], float], boot: str
) -> AsyncGenerator[tuple[Counters, dict[str, Trouble]]]:
    """In memory, or in Redis where several servers share them; with its trouble then. The ledger has been opened before."""
    if settings.redis_url:
        async with _redis(settings, database, now, boot) as shared:
            yield shared
    else:
        yield await MemoryCounters.open(database, today=day_of(now()), clock=now), {}


@asynccontextmanager
async def _redis(
    settings: Settings, database: Database, now: Callable[[], float], boot: str
) -> AsyncGenerator[tuple[Counters, dict[str, Trouble]]]:
    from penstock.store.redis_counters import RedisCounters  # noqa: PLC0415 - 6 MB, for several servers
    from penstock.store.redis_link import RedisLink  # noqa: PLC0415 - the same
    from penstock.store.redis_scripts import SCRIPTS  # noqa: PLC0415 - the same

    link = RedisLink(settings.redis_url, timeout=settings.redis_timeout, scripts=SCRIPTS)
    counters = RedisCounters(
        link, database, now, prefix=settings.redis_prefix, node=boot, lease=settings.redis_lease
    )
    keeping = asyncio.create_task(counters.keep())
    try:
        yield counters, {"redis": lambda: counters.trouble}
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await link.close()


def _health(database: Database, ledger: Ledger, more: dict[str, Trouble]) -> Health:
    parts: dict[str, Trouble] = {"database": lambda: database.trouble, "ledger": lambda: ledger.trouble}
    return Health(parts | more, owed=lambda: ledger.owed)


def _gate(settings: Settings, counters: Counters, now: Callable[[], float]) -> Gate:
    return Gate(
        counters,
        refused_per_key=settings.errors_per_minute,
        refused_per_address=settings.errors_per_minute_address,
        countings_per_minute=settings.token_counts_per_minute,
        clock=now,
    )


async def _simulator() -> Listener:
    """The built-in simulator, on a loopback port of its own: reached like any other provider."""
    application = Application(handler=simulate, owns=_everything, site=None, reject=_reject_plainly)
    return await listen(application, "127.0.0.1", 0, ServerLimits())


def _counter(
    settings: Settings,
    client: UpstreamClient,
    switchboard: Switchboard,
    estimator: Estimator,
    clock: Callable[[], float],
) -> TokenCounter:
    return TokenCounter(
        client,
        switchboard,
        estimator,
        Turns(most=settings.token_counts_at_once, most_of_user=settings.token_counts_at_once_user),
        deadlines=replace(_timings(settings).deadlines, total=_COUNTING),
        clock=clock,
    )


def _timings(settings: Settings) -> Timings:
    return Timings(
        Deadlines(
            connect=settings.upstream_connect,
            first_byte=settings.upstream_first_byte,
            idle=settings.upstream_idle,
            total=settings.upstream_total,
        ),
        head_hold=settings.head_hold,
        keepalive=settings.keepalive,
        max_reply=settings.max_reply,
        max_pauses=settings.max_pauses,
    )


def _ids(boot: str) -> Callable[[], str]:
    """Request ids: unique by the start's random prefix and a counter, which costs less than a random id each."""
    counter = itertools.count(1)
    prefix = f"req_{boot}"
    return lambda: f"{prefix}{next(counter):08x}"


def _everything(_path: str) -> bool:
    return True


def _reject_plainly(exchange: Exchange, error: PenstockError) -> None:
    """The simulator's own refusals; only we talk to it."""
    body = error.message.encode()
    exchange.start(error.status, [(b"content-length", b"%d" % len(body))])
    exchange.end(body)
