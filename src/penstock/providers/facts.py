"""Where the habits of each provider's row were read, and when: one table, newest reading first.

Every habit by which a row differs from the default profile is named here. ``read`` is the day on which the text was read;
'' says that the vendor's text could not be read, and that the habit stands by common report: it is *unverified*.
``scripts/vendor_facts.py`` prints what is older than ninety days.
"""

from collections.abc import Mapping

import msgspec

OLD_AFTER = 90
"""Days after which a reading is to be made again: vendors change their formats about once a quarter."""

_READ = "2026-11-30"


class Fact(msgspec.Struct, frozen=True):
    """What one text says: of which ``habits``, for which ``models`` ('' for all of the row), and what in a few words."""

    habits: tuple[str, ...]
    source: str
    read: str = ""
    models: str = ""
    says: str = ""


def _unverified(source: str, *habits: str) -> Fact:
    return Fact(habits, source)


_MIGRATIONS = "https://openrouter.ai/docs/cookbook/evaluate-and-optimize/model-migrations/"
_OPUS_5_5 = "https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5"
_ADAPTIVE = "https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.md"
_CHAT = (
    "max_tokens_field", "strict_tools", "json_schema", "image_urls", "parallel_tool_calls", "max_stop", "user_field",
    "structured_output", "reasoning_field",
)  # fmt: skip

_MAKERS: Mapping[str, tuple[Fact, ...]] = {
    "anthropic": (
        Fact(
            ("thinking_off", "forced_tools", "thinks_by_default", "thoughts_hidden"),
            _OPUS_5_5, _READ, "claude-opus-5-5, claude-fable-5-1",
            "reasoning cannot be turned off, and a forced call is an error",
        ),
        Fact(
            ("thinking_off", "forced_tools", "sampling", "thinking"),
            _MIGRATIONS + "claude-5-5", _READ, "claude-*-5-5",
            "between_tools stands for off on Sonnet; sampling and forced calls are gone",
        ),
        Fact(
            ("thinking", "sampling", "thinking_off"),
            _ADAPTIVE, _READ,
            "claude-fable-*, claude-mythos-*, claude-*-4-[67]", "adaptive alone; disabled is a 400",
        ),
        Fact(
            ("efforts",), _MIGRATIONS + "claude-5-sonnet", _READ,
            "claude-*-4-6", "xhigh came after 4.6",
        ),
        Fact(
            ("one_sampling",), "https://github.com/aws-samples/bedrock-access-gateway/pull/208", "2026-12-01",
            "claude-opus-4-1, claude-*-4-5", "temperature and top_p together are a 400",
        ),
        Fact(
            ("one_sampling",), "https://github.com/iOfficeAI/AionUi/issues/912", "2026-12-01",
            "claude-*-4-6", "temperature and top_p together are a 400",
        ),
        Fact(
            ("tool_schemas",), "https://github.com/MoonshotAI/kimi-code/issues/2328", _READ, "",
            "400: input_schema does not support oneOf, allOf, or anyOf at the top level",
        ),
        Fact(
            ("longest_whole",), "Anthropic's SDK for Python 2.13, MODEL_NONSTREAMING_TOKENS", _READ, "claude-opus-4-[01]",
            "8,192 tokens whole; elsewhere what ten minutes allow at 128,000 an hour",
        ),
        Fact(
            ("structured_output", "system_turns"), "Anthropic's SDK for Python 2.14, OutputConfigParam and SystemMessageParam",
            _READ, "", "output_config.format and turns of the system; which models lack them stands by common report",
        ),
        _unverified("https://platform.claude.com/docs/en/api/messages", "native_anthropic"),
    ),
    "openai": (
        Fact(
            ("verbosity", "service_tier", "metadata"), "OpenAI's SDK for Python 3.57.0, chat.completions", _READ, "",
            "fields of both formats",
        ),
        Fact(
            ("compaction",), "OpenAI's SDK for Python 3.57.0 and Codex's source", _READ, "",
            "an item asks for a summary; the vendor's page was not read",
        ),
        Fact(
            ("preferred_format",), "https://github.com/itzcrazykns/vane/issues/1173", _READ, "gpt-5.6*",
            "Chat refuses tools together with an effort, and names Responses",
        ),
        Fact(
            ("sampling", "sampling_without_reasoning"), "https://github.com/vercel/ai/issues/10932", _READ, "gpt-5.1 and later",
            "taken where the effort is none",
        ),
        Fact(
            ("efforts", "least_effort", "most_effort"), "OpenAI's SDK for Python 3.57, and docs.rs/openai-tools 3.0", _READ,
            "", "by model: minimal until gpt-5, none from 5.1, xhigh from 5.2, max from 5.6",
        ),
        Fact(
            ("tool_schemas",), "https://github.com/langchain-ai/langchainjs/issues/9804", _READ, "",
            "400: type object, and no oneOf, anyOf, allOf, enum or not at the top level",
        ),
        Fact(("cache_breakpoints",), "OpenAI's SDK for Python 3.57", _READ, "gpt-5.6 and later"),
        Fact(
            (
                "max_tokens_field", "system_role", "user_field", "encrypted_reasoning", "prompt_cache_key", "reasoning_effort",
            ),
            "OpenAI's SDK for Python 3.57.0, chat.completions and responses", _READ, "",
            "max_tokens and user are replaced, developer takes the place of system, and an include brings reasoning back",
        ),
    ),
    "deepseek": (
        Fact(
            ("thinking_switch", "efforts", "thinking", "thinks_by_default"),
            "https://api-docs.deepseek.com/guides/thinking_mode.md", _READ, "",
            "on by default; low, high and max; output_config.effort in Messages. It has a Responses API too",
        ),
        Fact(
            ("max_stop", "json_schema"), "https://docs.camel-ai.org/reference/camel.configs.deepseek_config", _READ, "",
            "16 stop sequences; text and json_object",
        ),
        _unverified(
            "https://api-docs.deepseek.com/guides/anthropic_api", "strict_tools", "image_urls", "parallel_tool_calls",
            "user_field", "structured_output", "reasoning_field", "forced_while_thinking", "reasoning_required",
            "tool_schemas",
        ),
    ),
    "dashscope": (
        Fact(
            ("thinks_only_streamed",), "https://help.aliyun.com/en/model-studio/error-code", _READ, "",
            "400: enable_thinking must be set to false for non-streaming calls",
        ),
        Fact(
            ("thinking_switch",), "https://help.aliyun.com/en/model-studio/deep-thinking", _READ, "",
            "enable_thinking, by request",
        ),
        _unverified(
            "https://www.alibabacloud.com/help/en/model-studio/anthropic-api-messages", *_CHAT, "top_k", "reasoning_effort",
            "cache_control", "prefill", "thinking", "forced_while_thinking",
        ),
    ),
    "minimax": (
        Fact(
            ("think_tags",), "https://www.developersdigest.tech/reference/api-compatibility/minimax", _READ, "",
            "<think> in the text; reasoning_content from M3.1 on. It has a Responses API too",
        ),
        _unverified("https://platform.minimax.io/docs/api-reference/text-anthropic-api", *_CHAT, "reasoning_effort"),
    ),
    "openrouter": (
        Fact(
            ("sampling", "thinking", "thinking_off", "forced_tools"),
            _MIGRATIONS + "claude-5-5", _READ, "anthropic/claude-*-5.5",
        ),
        Fact(
            ("sampling", "efforts"),
            _MIGRATIONS + "claude-5-sonnet", _READ, "anthropic/*",
        ),
        _unverified(
            "https://openrouter.ai/docs/api-reference/overview", "top_k", "cache_control", "reasoning_field", "tool_schemas"
        ),
    ),
    "moonshot": (
        Fact(
            ("reasoning_effort", "efforts", "thinking_switch", "thinks_by_default"),
            "https://platform.kimi.ai/docs/guide/use-reasoning-effort", _READ, "kimi-k3*",
            "always reasons; low, high and max; no thinking switch",
        ),
        Fact(
            ("thinking", "thinking_off"), "https://github.com/clacky-ai/openclacky/pull/389", _READ, "kimi-k3*",
            "in Messages enabled with an effort, not adaptive",
        ),
        Fact(
            ("forced_tools",), "https://github.com/agentscope-ai/agentscope-java/pull/2320", _READ, "kimi-k3*, kimi-k2.7-code*",
            "always reason, and take auto alone then",
        ),
        Fact(
            ("sampling",), "https://github.com/getcoherence/studio/releases/tag/v0.3.30", _READ, "kimi-k2.5 and later",
            "400: only 1 is allowed for this model",
        ),
        Fact(
            ("tool_schemas",), "https://github.com/MoonshotAI/kimi-cli/issues/1595, .../2061, .../2531", _READ, "",
            "type object at the root; no type beside a union, nothing beside a reference, references to $defs",
        ),
        Fact(
            ("image_urls", "prefill"), "https://platform.kimi.ai/docs/api/chat.md", _READ, "",
            "pictures as data or by ms:// alone; Partial Mode goes on from a beginning",
        ),
        _unverified(
            "https://platform.kimi.ai/docs/api/overview", "strict_tools", "max_stop", "user_field", "structured_output",
            "reasoning_field", "forced_while_thinking", "reasoning_required",
        ),
    ),
    "zai": (
        Fact(
            ("thinking_switch", "thinks_by_default"), "https://docs.z.ai/guides/capabilities/thinking-mode.md", _READ, "",
            "on by default from GLM-4.7 on; thinking.type turns it off",
        ),
        Fact(
            ("reasoning_effort",), "https://docs.rs/zai-rs/latest/zai_rs/model/tools/enum.ReasoningEffort.html", _READ,
            "glm-5.2 and later", "none to max",
        ),
        _unverified("https://docs.z.ai/scenario-example/develop-tools/claude", *_CHAT, "forced_tools"),
    ),
    "gemini": (
        Fact(
            ("efforts",), "https://docs.rs/adk-model/1.0.0/adk_model/gemini/enum.ThinkingLevel.html", _READ, "gemini-3*",
            "minimal to high, Pro without minimal; reasoning cannot be turned off",
        ),
        _unverified("https://ai.google.dev/gemini-api/docs/openai", *_CHAT, "call_signatures", "tool_schemas"),
    ),
    "groq": (
        Fact(
            ("closed_messages",), "https://github.com/janhq/jan/issues/8136", _READ, "",
            "400: property 'reasoning_content' is unsupported",
        ),
        Fact(
            ("logprobs",), "https://console.groq.com/docs/openai", _READ, "", "400 for logprobs and top_logprobs",
        ),
        _unverified("https://console.groq.com/docs/openai", *_CHAT, "reasoning_effort", "efforts"),
    ),
    "mistral": (
        Fact(
            ("closed_messages",), "https://github.com/BerriAI/litellm/issues/30835", _READ, "",
            "422: extra inputs are not permitted",
        ),
        Fact(
            ("reasoning_effort", "efforts"), "https://docs.mistral.ai/inference/conversations/reasoning", _READ,
            "mistral-small-2603, mistral-medium-3-5, mistral-large-4", "none and high; others refuse it",
        ),
        Fact(
            ("user_field", "max_stop", "stream_options", "logprobs"),
            "Mistral's SDK for Python at 02e327f, ChatCompletionRequest", _READ, "",
            "has no user, stream_options or logprobs; stop is a list without bound",
        ),
        _unverified(
            "https://docs.mistral.ai/resources/migration-guides", "roles_alternate", "user_after_tool", "tool_id_length",
            "prefill",
        ),
    ),
    "xai": (
        Fact(
            ("reasoning_effort", "efforts"), "https://newreleases.io, @ai-sdk/xai 4.0.0-canary.61", _READ, "grok-4.3",
            "none, low, medium and high",
        ),
        Fact(
            ("reasoning_effort", "efforts"), "https://github.com/anomalyco/opencode/issues/39448", _READ, "grok-4.5",
            "low, medium and high; reasoning cannot be turned off",
        ),
        Fact(
            ("reasoning_effort",), "https://github.com/acedergren/opencode-oci-provider/releases/tag/v0.2.3", _READ,
            "grok-4-1*", "400 for an effort",
        ),
        _unverified("https://docs.x.ai/docs/api-reference", *_CHAT),
    ),
    "together": (
        Fact(
            ("top_k", "max_stop", "user_field", "logprobs"),
            "Together's SDK for Python at 00c8693, chat.completion_create_params", _READ, "",
            "top_k; no user; stop is a list without bound; logprobs is a number, and answers have a form of their own",
        ),
        _unverified("https://docs.together.ai/docs/openai-api-compatibility", "strict_tools"),
    ),
    "fireworks": (_unverified("https://docs.fireworks.ai/tools-sdks/openai-compatibility", *_CHAT, "top_k"),),
    "bedrock": (
        Fact(
            ("thinking", "sampling", "thinking_off"),
            _ADAPTIVE, _READ, "anthropic.claude-*",
        ),
        Fact(
            ("one_sampling",), "https://github.com/aws-samples/bedrock-access-gateway/pull/208", "2026-12-01",
            "anthropic.claude-opus-4-1, anthropic.claude-*-4-[56]", "temperature and top_p together are a 400",
        ),
        _unverified(
            "https://docs.aws.amazon.com/bedrock/latest/userguide/models-endpoint-availability.html",
            "compaction", "metadata", "service_tier",
        ),
        _unverified(
            "https://docs.aws.amazon.com/bedrock/latest/userguide/inference-messages-api.html", "max_tokens_field",
            "reasoning_effort", "user_field", "prompt_cache_key", "old_api", "native_anthropic", "structured_output",
            "system_turns", "thoughts_hidden", "thinks_by_default", "tool_schemas", "longest_whole", "efforts", "forced_tools",
        ),
    ),
    "ollama": (
        Fact(
            ("reasoning_effort", "efforts"), "https://docs.ollama.com/api/openai-compatibility, and ollama/ollama#14820", _READ,
            "", "high, medium, low and none",
        ),
        Fact(
            ("forced_tools", "reasoning_field", "image_urls", "max_stop", "user_field"),
            "https://github.com/ollama/ollama, openai/openai.go at 0098875", _READ, "",
            "no tool_choice and no user; reasoning by that name; pictures as data alone; any number of stop sequences",
        ),
        _unverified("https://docs.ollama.com/api/anthropic-compatibility", "strict_tools", "structured_output"),
    ),
    "llama-server": (
        Fact(
            ("reasoning_effort",), "https://github.com/ggml-org/llama.cpp/pull/26045 and /26941", _READ, "",
            "none since July 2026, every effort since August",
        ),
        _unverified(
            "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md", *_CHAT, "top_k", "system_anywhere",
            "roles_alternate",
        ),
    ),
    "vllm": (
        Fact(
            ("reasoning_effort",), "https://github.com/vllm-project/vllm/pull/43401", _READ, "",
            "none to max; turns the template's switch since May 2026",
        ),
        Fact(
            ("top_k", "reasoning_field", "user_field", "prefill"),
            "https://github.com/vllm-project/vllm, openai/chat_completion/protocol.py at 002032e", _READ, "",
            "top_k; reasoning by that name; user is ignored; continue_final_message",
        ),
        _unverified(
            "https://docs.vllm.ai/en/stable/serving/openai_compatible_server/", "strict_tools", "max_stop",
            "structured_output", "system_anywhere", "roles_alternate", "continuous_usage",
        ),
    ),
    "lmstudio": (
        Fact(
            ("reasoning_effort",), "https://lmstudio.ai/docs/developer/api-changelog", _READ, "",
            "an effort in Responses alone, for gpt-oss",
        ),
        _unverified(
            "https://lmstudio.ai/docs/developer/anthropic-compat", *_CHAT, "top_k", "system_anywhere", "roles_alternate",
            "null_content",
        ),
    ),
}  # fmt: skip
"""By the ids of the rows. The simulator's own row is ours."""

FACTS: Mapping[str, tuple[Fact, ...]] = {
    **_MAKERS,
    "azure": _MAKERS["openai"],
    "azure-anthropic": _MAKERS["anthropic"],
    "vertex": _MAKERS["gemini"],
    "vertex-anthropic": _MAKERS["anthropic"],
}
"""The same with hosts of others' models, whose habits are taken to be those of the models' makers."""
