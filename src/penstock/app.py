"""The composition root: one serving process, built from its settings; its parts are started in order and stopped in reverse."""

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from msgspec import structs
from starlette.types import Receive, Scope, Send

from penstock.api.body_memory import BodyMemory
from penstock.api.handler import Api
from penstock.api.refusal_receipts import RefusalReceipts
from penstock.api.request_body import BodyReader
from penstock.api.routes import owns
from penstock.core.dialects.translation_memory import TranslationMemory
from penstock.core.limits import day_of
from penstock.core.reasoning.cache import ReasoningCache
from penstock.core.revision import Revision
from penstock.core.routing.candidates import Attempt
from penstock.core.routing.pace import Clocks
from penstock.core.routing.rules import RULES
from penstock.domain.accounts.passwords import COST, Cost
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.catalog_store import CatalogSource
from penstock.domain.keys.authentication import Keyring
from penstock.domain.ledger.attempts import AttemptLog
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.refusals import Refusals
from penstock.domain.ledger.usage_endpoint import usage_answer
from penstock.domain.limits import gate_for
from penstock.errors import DatabaseUnavailable, InternalError, PenstockError
from penstock.exchange import Exchange
from penstock.operations.alerts import Alerts
from penstock.operations.captures import captures_for
from penstock.operations.control import control_socket
from penstock.operations.day_notices import DayNotices
from penstock.operations.drill import Drills
from penstock.operations.ending_notices import EndingNotices
from penstock.operations.exporter import Exporter
from penstock.operations.going_out import going_out
from penstock.operations.health import Health, Trouble
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.maintenance import Maintenance
from penstock.operations.metrics import Metrics, SharedMetrics
from penstock.operations.notifier import Notifier
from penstock.operations.provider_check import ProviderChecks
from penstock.operations.provider_refusals import ProviderRefusals
from penstock.operations.server_answers import ServerAnswers
from penstock.operations.shared_hints import SharedHints
from penstock.operations.token_sources import TokenSources
from penstock.operations.tracing.collector import tracing
from penstock.operations.upstream_test import tried
from penstock.operations.upstreams import VIEWS, UpstreamFailures, UpstreamWatch
from penstock.providers.secrets import Secrets
from penstock.providers.simulator.handler import simulate
from penstock.providers.table import KINDS
from penstock.relay.answer import RequestMemories
from penstock.relay.call import Call
from penstock.relay.failover import Failover
from penstock.relay.last_words import LastWords
from penstock.relay.offload import Offload
from penstock.relay.relay import Relay
from penstock.relay.relay_parts import Timings
from penstock.relay.router import Router
from penstock.relay.token_counting import CountingTurns, TokenCounter
from penstock.relay.traced_log import logged_traces
from penstock.relay.trail import Trails
from penstock.server.listen import Application, Listener, ServerLimits, listen
from penstock.settings import Settings
from penstock.site.admin.context import RunningRequest
from penstock.site.process import OperationParts, SiteProcess
from penstock.store.counters import Counters, MemoryCounters
from penstock.store.hints import HintStore
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database, open_database
from penstock.tokens.estimator import Estimator
from penstock.upstream import Deadlines, UpstreamClient

log = logging.getLogger("penstock.app")

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
        draw: Callable[[], float] = random.random,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        """``now`` gives epoch seconds: days, resets and expiries go by it. ``hashing`` is what a password's hash costs.

        ``draw`` gives random numbers in [0, 1), by which upstreams are chosen.
        ``origins`` says where those settings come from that are not defaults.
        """
        self._origins = dict(origins or {})
        self._settings = settings
        self._secrets = secrets_of
        self._now = now
        self._hashing = hashing
        self._draw = draw
        self._not_ready = "starting"
        self._api: Api | None = None
        self.site_process: SiteProcess | None = None
        self.refusals: Refusals | None = None
        self.provider_refusals: ProviderRefusals | None = None
        self.ending_notices: EndingNotices | None = None
        self.notifier: Notifier | None = None
        self.exporter: Exporter | None = None
        self.application = Application(
            handler=self._handle, owns=owns, site=self._serve_site, reject=self._reject, draining=self._drain
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Everything opened, in order; closed in the opposite one. Raises ``StoreError`` or ``VaultError``."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            boot = secrets.token_hex(8)
            revision = Revision()
            self._secrets.watch(revision.advance)
            clock = asyncio.get_running_loop().time
            database = await open_database(settings)
            stack.push_async_callback(database.close)
            if not settings.redis_url:
                await stack.enter_async_context(database.claimed())
            secrets_file = SecretsFile.make(settings.secret_path, secrets.token_bytes)
            ledger = await stack.enter_async_context(_ledger(settings, database, boot))
            counters, redis, hints = await stack.enter_async_context(
                _counters(settings, database, self._now, boot)
            )
            gate = gate_for(settings, counters, self._now)
            keyring = Keyring(
                database,
                secrets_file,
                cache_seconds=settings.cache_seconds,
                most=settings.keys_remembered,
                clock=clock,
                now=self._now,
                revision=revision,
            )
            simulated = await stack.enter_async_context(_simulated())
            drills = Drills(settings.data, revision, simulated, now=self._now)
            source = CatalogSource(
                database,
                KINDS,
                self._secrets.has,
                simulated,
                revision,
                now=self._now,
                opened=KeptKeys(secrets_file, self._secrets).open,
            )
            await source.refresh()
            database.after_commit = partial(_follow_commit, keyring, source)
            if settings.signup == "open":
                _tell_of_plan(source, settings.signup_plan)
            client = UpstreamClient()
            stack.push_async_callback(client.close)
            health = _health(database, ledger, redis)
            metrics = Metrics(health)
            shared = SharedMetrics(metrics, settings.data / "metrics", alone=settings.workers == 1)
            stack.callback(shared.forget)
            router = Router(
                source.get,
                self._secrets,
                TokenSources(client, self._secrets, now=self._now),
                draw=self._draw,
                now=self._now,
                rules=structs.replace(
                    RULES,
                    asks_again=settings.upstream_again,
                    learns_limits=settings.upstream_learned_limits,
                ),
            )
            router.preferences, router.tells_provider = settings.caller_preferences, settings.provider_header
            attempts = AttemptLog(database)
            self.provider_refusals, self.ending_notices = await stack.enter_async_context(
                _operators_told(settings, database, secrets_file, source.get, self._now, self._mail_queued)
            )
            failures = UpstreamFailures(self._now)
            failover = Failover(metrics, Trails(attempts, failures, LastWords(clock)), self.provider_refusals)
            watch = stack.enter_context(
                _watching(
                    metrics,
                    UpstreamWatch(
                        health=router.health,
                        failures=failures,
                        catalog=source,
                        directory=settings.data / VIEWS,
                        clock=clock,
                        now=self._now,
                    ),
                )
            )
            telling = stack.enter_context(tracing(settings, source.get, boot, metrics))
            estimator, offload = await stack.enter_async_context(_threads(settings))
            captures = captures_for(settings, database, secrets_file, revision, self._now)
            translations = TranslationMemory(settings.translations_kept)
            relay = Relay(
                client=client,
                ledger=ledger,
                gate=gate,
                router=router,
                metrics=metrics,
                timings=_timings(settings),
                offload=offload,
                failover=failover,
                memories=RequestMemories(
                    reasoning=ReasoningCache(settings.thoughts_kept),
                    translations=translations,
                ),
                drills=drills,
                clock=clock,
                traces=telling.traces,
                client_metrics=telling.client_metrics,
            )
            stack.enter_context(logged_traces(relay))
            gate.ended_by(relay.end)
            gate.described_by(relay.describe)
            refusals = self.refusals = Refusals(
                database, kept=settings.refusals_kept, identify=keyring.identify
            )
            self._api = Api(
                relay=relay,
                counter=_counter(settings, client, router, failover, estimator, clock),
                keyring=keyring,
                gate=gate,
                body_memory=BodyMemory(
                    max_body=settings.max_body, most=settings.max_bodies, kept=settings.bodies_kept
                ),
                catalog=source.get,
                metrics=metrics,
                receipts=RefusalReceipts(refusals, gate, telling.traces, self._now),
                usage=partial(usage_answer, database),
                reader=BodyReader(
                    offload,
                    max_values=settings.max_values,
                    max_nesting=settings.max_nesting,
                    max_choices=settings.max_choices,
                ),
                new_id=_ids(boot),
                now=self._now,
                clock=clock,
                revision=revision,
                base_path=settings.base_path,
                captures=captures,
            )
            self.site_process = SiteProcess(
                settings=settings,
                database=database,
                secrets_file=secrets_file,
                catalog=source.get,
                gate=gate,
                refusals=refusals,
                attempts=attempts,
                metrics=shared,
                health=health,
                now=self._now,
                not_ready=lambda: self._not_ready,
                hashing=self._hashing,
                operation=OperationParts(
                    kinds=KINDS,
                    origins=self._origins,
                    secret_problem=self._secrets.problem,
                    checks=ProviderChecks(self._secrets, settings.data / VIEWS, source.refresh),
                    running=partial(_running, relay),
                    try_upstreams=partial(tried, secrets=self._secrets, now=self._now),
                ),
            )
            health.watch("mail", partial(_mail_trouble, self.site_process))
            await stack.enter_async_context(self.site_process.running())
            maintenance = Maintenance(
                database=database,
                catalog=source,
                keyring=keyring,
                refusals=refusals,
                attempts=attempts,
                watch=watch,
                alerts=Alerts(database, secrets_file, brand=settings.brand, entropy=secrets.token_bytes),
                gate=gate,
                secrets_of=self._secrets,
                health=health,
                hints=SharedHints(hints, router.health, lambda: source.get().models, clock, self._now),
                metrics=shared,
                lifetime=self.site_process.lifetime,
                translations=translations,
                drills=drills,
                quick_seconds=settings.revision_poll,
                retain_days=settings.retain_days,
                admin_api_answers=settings.admin_api_answers,
                notices=DayNotices(
                    database,
                    secrets_file,
                    brand=settings.brand,
                    url=settings.url(settings.port),
                    now=self._now,
                    entropy=secrets.token_bytes,
                    queued=self.site_process.mail_sender.wake,
                ),
                trail_days=settings.trail_days,
                captures=captures,
                capture_days=settings.capture_days,
                mail_days=settings.mail_days,
                secrets_file=secrets_file,
                now=self._now,
            )
            await stack.enter_async_context(maintenance.running(failover.trails.end))
            self.notifier, self.exporter = await stack.enter_async_context(
                going_out(
                    settings,
                    database,
                    secrets_file,
                    metrics,
                    health,
                    source.get,
                    watch.conditions,
                    self._now,
                    self._mail_queued,
                )
            )
            answers = ServerAnswers(database, source.get, self._secrets, self.provider_refusals, health)
            await stack.enter_async_context(control_socket(settings.data, answers.table()))
            self._not_ready = ""
            try:
                yield
            finally:
                self._not_ready = "stopping"

    def _handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        if self._api is None:
            raise InternalError("The service has not started.")
        return self._api(exchange)

    def _reject(self, exchange: Exchange, error: PenstockError) -> None:
        if self._api is None:
            raise InternalError("The service has not started.")
        self._api.reject(exchange, error)

    async def _serve_site(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.site_process is None:
            raise InternalError("The service has not started.")
        await self.site_process.site(scope, receive, send)

    def _mail_queued(self) -> None:
        if self.site_process is not None:
            self.site_process.mail_sender.wake()

    def _drain(self) -> None:
        self._not_ready = "draining"


def _running(relay: Relay) -> list[RunningRequest]:
    """What runs now, for the staff."""
    return [_told(call) for call in relay.calls.values()]


def _told(call: Call) -> RunningRequest:
    attempt: Attempt | None = getattr(call, "attempt", None)  # there is none before the first
    state = "waits for a place" if attempt is None else "waits for content"
    return RunningRequest(
        id=call.request_id,
        account_id=call.standing.account_id,
        key_id=call.standing.key_id,
        model=call.standing.resolution.model.id,
        provider="" if attempt is None else attempt.provider,
        upstream_model="" if attempt is None else attempt.model,
        since=call.now,
        state=state if call.first_byte_at is None else "answers",
    )


SharedParts = tuple[Counters, dict[str, Trouble], HintStore | None]
"""Counters, what may be the matter with what they need, and the hints of several servers."""


@asynccontextmanager
async def _counters(
    settings: Settings, database: Database, now: Callable[[], float], boot: str
) -> AsyncGenerator[SharedParts]:
    """In memory, or in Redis where several servers share them; with its trouble and hints then.

    The ledger has been opened before.
    """
    if settings.redis_url:
        async with _redis(settings, database, now, boot) as shared:
            yield shared
    else:
        yield await MemoryCounters.open(database, today=day_of(now()), clock=now), {}, None


@asynccontextmanager
async def _redis(
    settings: Settings, database: Database, now: Callable[[], float], boot: str
) -> AsyncGenerator[SharedParts]:
    from penstock.store.redis.counters import RedisCounters  # noqa: PLC0415 - 6 MB, for several servers
    from penstock.store.redis.hints import RedisHints  # noqa: PLC0415 - the same
    from penstock.store.redis.link import RedisLink  # noqa: PLC0415 - the same
    from penstock.store.redis.scripts import SCRIPTS  # noqa: PLC0415 - the same

    link = RedisLink(settings.redis_url, timeout=settings.redis_timeout, scripts=SCRIPTS)
    counters = RedisCounters(
        link, database, now, prefix=settings.redis_prefix, node=boot, lease=settings.redis_lease
    )
    keeping = asyncio.create_task(counters.keep())
    try:
        hints = RedisHints(link, prefix=settings.redis_prefix, node=boot)
        yield counters, {"redis": lambda: counters.trouble}, hints
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await link.close()


def _health(database: Database, ledger: Ledger, more: dict[str, Trouble]) -> Health:
    parts: dict[str, Trouble] = {"database": lambda: database.trouble, "ledger": lambda: ledger.trouble}
    return Health(parts | more, owed=lambda: ledger.owed)


@asynccontextmanager
async def _operators_told(
    settings: Settings,
    database: Database,
    secrets_file: SecretsFile,
    catalog: Callable[[], Catalog],
    now: Callable[[], float],
    queued: Callable[[], None],
) -> AsyncGenerator[tuple[ProviderRefusals, EndingNotices]]:
    """What mails the operators: of providers that refuse, and of models that end."""
    brand, entropy = settings.brand, secrets.token_bytes
    refusals = ProviderRefusals(database, secrets_file, brand=brand, entropy=entropy, now=now, queued=queued)
    notices = EndingNotices(
        database,
        secrets_file,
        catalog,
        brand=brand,
        url=settings.public_url,
        entropy=entropy,
        now=now,
        queued=queued,
    )
    async with refusals.running(), notices.running():
        yield refusals, notices


def _mail_trouble(site: SiteProcess) -> str | None:
    return site.mail_sender.trouble


async def _follow_commit(keyring: Keyring, source: CatalogSource) -> None:
    """What this process has committed it knows at once, and whoever changed it sees it so: keys, and the catalogue."""
    seen = await keyring.follow_commit()
    if seen is not None:
        with suppress(DatabaseUnavailable):  # the next poll has it
            if await source.refresh(seen.catalog):
                log.info("catalogue changed", extra={"revision": source.current.revision})


def _tell_of_plan(source: CatalogSource, plan: str) -> None:
    """Warn of a plan of those who sign up that serves nothing."""
    trouble = source.get().plan_trouble(plan)
    if trouble:
        log.warning("%s: set PENSTOCK_SIGNUP_PLAN, or connect a provider", trouble)


@contextmanager
def _watching(metrics: Metrics, watch: UpstreamWatch) -> Generator[UpstreamWatch]:
    """The metrics tell of upstreams, too; at the end nobody is told of those of this process any more."""
    metrics.more = watch.metrics
    try:
        yield watch
    finally:
        watch.forget()


@asynccontextmanager
async def _ledger(settings: Settings, database: Database, boot: str) -> AsyncGenerator[Ledger]:
    ledger = await Ledger.start(
        database,
        boot=boot,
        journal_bytes=settings.journal_bytes,
        pace=settings.journal_pace,
        hold=settings.journal_hold,
        durable=settings.database_synchronous == "FULL",
    )
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def _threads(settings: Settings) -> AsyncGenerator[tuple[Estimator, Offload]]:
    """What works beside the loop."""
    estimator = Estimator(most_text=settings.token_count_text, most_seconds=settings.token_count_seconds)
    offload = Offload(settings.thread_above)
    try:
        yield estimator, offload
    finally:
        await offload.close()
        estimator.close()


@asynccontextmanager
async def _simulated() -> AsyncGenerator[str]:
    """The base URL of the simulator of this process."""
    simulator = await _simulator()
    try:
        yield f"http://127.0.0.1:{simulator.port}/v1"
    finally:
        await simulator.close()


async def _simulator() -> Listener:
    """The built-in simulator, on a loopback port of its own: reached like any other provider."""
    application = Application(handler=simulate, owns=_everything, site=None, reject=_reject_plainly)
    return await listen(application, "127.0.0.1", 0, ServerLimits())


def _counter(
    settings: Settings,
    client: UpstreamClient,
    router: Router,
    failover: Failover,
    estimator: Estimator,
    clock: Callable[[], float],
) -> TokenCounter:
    return TokenCounter(
        client=client,
        router=router,
        failover=failover,
        estimator=estimator,
        turns=CountingTurns(
            most=settings.token_counts_at_once, most_of_user=settings.token_counts_at_once_user
        ),
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
        clocks=Clocks(
            headers=settings.upstream_headers,
            content=settings.upstream_first_byte,
            thinking=max(settings.upstream_thinking, settings.upstream_first_byte),
            slope=settings.upstream_slope,
            whole=settings.upstream_whole,
        ),
        head_hold=settings.head_hold,
        keepalive=settings.keepalive,
        max_reply=settings.max_reply,
        max_replies=settings.max_replies,
        max_pauses=settings.max_pauses,
        max_stream_kept=settings.max_stream_kept,
        max_startup=settings.max_startup,
        queue=settings.upstream_queue,
        queue_flexible=settings.upstream_queue_flexible,
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
