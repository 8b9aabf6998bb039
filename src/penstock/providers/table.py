"""The table of providers, one row each: where it is, how we sign in to it, and its profile.

A new OpenAI- or Anthropic-speaking vendor is one row. Facts come from the page that the row links; what a row does not
say is the default profile. ``docs/providers.md`` has the same rows as a page, held to this table by a test.
"""

from collections.abc import Mapping

import msgspec

from penstock.core.catalog import STRAIGHT, Auth, DialectName, Reach, Upstream
from penstock.core.limits import Header
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.providers.facts import FACTS, Fact
from penstock.providers.profiles import (
    BUDGET,
    CLAUDE,
    GEMINI,
    GLM,
    GPT,
    GROK,
    GROQ,
    KIMI,
    LOCAL,
    MISTRAL,
    OPENAI,
    OPENAI_CLASSIC,
    QWEN,
    ROUTED,
    ROUTED_CLAUDE,
    with_changes,
)

SIMULATOR_URL = "http://127.0.0.1:9000/v1"
"""Where ``penstock simulate`` listens unless told otherwise."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One vendor or kind of server.

    ``speaks`` gives each dialect's base URL, the one to translate into first; ``embeddings`` is the word of those who have
    embedding models. ``env`` is the variable that holds its key
    ('' for none). ``model_profiles`` are tried in order, as shell patterns, before ``profile``. ``local`` servers are on
    the operator's own machine and need no key.
    """

    id: str
    name: str
    speaks: dict[DialectName, str]
    docs: str
    auth: Auth = "bearer"
    env: str = ""
    profile: Profile = DEFAULT_PROFILE
    model_profiles: tuple[tuple[str, Profile], ...] = ()
    extra_headers: tuple[Header, ...] = ()
    local: bool = False
    reach: Reach = STRAIGHT
    note: str = ""
    """What an operator should know, in a sentence."""

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Where each of its habits was read, and when; ``providers/facts.py``."""
        return FACTS.get(self.id, ())


_ROUTED: tuple[tuple[str, dict[str, bool | str]], ...] = (
    ("*-4.6*", {"efforts": "low, medium, high, max"}),
    ("*-4.[789]*", {"sampling": False, "top_k": False}),
    ("opus-5.5*", {"sampling": False, "top_k": False, "thinking_off": "none", "forced_tools": False}),
    ("sonnet-5.5*", {"sampling": False, "top_k": False, "thinking_off": "none", "forced_tools": False}),
    ("haiku-5.5*", {"sampling": False, "top_k": False, "forced_tools": False}),
    ("fable-*", {"sampling": False, "top_k": False, "thinking_off": "none", "forced_tools": False}),
    ("*-[5-9]*", {"sampling": False, "top_k": False}),
)
"""Claude's generations by OpenRouter's names, as far as they differ there."""

_ADJUSTABLE = ("mistral-small-latest", "mistral-small-26*", "mistral-medium-3-5*", "mistral-medium-3.5*")
"""Mistral's models that reason or do not, as they are asked."""


_ROWS: tuple[Provider, ...] = (
    Provider(
        id="anthropic",
        name="Anthropic",
        speaks={"messages": "https://api.anthropic.com/v1"},
        auth="x-api-key",
        env="ANTHROPIC_API_KEY",
        docs="https://platform.claude.com/docs/en/api/messages",
        profile=BUDGET,
        model_profiles=CLAUDE,
    ),
    Provider(
        id="openai",
        name="OpenAI",
        speaks=dict.fromkeys(
            (
                "chat",
                "responses",
                "embeddings",
                "completions",
                "images",
                "transcriptions",
                "speech",
                "moderations",
            ),
            "https://api.openai.com/v1",
        ),
        env="OPENAI_API_KEY",
        docs="https://developers.openai.com/api/reference/overview",
        profile=OPENAI,
        model_profiles=GPT,
        note="None of the default models is served here; name OpenAI's own models in the catalogue.",
    ),
    Provider(
        id="deepseek",
        name="DeepSeek",
        speaks={"chat": "https://api.deepseek.com", "messages": "https://api.deepseek.com/anthropic/v1"},
        env="DEEPSEEK_API_KEY",
        docs="https://api-docs.deepseek.com/guides/anthropic_api",
        profile=Profile(
            thinking_switch="thinking",
            thinks_by_default=True,
            forced_while_thinking=False,
            reasoning_field="reasoning_content",
            reasoning_required=True,
            strict_tools=False,
            json_schema=False,
            image_urls=False,
            parallel_tool_calls=False,
            max_stop=16,
            user_field="none",
            structured_output=False,
            efforts="low, high, max",
            thinking="effort",
            tool_schemas="object",
        ),
        note="Takes no images or documents. `deepseek-chat` is gone since 24 July 2026; `deepseek-v4-flash` follows it.",
    ),
    Provider(
        id="dashscope",
        name="Alibaba Cloud Model Studio (Qwen)",
        speaks={
            "chat": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            "messages": "https://dashscope-intl.aliyuncs.com/apps/anthropic/v1",
            "embeddings": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        },
        env="DASHSCOPE_API_KEY",
        docs="https://www.alibabacloud.com/help/en/model-studio/anthropic-api-messages",
        profile=QWEN,
        model_profiles=(
            # these do not reason, and refuse to be asked
            (
                "qwen3-coder*",
                with_changes(
                    QWEN,
                    thinking_switch="none",
                    reasoning_field="none",
                    thinking="none",
                    forced_while_thinking=True,
                    thinks_only_streamed=False,
                ),
            ),
        ),
        note="Keys of mainland China go to dashscope.aliyuncs.com instead.",
    ),
    Provider(
        id="minimax",
        name="MiniMax",
        speaks={"messages": "https://api.minimax.io/anthropic/v1", "chat": "https://api.minimax.io/v1"},
        env="MINIMAX_API_KEY",
        docs="https://platform.minimax.io/docs/api-reference/text-anthropic-api",
        profile=Profile(
            max_tokens_field="max_completion_tokens",
            strict_tools=False,
            json_schema=False,
            reasoning_effort=False,
            think_tags=True,
            reasoning_field="think_tags",
            image_urls=False,
            user_field="none",
            structured_output=False,
        ),
        note="The chat endpoint puts reasoning into the text as <think>, so the default catalogue uses messages alone.",
    ),
    Provider(
        id="openrouter",
        name="OpenRouter",
        speaks={
            "chat": "https://openrouter.ai/api/v1",
            "messages": "https://openrouter.ai/api/v1",
            "responses": "https://openrouter.ai/api/v1",
            "embeddings": "https://openrouter.ai/api/v1",
        },
        env="OPENROUTER_API_KEY",
        docs="https://openrouter.ai/docs/api-reference/overview",
        profile=ROUTED,
        model_profiles=(
            *(
                (f"anthropic/claude-{name}", with_changes(ROUTED_CLAUDE, **changes))
                for name, changes in _ROUTED
            ),
            ("openai/*", with_changes(ROUTED, tool_schemas="bare")),
            ("moonshotai/*", with_changes(ROUTED, tool_schemas="moonshot")),
        ),
    ),
    Provider(
        id="moonshot",
        name="Moonshot AI (Kimi)",
        speaks={"chat": "https://api.moonshot.ai/v1", "messages": "https://api.moonshot.ai/anthropic/v1"},
        env="MOONSHOT_API_KEY",
        docs="https://platform.kimi.ai/docs/api/overview",
        profile=KIMI,
        model_profiles=(
            (
                "kimi-k3*",
                with_changes(
                    KIMI,
                    thinking_switch="none",
                    reasoning_effort=True,
                    efforts="low, high, max",
                    forced_tools=False,
                    thinking="effort",
                    thinking_off="none",
                ),
            ),
            ("kimi-k2.7-code*", with_changes(KIMI, thinking_switch="none", forced_tools=False)),
            ("kimi-k2-*", with_changes(KIMI, sampling=True, thinks_by_default=False)),
            (
                "moonshot-v1*",
                with_changes(
                    KIMI,
                    sampling=True,
                    thinks_by_default=False,
                    thinking_switch="none",
                    forced_while_thinking=True,
                    reasoning_field="none",
                    reasoning_required=False,
                    thinking="none",
                ),
            ),
        ),
        note="Keys of mainland China go to api.moonshot.cn instead.",
    ),
    Provider(
        id="zai",
        name="Z.ai (GLM)",
        speaks={"chat": "https://api.z.ai/api/paas/v4", "messages": "https://api.z.ai/api/anthropic/v1"},
        env="ZAI_API_KEY",
        docs="https://docs.z.ai/scenario-example/develop-tools/claude",
        profile=GLM,
        model_profiles=(
            ("glm-5.[2-9]*", with_changes(GLM, reasoning_effort=True)),
            ("glm-[6-9]*", with_changes(GLM, reasoning_effort=True)),
        ),
    ),
    Provider(
        id="gemini",
        name="Google Gemini",
        speaks={
            "chat": "https://generativelanguage.googleapis.com/v1beta/openai",
            "embeddings": "https://generativelanguage.googleapis.com/v1beta/openai",
        },
        env="GEMINI_API_KEY",
        docs="https://ai.google.dev/gemini-api/docs/openai",
        profile=GEMINI,
        model_profiles=(
            ("gemini-2.5-flash*", with_changes(GEMINI, efforts="none, low, medium, high")),
            ("gemini-2.5-pro*", with_changes(GEMINI, efforts="low, medium, high")),
            ("gemini-3-pro*", with_changes(GEMINI, efforts="low, high")),
            ("gemini-3.1-pro*", with_changes(GEMINI, efforts="low, medium, high")),
        ),
    ),
    Provider(
        id="groq",
        name="Groq",
        speaks={"chat": "https://api.groq.com/openai/v1", "responses": "https://api.groq.com/openai/v1"},
        env="GROQ_API_KEY",
        docs="https://console.groq.com/docs/openai",
        profile=GROQ,
        model_profiles=(
            ("openai/gpt-oss*", with_changes(GROQ, reasoning_effort=True, efforts="low, medium, high")),
        ),
    ),
    Provider(
        id="mistral",
        name="Mistral AI",
        speaks={"chat": "https://api.mistral.ai/v1", "embeddings": "https://api.mistral.ai/v1"},
        env="MISTRAL_API_KEY",
        docs="https://docs.mistral.ai/resources/migration-guides",
        profile=MISTRAL,
        model_profiles=(
            *(
                (name, with_changes(MISTRAL, reasoning_effort=True, efforts="none, high"))
                for name in _ADJUSTABLE
            ),
            ("mistral-large-4*", with_changes(MISTRAL, reasoning_effort=True, efforts="low, medium, high")),
        ),
    ),
    Provider(
        id="xai",
        name="xAI",
        speaks={"chat": "https://api.x.ai/v1", "responses": "https://api.x.ai/v1"},
        env="XAI_API_KEY",
        docs="https://docs.x.ai/docs/api-reference",
        profile=GROK,
        model_profiles=(
            ("grok-4.3*", with_changes(GROK, reasoning_effort=True, efforts="none, low, medium, high")),
            ("grok-4.[5-9]*", with_changes(GROK, reasoning_effort=True, efforts="low, medium, high")),
            ("grok-[5-9]*", with_changes(GROK, reasoning_effort=True, efforts="low, medium, high")),
            ("grok-latest", with_changes(GROK, reasoning_effort=True, efforts="low, medium, high")),
            ("grok-3-mini*", with_changes(GROK, reasoning_effort=True, efforts="low, high")),
        ),
        note="Its Anthropic endpoint is deprecated by the vendor, so messages callers are translated.",
    ),
    Provider(
        id="together",
        name="Together AI",
        speaks={"chat": "https://api.together.ai/v1", "embeddings": "https://api.together.ai/v1"},
        env="TOGETHER_API_KEY",
        docs="https://docs.together.ai/docs/openai-api-compatibility",
        profile=Profile(top_k=True, strict_tools=False, max_stop=None, user_field="none", logprobs=False),
    ),
    Provider(
        id="fireworks",
        name="Fireworks AI",
        speaks={
            "chat": "https://api.fireworks.ai/inference/v1",
            "messages": "https://api.fireworks.ai/inference/v1",
            "embeddings": "https://api.fireworks.ai/inference/v1",
        },
        env="FIREWORKS_API_KEY",
        docs="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        profile=Profile(
            top_k=True, strict_tools=False, reasoning_field="reasoning_content", structured_output=False
        ),
    ),
    Provider(
        id="bedrock",
        name="Amazon Bedrock (mantle)",
        speaks={
            "messages": "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1",
            "chat": "https://bedrock-mantle.us-east-1.api.aws/v1",
            "responses": "https://bedrock-mantle.us-east-1.api.aws/v1",
        },
        env="AWS_BEARER_TOKEN_BEDROCK",
        docs="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-messages-api.html",
        profile=OPENAI_CLASSIC,
        model_profiles=tuple(
            # the newer API version is there for the models without sampling parameters
            (f"anthropic.{pattern}", with_changes(profile, old_api=profile.sampling))
            for pattern, profile in CLAUDE
        ),
        note='The region is part of the URL: write yours into the catalogue. Claude models need `via = ["messages"]`.',
    ),
    Provider(
        id="azure",
        name="Azure OpenAI",
        speaks=dict.fromkeys(
            ("chat", "responses", "embeddings"), "https://RESOURCE.openai.azure.com/openai/v1"
        ),
        auth="api-key",
        env="AZURE_OPENAI_API_KEY",
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        profile=OPENAI,
        model_profiles=GPT,
        note="Write your resource into the URLs; a target's model is the name of the deployment.",
    ),
    Provider(
        id="azure-anthropic",
        name="Claude in Microsoft Foundry",
        speaks={"messages": "https://RESOURCE.services.ai.azure.com/anthropic/v1"},
        auth="x-api-key",
        env="ANTHROPIC_FOUNDRY_API_KEY",
        docs="https://platform.claude.com/docs/en/build-with-claude/claude-in-microsoft-foundry",
        profile=BUDGET,
        model_profiles=CLAUDE,
        note="Write your resource into the URL; a target's model is the name of the deployment.",
    ),
    Provider(
        id="vertex",
        name="Google Vertex AI",
        speaks={
            "chat": "https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global/endpoints/openapi"
        },
        auth="google",
        docs="https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview",
        profile=GEMINI,
        note="Write your project into the URL; a target's model is named `google/gemini-...`.",
    ),
    Provider(
        id="vertex-anthropic",
        name="Claude on Google Vertex AI",
        speaks={
            "messages": "https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global"
            "/publishers/anthropic/models/{model}"
        },
        auth="google",
        docs="https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai",
        profile=BUDGET,
        model_profiles=CLAUDE,
        reach=Reach(anthropic_version="vertex-2023-10-16"),
        note="Write your project into the URL. Tokens are not counted there, so they are estimated.",
    ),
    Provider(
        id="ollama",
        name="Ollama",
        speaks=dict.fromkeys(("chat", "messages", "embeddings"), "http://127.0.0.1:11434/v1"),
        auth="none",
        docs="https://docs.ollama.com/api/anthropic-compatibility",
        profile=with_changes(
            LOCAL,
            top_k=False,
            system_anywhere=True,
            roles_alternate=False,
            image_urls=False,
            reasoning_field="reasoning",
            reasoning_effort=True,
            efforts="none, low, medium, high",
            forced_tools=False,
        ),
        local=True,
        note="Its messages endpoint has no tool_choice, no image URLs and no token counting.",
    ),
    Provider(
        id="llama-server",
        name="llama.cpp llama-server",
        speaks=dict.fromkeys(("chat", "messages", "embeddings"), "http://127.0.0.1:8080/v1"),
        auth="none",
        docs="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        profile=with_changes(LOCAL, reasoning_field="reasoning_content", reasoning_effort=True),
        local=True,
        note="Start it with --jinja, or tools are refused.",
    ),
    Provider(
        id="vllm",
        name="vLLM",
        speaks=dict.fromkeys(("chat", "messages", "embeddings"), "http://127.0.0.1:8000/v1"),
        auth="none",
        docs="https://docs.vllm.ai/en/stable/serving/openai_compatible_server/",
        profile=with_changes(
            LOCAL,
            reasoning_field="reasoning",
            reasoning_effort=True,
            continuous_usage=True,
            prefill="continue",
        ),
        local=True,
    ),
    Provider(
        id="lmstudio",
        name="LM Studio",
        speaks=dict.fromkeys(("chat", "messages", "embeddings"), "http://127.0.0.1:1234/v1"),
        auth="none",
        docs="https://lmstudio.ai/docs/developer/anthropic-compat",
        profile=with_changes(LOCAL, reasoning_field="reasoning_content", null_content=False),
        local=True,
    ),
    Provider(
        id="simulator",
        name="Penstock's simulator",
        speaks=dict.fromkeys(
            (
                "chat",
                "messages",
                "responses",
                "embeddings",
                "completions",
                "images",
                "transcriptions",
                "speech",
                "rerank",
                "moderations",
            ),
            SIMULATOR_URL,
        ),
        auth="none",
        docs="docs/providers.md",
        profile=Profile(
            top_k=True,
            tool_images=True,
            max_stop=None,
            cache_control=True,
            reasoning_field="reasoning_content",
            thinking_switch="thinking",
            forced_while_thinking=False,
            system_turns=True,
        ),
        local=True,
        note="Not a model: deterministic text for first runs, documentation, tests and drills.",
    ),
    Provider(
        id="custom",
        name="Any other server",
        speaks={},
        docs="docs/providers.md",
        note="Any URL that speaks the OpenAI or the Anthropic format.",
    ),
)

PROVIDERS: Mapping[str, Provider] = {row.id: row for row in _ROWS}


def upstream(row: Provider) -> Upstream:
    """A row as a provider of the catalogue, set up as the vendor documents it."""
    return Upstream(
        id=row.id,
        kind=row.id,
        speaks=tuple(row.speaks.items()),
        auth=row.auth,
        secret=f"env:{row.env}" if row.env else "",
        profile=row.profile,
        model_profiles=row.model_profiles,
        reach=row.reach,
    )


KINDS: Mapping[str, Upstream] = {row.id: upstream(row) for row in _ROWS}
"""What the catalogue fills a provider's missing fields from, by its ``kind``."""


def extra_headers(kind: str) -> tuple[Header, ...]:
    """What a vendor wants in every request besides the credentials."""
    row = PROVIDERS.get(kind)
    return () if row is None else row.extra_headers
