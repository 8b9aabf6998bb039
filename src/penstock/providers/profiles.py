"""Profiles that several rows of the provider table share: Claude's generations, OpenAI, Qwen and local servers."""

import msgspec

from penstock.core.profile import Profile


def with_changes(profile: Profile, **changes: bool | int | str | None) -> Profile:
    """``profile`` with some of its flags changed."""
    return msgspec.structs.replace(profile, **changes)


BUDGET = Profile(native_anthropic=True, thinking="budget", tool_schemas="no_unions")
ONE_SAMPLING = with_changes(BUDGET, one_sampling=True)
ADAPTIVE = with_changes(BUDGET, thinking="adaptive")
NO_SAMPLING = with_changes(ADAPTIVE, sampling=False)
CLAUDE_5 = with_changes(NO_SAMPLING, system_turns=True, thoughts_hidden=True, thinks_by_default=True)

CLAUDE: tuple[tuple[str, Profile], ...] = (
    ("claude-3-7-*", with_changes(BUDGET, structured_output=False)),
    ("claude-3-*", with_changes(BUDGET, structured_output=False, thinking="none")),
    ("claude-sonnet-4-20*", with_changes(BUDGET, structured_output=False)),
    ("claude-opus-4-20*", with_changes(BUDGET, structured_output=False, longest_whole=8192)),
    ("claude-opus-4-0", with_changes(BUDGET, structured_output=False, longest_whole=8192)),
    ("claude-*-4-0", with_changes(BUDGET, structured_output=False)),
    ("claude-opus-4-1*", with_changes(ONE_SAMPLING, longest_whole=8192)),
    ("claude-*-4-1*", BUDGET),
    ("claude-*-4-5*", ONE_SAMPLING),
    ("claude-*-4-6*", with_changes(ADAPTIVE, one_sampling=True, efforts="low, medium, high, max")),
    ("claude-*-4-7*", NO_SAMPLING),
    ("claude-*-4-8*", with_changes(NO_SAMPLING, system_turns=True)),
    ("claude-fable-*", with_changes(CLAUDE_5, thinking_off="none", forced_tools=False)),
    ("claude-mythos-*", with_changes(CLAUDE_5, thinking_off="none", forced_tools=False)),
    ("claude-opus-5-5*", with_changes(CLAUDE_5, thinking_off="none", forced_tools=False)),
    ("claude-sonnet-5-5*", with_changes(CLAUDE_5, thinking_off="between_tools", forced_tools=False)),
    ("claude-haiku-5-5*", with_changes(CLAUDE_5, forced_tools=False)),
    ("claude-*", CLAUDE_5),
)
"""From Opus 4.1 on temperature and top_p are refused together, from 4.7 on all sampling parameters and thinking budgets are,
from 4.8 on system turns are taken, from 5 on they reason unless told not to, and reasoning comes without its text unless that
is asked for. From 5.5 on no call can be forced, and some cannot be told not to reason."""

OPENAI = Profile(
    max_tokens_field="max_completion_tokens",
    system_role="developer",
    user_field="safety_identifier",
    encrypted_reasoning=True,
    compaction=True,
    metadata=True,
    prompt_cache_key=True,
    service_tier=True,
    tool_schemas="bare",
    verbosity=True,
)
REASONING = with_changes(OPENAI, sampling=False, sampling_without_reasoning=True)
LATEST = with_changes(
    REASONING,
    cache_breakpoints=True,
    efforts="none, low, medium, high, xhigh, max",
    preferred_format="responses",
)
OPENAI_CLASSIC = with_changes(
    OPENAI, system_role="system", reasoning_effort=False, encrypted_reasoning=False, verbosity=False
)
GPT: tuple[tuple[str, Profile], ...] = (
    ("gpt-4*", OPENAI_CLASSIC),
    ("gpt-3.5*", OPENAI_CLASSIC),
    ("chatgpt-*", OPENAI_CLASSIC),
    ("gpt-5*-chat*", OPENAI_CLASSIC),
    ("o[1-9]*", with_changes(OPENAI, sampling=False, efforts="low, medium, high")),
    ("gpt-5.1*", with_changes(REASONING, efforts="none, low, medium, high")),
    ("gpt-5.[2-5]*", with_changes(REASONING, efforts="none, low, medium, high, xhigh")),
    ("gpt-5.[6-9]*", LATEST),
    ("gpt-[6-9]*", LATEST),
    ("gpt-5-pro*", with_changes(OPENAI, sampling=False, efforts="high")),
    ("gpt-5", with_changes(OPENAI, sampling=False, efforts="minimal, low, medium, high")),
    ("gpt-5-*", with_changes(OPENAI, sampling=False, efforts="minimal, low, medium, high")),
)
"""Models that reason take no sampling parameters, the later ones but where they are told not to reason. From 5.6 on Chat
takes no effort together with tools, so that what is translated goes by Responses."""

QWEN = Profile(
    top_k=True,
    strict_tools=False,
    json_schema=False,
    reasoning_effort=False,
    thinking_switch="enable_thinking",
    reasoning_field="reasoning_content",
    max_stop=None,
    cache_control=True,
    prefill="partial",
    user_field="none",
    structured_output=False,
    forced_while_thinking=False,
    thinks_only_streamed=True,
)

LOCAL = Profile(
    top_k=True,
    strict_tools=False,
    system_anywhere=False,
    roles_alternate=True,
    max_stop=None,
    user_field="none",
    reasoning_effort=False,
    structured_output=False,
)
"""Servers of open models: their chat templates often insist on one system message, first, and on turns."""

# ---- vendors of which the models differ

KIMI = Profile(
    thinking_switch="thinking",
    thinks_by_default=True,
    forced_while_thinking=False,
    sampling=False,
    reasoning_field="reasoning_content",
    reasoning_required=True,
    reasoning_effort=False,
    strict_tools=False,
    image_urls=False,
    max_stop=5,
    prefill="partial",
    user_field="none",
    structured_output=False,
    tool_schemas="moonshot",
)

GLM = Profile(
    thinking_switch="thinking",
    thinks_by_default=True,
    forced_tools=False,
    reasoning_field="reasoning_content",
    reasoning_effort=False,
    strict_tools=False,
    json_schema=False,
    parallel_tool_calls=False,
    max_stop=1,
    user_field="none",
    structured_output=False,
)

GEMINI = Profile(
    strict_tools=False,
    parallel_tool_calls=False,
    image_urls=False,
    max_stop=5,
    user_field="none",
    call_signatures=True,
    tool_schemas="object",
    efforts="minimal, low, medium, high",
)

GROQ = Profile(
    max_tokens_field="max_completion_tokens",
    strict_tools=False,
    reasoning_field="reasoning",
    reasoning_effort=False,
    logprobs=False,  # a 400
    closed_messages=True,  # "property 'reasoning_content' is unsupported"
)

MISTRAL = Profile(
    roles_alternate=True,
    user_after_tool=False,
    stream_options=False,  # usage comes by itself, and an unknown field is a 422
    reasoning_effort=False,
    logprobs=False,
    closed_messages=True,  # "Extra inputs are not permitted"
    tool_id_length=9,
    max_stop=None,
    prefill="prefix",
    user_field="none",
)

GROK = Profile(max_tokens_field="max_completion_tokens", strict_tools=False, reasoning_effort=False)

ROUTED = Profile(top_k=True, cache_control=True, reasoning_field="reasoning")
ROUTED_CLAUDE = Profile(top_k=True, cache_control=True, thinking="adaptive", tool_schemas="no_unions")
"""Models behind OpenRouter, and Claude there."""
