"""A server in a process of its own, for the tests of its end: python draining.py PORT DELAY DRAIN.

Prints its port, then what happens to its handlers and its lifespan, one event a line.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from penstock.exchange import Exchange
from penstock.server.limits import AsgiMessage
from penstock.server.listen import Application, CannotListen, ServerLimits, serve_application
from tests.server.running_server import reject


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def handler(exchange: Exchange) -> None:
    """Stream until the caller has sent the rest of its body; or, below /v1/ever, for ever."""
    if exchange.path == "/v1/ready":
        exchange.start(200, [])
        exchange.end(b"ready")
        return
    exchange.start(200, [])
    exchange.write(b"first ")
    say(f"began {exchange.path}")
    try:
        await asyncio.Event().wait() if exchange.path == "/v1/ever" else await exchange.body()
        exchange.write(b"last")
        exchange.end()
        say(f"ended {exchange.path}")
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)  # settling takes a moment, and is waited for
        say(f"cancelled {exchange.path} {exchange.lost} {exchange.recalled}")


async def site(scope: AsgiMessage, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"site", "more_body": False})


@asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    say("start-up")
    yield
    say("shut-down")


def main() -> None:
    port, delay, drain = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    application = Application(
        handler, lambda path: path.startswith("/v1"), site, reject, draining=lambda: say("draining")
    )
    limits = ServerLimits(drain_delay=delay, drain=drain)
    try:
        serve_application(
            application, host="127.0.0.1", port=port, limits=limits, lifespan=lifespan, on_started=say
        )
    except CannotListen as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
