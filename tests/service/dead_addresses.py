"""Providers whose address does not work, each in another way, and models that are served there."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing

import trustme
from msgspec.structs import replace

from penstock.core.catalog import Target
from penstock.domain.catalog import catalog_store
from penstock.providers.table import KINDS
from tests.service.running_service import House, catalogue

REFUSING, DEAF, DISTRUSTED, NAMELESS = DEAD = ("refusing", "deaf", "distrusted", "nameless")
"""Nobody listens; nobody takes the connection; the certificate is a stranger's; no address has this name."""
_NO_NAME = ".".join(["x" * 60] * 5)
"""Longer than a name may be, so no name server is asked."""


@asynccontextmanager
async def dead_addresses(house: House) -> AsyncGenerator[None]:
    """The house with a provider of each kind and format: ``deaf-chat`` and so on, each alone and with a spare.

    A model has the name of its provider, or ``pair-`` before it where the format's spare stands behind.
    """
    async with AsyncExitStack() as stack:
        nobody = stack.enter_context(_bound())
        deaf = stack.enter_context(_bound())
        deaf.listen(0)
        for _ in range(4):  # as many as the system keeps for one who does not look, and more
            plug = stack.enter_context(closing(socket.socket()))
            plug.setblocking(False)
            plug.connect_ex(deaf.getsockname())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        strange = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, "127.0.0.1", 0, ssl=context
        )
        stack.callback(strange.close)
        ports = (nobody.getsockname()[1], deaf.getsockname()[1], strange.sockets[0].getsockname()[1])
        await _add(
            house,
            {
                REFUSING: f"http://127.0.0.1:{ports[0]}/v1",
                DEAF: f"http://127.0.0.1:{ports[1]}/v1",
                DISTRUSTED: f"https://127.0.0.1:{ports[2]}/v1",
                NAMELESS: f"http://{_NO_NAME}/v1",
            },
        )
        yield


def _bound() -> closing[socket.socket]:
    """A port that is nobody else's."""
    plug = socket.socket()
    plug.bind(("127.0.0.1", 0))
    return closing(plug)


async def _add(house: House, urls: Mapping[str, str]) -> None:
    document = catalogue(1, {name: wire.port for name, wire in house.wires.items()})
    rows = {row.id: row for row in document.providers}
    known = {model.id: model for model in document.models}
    providers, models = list(document.providers), list(document.models)
    for kind, url in urls.items():
        for dialect in ("chat", "messages", "responses"):
            name = f"{kind}-{dialect}"
            providers.append(replace(rows[f"wire-{dialect}"], id=name, speaks=((dialect, url),)))
            here = Target(name, f"up-{dialect}")
            spare = Target(f"spare-{dialect}", f"up-{dialect}", priority=1)
            like = known[f"wire-{dialect}"]
            models.append(replace(like, id=name, targets=(here,)))
            models.append(replace(like, id=f"pair-{name}", targets=(here, spare)))
    names = tuple(model.id for model in models)
    plans = tuple(replace(plan, models=names) for plan in document.plans)
    document = replace(document, providers=tuple(providers), models=tuple(models), plans=plans)
    async with house.store.database.transaction() as conn:
        await catalog_store.apply_document(conn, document, KINDS, 2)
    await house.restart()
