"""Posting where staff have said: by TLS, or within networks that they list, to an address that was looked at first.

What a name means is asked once, and the connection goes to that address: a name that means something else a moment later
leads nowhere else. Inside our own network nothing is reached unless the operator lists it.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from penstock.core.base_url import BaseUrl
from penstock.core.limits import Header
from penstock.domain.notifications.signed_address import SignedAddress
from penstock.upstream import Deadlines, Origin, UpstreamClient, UpstreamFailure, Way, default_tls

_MOST_ANSWER: Final = 64 * 1024
_GONE: Final = 410
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
Headers = Sequence[Header]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Outward(msgspec.Struct, frozen=True):
    """What the operator has set: networks beside those of the world, a file of authorities beside those of the machine, and
    the seconds for all of it."""

    networks: tuple[IpNetwork, ...]
    ca: str
    seconds: float


class NotTaken(Exception):
    """The message was not taken. The text has nothing of the receiver's answer; ``lasting``: trying again is of no use."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


def outward(networks: Sequence[str], ca: str, seconds: float) -> Outward:
    """The same from settings, which have been checked."""
    return Outward(tuple(ipaddress.ip_network(each) for each in networks), ca, seconds)


def may_reach(address: IpAddress, networks: Sequence[IpNetwork]) -> bool:
    """Whether it is one of the world's, or listed. What stands for an IPv4 address is judged as that."""
    within = _inner(address)
    if is_listed(within, networks):
        return True
    ordinary = within in _GLOBAL_UNICAST if within.version == 6 else not within.is_multicast
    return ordinary and within.is_global


def is_listed(address: IpAddress, networks: Sequence[IpNetwork]) -> bool:
    """Whether it is in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def _inner(address: IpAddress) -> IpAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def post_signed(
    to: SignedAddress, id: str, body: bytes, where: Outward, *, at: int, user_agent: str
) -> int:
    """Post JSON; the status, one of 200 to 299. ``at`` is epoch seconds. Raises ``NotTaken``."""
    headers = [
        (b"content-type", b"application/json"),
        (b"user-agent", user_agent.encode()),
        *to.headers(id, at, body),
    ]
    return await send_outward(to.place, b"POST", to.target, headers, body, where)


async def send_outward(
    place: BaseUrl, method: bytes, target: bytes, headers: Headers, body: bytes, where: Outward
) -> int:
    """Send something; the status, one of 200 to 299. Raises ``NotTaken``."""
    try:
        async with asyncio.timeout(where.seconds):
            return await _send(place, method, target, headers, body, where)
    except TimeoutError:
        raise NotTaken(f"no answer within {where.seconds:g} s") from None
    except UpstreamFailure as failure:
        raise NotTaken(f"no answer: {failure.reason.value}") from None


async def _send(
    place: BaseUrl, method: bytes, target: bytes, headers: Headers, body: bytes, where: Outward
) -> int:
    address = await _resolved(place.host, place.port, where.networks, listed=place.scheme == "http")
    origin = Origin(place.scheme, place.host, place.port, Way(address=address))
    client = UpstreamClient(ssl_context=_trust(where.ca), max_idle=0)
    try:
        seconds = Deadlines(connect=where.seconds, total=where.seconds)
        answer = await client.send(origin, method, target, headers, body, seconds)
        status = answer.status
        try:
            await answer.read(_MOST_ANSWER)
        except UpstreamFailure:
            pass  # what it says is of no interest, and its status has come
        finally:
            answer.close()
    finally:
        await client.close()
    if 200 <= status < 300:
        return status
    if 300 <= status < 400:
        raise NotTaken(f"answered {status}: it leads elsewhere, and is not followed")
    raise NotTaken(f"answered {status}", lasting=status == _GONE)


def _trust(ca: str) -> ssl.SSLContext:
    """Raises ``NotTaken`` where the file cannot be read."""
    try:
        return _context(ca, Path(ca).stat().st_mtime_ns if ca else 0)
    except (OSError, ssl.SSLError):
        raise NotTaken("the file of authorities (webhook_ca) cannot be read") from None


@lru_cache(maxsize=2)
def _context(ca: str, _changed: int) -> ssl.SSLContext:
    """Reading the machine's authorities takes longer than a message."""
    context = default_tls()
    if ca:
        context.load_verify_locations(cafile=ca)
    return context


async def _resolved(host: str, port: int, networks: Sequence[IpNetwork], *, listed: bool) -> str:
    """An address of the name that may be reached; ``listed``: only one of ours. Raises ``NotTaken``."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotTaken("its name leads to no address") from None
    for *_, sockaddr in found:
        text = str(sockaddr[0])
        address = ipaddress.ip_address(text.partition("%")[0])
        if is_listed(_inner(address), networks) if listed else may_reach(address, networks):
            return text
    if listed:
        raise NotTaken("without TLS only a network that is listed is reached (webhook_addresses)")
    raise NotTaken("its address is inside a network that is not listed (webhook_addresses)")
