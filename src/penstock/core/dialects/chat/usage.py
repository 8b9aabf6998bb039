"""What a Chat upstream says it has counted, in every form that upstreams say it, and what it comes to."""

import msgspec

from penstock.core.neutral.request import Usage

_MOST_TOKENS = 2**40


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """How the prompt was served."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """What the completion was made of."""

    reasoning_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Usage in the forms that Chat upstreams send: OpenAI's, DeepSeek's cache hits, a top-level ``cached_tokens``."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


_NOT_DETAILED, _NOT_MADE_OF = PromptDetails(), CompletionDetails()


class Counts:
    """The usage of one answer, gathered from every chunk that has some.

    The last report of a number counts, not the first (some upstreams send a partial usage with the finish and the whole
    one after it). The numbers are kept as the upstream gave them, because Chat's prompt includes what came from the cache
    and ours does not: only the whole can be taken apart.
    """

    __slots__ = ("_cached", "_completion", "_prompt", "_reasoning", "_total", "_written")

    def __init__(self) -> None:
        self._prompt: int | None = None
        self._completion: int | None = None
        self._total: int | None = None
        self._cached: int | None = None
        self._written: int | None = None
        self._reasoning: int | None = None

    def add(self, tokens: Tokens) -> Usage:
        """Take a report; the counts as they stand, as a disjoint partition."""
        details = tokens.prompt_tokens_details or _NOT_DETAILED
        made = tokens.completion_tokens_details or _NOT_MADE_OF
        self._prompt = _known(tokens.prompt_tokens, tokens.input_tokens, self._prompt)
        self._completion = _known(tokens.completion_tokens, tokens.output_tokens, self._completion)
        self._total = _known(tokens.total_tokens, self._total)
        self._cached = _known(
            details.cached_tokens,
            tokens.prompt_cache_hit_tokens,
            tokens.cached_tokens,
            tokens.cache_read_input_tokens,
            self._cached,
        )
        self._written = _known(
            details.cache_write_tokens,
            details.cache_creation_tokens,
            tokens.cache_creation_input_tokens,
            self._written,
        )
        self._reasoning = _known(made.reasoning_tokens, self._reasoning)
        return self._usage()

    def _usage(self) -> Usage:
        fresh = self._prompt
        if fresh is not None:
            fresh = max(0, fresh - (self._cached or 0) - (self._written or 0))
        output = self._completion
        reasoning = self._reasoning
        # xAI counts reasoning beside the completion; the total gives it away
        if (
            output is not None
            and reasoning
            and self._prompt is not None
            and self._total == self._prompt + output + reasoning
        ):
            output += reasoning
        return Usage(
            input=fresh,
            output=output,
            cache_read=self._cached,
            cache_write=self._written,
            reasoning=reasoning,
        )


def _known(*values: int | None) -> int | None:
    for value in values:
        if value is not None and 0 <= value <= _MOST_TOKENS:  # anything else is no count
            return value
    return None
