"""Token counts of a request, parted so that no token is in two of them."""

import msgspec

USUAL_TIERS = frozenset({"", "auto", "default", "standard", "on_demand"})
"""What providers call the service tier that nobody has to ask for: OpenAI's two, Anthropic's, Groq's; read 2026-11-30."""


class Special(msgspec.Struct, frozen=True, omit_defaults=True):
    """What few answers are billed for besides, or otherwise: 0 where nothing is said of it.

    The tokens are parts of ``Usage.input`` and ``Usage.output``; the rest are runs of tools that the provider ran.
    ``service_tier`` is the provider's own word, where it is not one of ``USUAL_TIERS``.
    """

    service_tier: str = ""
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    code_runs: int = 0
    file_searches: int = 0
    other_tool_runs: int = 0


CLASSES = Special.__struct_fields__[1:]
"""What of it is counted."""
_NONE = Special()


class Usage(msgspec.Struct, frozen=True):
    """Tokens as a disjoint partition; None is unknown, which is not 0. Total input = input + cache_read + cache_write."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    """The part of ``output`` that was reasoning."""
    cache_write_1h: int | None = None
    """The part of ``cache_write`` with the one-hour lifetime."""
    special: Special | None = None
    """None for the ordinary answer."""


def merge_usage(before: Usage, after: Usage) -> Usage:
    """The later counts, keeping an earlier one where the later is unknown."""
    return Usage(
        input=before.input if after.input is None else after.input,
        output=before.output if after.output is None else after.output,
        cache_read=before.cache_read if after.cache_read is None else after.cache_read,
        cache_write=before.cache_write if after.cache_write is None else after.cache_write,
        reasoning=before.reasoning if after.reasoning is None else after.reasoning,
        cache_write_1h=before.cache_write_1h if after.cache_write_1h is None else after.cache_write_1h,
        special=before.special
        if after.special is None or before.special == after.special
        else _merged(before.special or _NONE, after.special),
    )


def add_special(one: Special | None, other: Special | None) -> Special | None:
    """What two answers of one request were billed for together."""
    if one is None or other is None:
        return one or other
    counts = (getattr(one, name) + getattr(other, name) for name in CLASSES)
    return Special(other.service_tier or one.service_tier, *counts)


def special_or_none(special: Special) -> Special | None:
    """None where it says nothing."""
    return None if special == _NONE else special


def unusual_tier(tier: str | None) -> str:
    """A service tier as ``Special`` has it."""
    return "" if tier is None or tier in USUAL_TIERS else tier


def _merged(before: Special, after: Special) -> Special:
    pairs = zip(msgspec.structs.astuple(before), msgspec.structs.astuple(after), strict=True)
    return Special(*(later or earlier for earlier, later in pairs))
