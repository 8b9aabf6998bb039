"""Profiles that several rows of the provider table share: Claude's generations, OpenAI, Qwen and local servers."""

import msgspec

from penstock.core.profile import Profile


def with_changes(profile: Profile, **changes: bool | int | str | None) -> Profile:
    """``profile`` with some of its flags changed."""
    return msgspec.structs.replace(profile, **changes)


BUDGET = Profile(native_anthropic=True, thinking="budget")
ADAPTIVE = Profile(native_anthropic=True, thinking="adaptive")
NO_SAMPLING = Profile(native_anthropic=True, thinking="adaptive", sampling=False)

CLAUDE: tuple[tuple[str, Profile], ...] = (
    ("claude-3-7-*", with_changes(BUDGET, structured_output=False)),
    ("claude-3-*", with_changes(BUDGET, structured_output=False, thinking="none")),
    ("claude-sonnet-4-20*", with_changes(BUDGET, structured_output=False)),
    ("claude-opus-4-20*", with_changes(BUDGET, structured_output=False)),
    ("claude-*-4-0", with_changes(BUDGET, structured_output=False)),
    ("claude-*-4-1*", BUDGET),
    ("claude-*-4-5*", BUDGET),
    ("claude-*-4-6*", ADAPTIVE),
    ("claude-*-4-7*", NO_SAMPLING),
    ("claude-*-4-8*", with_changes(NO_SAMPLING, system_turns=True)),
    ("claude-*", with_changes(NO_SAMPLING, system_turns=True, thoughts_hidden=True, thinks_by_default=True)),
)
"""From Opus 4.7 on sampling parameters and thinking budgets are refused, from 4.8 on system turns are taken, from 5 on
they reason unless told not to, and reasoning comes without its text unless that is asked for."""

OPENAI = Profile(
    max_tokens_field="max_completion_tokens",
    system_role="developer",
    user_field="safety_identifier",
    encrypted_reasoning=True,
    compaction=True,
    metadata=True,
    prompt_cache_key=True,
    service_tier=True,
    verbosity=True,
)
OPENAI_CLASSIC = with_changes(
    OPENAI, system_role="system", reasoning_effort=False, encrypted_reasoning=False, verbosity=False
)

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
