"""The cost fields of Chat: what is ordinary in a body, and what names another model or multiplies the bill.

Nothing inside a message does so in Chat itself: its parts are texts, images, sound and files, and the marks of caches that
aggregators take beside them (OpenAI's and OpenRouter's references of Chat Completions, read 2026-11-30). Blocks of Messages,
which some aggregators take in Chat, may bring a tool.
"""

from penstock.core.body.cost_fields import SHARED, CostRules

_ORDINARY = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "top_k", "min_p", "stop", "seed", "tools", "tool_choice", "functions",
        "function_call", "parallel_tool_calls", "reasoning_effort", "reasoning", "thinking",
        "enable_thinking", "response_format", "user", "safety_identifier", "metadata", "frequency_penalty",
        "presence_penalty", "logprobs", "top_logprobs", "logit_bias", "store", "modalities", "verbosity",
        "prompt_cache_key", "web_search_options", "prediction",
    }
)  # fmt: skip

COST = CostRules(SHARED, _ORDINARY, turns="messages")
