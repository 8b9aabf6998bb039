"""Callers behind proxies: ``X-Forwarded-*``, believed only from addresses that the operator named."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from penstock.exchange import HeaderList

MOST_HOPS = 32
"""How many addresses of ``X-Forwarded-For`` are looked at, from the nearest; no chain of proxies is as long."""
LONGEST_ADDRESS = 64
SCHEMES = {b"http": "http", b"https": "https"}


class Proxies:
    """The proxies that are believed."""

    __slots__ = ("_networks",)

    def __init__(self, trusted: tuple[str, ...]) -> None:
        """``trusted``: addresses or networks; raises ``ValueError`` on anything else, host bits set included."""
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in trusted]

    def trust(self, address: str) -> bool:
        """Whether a peer's word about the caller counts."""
        if not self._networks:
            return False
        plain = _plain(address)
        return plain is not None and self._trusted(plain)

    def client(self, peer: str, headers: HeaderList) -> str:
        """The nearest address that is not a trusted proxy, seen from a trusted ``peer``.

        Each proxy appends the address it heard from, so the list is read from its end, and only as far as it was
        written by proxies that are trusted; what stands before was sent by the caller and proves nothing. After ``MOST_HOPS``
        the last one that was looked at is the caller.
        """
        nearest = peer
        left = MOST_HOPS
        for value in reversed([value for name, value in headers if name == b"x-forwarded-for"]):
            for token in reversed(value.rsplit(b",", left)[-left:]):
                left -= 1
                plain = _plain(_without_port(token.decode("latin-1").strip()))
                if plain is None:
                    return nearest
                nearest = plain
                if not self._trusted(plain) or not left:
                    return nearest
        return nearest

    def scheme(self, headers: HeaderList) -> str:
        """What the caller used towards the nearest proxy: ``http`` or ``https``."""
        for name, value in reversed(headers):
            if name == b"x-forwarded-proto":
                return SCHEMES.get(value.rpartition(b",")[2].strip().lower(), "http")
        return "http"

    def _trusted(self, plain: str) -> bool:
        address = ip_address(plain)
        return any(address in network for network in self._networks)


def _without_port(token: str) -> str:
    """``[::1]:80`` and ``192.0.2.1:80``, which some proxies write, as bare addresses."""
    if token.startswith("["):
        return token[1:].partition("]")[0]
    return token.partition(":")[0] if token.count(":") == 1 else token


def _plain(text: str) -> str | None:
    """An address in its one spelling, without a zone, IPv4 in IPv6 undone, or None if it is no address.

    A zone means something on the machine that wrote it alone, and may be any text.
    """
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
