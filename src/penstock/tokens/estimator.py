"""Estimates of a request's input tokens, made in a thread of their own, which goes from user to user.

The vocabulary is OpenAI's o200k. Other vendors split text differently; their families' factors below are taken from what
their own counters were published to give for the same text, and are rough. See ``docs/counting.md`` for the error to expect.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, inf
from time import monotonic
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


_SLICE_SECONDS = 0.01
"""For which the thread works for one user while others wait; a piece of text is counted to its end."""


class _Estimate:
    """One estimate on its way. ``steps`` gives None after each piece of text, and the tokens at the end."""

    __slots__ = ("began", "result", "spent", "steps")

    def __init__(self, result: asyncio.Future[int]) -> None:
        self.result = result
        self.steps: Iterator[int | None] = iter(())
        self.began = 0.0
        """When the thread turned to it last."""
        self.spent = 0.0
        """Seconds that the thread has worked for it before."""


class Estimator:
    """Counts with the shipped vocabulary, which is loaded at the first call. One thread, whatever is asked at once.

    The thread goes from user to user, a slice of time for each, and in the order of asking for one user. All but the
    counting itself is on one event loop.
    """

    def __init__(
        self, *, most_text: int, most_seconds: float = inf, clock: Callable[[], float] = monotonic
    ) -> None:
        """``most_text`` and ``most_seconds`` bound one request: the rest of its text counts as densely as what was seen.

        The first is in characters, the second in time of the thread.
        """
        self._most_text = most_text
        self._most_seconds = most_seconds
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "tokens")
        self._vocabulary: Vocabulary | None = None
        self._users: dict[str, deque[_Estimate]] = {}
        """What waits, by user, in the order of their turns."""
        self._working = False

    async def estimate(self, fields: Mapping[str, Raw], model: str, user_id: str = "") -> int:
        """Input tokens, at least 1, of a Messages request with these top-level fields for the provider's ``model``."""
        estimate = _Estimate(asyncio.get_running_loop().create_future())
        estimate.steps = self._count(fields, tokenizer_family(model), estimate)
        self._users.setdefault(user_id, deque()).append(estimate)
        if not self._working:
            self._go_on()
        return await estimate.result

    def close(self) -> None:
        """Let the thread end; what waits for it is cancelled."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _go_on(self) -> None:
        """Give the thread the next slice, if anybody waits."""
        self._working = False
        while self._users:
            user_id, waiting = next(iter(self._users.items()))
            while waiting and waiting[0].result.done():  # its caller has left
                waiting.popleft()
            del self._users[user_id]
            if waiting:
                self._users[user_id] = waiting  # behind all others
                self._working = True
                work = asyncio.wrap_future(self._thread.submit(self._slice, waiting[0]))
                work.add_done_callback(partial(self._sliced, waiting[0]))
                return

    def _sliced(self, estimate: _Estimate, work: asyncio.Future[int | None]) -> None:
        """A slice is done. Where it was the last one of an estimate, that is told."""
        if work.cancelled():
            estimate.result.cancel()
        elif not estimate.result.done():
            error = work.exception()
            tokens = None if error is not None else work.result()
            if error is not None:
                estimate.result.set_exception(error)
            elif tokens is not None:
                estimate.result.set_result(tokens)
        if work.cancelled():  # the thread is no more
            self._working = False
        else:
            self._go_on()

    # ---- in the thread

    def _slice(self, estimate: _Estimate) -> int | None:
        """The tokens, or None where the estimate needs another slice."""
        self._load()
        estimate.began = self._clock()
        tokens: int | None = None
        for tokens in estimate.steps:
            if tokens is not None or estimate.result.done() or self._worked(estimate) >= _SLICE_SECONDS:
                break
        estimate.spent += self._worked(estimate)
        return tokens

    def _worked(self, estimate: _Estimate) -> float:
        return self._clock() - estimate.began

    def _load(self) -> Vocabulary:
        if self._vocabulary is None:
            from penstock.tokens.vocabulary import O200k  # noqa: PLC0415 - 3 MB of programs before the 90 of the words

            self._vocabulary = O200k()
        return self._vocabulary

    def _count(
        self, fields: Mapping[str, Raw], family: TokenizerFamily, estimate: _Estimate
    ) -> Iterator[int | None]:
        vocabulary = self._load()
        weighed = weigh(fields)
        tokens = looked_up = 0
        length = sum(map(len, weighed.texts))
        for piece in (piece for text in weighed.texts for piece in vocabulary.slices(text)):
            spent = estimate.spent + self._worked(estimate)
            if looked_up >= self._most_text or (looked_up and spent >= self._most_seconds):
                break
            tokens += vocabulary.count(piece)
            looked_up += len(piece)
            yield None
        if length > looked_up > 0:
            tokens = ceil(tokens * length / looked_up)
        yield max(1, ceil(tokens * family.factor)) + weighed.fixed + (family.tools if weighed.tools else 0)


def tokenizer_family(model: str) -> TokenizerFamily:
    """The family of a provider's model, by its name."""
    name = model.lower()
    return next((family for family in TOKENIZER_FAMILIES if family.word in name), _OTHER)
