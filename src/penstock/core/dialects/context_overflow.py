"""Context overflow, a prompt that does not fit the model: how each vendor says so, and how a client wants to hear it.

Claude Code makes room in a conversation when it reads Anthropic's wording, OpenAI's clients look for the code
``context_length_exceeded``. So what another vendor says is recognised, and told to callers of Messages in Anthropic's words.
Where the prompt fits and only the answer that it asks for does not, Anthropic has other words: by these Claude Code asks
again for a shorter answer, where the first would make it give up a part of the conversation.
"""

import re

import msgspec

CODE = "context_length_exceeded"


_LEAST_ANSWER = 4000
"""Tokens that must be left for an answer, for it to be worth asking for a shorter one. Claude Code (2.1.331) asks again with
all but 1,000 of what is left, and gives up with an error where that is less than 3,000."""


class Overflow(msgspec.Struct, frozen=True):
    """A request of ``tokens`` for a model that takes ``most``: ``prompt`` of them and ``answer``; None where the vendor did
    not say."""

    tokens: int | None = None
    most: int | None = None
    prompt: int | None = None
    answer: int | None = None

    def wording(self, said: str) -> str:
        """In Anthropic's words; ``said`` are the vendor's, for where there are no numbers."""
        if self.prompt is not None and self.answer is not None and self.most is not None:
            if self.prompt + _LEAST_ANSWER <= self.most < self.prompt + self.answer:
                return (
                    f"input length and `max_tokens` exceed context limit: {self.prompt} + {self.answer} > {self.most}, "
                    "decrease input length or `max_tokens` and try again"
                )
            if self.tokens is None and self.prompt + self.answer > self.most:
                return f"prompt is too long: {self.prompt + self.answer} tokens > {self.most} maximum"
        if self.tokens is not None and self.most is not None and self.tokens > self.most:
            return f"prompt is too long: {self.tokens} tokens > {self.most} maximum"
        return said if said.lower().startswith("prompt is too long") else f"prompt is too long: {said}"


_N = r"(\d[\d,_]*)"
_NUMBERS = ("tokens", "most", "prompt", "answer")


def _pattern(sentence: str) -> re.Pattern[str]:
    for name in _NUMBERS:
        sentence = sentence.replace(f"{{{name}}}", f"(?P<{name}>{_N})")
    return re.compile(sentence, re.IGNORECASE)


_REQUESTED = (
    r"maximum context length (?:is|of) {most} tokens.{0,60}?"
    r"(?:requested|resulted in)(?: about| a total of)? {tokens} tokens"
)
# Each vendor's sentence, with the numbers in it: the request's as ``tokens``, its ``prompt`` and ``answer`` where it tells them
# apart, the model's as ``most``.
_SENTENCES = tuple(
    _pattern(sentence)
    for sentence in (
        # Anthropic
        r"input length and `?max_tokens`? exceed context limit: {prompt} \+ {answer} > {most}",
        # OpenAI, DeepSeek, vLLM, SGLang, OpenRouter: musistudio/claude-code-router#1292 and #1799
        _REQUESTED + r".{0,120}?{answer}(?: tokens)? (?:in|for|of) (?:the )?(?:completion|output)",
        # vLLM, of the answer that is asked for
        r"too large: {answer}\..{0,80}?maximum context length is {most} tokens.{0,60}?has {prompt} input tokens",
        # Together, text-generation-inference
        r"must be <= {most}\. given:? {prompt} `?inputs`? tokens and {answer} `?max_new_tokens`?",
        # Anthropic; Bedrock
        r"prompt is too long: {tokens} tokens > {most} maximum",
        r"(?:prompt|input) is too long",
        # OpenAI, DeepSeek, vLLM, OpenRouter, LM Studio
        _REQUESTED,
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
            tokens, most, prompt, answer = (_number(named.get(name)) for name in _NUMBERS)
            if prompt is None and tokens is not None and answer is not None and answer < tokens:
                prompt = tokens - answer
            return Overflow(tokens, most, prompt, answer)
    lower = body[:4096].lower()
    if any(code.encode() in lower for code in _CODES):
        return Overflow()
    return None


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(re.sub(r"\D", "", digits)[:15])
