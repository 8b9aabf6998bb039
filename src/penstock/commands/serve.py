"""``penstock serve`` and ``penstock simulate``: the commands that run until they are stopped."""

import sys

from penstock.commands.installation import HERE, answer
from penstock.commands.options import At
from penstock.commands.run_server import run
from penstock.errors import PenstockError
from penstock.exchange import Exchange
from penstock.operations.logs import configure
from penstock.providers.simulator.handler import simulate as simulator
from penstock.server import listen
from penstock.server.listen import Application, ServerLimits


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    place: At = HERE,
) -> None:
    """Serve until stopped. Needs no configuration.

    Example: penstock serve --port 8484 --data /var/lib/penstock

    Parameters
    ----------
    host
        Where to listen; by default 127.0.0.1, this machine alone. Any other address wants an admin first.
    port
        Port to listen on; 0 takes a free one.
    workers
        Serving processes, for several cores; they need PostgreSQL and Redis. SIGHUP replaces them one by one.
    """
    given = {"host": host, "port": port, "workers": workers}
    run(place, {name: str(value) for name, value in given.items() if value is not None})


def simulate(*, host: str = "127.0.0.1", port: int = 9000) -> None:
    """Run the scripted provider: it speaks all three dialects, has embeddings, and fails in every way on request.

    Example: penstock simulate --port 9000

    Parameters
    ----------
    host
        Where to listen.
    port
        Port to listen on; 0 takes a free one.
    """
    configure("info", "text")
    listen.serve_application(
        Application(handler=simulator, owns=lambda _path: True, site=None, reject=_reject),
        host=host,
        port=port,
        limits=ServerLimits(drain_delay=0, drain=0),
        on_started=lambda port: _said(f"Simulating a provider on http://{host}:{port}/v1"),
    )


def _said(text: str) -> None:
    answer(text)
    sys.stdout.flush()


def _reject(exchange: Exchange, error: PenstockError) -> None:
    body = error.message.encode()
    exchange.start(error.status, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))])
    exchange.end(body)
