"""One worker of ``penstock serve --workers N``: the supervisor starts it and hands it its sockets."""

import asyncio
import faulthandler
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from penstock.commands.installation import Installation, read_settings
from penstock.commands.run_server import serve_on_sockets
from penstock.errors import OperatorError, PenstockError
from penstock.operations.logs import configure
from penstock.server.supervisor import ALIVE, HEARTBEATS_MISSED, READY, WHERE


class Orders(msgspec.Struct, frozen=True):
    """What the command line said, and whether this worker greets the operator."""

    data: str | None
    config: str | None
    flags: dict[str, str]
    greets: bool


def main() -> None:
    """Serve on the sockets whose descriptors are the arguments; the last one is the pipe to say ``READY`` and ``ALIVE`` on."""
    faulthandler.register(WHERE)
    *listening, says = map(int, sys.argv[1:])
    lifeline = sys.stdin.fileno()
    orders = msgspec.json.decode(_line(lifeline), type=Orders)
    place = Installation(
        None if orders.data is None else Path(orders.data),
        None if orders.config is None else Path(orders.config),
    )
    loaded = read_settings(place, orders.flags)
    settings = loaded.settings
    configure(settings.log_level, settings.log_format, backlog=settings.log_backlog)

    os.set_blocking(says, False)  # a supervisor that does not listen holds nobody up

    def ready() -> None:
        os.write(says, READY)
        speak()

    def speak() -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(says, ALIVE)
        asyncio.get_running_loop().call_later(settings.worker_hung / (2 * HEARTBEATS_MISSED), speak)

    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    try:
        serve_on_sockets(
            sockets,
            settings,
            greets=orders.greets,
            ready=ready,
            lifeline=lifeline,
            origins=loaded.origins,
        )
    except (OperatorError, PenstockError) as error:
        sys.exit(f"penstock: {error}")


def _line(descriptor: int) -> bytes:
    """Read up to the end of the line and no further: what comes after is the supervisor's silence."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            break
        line += piece
    return line


if __name__ == "__main__":
    main()
