"""The cost fields of Messages: what is ordinary in a body, and what names another model or multiplies the bill.

Of the blocks inside a message one kind can: ``tool_addition`` of a system message, whose ``tool`` may be a
``tool_definition``, a tool by its value and so perhaps one that runs a model (Anthropic's beta ``inline-tools-2026-09-15``;
release notes of @langchain/anthropic 1.5.12 of 2026-10-01, read 2026-11-30). Such a tool is treated as those in ``tools``;
one that is added by reference stands there. All other blocks say what was said, or bring files: ``fallback`` and
``advisor_tool_result`` are the history of other models' answers and ask for none (Anthropic's schema of request blocks as
noted 2026-11; its pages on refusals and fallback, read 2026-11-30).
"""

from penstock.core.body.cost_fields import SHARED, CostRules

_ORDINARY = frozenset(
    {
        "model", "messages", "system", "stream", "max_tokens", "temperature", "top_p", "top_k",
        "stop_sequences", "tools", "tool_choice", "thinking", "metadata", "output_config", "cache_control",
        "context_management",
    }
)  # fmt: skip

COST = CostRules(SHARED, _ORDINARY, turns="messages")
