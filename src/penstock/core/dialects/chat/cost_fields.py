"""The cost fields of Chat: what is ordinary in a body, and what names another model or multiplies the bill."""

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

COST = CostRules(SHARED, _ORDINARY)
