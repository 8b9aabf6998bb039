"""What a trace tells of one request, and the ids of a trace: ids, words of our tables, counts and times, never content."""

import hashlib
import re
from typing import Final

import msgspec

from penstock.core.neutral.usage import Usage

_TRACEPARENT: Final = re.compile(
    rb"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?:-.*)?"
)
_SAMPLED: Final = 1


class Parent(msgspec.Struct, frozen=True):
    """The span that a trusted caller says the request is part of (W3C Trace Context)."""

    trace_id: int
    span_id: int
    sampled: bool


class AttemptTraced(msgspec.Struct, frozen=True):
    """One attempt at a provider. Times are in milliseconds from the request's beginning; ``failure`` is '' of the answer."""

    number: int
    provider: str
    credential: str
    model: str
    dialect: str
    reason: str
    failure: str
    status: int | None
    upstream_request_id: str | None
    started_ms: int
    first_ms: int | None
    ended_ms: int
    maybe_billed: bool


class RequestTraced(msgspec.Struct, frozen=True):
    """One request that has ended. ``began`` is epoch seconds, ``seconds`` how long it took; ``error`` is its code, '' of none.

    ``answered_model`` is what the last attempt's answer names, ``usage`` what it has used.
    """

    id: str
    parent: Parent | None
    route: str
    kind: str
    model: str
    stream: bool
    account_id: str
    key_id: str
    client: str
    began: float
    seconds: float
    status: int | None
    outcome: str
    error: str
    counted: bool
    max_tokens: int | None
    usage: Usage
    answered_model: str | None
    attempts: tuple[AttemptTraced, ...]


def parent_of(header: bytes | None) -> Parent | None:
    """What a ``traceparent`` header says; None where it says nothing that is valid."""
    found = None if header is None else _TRACEPARENT.fullmatch(header)
    if found is None:
        return None
    trace, span = int(found["trace"], 16), int(found["span"], 16)
    if not trace or not span:
        return None
    return Parent(trace, span, bool(int(found["flags"], 16) & _SAMPLED))


def trace_id_of(request_id: str) -> int:
    """The id of the trace of a request that is part of no other: the same wherever it is asked for."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=16).digest()) or 1


def span_id_of(request_id: str, number: int) -> int:
    """The id of the span of an attempt; 0 is that of the request itself."""
    name = f"{request_id}:{number}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) or 1
