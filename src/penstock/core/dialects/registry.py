"""The registry of dialects, one line each."""

from collections.abc import Mapping

from penstock.core.body.envelope import Envelope, read_body
from penstock.core.dialects.chat.dialect import CHAT
from penstock.core.dialects.interface import CallerSide, Dialect, Passing, UpstreamSide
from penstock.core.dialects.messages.dialect import MESSAGES
from penstock.core.dialects.responses.dialect import RESPONSES

_ROWS: tuple[Dialect, ...] = (CHAT, MESSAGES, RESPONSES)

DIALECTS: Mapping[str, Dialect] = {row.name: row for row in _ROWS}


def caller_side(name: str) -> CallerSide:
    """What the dialect is to callers. Raises ``KeyError`` where it has no such side."""
    side = DIALECTS[name].caller
    if side is None:
        raise KeyError(name)
    return side


def upstream_side(name: str) -> UpstreamSide:
    """What the dialect is to upstreams. Raises ``KeyError`` where it has no such side."""
    side = DIALECTS[name].upstream
    if side is None:
        raise KeyError(name)
    return side


def passing_of(name: str) -> Passing:
    """How what both sides speak is passed through. Raises ``KeyError`` where it is always translated."""
    passing = upstream_side(name).passing
    if passing is None:
        raise KeyError(name)
    return passing


def read_envelope(body: bytes, dialect: str, *, counting: bool = False) -> Envelope:
    """A body in the dialect of its caller, checked. Raises ``InvalidRequest``."""
    return read_body(body, caller_side(dialect).body, counting=counting)
