"""The cost fields of Messages: what is ordinary in a body, and what names another model or multiplies the bill."""

from penstock.core.body.cost_fields import SHARED, CostRules

_ORDINARY = frozenset(
    {
        "model", "messages", "system", "stream", "max_tokens", "temperature", "top_p", "top_k",
        "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "output_config", "cache_control",
        "context_management",
    }
)  # fmt: skip

COST = CostRules(SHARED, _ORDINARY)
