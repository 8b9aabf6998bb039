"""Signatures of reasoning that is not Anthropic's: they prove nothing, and carry what its maker wants back.

Messages callers must return a thinking block with its signature unchanged. For reasoning of other upstreams the gateway
makes one, ``gw1.`` + base64url of a small JSON array: which model reasoned, and what that upstream wants back with it.
Anthropic would refuse it, so it is dropped there; the maker gets its carrier back; everybody else gets the text.
"""

import base64

import msgspec
from msgspec import Raw

from penstock.core.body.value_limits import is_dense

SIGNATURE_PREFIX = "gw1."
MAKER_PREFIX = "gwm1."
"""Begins what another provider signed, behind a mark of who that is (``maker.py``)."""
ENCRYPTED_PREFIX = "gwe1."
"""Begins what a Responses caller gets as ``encrypted_content``, with anybody's signature or redacted thought in it."""
_OURS = (SIGNATURE_PREFIX, MAKER_PREFIX)


class ReasoningOrigin(msgspec.Struct, frozen=True, array_like=True):
    """What a gateway signature says: the ``model`` that made the thought, by its upstream's name, and the ``carrier``.

    The carrier is JSON text that goes back to that upstream as it came (``reasoning_details``), or ''. ``text`` is that of
    the thought, where its caller did not want to see it.
    """

    model: str
    carrier: str = ""
    text: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ReasoningOrigin).decode
_entries = msgspec.json.Decoder(list[Raw]).decode


def sign_reasoning(origin: ReasoningOrigin) -> str:
    """The signature for ``origin``; the same for the same origin."""
    # the last member only where it says something, so that a signature stays what it has always been
    told: object = origin if origin.text else (origin.model, origin.carrier)
    return SIGNATURE_PREFIX + base64.urlsafe_b64encode(_encode(told)).decode("ascii").rstrip("=")


def is_ours(signature: str) -> bool:
    """Whether a signature was made or marked by a gateway: no vendor takes it as it is."""
    return signature.startswith(_OURS)


def read_signature(signature: str) -> ReasoningOrigin | None:
    """What a gateway signature says; None where it is somebody else's or damaged."""
    if not signature.startswith(SIGNATURE_PREFIX):
        return None
    text = signature[len(SIGNATURE_PREFIX) :]
    try:
        return _decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        return None


def has_to_return(signature: str) -> bool:
    """Whether a thought needs its signature beside its text: it is its maker's own, or carries what that wants back."""
    origin = read_signature(signature)
    return origin is None or bool(origin.carrier)


def carried_entries(carrier: str) -> list[Raw]:
    """The entries of a carrier that is a list (``reasoning_details``); none where it is anything else, or damaged.

    Who sends a signature back may have written it, so it is bounded as a body is.
    """
    if is_dense(carrier.encode("utf-8", "replace")):
        return []
    try:
        return _entries(carrier)
    except (ValueError, RecursionError):
        return []
