"""The words by which upstreams end an answer, of every vendor of the provider table: what each means, and where it was read.

A vendor's word that is not here is not known to mean a good end. Where an answer is translated it is then a failure, never
a silent ``stop``; where it passes as bytes, the caller reads the word itself. An operator whose own server ends good answers
by another word says so in its habits (``good_ends``).
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from penstock.core.neutral.events import Failed, StopReason

Meaning = StopReason | Literal["failed", "overloaded"]

UNKNOWN_END = "unknown_end"
"""The kind of a failure: an answer ended by a word that is not known."""


class FinishWord(msgspec.Struct, frozen=True):
    """One word, in small letters, of the format ``dialect``, who sends it, and where that was read ('': unverified)."""

    dialect: Literal["chat", "messages", "responses"]
    word: str
    meaning: Meaning
    vendors: str
    source: str


_OPENAI = "OpenAI's SDK for Python 3.57, read 2026-11-30"
_ANTHROPIC = "Anthropic's SDK for Python 2.13, read 2026-11-30"
_ZAI = "docs.z.ai, chat completion reference, as issue 12 of 2026-11-30 quotes it"
_DEEPSEEK = "api-docs.deepseek.com as the crate ds-api 0.10 has it, read 2026-11-30"
_MISTRAL = "Mistral's OpenAPI description 1.0 as its generated clients have it, read 2026-11-30"
_GEMINI = (
    "ai.google.dev FinishReason, and its compatible endpoint as HKUDS/Vibe-Trading#308 saw it on 2026-06-25"
)
_VLLM = "vllm/v1/engine/__init__.py as copies of 2026 quote it, read 2026-11-30"
_OPENROUTER = "openrouter.ai FinishReason of its SDK and blog, standardized finish reasons, read 2026-11-30"
_OTHERS = "the maps of finish reasons in public gateways, read 2026-11-30"

_ROWS: tuple[tuple[Literal["chat", "messages", "responses"], str, Meaning, str, str], ...] = (
    # ---- Chat: choices[].finish_reason
    ("chat", "stop", "end_turn", "all", _OPENAI),
    ("chat", "length", "max_tokens", "all", _OPENAI),
    ("chat", "tool_calls", "tool_use", "all", _OPENAI),
    ("chat", "function_call", "tool_use", "OpenAI", _OPENAI),
    ("chat", "content_filter", "refusal", "OpenAI, Azure", _OPENAI),
    ("chat", "sensitive", "refusal", "Z.ai", _ZAI),
    ("chat", "model_context_window_exceeded", "context_window", "Z.ai", _ZAI),
    ("chat", "network_error", "failed", "Z.ai", _ZAI),
    ("chat", "insufficient_system_resource", "overloaded", "DeepSeek", _DEEPSEEK),
    ("chat", "model_length", "context_window", "Mistral", _MISTRAL),
    ("chat", "error", "failed", "Mistral, OpenRouter, vLLM", _MISTRAL),
    ("chat", "abort", "failed", "vLLM, SGLang", _VLLM),
    ("chat", "repetition", "max_tokens", "vLLM: cut, because it repeats itself", _VLLM),
    ("chat", "max_tokens", "max_tokens", "Gemini, and those that pass Anthropic's words on", _GEMINI),
    ("chat", "safety", "refusal", "Gemini", _GEMINI),
    ("chat", "recitation", "refusal", "Gemini", _GEMINI),
    ("chat", "language", "refusal", "Gemini", _GEMINI),
    ("chat", "blocklist", "refusal", "Gemini", _GEMINI),
    ("chat", "prohibited_content", "refusal", "Gemini", _GEMINI),
    ("chat", "spii", "refusal", "Gemini", _GEMINI),
    ("chat", "image_safety", "refusal", "Gemini", _GEMINI),
    ("chat", "image_prohibited_content", "refusal", "Gemini", _GEMINI),
    ("chat", "image_recitation", "refusal", "Gemini", _GEMINI),
    ("chat", "function_call_filter", "failed", "Gemini: a call that cannot be read", _GEMINI),
    ("chat", "malformed_function_call", "failed", "Gemini", _GEMINI),
    ("chat", "malformed_response", "failed", "Gemini", _GEMINI),
    ("chat", "unexpected_tool_call", "failed", "Gemini", _GEMINI),
    ("chat", "too_many_tool_calls", "failed", "Gemini", _GEMINI),
    ("chat", "missing_thought_signature", "failed", "Gemini", _GEMINI),
    ("chat", "no_image", "failed", "Gemini", _GEMINI),
    ("chat", "image_other", "failed", "Gemini", _GEMINI),
    ("chat", "other", "failed", "Gemini", _GEMINI),
    ("chat", "finish_reason_unspecified", "failed", "Gemini", _GEMINI),
    ("chat", "end_turn", "end_turn", "those that pass Anthropic's words on", _OTHERS),
    ("chat", "stop_sequence", "end_turn", "those that pass Anthropic's words on", _OTHERS),
    ("chat", "tool_use", "tool_use", "those that pass Anthropic's words on", _OTHERS),
    ("chat", "tool_call", "tool_use", "Cohere", _OTHERS),
    ("chat", "pause_turn", "pause_turn", "those that pass Anthropic's words on", _OTHERS),
    ("chat", "refusal", "refusal", "those that pass Anthropic's words on", _OTHERS),
    ("chat", "context_window", "context_window", "gateways", _OTHERS),
    ("chat", "context_length_exceeded", "context_window", "gateways", ""),
    ("chat", "eos", "end_turn", "Together", _OTHERS),
    ("chat", "eos_token", "end_turn", "text-generation-inference", _OTHERS),
    ("chat", "complete", "end_turn", "Cohere", _OTHERS),
    ("chat", "error_toxic", "refusal", "Cohere", _OTHERS),
    ("chat", "guardrail_intervened", "refusal", "Bedrock", _OTHERS),
    ("chat", "content_filtered", "refusal", "Bedrock", _OTHERS),
    ("chat", "load", "end_turn", "Ollama: the model was loaded, for an empty prompt", ""),
    ("chat", "unload", "end_turn", "Ollama: the model was unloaded, for an empty prompt", ""),
    ("chat", "time_limit", "failed", "watsonx", "IBM/watsonx-ai-node-sdk 1.3, read 2026-11-30"),
    ("chat", "cancelled", "failed", "watsonx", "IBM/watsonx-ai-node-sdk 1.3, read 2026-11-30"),
    # ---- Messages: stop_reason
    ("messages", "end_turn", "end_turn", "all", _ANTHROPIC),
    ("messages", "max_tokens", "max_tokens", "all", _ANTHROPIC),
    ("messages", "stop_sequence", "stop_sequence", "all", _ANTHROPIC),
    ("messages", "tool_use", "tool_use", "all", _ANTHROPIC),
    ("messages", "pause_turn", "pause_turn", "Anthropic", _ANTHROPIC),
    ("messages", "refusal", "refusal", "Anthropic", _ANTHROPIC),
    ("messages", "model_context_window_exceeded", "context_window", "Anthropic", _ANTHROPIC),
    ("messages", "compaction", "end_turn", "Anthropic: paused after a compaction, which other formats do not have", _ANTHROPIC),
    ("messages", "sensitive", "refusal", "Z.ai", ""),
    ("messages", "network_error", "failed", "Z.ai", ""),
    ("messages", "error", "failed", "imitations", ""),
    ("messages", "abort", "failed", "vLLM, SGLang", ""),
    ("messages", "insufficient_system_resource", "overloaded", "DeepSeek", ""),
    ("messages", "stop", "end_turn", "imitations that pass OpenAI's words on", ""),
    ("messages", "length", "max_tokens", "imitations that pass OpenAI's words on", ""),
    ("messages", "tool_calls", "tool_use", "imitations that pass OpenAI's words on", ""),
    ("messages", "content_filter", "refusal", "imitations that pass OpenAI's words on", ""),
    # ---- Responses: incomplete_details.reason
    ("responses", "max_output_tokens", "max_tokens", "all", _OPENAI),
    ("responses", "content_filter", "refusal", "OpenAI", _OPENAI),
    ("responses", "max_messages", "max_tokens", "OpenAI: cut at the most messages that it may write", _OPENAI),
    ("responses", "steered", "max_tokens", "OpenAI: cut, because more was said to it meanwhile", _OPENAI),
    ("responses", "max_tokens", "max_tokens", "imitations", ""),
    ("responses", "length", "max_tokens", "imitations", ""),
    ("responses", "model_context_window_exceeded", "context_window", "imitations", ""),
    ("responses", "error", "failed", "imitations", ""),
    ("responses", "network_error", "failed", "imitations", ""),
    ("responses", "insufficient_system_resource", "overloaded", "imitations", ""),
)  # fmt: skip

FINISH_WORDS: tuple[FinishWord, ...] = tuple(FinishWord(*row) for row in _ROWS)

CHAT: Mapping[str, Meaning] = {row.word: row.meaning for row in FINISH_WORDS if row.dialect == "chat"}
MESSAGES: Mapping[str, Meaning] = {row.word: row.meaning for row in FINISH_WORDS if row.dialect == "messages"}
RESPONSES: Mapping[str, Meaning] = {
    row.word: row.meaning for row in FINISH_WORDS if row.dialect == "responses"
}


def meaning_in(words: Mapping[str, Meaning], word: str) -> Meaning | None:
    """What a word means among ``words``; None where it is not known.

    Capitals do not count, and of ``content_filter: PROHIBITED_CONTENT``, which is Gemini's way, the part before the colon does.
    """
    known = words.get(word)
    if known is not None:
        return known
    first, _, _ = word.partition(":")
    return words.get(first.strip().lower())


def good_end(words: Mapping[str, Meaning], word: str, own: str = "") -> StopReason | Failed:
    """The reason that a word stands for, or the failure that it is.

    ``own`` are the words, with commas between them, by which this upstream ends good answers besides.
    """
    if own and word in [each.strip() for each in own.split(",")]:
        return "end_turn"
    match meaning_in(words, word):
        case None:
            return Failed(UNKNOWN_END, f"finish_reason {word[:_MOST_SHOWN]} is not known to be a good end")
        case "failed":
            return Failed("api_error", f"finish_reason {word[:_MOST_SHOWN]}")
        case "overloaded":
            return Failed("overloaded_error", f"finish_reason {word[:_MOST_SHOWN]}")
        case reason:
            return reason


def failed_end(words: Mapping[str, Meaning], word: str) -> Failed | None:
    """The failure that a word tells of; None where it tells of none, or is not known."""
    ended = good_end(words, word)
    return ended if isinstance(ended, Failed) and ended.kind != UNKNOWN_END else None


_MOST_SHOWN = 40
"""Characters of a vendor's word that are told to the operator: longer ones are no words."""
