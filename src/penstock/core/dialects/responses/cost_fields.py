"""The cost fields of Responses: what is ordinary in a body, and what names another model or multiplies the bill.

Of the items ``additional_tools`` and ``tool_search_output`` bring tools, and ``configuration_update`` changes what was asked
for (today only ``reasoning.effort``): their fields have the rules of the top level. The parts inside an item's ``content``
are texts, images and files, and name no model (OpenAI's description of its API 2.3.0, read 2026-11-30). A block of Messages
that brings a tool is treated as there.
"""

from penstock.core.body.cost_fields import SHARED, CostRules

_ORDINARY = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "temperature",
        "top_p", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "include", "store",
        "metadata", "client_metadata", "user", "safety_identifier", "prompt_cache_key", "truncation",
        "top_logprobs",
    }
)  # fmt: skip
_ITEM = frozenset(
    {
        "type", "id", "call_id", "status", "role", "content", "name", "namespace", "arguments", "input",
        "output", "summary", "encrypted_content", "phase", "text", "tools", "annotations", "action",
        "error", "server_label", "code", "results", "queries", "logs",
    }
)  # fmt: skip
"""Fields of items, of which some bring tools (``additional_tools``) or change what was asked for."""

COST = CostRules(SHARED, _ORDINARY, items="input", item=CostRules(SHARED, _ITEM), turns="input")
