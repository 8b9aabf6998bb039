"""Refused reasoning: how each vendor says that it cannot read a thought, a signature or an encrypted item of the history.

A conversation that changes its model brings such along. What our own marks do not tell apart (it was made elsewhere, in another
account, or before there were marks) a vendor refuses with 400, and would at every later turn; it is asked once more without.
The sentences were read in public threads in November 2026; each names one of them.
"""

import re
from collections.abc import Collection

_SENTENCES = tuple(
    re.compile(sentence, re.IGNORECASE)
    for sentence in (
        # Anthropic, Bedrock and Vertex: anthropics/claude-code#10627, anthropics/anthropic-sdk-python#1598
        r"invalid `?signature`? in `?thinking`?\s+block",
        r"invalid `?data`? in `?redacted_thinking`? block",
        r"thinking\.signature: field required",
        r"`?thinking`? or `?redacted_thinking`? blocks in the latest assistant message cannot be modified",
        # Anthropic, of a search's results: code-yeongyu/senpi#150
        r"invalid `?encrypted_(?:content|index)`? in ",
        # OpenAI and Azure: openai/codex#8145, openai/codex#17541
        r"encrypted content .{0,200}could not be (?:verified|decrypted)",
        r"of type 'reasoning' was provided without its required following item",
        # xAI: Wei-Shaw/sub2api#4535, chenyme/grok2api#688
        r"could not decrypt the provided encrypted_content",
        r"could not decode the compaction blob",
        # Google: google-gemini/gemini-cli#13467, decolua/9router#301, lbjlaq/Antigravity-Manager#3342
        r"(?:corrupted|invalid) thought.?signature",
        r"thought.?signature is not valid",
        # Groq and Cerebras: janhq/jan#8136, Kilo-Org/kilocode#10375
        r"property '[^']{0,80}\b(?:reasoning\w*|thinking_blocks|extra_content)' is unsupported",
        # Mistral: charmbracelet/crush#1590, BerriAI/litellm#30835
        r"\b(?:reasoning\w*|thinking_blocks|extra_content)\b.{0,20}: extra inputs are not permitted",
        # OpenAI's wording for any member that it does not know
        r"unknown parameter: '[^']{0,80}\b(?:reasoning\w*|thinking_blocks|extra_content)\b",
    )
)
CODES = ("invalid_encrypted_content",)
"""Codes of errors that say the same: OpenAI's (openai/codex#8145)."""


def refuses_reasoning(text: str, codes: Collection[str]) -> bool:
    """Whether an upstream's refusal is about reasoning that it cannot read: by its words, or one of its ``codes``."""
    if any(sentence.search(text) for sentence in _SENTENCES):
        return True
    return any(code.lower() in CODES for code in codes)
