"""Estimates of a request's input tokens, made in a thread of their own, one at a time.

The vocabulary is OpenAI's o200k. Other vendors split text differently; their families' factors below are taken from what
their own counters were published to give for the same text, and are rough. See ``docs/counting.md`` for the error to expect.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from threading import Event
from typing import Protocol

import msgspec
from msgspec import Raw

from penstock.tokens.weigh import weigh


class TokenizerFamily(msgspec.Struct, frozen=True):
    """How a family of models differs: ``factor`` tokens for each of o200k, ``tools`` for the words that introduce them."""

    word: str
    factor: float
    tools: int


TOKENIZER_FAMILIES = (
    TokenizerFamily("claude", 1.2, 350),
    TokenizerFamily("gpt", 1.0, 25),
    TokenizerFamily("deepseek", 1.0, 140),
    TokenizerFamily("qwen", 1.05, 140),
    TokenizerFamily("minimax", 1.15, 150),
    TokenizerFamily("kimi", 1.0, 60),
    TokenizerFamily("glm", 1.05, 130),
    TokenizerFamily("llama", 1.1, 190),
    TokenizerFamily("mistral", 1.1, 60),
)
"""By a word in the provider's name for the model; the first that is in it."""
_OTHER = TokenizerFamily("", 1.1, 140)


class Vocabulary(Protocol):
    """What splits text into tokens."""

    def slices(self, text: str) -> list[str]:
        """The text in the pieces that ``count`` is to be given."""
        ...

    def count(self, piece: str) -> int:
        """Tokens of a piece of text. Other threads run meanwhile."""
        ...


class Estimator:
    """Counts with the shipped vocabulary, which is loaded at the first call. One thread, whatever is asked at once."""

    def __init__(self, *, most_text: int) -> None:
        """``most_text``: characters of one request that are looked up; the rest counts as densely as they do."""
        self._most_text = most_text
        self._thread = ThreadPoolExecutor(1, "tokens")
        self._vocabulary: Vocabulary | None = None

    async def estimate(self, fields: Mapping[str, Raw], model: str) -> int:
        """Input tokens, at least 1, of a Messages request with these top-level fields for the provider's ``model``."""
        left_off = Event()
        work = self._thread.submit(self._count, fields, tokenizer_family(model), left_off)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            left_off.set()
            raise

    def close(self) -> None:
        """Let the thread end; what waits for it is cancelled."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _count(self, fields: Mapping[str, Raw], family: TokenizerFamily, left_off: Event) -> int:
        if self._vocabulary is None:
            from penstock.tokens.vocabulary import O200k  # noqa: PLC0415 - 3 MB of programs before the 90 of the words

            self._vocabulary = O200k()
        vocabulary = self._vocabulary
        weighed = weigh(fields)
        tokens = looked_up = 0
        length = sum(map(len, weighed.texts))
        for text in weighed.texts:
            for piece in vocabulary.slices(text):
                if looked_up >= self._most_text or left_off.is_set():
                    break
                tokens += vocabulary.count(piece)
                looked_up += len(piece)
        if length > looked_up > 0:
            tokens = ceil(tokens * length / looked_up)
        return max(1, ceil(tokens * family.factor)) + weighed.fixed + (family.tools if weighed.tools else 0)


def tokenizer_family(model: str) -> TokenizerFamily:
    """The family of a provider's model, by its name."""
    name = model.lower()
    return next((family for family in TOKENIZER_FAMILIES if family.word in name), _OTHER)
