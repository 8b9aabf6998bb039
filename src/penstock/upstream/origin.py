"""Origins: where an upstream is, what a pool is kept for, and the base URL that names it."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from penstock.core.base_url import split_base_url
from penstock.upstream.way import Way


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where connections go; each origin has its own pool. ``host`` is ASCII, an IPv6 address without brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    way: Way | None = None
    """How it is reached, where that is not straight."""


@dataclass(frozen=True, slots=True)
class OriginStats:
    """The connections of one origin: all that are open, and those of them that wait in the pool."""

    open: int
    idle: int


def parse_base_url(url: str, way: Way | None = None) -> tuple[Origin, bytes]:
    """The origin of a base URL and its path, without a slash at the end. Raises ValueError, as ``split_base_url``."""
    parts = split_base_url(url)
    return Origin(parts.scheme, parts.host, parts.port, way), parts.path
