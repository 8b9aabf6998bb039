"""What is known of vendors' models: contexts, lengths, what they take, list prices, and when they end. A dated list.

The rows come from ``known_models.json``, which ``scripts/known_models.py`` makes of two public collections and of a second
opinion on prices; ``docs/providers.md`` names them. A row says what was read and nothing else: what it does not say is
unknown, and is proposed as *unverified*. The list is read where somebody asks for proposals, never on a request's path.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from typing import Literal

import msgspec

ModelMode = Literal["chat", "embedding", "other"]
"""What a model is called for; ``other``: nothing that there is a route for (pictures, speech, ranking)."""

_NAMES_OF_EMBEDDINGS = ("embed", "bge-", "e5-", "gte-")
_NAMES_OF_OTHERS = (
    "tts", "whisper", "transcribe", "realtime", "audio", "image", "dall-e", "sora", "moderation", "rerank", "video", "imagen",
    "veo-", "speech", "voice", "ocr", "music", "lyria", "-live", "live-", "voxtral", "orpheus", "stable-diffusion", "flux",
    "prompt-guard", "llama-guard", "translate", "robotics", "davinci", "babbage", "curie", "instruct-0914", "text-ada",
    "turbo-instruct", "nano-banana", "omni-",
)  # fmt: skip
"""Parts of names; vendors' lists rarely say what a model is for."""
_RESPONSES_ALONE = ("*-pro", "*-pro-20*", "*codex*", "*deep-research*", "computer-use*")
"""OpenAI's models that are called in Responses alone, as far as their names tell."""


class ModelTakes(msgspec.Struct, frozen=True):
    """What a model takes, and whether it reasons."""

    vision: bool
    documents: bool
    tools: bool
    structured_output: bool
    reasons: bool


class Prices(msgspec.Struct, frozen=True, omit_defaults=True):
    """List prices as nano-units (of a US dollar) for a million tokens; None: not known, or not priced apart.

    Of a price that has tiers it is the first one's.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None


class KnownModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row. ``also`` has the other names and the shell patterns that mean it; ``longest`` is an answer's, in tokens."""

    provider: str
    model: str
    also: tuple[str, ...] = ()
    name: str = ""
    context: int | None = None
    longest: int | None = None
    takes: ModelTakes | None = None
    mode: str = ""
    """The second source's word for what it is called for; '' where that has no word, or ``chat``."""
    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    agreed: bool | None = None
    """Whether a second source has the same prices; None: it has none."""

    @property
    def prices(self) -> Prices:
        """Its list prices."""
        return Prices(self.input, self.cache_read, self.cache_write, self.output)


class KnownModels(msgspec.Struct, frozen=True, dict=True):
    """The list. ``read`` is the day on which its sources were read."""

    read: str
    models: tuple[KnownModel, ...]

    @cached_property
    def _by_provider(self) -> Mapping[str, list[KnownModel]]:
        found: dict[str, list[KnownModel]] = {}
        for row in self.models:
            found.setdefault(row.provider, []).append(row)
        return found

    def find(self, provider: str, name: str) -> KnownModel | None:
        """The row that ``name`` means at a provider: the same name before another name of it, that before a pattern."""
        rows = self._by_provider.get(provider, [])
        for wanted in dict.fromkeys((name.casefold(), _undated(name.casefold()))):
            for row in rows:
                if wanted == row.model.casefold() or wanted in (each.casefold() for each in row.also):
                    return row
        fits = [
            (len(pattern), at)
            for at, row in enumerate(rows)
            for pattern in row.also
            if fnmatchcase(name.casefold(), pattern.casefold())
        ]
        return rows[max(fits)[1]] if fits else None


def known_models() -> KnownModels:
    """The list that this program ships with."""
    data = files("penstock.providers").joinpath("known_models.json").read_bytes()
    return msgspec.json.decode(data, type=KnownModels)


def mode_of(name: str, said: str = "") -> ModelMode:
    """What a model is called for: by the word that a list has for it, where it has one, else by its name."""
    word = said.casefold()
    if "embed" in word:
        return "embedding"
    if word and not any(each in word for each in ("chat", "responses", "language", "text", "model")):
        return "other"
    low = name.casefold()
    if any(part in low for part in _NAMES_OF_EMBEDDINGS):
        return "embedding"
    return "other" if any(part in low for part in _NAMES_OF_OTHERS) else "chat"


def formats_alone(kind: str, name: str) -> tuple[str, ...]:
    """The formats in which a provider's model can be called, where they are fewer than the provider speaks."""
    if kind == "openai" and _fits(name, _RESPONSES_ALONE):
        return ("responses",)
    if kind == "bedrock" and "anthropic." in name:
        return ("messages",)
    return ("messages",) if kind == "minimax" else ()


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _undated(name: str) -> str:
    """A name without the date at its end (``-20251001``, ``-2025-10-01``)."""
    head, _, tail = name.rpartition("-20")
    digits = tail.replace("-", "")
    return head if head and digits.isdigit() and len(digits) == 6 else name
