"""Hosts that have a model in the address and the version of its API in the body: Claude on Vertex."""

import msgspec
from msgspec import Raw

from penstock.core.routing.candidates import Attempt

HOSTED = frozenset(("messages",))
"""The formats that such hosts speak."""

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def hosted_body(body: bytes, attempt: Attempt) -> bytes:
    """The body as such a host takes it; any other provider's as it is. Every other value stays byte for byte."""
    version = attempt.upstream.reach.anthropic_version
    if not version or attempt.dialect not in HOSTED:
        return body
    fields = _fields(body)
    fields.pop("model", None)
    return _encode({"anthropic_version": Raw(_encode(version)), **fields})
