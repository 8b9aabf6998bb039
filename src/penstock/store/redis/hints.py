"""Hints about upstreams in Redis: one key for each thing that is left out, which ends by itself when that is over.

Reading is one command for all of them. While Redis is away there are none, and nothing is said of that here: the counters do.
"""

from collections.abc import Sequence
from typing import cast
from urllib.parse import quote

import msgspec

from penstock.store.hints import StoredHint
from penstock.store.redis.answers import is_amount, is_ok, is_values
from penstock.store.redis.link import RedisAway, RedisLink, RedisOutcome

_DECODER = msgspec.json.Decoder(StoredHint)
_PLAIN = "/:.-_@"


class RedisHints:
    """One per process, on the link of its counters."""

    def __init__(self, link: RedisLink, *, prefix: str, node: str) -> None:
        """``node`` is a new name for this process."""
        self._link = link
        self._prefix = prefix
        self.node = node

    async def read_hints(self, names: Sequence[tuple[str, ...]]) -> list[StoredHint | None] | None:
        keys = [self._hint_key(name) for name in names]
        try:
            values = cast("list[bytes | None]", await self._link.submit("MGET", *keys, shape=is_values))
        except RedisAway:
            return None
        return [_read(value) for value in values] if len(values) == len(names) else None

    def write_hint(self, name: tuple[str, ...], hint: StoredHint, milliseconds: int) -> None:
        key, value = self._hint_key(name), msgspec.json.encode(hint)
        self._link.tell(_lost, "SET", key, value, "PX", milliseconds, shape=is_ok)

    def withdraw_hint(self, name: tuple[str, ...]) -> None:
        self._link.tell(_lost, "DEL", self._hint_key(name), shape=is_amount)

    def _hint_key(self, name: tuple[str, ...]) -> str:
        # the braces keep all of them together in a cluster, so that one command reads them
        return f"{self._prefix}{{hints}}:{'|'.join(quote(part, safe=_PLAIN) for part in name)}"


def _lost(_outcome: RedisOutcome) -> None:
    """The next round sees whether it is there."""


def _read(value: bytes | None) -> StoredHint | None:
    """None where nothing is told, or nothing that this version can read."""
    if value is None:
        return None
    try:
        return _DECODER.decode(value)
    except msgspec.DecodeError:
        return None
