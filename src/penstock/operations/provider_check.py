"""Checks of a provider and its key before anything is saved, for the admin pages and commands.

An address is ``https``, or ``http`` on this machine and in private networks; addresses by which clouds hand out credentials are
never asked. Then the provider is asked for its models with the key. No redirect is followed, and what is said is bounded.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from penstock.core.base_url import split_base_url
from penstock.core.catalog import Upstream
from penstock.core.routing.switches import Reach
from penstock.domain.catalog.toml_document import CatalogDocument
from penstock.operations.model_catalog import ModelsFound, find_models
from penstock.operations.model_discovery import Listing, ask_for_models
from penstock.operations.upstream_test import Tested, tried
from penstock.operations.upstreams import WorkerView, worker_views
from penstock.providers.secrets import Secret, Secrets
from penstock.upstream import UpstreamClient

_METADATA: Final = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
"""Where clouds tell machines their credentials, beside the link-local addresses: AWS, Alibaba, Azure, Oracle."""
_RESOLVE_SECONDS: Final = 5.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], list[str]]


def addresses_of(host: str) -> list[str]:
    """The addresses of a host, by the system's resolver. Raises ``OSError``."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})


async def wrong_address(row: Upstream, resolve: Resolve = addresses_of) -> str:
    """Why a provider entered on a page may not be at its address; '' where it may."""
    for _, url in row.speaks:
        parts = split_base_url(url)
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.to_thread(resolve, parts.host)
        except (OSError, TimeoutError):
            return f"{parts.host} is not known to the name server"
        for text in found:
            wrong = _wrong(ipaddress.ip_address(text.partition("%")[0]), encrypted=parts.scheme == "https")
            if wrong:
                return f"{parts.host}: {wrong}"
    return ""


def _wrong(address: Address, *, encrypted: bool) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_link_local or str(address) in _METADATA or address.is_multicast or address.is_unspecified:
        return "no provider can be at this address"
    if not encrypted and not (address.is_loopback or address.is_private):
        return "http:// is for this machine and private networks; write https://"
    return ""


async def check_key(row: Upstream, key: bytes | None, secrets: Secrets) -> Listing:
    """Ask a provider for its models with a key that is not saved yet."""
    wrong = await wrong_address(row)
    if wrong:
        return Listing(row.id, "unreachable", wrong)
    client = UpstreamClient()
    try:
        return await ask_for_models(client, row, None if key is None else Secret(key.decode()), secrets)
    finally:
        await client.close()


class ProviderChecks:
    """What the admin pages ask about providers, answered with this process's secrets."""

    def __init__(self, secrets: Secrets, views: Path, follow: Callable[[], Awaitable[bool]]) -> None:
        """``views`` is where the workers tell what they know (``operations/upstreams.py``).

        ``follow`` reads the catalogue again, so that a key which was entered a moment ago is there.
        """
        self.follow = follow
        self._secrets = secrets
        self._views = views

    def problem(self, reference: str) -> str | None:
        """Why a reference leads to no secret; None where it does, or none is needed."""
        return self._secrets.problem(reference)

    def available(self, reference: str) -> bool:
        """Whether it leads to one."""
        return self._secrets.has(reference)

    async def check(self, row: Upstream, key: bytes | None) -> Listing:
        """Ask a provider for its models with a key that is not saved yet."""
        return await check_key(row, key, self._secrets)

    async def list_with(self, row: Upstream, reference: str) -> Listing:
        """Ask it with a key that it has."""
        await self.follow()
        secret = self._secrets.get(reference)
        return await check_key(row, None if secret is None else secret.reveal(), self._secrets)

    async def try_out(self, document: CatalogDocument, reach: Reach) -> list[Tested]:
        """Send one small real request with each credential and model that is meant."""
        await self.follow()
        return await tried(document, reach, self._secrets, time.time)

    async def models(self, document: CatalogDocument, provider: str) -> ModelsFound:
        """What a provider has beside the catalogue."""
        await self.follow()
        return await find_models(document, self._secrets, datetime.now(UTC).date(), only=(provider,))

    def workers(self) -> list[WorkerView]:
        """What the workers of this machine know."""
        return worker_views(self._views)
