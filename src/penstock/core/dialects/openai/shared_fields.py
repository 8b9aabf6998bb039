"""Fields that Chat and Responses have in the same words, as requests of both are read: what asks for nothing is left out."""

from msgspec import UNSET, Raw, UnsetType

_NO_TIER = frozenset({"batch"})


def answered_tier(tier: str | None) -> str | None:
    """The tier that served an answer, as OpenAI's formats say it; None for one that they have no word for."""
    if tier is None or tier in _NO_TIER:
        return None
    return "default" if tier == "standard" else tier


def asked_tier(tier: str | None) -> str | None:
    """The tier that a request asks for; ``auto`` is what it gets anyway."""
    return None if tier == "auto" else tier


def asked_metadata(metadata: Raw | UnsetType) -> Raw | None:
    """The metadata of a request, which may be none."""
    return None if metadata is UNSET or bytes(metadata) in (b"null", b"{}") else metadata.copy()
