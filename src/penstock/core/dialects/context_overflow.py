"""Context overflow, a prompt that does not fit the model: how each vendor says so, and how a client wants to hear it.

Claude Code makes room in a conversation when it reads Anthropic's wording, OpenAI's clients look for the code
``context_length_exceeded``. So what another vendor says is recognised, and told to callers of Messages in Anthropic's words.
"""

import re

import msgspec

CODE = "context_length_exceeded"


class Overflow(msgspec.Struct, frozen=True):
    """A prompt of ``tokens`` for a model that takes ``most``; None where the vendor did not say."""

    tokens: int | None = None
    most: int | None = None

    def wording(self, said: str) -> str:
        """In Anthropic's words; ``said`` are the vendor's, for where there are no numbers."""
        if self.tokens is not None and self.most is not None and self.tokens > self.most:
            return f"prompt is too long: {self.tokens} tokens > {self.most} maximum"
        return said if said.lower().startswith("prompt is too long") else f"prompt is too long: {said}"


_N = r"(\d[\d,_]*)"
# Each vendor's sentence, with the numbers in it: the prompt's as ``tokens``, the model's as ``most``.
_SENTENCES = tuple(
    re.compile(
        sentence.replace("{tokens}", f"(?P<tokens>{_N})").replace("{most}", f"(?P<most>{_N})"), re.IGNORECASE
    )
    for sentence in (
        # Anthropic; Bedrock
        r"prompt is too long: {tokens} tokens > {most} maximum",
        r"(?:prompt|input) is too long",
        # OpenAI, DeepSeek, vLLM, OpenRouter, LM Studio
        r"maximum context length is {most} tokens.{0,60}?(?:requested|resulted in)(?: about)? {tokens} tokens",
        r"maximum context length (?:is|of) {most} tokens",
        r"exceeds the context window",
        # Mistral
        r"contains {tokens} tokens.{0,60}?maximum context length(?: of)? {most}",
        r"too large for model with {most} maximum context length",
        # xAI
        r"maximum prompt length is {most} but the request contains {tokens} tokens",
        # Moonshot, Z.ai, MiniMax
        r"exceeded model token limit:? {most}",
        r"prompt exceeds max length",
        r"context window exceeds limit",
        # DashScope
        r"range of input length should be \[\d+, {most}\]",
        # llama-server, Ollama
        r"request \({tokens} tokens\) exceeds the available context size \({most} tokens\)",
        r"exceeds? the available context size",
        r"input length exceeds(?: the)?(?: maximum)? context length",
        # Together, text-generation-inference
        r"`?inputs`? (?:tokens )?\+ `?max_new_tokens`? must be <= {most}",
        r"reduce the length of the (?:messages|prompt)",
    )
)
_CODES = ("context_length_exceeded", "exceed_context_size", "string_above_max_length", "model_context_window")


def overflow_in(text: str, body: bytes) -> Overflow | None:
    """What an upstream's refusal says of the prompt's length: its words, or the code in its ``body``; None if nothing."""
    for sentence in _SENTENCES:
        found = sentence.search(text)
        if found is not None:
            named = found.groupdict()
            return Overflow(_number(named.get("tokens")), _number(named.get("most")))
    lower = body[:4096].lower()
    if any(code.encode() in lower for code in _CODES):
        return Overflow()
    return None


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(re.sub(r"\D", "", digits)[:15])
