"""Log probabilities of tokens, which OpenAI's two formats write alike: read as far as they are known, and written again."""

import msgspec

from penstock.core.dialects.openai.encode_request import Lose, reasons_not
from penstock.core.neutral.request import Request
from penstock.core.profile import Profile


class Other(msgspec.Struct, frozen=True, gc=False):
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class Score(msgspec.Struct, frozen=True, gc=False):
    """A token of the answer; ``bytes`` are its UTF-8, for tokens that are parts of characters."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[Other] = []


_encode = msgspec.json.Encoder().encode


def written_scores(scores: list[Score] | None) -> str:
    """The entries of the list, with commas between them."""
    return _encode(scores)[1:-1].decode() if scores else ""


def asks_scores(request: Request, profile: Profile, lose: Lose) -> bool:
    """Whether log probabilities are asked for; a model that takes no sampling while it reasons gives none then.

    OpenAI: "Using GPT-5.2", Parameter compatibility (unverified: not read again since 2026-06).
    """
    if not request.logprobs:
        return False
    if profile.logprobs and (
        profile.sampling or (profile.sampling_without_reasoning and reasons_not(request))
    ):
        return True
    lose("logprobs", "dropped")
    if request.top_logprobs:
        lose("top_logprobs", "dropped")
    return False
