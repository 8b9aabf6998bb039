"""Token counts of a request, parted so that no token is in two of them."""

import msgspec


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


def merge_usage(before: Usage, after: Usage) -> Usage:
    """The later counts, keeping an earlier one where the later is unknown."""
    return Usage(
        input=before.input if after.input is None else after.input,
        output=before.output if after.output is None else after.output,
        cache_read=before.cache_read if after.cache_read is None else after.cache_read,
        cache_write=before.cache_write if after.cache_write is None else after.cache_write,
        reasoning=before.reasoning if after.reasoning is None else after.reasoning,
        cache_write_1h=before.cache_write_1h if after.cache_write_1h is None else after.cache_write_1h,
    )
