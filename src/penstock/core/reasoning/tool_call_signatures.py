"""Reasoning signatures on tool calls, as Google's Chat endpoint gives them and wants them back.

They are ``extra_content`` on the first call of an answer. In the neutral form each is a thought of its own before its
call, without text: so callers of Messages and Responses bring it back as they do any other thought, and for those of Chat
it is kept like one.
"""

import msgspec
from msgspec import Raw

from penstock.core.neutral.request import Thought
from penstock.core.reasoning import signature

SKIPPED = Raw(b'{"google":{"thought_signature":"skip_thought_signature_validator"}}')
"""What Google documents for calls that its models did not make, or whose signature is lost."""


class _Carrier(msgspec.Struct):
    extra_content: Raw


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _Extra(msgspec.Struct):
    google: _Google | None = None


_extra = msgspec.json.Decoder(_Extra).decode
_encode = msgspec.json.Encoder().encode
_carrier = msgspec.json.Decoder(_Carrier).decode


def carried_signature(model: str, extra: Raw) -> str:
    """The signature of a thought that brings ``extra`` back to ``model``."""
    return signature.sign_reasoning(signature.ReasoningOrigin(model, _encode(_Carrier(extra)).decode()))


def extra_of(thought: Thought) -> Raw | None:
    """What the call after this thought had; None where the thought is another one."""
    origin = signature.read_signature(thought.signature) if thought.signature is not None else None
    if origin is None or not origin.carrier.startswith("{"):
        return None
    try:
        return _carrier(origin.carrier).extra_content
    except (ValueError, RecursionError):
        return None


def signature_of(extra: Raw) -> str | None:
    """The signature in what a call had; None where there is none."""
    try:
        found = _extra(extra)
    except (ValueError, RecursionError):
        return None
    return None if found.google is None else found.google.thought_signature
