"""Base URLs of providers: what one may be, and its parts."""

import ipaddress
import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


class BaseUrl(msgspec.Struct, frozen=True):
    """``host`` is ASCII, an IPv6 address without brackets; ``path`` is without a slash at the end, perhaps empty."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: bytes


def split_base_url(url: str) -> BaseUrl:
    """Split ``https://host[:port][/path]``.

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
    return BaseUrl(scheme, host, port or default, parts.path.rstrip("/").encode())
