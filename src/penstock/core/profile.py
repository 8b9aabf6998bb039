"""Profile of one upstream: what a translator must know of a provider or model, as plain flags.

A profile is data beside a provider's row; a new OpenAI-compatible provider is usually the default profile.
"""

from functools import lru_cache
from typing import Literal

import msgspec

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


ToolSchemas = Literal["any", "object", "no_unions", "bare", "moonshot"]
"""What an upstream wants of the schema of a tool: nothing (``any``); ``"type": "object"`` at its root (``object``); at the
root no ``anyOf``, ``oneOf`` or ``allOf`` either (``no_unions``), and no ``enum``, ``const`` or ``not`` (``bare``); or all of
that, and inside of it no type beside a union, nothing beside a reference, and references to ``$defs`` alone (``moonshot``)."""


class Profile(msgspec.Struct, frozen=True):
    """One upstream's profile, for every dialect that is encoded."""

    extra_body: str = ""
    """A JSON object: fields that every request gets, in any dialect, unless the caller has set them."""

    good_ends: str = ""
    """Words of its own, with commas between them, by which it ends a good answer; see ``dialects/finish_words.py``."""

    preferred_format: Literal["", "chat", "messages", "responses"] = ""
    """The format that requests are translated into first, where the provider speaks several; '' for its row's own order."""
    tool_schemas: ToolSchemas = "any"
    """What it wants of the schemas of tools; see ``core/tools/schema_subset.py``."""

    # towards Chat upstreams
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system_role: Literal["system", "developer"] = "system"
    system_anywhere: bool = True
    """System messages may stand in the middle; otherwise they become wrapped user text."""
    system_as_string: bool = False
    """The upstream wants one string where the format allows text parts."""
    roles_alternate: bool = False
    """Refuses two messages of one role in a row, which are then made one."""
    user_after_tool: bool = True
    """A user's message may come right after a tool's; otherwise the assistant says a word between them."""
    null_content: bool = True
    """Takes ``null`` as the content of an assistant's message that only calls tools; otherwise that is an empty string."""
    stream_options: bool = True
    """Takes ``stream_options.include_usage``."""
    continuous_usage: bool = False
    """Takes ``stream_options.continuous_usage_stats``, so that a stream that ends early has its counts."""
    top_k: bool = False
    strict_tools: bool = True
    json_schema: bool = True
    """Takes ``response_format`` of type ``json_schema``; otherwise ``json_object`` and the schema in the prompt."""
    reasoning_effort: bool = True
    least_effort: Literal["none", "minimal", "low"] = "none"
    most_effort: Literal["high", "xhigh", "max"] = "max"
    """The least and the most ``reasoning_effort`` that it knows; others become the nearest of these."""
    efforts: str = ""
    """The efforts that it knows, with commas between them, where some between the least and the most are missing."""
    thinking_switch: Literal["none", "thinking", "enable_thinking"] = "none"
    """How reasoning is switched on or off: DeepSeek's and Z.ai's ``thinking.type`` or Qwen's ``enable_thinking``."""
    thinks_only_streamed: bool = False
    """Reasons in streams alone: where it is asked to, a whole answer is asked for as a stream, in Chat."""
    thinks_by_default: bool = False
    """Reasons where the request says nothing of it."""
    forced_tools: bool = True
    """Can be made to call a tool (``tool_choice`` other than ``auto``), in Messages too."""
    forced_while_thinking: bool = True
    """Can be made to call a tool while it reasons."""
    think_tags: bool = False
    """Gives reasoning inside the text, between ``<think>`` and ``</think>`` at its beginning."""
    reasoning_field: Literal["reasoning_content", "reasoning", "think_tags", "none"] = "none"
    """Where earlier reasoning goes back in the history (``think_tags``: into the text); ``none``: it is not sent."""
    reasoning_required: bool = False
    """Refuses an assistant message with tool calls that has no such member, even an empty one."""
    logprobs: bool = True
    """Gives log probabilities in OpenAI's form when it is asked for them."""
    closed_messages: bool = False
    """Refuses members of messages that it does not know, as are those in which other vendors give reasoning."""
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
    """The exact length of a tool call's id, in letters and digits."""
    cache_control: bool = False
    """Keeps Anthropic-style ``cache_control`` on parts."""
    cache_breakpoints: bool = False
    """Takes OpenAI's ``prompt_cache_breakpoint`` on parts, in Responses too."""
    prompt_cache_key: bool = False
    """Finds caches by ``prompt_cache_key``, in Responses too: a session of Claude Code's gets one."""
    verbosity: bool = False
    """Takes OpenAI's ``verbosity``, in Responses ``text.verbosity``."""
    service_tier: bool = False
    """Takes OpenAI's ``service_tier``, in Responses too."""
    prefill: Literal["none", "prefix", "partial", "continue"] = "none"
    """How it is told to go on from the last message: a member of that, or vLLM's ``continue_final_message``."""
    user_field: Literal["user", "safety_identifier", "none"] = "user"
    web_search: Literal["dropped", "refused", "mapped"] = "dropped"
    """What becomes of an offer of the provider's own web search, which Codex always makes, in another dialect.

    ``mapped``: it is the upstream's own, in Messages.
    """

    # towards Responses upstreams, besides what is the same as in Chat
    encrypted_reasoning: bool = False
    """Gives reasoning in an encrypted form that can be sent back, where asked (``include``)."""
    metadata: bool = False
    """Takes ``metadata``, which Chat has only for what is stored, and nothing is."""
    compaction: bool = False
    """Answers a ``compaction_trigger`` with a ``compaction`` item; otherwise the model is asked for a summary."""

    # towards Messages upstreams
    old_api: bool = False
    """Knows the API version 2023-06-01 alone, which takes all that 2026-10-21 takes."""
    native_anthropic: bool = False
    """Anthropic's own API: signatures are checked there, and the billing block of Claude Code is kept."""
    sampling: bool = True
    """Takes temperature, top_p and top_k."""
    one_sampling: bool = False
    """Takes one of temperature and top_p, and refuses both, in Messages."""
    sampling_without_reasoning: bool = False
    """Takes them all the same where it is told not to reason."""
    thinking: Literal["none", "budget", "adaptive", "effort"] = "budget"
    """How reasoning is asked for: not at all, ``enabled`` with a budget, ``adaptive`` or (``effort``) ``enabled`` with one."""
    thinking_off: Literal["disabled", "between_tools", "none"] = "disabled"
    """How reasoning is turned off; ``none``: it cannot be, and the least effort stands for it."""
    thoughts_hidden: bool = False
    """Gives thoughts without their text unless asked to show it (``thinking.display``)."""
    structured_output: bool = True
    """Takes ``output_config.format``."""
    system_turns: bool = False
    """Takes ``role: system`` inside ``messages``; otherwise those become wrapped user text."""
    default_max_tokens: int = 8192
    """Sent where the caller set none, since Messages requires one."""
    longest_whole: int = 21_333
    """Tokens of the longest answer that it gives whole; a longer one is asked for as a stream, and read as a whole."""

    def __post_init__(self) -> None:
        if self.extra_body:
            try:
                extra_fields(self.extra_body)
            except msgspec.DecodeError as error:
                raise ValueError(f"extra_body is not a JSON object: {error}") from error


@lru_cache(maxsize=256)
def extra_fields(extra_body: str) -> dict[str, msgspec.Raw]:
    """The fields of an ``extra_body``, as they are written there. Raises ``msgspec.DecodeError``."""
    return _fields(extra_body)


DEFAULT_PROFILE = Profile()
