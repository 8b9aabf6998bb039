"""Encrypted reasoning of the Responses dialect: what goes into a reasoning item's ``encrypted_content``, and out of it.

Callers send reasoning items back with their ``encrypted_content`` unchanged, so that is where the signature of reasoning
(or the opaque data of redacted reasoning) travels. Two kinds are ours: a gateway signature (``gw1.``) as it is, and anybody
else's under ``gwe1.``. A real one of a Responses upstream travels the other way, inside a gateway signature.
"""

import base64
from typing import Literal

import msgspec

from penstock.core.body.value_limits import is_dense
from penstock.core.neutral.request import Hosted, Thought
from penstock.core.reasoning import signature
from penstock.core.reasoning.signature import ENCRYPTED_PREFIX


class _Sealed(msgspec.Struct, frozen=True, array_like=True):
    kind: Literal["signature", "redacted", "hosted"]
    value: str


class Carrier(msgspec.Struct, frozen=True):
    """What a Responses upstream wants back with a thought. ``raw``: its text was full reasoning, not a summary."""

    id: str
    encrypted_content: str | None = None
    raw: bool = False


_encode = msgspec.json.Encoder().encode
_sealed = msgspec.json.Decoder(_Sealed).decode
_hosted = msgspec.json.Decoder(Hosted).decode
_carrier = msgspec.json.Decoder(Carrier).decode


def sealed_signature(text: str) -> str:
    """The ``encrypted_content`` for a signature."""
    return text if signature.is_ours(text) else _seal(_Sealed("signature", text))


def sealed_redacted(data: str) -> str:
    """The ``encrypted_content`` for a redacted thought."""
    return _seal(_Sealed("redacted", data))


def sealed_hosted(hosted: Hosted) -> str:
    """The ``encrypted_content`` for what a hosted tool did, which its maker wants back as it was."""
    return _seal(_Sealed("hosted", _encode(hosted).decode()))


def opened_hosted(encrypted_content: str | None) -> Hosted | None:
    """What a hosted tool did, out of a reasoning item that was made for it; None where it is another one."""
    sealed = _unseal((encrypted_content or "").removeprefix(ENCRYPTED_PREFIX))
    if sealed is None or sealed.kind != "hosted" or is_dense(sealed.value.encode("utf-8", "replace")):
        return None
    try:
        return _hosted(sealed.value)
    except (ValueError, RecursionError):
        return None


def opened(text: str, encrypted_content: str | None) -> Thought | None:
    """The thought of a reasoning item; None where it says nothing that could be read outside of its maker."""
    if encrypted_content is not None and signature.is_ours(encrypted_content):
        return Thought(text, encrypted_content)
    if encrypted_content is not None and encrypted_content.startswith(ENCRYPTED_PREFIX):
        sealed = _unseal(encrypted_content[len(ENCRYPTED_PREFIX) :])
        if sealed is not None:
            if sealed.kind == "redacted":
                return Thought(redacted=sealed.value)
            return Thought(text, sealed.value) if sealed.kind == "signature" else None
    return Thought(text) if text else None


def carrier_signature(model: str, carrier: Carrier) -> str:
    """The signature by which a thought of a Responses upstream finds its way back to it."""
    return signature.sign_reasoning(signature.ReasoningOrigin(model, _encode(carrier).decode()))


def carrier_of(thought: Thought, model: str) -> Carrier | None:
    """What goes back to ``model`` with a thought that it made; None where another made it."""
    origin = signature.read_signature(thought.signature) if thought.signature is not None else None
    if origin is None or not origin.carrier.startswith("{"):
        return None
    # upstreams report a dated name of the model that they were asked for
    if origin.model != model and not origin.model.startswith(model + "-"):
        return None
    try:
        return _carrier(origin.carrier)
    except (ValueError, RecursionError):
        return None  # damaged on its way through the caller; the text has gone already


def _seal(sealed: _Sealed) -> str:
    return ENCRYPTED_PREFIX + base64.urlsafe_b64encode(_encode(sealed)).decode("ascii").rstrip("=")


def _unseal(text: str) -> _Sealed | None:
    try:
        return _sealed(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        return None
