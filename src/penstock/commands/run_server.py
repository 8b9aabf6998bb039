"""What ``serve`` runs: one serving process, or the supervisor of several.

Apart from ``commands/serve.py``, because a server has no use for what reads the command line.
"""

import logging
import resource
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager

import msgspec

from penstock.app import Service
from penstock.commands.installation import CommandError, Installation, read_settings
from penstock.core.quoting import terminal_text
from penstock.operations.first_start import Greeting, first_start, open_store, render_greeting
from penstock.operations.logs import configure
from penstock.operations.mail_sender import mail_transport
from penstock.operations.vouched import vouched_for
from penstock.providers.secrets import Secrets
from penstock.server import listen
from penstock.server.listen import ServerLimits, reserve
from penstock.server.supervisor import supervise
from penstock.settings import Settings, environment
from penstock.store.instance_lock import InstanceLock
from penstock.store.redis.address import RedisAddress
from penstock.store.sql.database import database_directory

log = logging.getLogger("penstock.commands")


def run(place: Installation, flags: dict[str, str]) -> None:
    """Serve until stopped. ``flags`` are settings that the command line gives, as text. Raises ``OperatorError``."""
    loaded = read_settings(place, flags)
    settings = loaded.settings
    if settings.workers > 1 and not (
        settings.redis_url and database_directory(settings.database_url) is None
    ):
        raise CommandError(
            "several workers need PostgreSQL and Redis to share what they know: "
            "set PENSTOCK_DATABASE_URL and PENSTOCK_REDIS_URL"
        )
    # Said before any process starts: a worker that cannot begin would be begun again and again.
    mail_transport(settings.mail_url)
    if settings.redis_url:
        RedisAddress.parse(settings.redis_url)
    configure(settings.log_level, settings.log_format, backlog=settings.log_backlog)
    for sentence in vouched_for(settings):
        log.warning("%s", sentence)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of our memory has prompts and keys in it
    with ExitStack() as locks:
        # A SQLite file may lie elsewhere; it too has one server.
        beside = database_directory(settings.database_url)
        for place_of in dict.fromkeys((settings.data.resolve(), beside or settings.data.resolve())):
            locks.callback(InstanceLock.take(place_of).release)
        if settings.workers == 1:
            serve_on_sockets(reserve(settings.host, settings.port), settings, origins=loaded.origins)
        else:
            _supervise(settings, place, flags)


def serve_on_sockets(
    sockets: Sequence[socket.socket],
    settings: Settings,
    *,
    greets: bool = True,
    ready: Callable[[], None] | None = None,
    lifeline: int | None = None,
    origins: Mapping[str, str] | None = None,
) -> None:
    """Serve as one process; ``ready`` is called when it does. For ``lifeline`` see ``penstock.server.listen.serve_on``."""
    secrets_of = Secrets(environment())
    service = Service(settings, secrets_of, origins=origins)
    greetings: list[Greeting] = []

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        async with open_store(settings) as store:
            greetings.append(await first_start(store, secrets_of))
        async with service.running():
            yield

    def started(port: int) -> None:
        if greets:
            # To stdout and not to the log: it holds the demo key.
            sys.stdout.write(terminal_text(render_greeting(greetings[0], settings.url(port))))
            sys.stdout.flush()
        if ready is not None:
            ready()

    listen.serve_on(
        service.application,
        sockets,
        limits=limits_of(settings),
        lifespan=lifespan,
        on_started=started,
        lifeline=lifeline,
    )


def _supervise(settings: Settings, place: Installation, flags: dict[str, str]) -> None:
    sockets = [reserve(settings.host, settings.port, shared=True)]
    port: int = sockets[0][0].getsockname()[1]
    sockets += [reserve(settings.host, port, shared=True) for _ in range(1, settings.workers)]

    def orders(greets: bool) -> bytes:
        told = {
            "data": None if place.data is None else str(place.data),
            "config": None if place.config is None else str(place.config),
            "flags": flags,
            "greets": greets,
        }
        return msgspec.json.encode(told) + b"\n"

    command = (sys.executable, "-m", "penstock.commands.worker")
    supervise(command, orders, sockets, hung=settings.worker_hung)


def limits_of(settings: Settings) -> ServerLimits:
    """Limits for the server, from the settings."""
    return ServerLimits(
        header_bytes=settings.header_bytes,
        header_count=settings.header_count,
        request_line=settings.request_line,
        header_deadline=settings.header_deadline,
        body_deadline=settings.body_deadline,
        body_rate=settings.body_rate,
        max_body=settings.max_body,
        keepalive_idle=settings.keepalive_idle,
        caller_stall=settings.caller_stall,
        drain_delay=settings.drain_delay,
        drain=settings.drain,
        trusted_proxies=settings.trusted_proxies,
        base_path=settings.base_path,
    )
