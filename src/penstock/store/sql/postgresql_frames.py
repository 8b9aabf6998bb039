"""The frames of PostgreSQL's messages, looked at before asyncpg reads them: it believes a length that is negative, or 2 GB.

A server's message is its type, one byte, and its length, four bytes that count themselves. A type that no answer to us has,
or a length that is none, ends the connection: those who wait on it fail at once, and the next one is tried.
"""

# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import asyncio
from struct import Struct
from typing import Any

from asyncpg import protocol

MOST_BYTES = 64 << 20
"""How long one message may be: more than any row of ours."""

_KINDS = frozenset(b"123ACDEIKNRSTZnst")
_COPYING = _KINDS | frozenset(b"GHcd")
"""What comes where a table is copied in or out: a move to PostgreSQL, and an export."""
_HEAD = Struct("!BI")


class StrangeMessage(Exception):
    """What was received is no message of a PostgreSQL server's."""


class Frames:
    """Follows the messages in what is received, piece by piece, and keeps none of it."""

    __slots__ = ("_head", "_left", "kinds")

    def __init__(self) -> None:
        self.kinds = _KINDS
        """The types of messages that may come."""
        self._left = 0
        """How many bytes of the message have yet to come."""
        self._head = b""
        """What has come of a head that is not whole."""

    def feed(self, data: bytes) -> None:
        """Look at the next piece. Raises ``StrangeMessage``."""
        if self._head:
            missing = _HEAD.size - len(self._head)
            self._head += data[:missing]
            if len(self._head) < _HEAD.size:
                self._look_at_kind(self._head)
                return
            self._left = self._body(self._head, 0)
            self._head = b""
            at = missing
        else:
            at = 0
        end = len(data)
        at += self._left
        while at + _HEAD.size <= end:
            at += _HEAD.size + self._body(data, at)
        if at < end:
            self._head = bytes(data[at:])
            self._look_at_kind(self._head)
            self._left = 0
        else:
            self._left = at - end

    def _look_at_kind(self, head: bytes) -> None:
        if head[0] not in self.kinds:
            raise StrangeMessage(f"a message of the type 0x{head[0]:02x}")

    def _body(self, data: bytes, at: int) -> int:
        kind, length = _HEAD.unpack_from(data, at)
        if kind not in self.kinds:
            raise StrangeMessage(f"a message of the type 0x{kind:02x}")
        if not 4 <= length <= MOST_BYTES:
            raise StrangeMessage(f"a message of {length} bytes")
        return int(length) - 4


class GuardedProtocol(protocol.Protocol):  # pyright: ignore[reportMissingTypeArgument] - its stubs make it generic, it is not
    """asyncpg's protocol, which gets whole messages' bytes or none."""

    _transport: asyncio.Transport | None = None
    _frames: Frames | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - its stubs name it otherwise
        """See asyncio."""
        self._transport = transport
        self._frames = Frames()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - the same
        """See asyncio."""
        if self._frames is None or self._transport is None:
            return
        try:
            self._frames.feed(data)
            super().data_received(data)
        except (StrangeMessage, AttributeError):  # asyncpg's, where nobody waits for an answer that comes
            self._frames = None
            self._transport.abort()

    async def copy_in(self, *args: Any, **named: Any) -> Any:
        """See asyncpg: copy a table in."""
        self._let_copy()
        return await super().copy_in(*args, **named)

    async def copy_out(self, *args: Any, **named: Any) -> Any:
        """See asyncpg: copy a table out."""
        self._let_copy()
        return await super().copy_out(*args, **named)

    def _let_copy(self) -> None:
        if self._frames is not None:  # for the rest of the connection: what fails here is answered later
            self._frames.kinds = _COPYING


def guard_driver() -> None:
    """From now on asyncpg's connections of this process are looked at; it has no setting for that."""
    protocol.Protocol = GuardedProtocol
