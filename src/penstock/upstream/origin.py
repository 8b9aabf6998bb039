"""Origins: where an upstream is, what a pool is kept for, and the base URL that names it."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import msgspec

_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where connections go; each origin has its own pool. ``host`` is ASCII, an IPv6 address without brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class OriginStats:
    """The connections of one origin: all that are open, and those of them that wait in the pool."""

    open: int
    idle: int


def parse_base_url(url: str) -> tuple[Origin, bytes]:
    """Split ``https://host[:port][/path]`` into its origin and its path without a slash at the end (``b""`` or ``b"/v1"``).

    Raises ValueError for anything else: another scheme, no host, user information, a query, a fragment, or characters
    that a URL must percent-encode.
    """
    # these two may hold a secret, so their messages do not repeat the URL
    if "@" in url:
        raise ValueError("a base URL must not hold user information: set the provider's secret instead")
    if "?" in url or "#" in url:
        raise ValueError("a base URL must have neither query nor fragment")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(f"base URL {url!r} must be printable ASCII without blanks (use xn-- names and %XX)")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        if ":" in host and ipaddress.IPv6Address(host).scope_id is not None:
            raise ValueError("an address with a zone")
    except ValueError as error:
        raise ValueError(f"base URL {url!r} has no valid host or port ({error})") from error
    if scheme not in ("http", "https"):
        raise ValueError(f"base URL {url!r} must begin with http:// or https://")
    if port == 0 or not (":" in host or _HOST_NAME.fullmatch(host)):
        raise ValueError(f"base URL {url!r} has no valid host or port")
    default = 443 if scheme == "https" else 80
    return Origin(scheme, host, port or default), parts.path.rstrip("/").encode()
