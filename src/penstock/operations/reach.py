"""How a provider's address is reached: the catalogue's words made a way, with what they refer to.

The environment is asked only where a provider says ``proxy = "env"``, by the names that other programs know: ``HTTPS_PROXY``,
``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in small letters too.
"""

import base64
import ipaddress
from urllib.parse import unquote, urlsplit

from penstock.core.base_url import split_base_url
from penstock.core.catalog import STRAIGHT, Reach, Upstream
from penstock.errors import ProviderCredentials
from penstock.providers.secrets import Secrets
from penstock.upstream import Proxy, Way

_PROXY_PORT = 80


def way_to(upstream: Upstream, url: str, secrets: Secrets) -> Way | None:
    """The way to a base URL of a provider; None where it is straight.

    Raises ``ProviderCredentials`` where a proxy is to be signed in to and its secret is not there: it is not gone round.
    """
    reach = upstream.reach
    if reach == STRAIGHT:
        return None
    proxy = _proxy(reach, url, secrets)
    files = (reach.ca, reach.client_cert, reach.client_key)
    found = Way(proxy, *(name.removeprefix("file:") for name in files))
    return None if found == Way() else found


def query_suffix(reach: Reach) -> bytes:
    """What goes after every path."""
    return ("?" + "&".join(f"{name}={value}" for name, value in reach.query)).encode() if reach.query else b""


def _proxy(reach: Reach, url: str, secrets: Secrets) -> Proxy | None:
    target = split_base_url(url)
    if not reach.proxy:
        return None
    spared = list(reach.no_proxy)
    if reach.proxy != "env":
        if is_spared(target.host, target.port, spared):
            return None
        parts = split_base_url(reach.proxy)
        secret = secrets.get(reach.proxy_secret) if reach.proxy_secret else None
        if reach.proxy_secret and secret is None:
            raise ProviderCredentials("The service cannot sign in to the proxy before this model's provider.")
        return Proxy(parts.host, parts.port, b"" if secret is None else _basic(secret.reveal()))
    spared += _from_environment(("NO_PROXY",), secrets).split(",")
    named = _from_environment((f"{target.scheme.upper()}_PROXY", "ALL_PROXY"), secrets)
    if not named or is_spared(target.host, target.port, spared):
        return None
    given = urlsplit(named if "://" in named else f"http://{named}")
    if given.scheme != "http" or not given.hostname:
        raise ProviderCredentials("The proxy of the environment is not one that can be used.")
    user = b""
    if given.username is not None:
        user = _basic(f"{unquote(given.username)}:{unquote(given.password or '')}".encode())
    return Proxy(given.hostname, given.port or _PROXY_PORT, user)


def _from_environment(names: tuple[str, ...], secrets: Secrets) -> str:
    for name in names:
        for spelt in (name, name.lower()):
            found = secrets.get(f"env:{spelt}")
            if found is not None:
                return found.reveal().decode()
    return ""


def _basic(user: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user)


def is_spared(host: str, port: int, names: list[str]) -> bool:
    """Whether a host is reached without the proxy: by its name, a domain above it, its address or a network, or ``*``."""
    host = host.rstrip(".").lower()
    for given in names:
        name, at = given.strip().lower(), ""
        if name.count(":") == 1:
            name, _, at = name.partition(":")
        if not name or (at and at != str(port)):
            continue
        domain = name.removeprefix("*").lstrip(".")
        if name == "*" or host == domain or (domain and host.endswith(f".{domain}")) or _is_in(host, name):
            return True
    return False


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
