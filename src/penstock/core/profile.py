"""What a translator must know about one upstream: a provider's or model's habits as plain flags.

A profile is data beside a provider's row; a new OpenAI-compatible provider is usually the default profile. Section
numbers refer to the translation matrix in ``docs/translation.md``.
"""

from typing import Literal

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """One upstream's habits, for both written dialects."""

    # towards Chat upstreams
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system_role: Literal["system", "developer"] = "system"
    system_anywhere: bool = True
    """System messages may stand in the middle; otherwise they become wrapped user text."""
    system_as_string: bool = False
    """The upstream wants one string where the format allows text parts."""
    stream_options: bool = True
    """Takes ``stream_options.include_usage``."""
    top_k: bool = False
    strict_tools: bool = True
    json_schema: bool = True
    """Takes ``response_format`` of type ``json_schema``; otherwise ``json_object`` and the schema in the prompt."""
    reasoning_effort: bool = True
    least_effort: Literal["none", "minimal", "low"] = "none"
    most_effort: Literal["high", "xhigh", "max"] = "max"
    """The least and the most ``reasoning_effort`` that it knows; others become the nearest of these."""
    thinking_switch: Literal["none", "thinking", "enable_thinking"] = "none"
    """How reasoning is switched on or off: DeepSeek's and Z.ai's ``thinking.type`` or Qwen's ``enable_thinking``."""
    thinks_by_default: bool = False
    """Reasons where the request says nothing of it."""
    forced_while_thinking: bool = True
    """Can be made to call a tool while it reasons."""
    think_tags: bool = False
    """Gives reasoning inside the text, between ``<think>`` and ``</think>`` at its beginning."""
    reasoning_field: Literal["reasoning_content", "reasoning", "think_tags", "none"] = "none"
    """Where earlier reasoning goes back in the history (``think_tags``: into the text); ``none``: it is not sent."""
    reasoning_required: bool = False
    """Refuses an assistant message with tool calls that has no such member, even an empty one."""
    call_signatures: bool = False
    """Gives the signature of a thought on the tool call after it (``extra_content``), and wants it back there."""
    image_urls: bool = True
    """Takes images by http(s) URL; otherwise those are refused."""
    tool_images: bool = False
    """Takes image parts inside a tool message; otherwise they move to a user message after it."""
    parallel_tool_calls: bool = True
    max_stop: int | None = 4
    tool_id_limit: int = 64
    tool_id_length: int | None = None
    """Ids of tool calls are exactly so many letters and digits."""
    cache_control: bool = False
    """Keeps Anthropic-style ``cache_control`` on parts."""
    prefill: Literal["none", "prefix", "partial"] = "none"
    user_field: Literal["user", "safety_identifier", "none"] = "user"
    web_search: Literal["dropped", "refused"] = "dropped"
    """What becomes of an offer of the provider's own web search, which Codex always makes, where it cannot be carried."""

    # towards Responses upstreams, besides what is the same as in Chat
    encrypted_reasoning: bool = False
    """Gives reasoning in an encrypted form that can be sent back, where asked (``include``)."""

    # towards Messages upstreams
    native_anthropic: bool = False
    """Anthropic's own API: signatures are checked there, and the billing block of Claude Code is kept."""
    sampling: bool = True
    """Takes temperature, top_p and top_k."""
    thinking: Literal["none", "budget", "adaptive"] = "budget"
    """How reasoning is asked for: not at all, ``enabled`` with a budget, or ``adaptive`` with an effort."""
    thoughts_hidden: bool = False
    """Gives thoughts without their text unless asked to show it (``thinking.display``)."""
    structured_output: bool = True
    """Takes ``output_config.format``."""
    system_turns: bool = False
    """Takes ``role: system`` inside ``messages``; otherwise those become wrapped user text."""
    default_max_tokens: int = 8192
    """Sent where the caller set none, since Messages requires one."""


DEFAULT_PROFILE = Profile()
