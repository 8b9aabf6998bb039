"""Efforts, switches, sampling and forced calls: what callers of each format ask reaches each vendor as it has it."""

import json
from typing import Any, get_args

import pytest

from penstock.core.catalog import DialectName, Model, Target, Upstream
from penstock.core.dialects.openai.effort import nearest
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.core.endpoints import FORMATS
from penstock.core.neutral.request import Effort
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.routing.candidates import Upstreams
from penstock.errors import InvalidRequest
from penstock.providers.profiles import with_changes
from penstock.providers.table import KINDS

EFFORTS: tuple[Effort, ...] = get_args(Effort)
TOOL = {"type": "object", "properties": {}}


def asked(caller: DialectName, effort: str | None = None, **fields: Any) -> dict[str, Any]:
    """A small body with an effort as callers of this format write it."""
    body: dict[str, Any] = {"model": "m", "stream": True, **fields}
    if caller == "responses":
        body |= {"input": "hi"} | ({} if effort is None else {"reasoning": {"effort": effort}})
        return body
    body["messages"] = [{"role": "user", "content": "hi"}]
    if caller == "chat":
        return body | ({} if effort is None else {"reasoning_effort": effort})
    body.setdefault("max_tokens", 4096)
    if effort == "none":
        return body | {"thinking": {"type": "disabled"}}
    return body | ({} if effort is None else {"output_config": {"effort": effort}})


def sent(
    caller: DialectName, upstream: str, profile: Profile, effort: str | None = None, **fields: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    raw = json.dumps(asked(caller, effort, **fields)).encode()
    prepared = prepare(
        read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile
    )
    return json.loads(prepared.body), {loss.field: loss.outcome for loss in prepared.losses}


def of(kind: str, model: str) -> Profile:
    return KINDS[kind].profile_of(model)


NAMES = {"messages": "output_config.effort", "responses": "reasoning.effort", "chat": "reasoning_effort"}
callers = pytest.mark.parametrize("caller", ["messages", "responses"])


# ---- switches


@callers
@pytest.mark.parametrize(("kind", "model"), [("zai", "glm-5.1"), ("moonshot", "kimi-k2.6")])
def test_an_effort_turns_a_switch(caller: DialectName, kind: str, model: str) -> None:
    body, told = sent(caller, "chat", of(kind, model), "none")
    assert (body["thinking"], "reasoning_effort" in body) == ({"type": "disabled"}, False)
    assert told == {}
    body, told = sent(caller, "chat", of(kind, model), "high")
    assert (body["thinking"], "reasoning_effort" in body) == ({"type": "enabled"}, False)
    assert told == {NAMES[caller]: "switched"}
    body, told = sent(caller, "chat", of(kind, model))
    assert "thinking" not in body
    assert told == {}


def test_what_is_hardly_any_is_none_where_there_is_nothing_between() -> None:
    body, told = sent("responses", "chat", of("zai", "glm-5.1"), "minimal")
    assert body["thinking"] == {"type": "disabled"}
    assert told == {"reasoning.effort": "switched"}


@callers
def test_qwen_gets_a_budget(caller: DialectName) -> None:
    body, told = sent(caller, "chat", of("dashscope", "qwen3.8-max"), "none")
    assert body["enable_thinking"] is False
    assert told == {}
    for effort, budget in (("low", 2048), ("medium", 8192), ("high", 16384)):
        body, told = sent(caller, "chat", of("dashscope", "qwen3.8-max"), effort)
        assert (body["enable_thinking"], body["thinking_budget"]) == (True, budget)
        assert told == {NAMES[caller]: "budget"}
    body, told = sent(caller, "chat", of("dashscope", "qwen3.8-max"), "max")
    assert (body["enable_thinking"], "thinking_budget" in body) == (True, False)
    assert told == {NAMES[caller]: "switched"}


def test_qwen_reasons_in_streams_alone() -> None:
    qwen = of("dashscope", "qwen3.8-max")
    body, _ = sent("responses", "chat", qwen, "high", stream=False)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    for effort in ("none", None):
        assert sent("responses", "chat", qwen, effort, stream=False)[0]["stream"] is False
    body, told = sent("responses", "chat", of("dashscope", "qwen3-coder-plus"), "high", stream=False)
    assert (body["stream"], "enable_thinking" in body) == (False, False)
    assert told == {"reasoning.effort": "dropped"}
    assert sent("responses", "chat", of("dashscope", "qwen3-coder-plus"), "none")[1] == {
        "reasoning.effort": "dropped"
    }


@callers
@pytest.mark.parametrize(
    ("kind", "model"), [("zai", "glm-5.2"), ("deepseek", "deepseek-v4-pro"), ("zai", "glm-6")]
)
def test_a_switch_turns_off_and_an_effort_says_how_much(caller: DialectName, kind: str, model: str) -> None:
    body, _ = sent(caller, "chat", of(kind, model), "none")
    assert (body["thinking"], "reasoning_effort" in body) == ({"type": "disabled"}, False)
    body, told = sent(caller, "chat", of(kind, model), "high")
    assert (body["reasoning_effort"], "thinking" in body) == ("high", False)
    assert told == {}


def test_a_budget_is_an_effort_where_there_is_no_budget() -> None:
    thinking = {"type": "enabled", "budget_tokens": 20_000}
    body, told = sent("messages", "chat", of("zai", "glm-5.2"), thinking=thinking)
    assert (body["thinking"], body["reasoning_effort"], told) == ({"type": "enabled"}, "high", {})
    body, told = sent("messages", "messages", of("deepseek", "deepseek-v4-pro"), thinking=thinking)
    assert body["thinking"] == thinking, "the same format stays as it is"
    body, told = sent("messages", "chat", of("zai", "glm-5.1"), thinking=thinking)
    assert (body["thinking"], told) == ({"type": "enabled"}, {})


# ---- efforts


@callers
@pytest.mark.parametrize("kind", ["ollama", "llama-server", "vllm"])
def test_local_servers_have_learnt_efforts(caller: DialectName, kind: str) -> None:
    for effort in ("none", "low", "high"):
        body, told = sent(caller, "chat", of(kind, "any"), effort)
        assert (body["reasoning_effort"], told) == (effort, {})
    body, told = sent(caller, "chat", of("lmstudio", "any"), "high")
    assert "reasoning_effort" not in body
    assert told == {NAMES[caller]: "dropped"}


@pytest.mark.parametrize(
    ("kind", "model", "efforts"),
    [
        # for none, minimal, low, medium, high, xhigh and max
        ("moonshot", "kimi-k3", "low low low high high max max"),
        ("ollama", "any", "none low low medium high high high"),
        ("openai", "gpt-5", "minimal minimal low medium high high high"),
        ("openai", "gpt-5.1", "none low low medium high high high"),
        ("openai", "gpt-5.4", "none low low medium high xhigh xhigh"),
        ("openai", "gpt-5.6", "none low low medium high xhigh max"),
        ("openai", "gpt-5-pro", "high high high high high high high"),
        ("openai", "o3", "low low low medium high high high"),
        ("mistral", "mistral-medium-3-5", "none none high high high high high"),
        ("xai", "grok-4.5", "low low low medium high high high"),
        ("gemini", "gemini-3-pro-preview", "low low low high high high high"),
        ("groq", "openai/gpt-oss-120b", "low low low medium high high high"),
    ],
)
def test_each_model_gets_an_effort_that_it_knows(kind: str, model: str, efforts: str) -> None:
    profile = of(kind, model)
    assert [nearest(effort, profile) for effort in EFFORTS] == efforts.split()
    for effort, known in zip(EFFORTS, efforts.split(), strict=True):
        body, told = sent("responses", "chat", profile, effort)
        assert body["reasoning_effort"] == known
        assert told == ({} if known == effort else {"reasoning.effort": "nearest"})


def test_efforts_that_are_none_leave_the_range() -> None:
    assert nearest("none", Profile(efforts="nonsense", least_effort="low")) == "low"
    assert nearest("max", Profile(most_effort="high")) == "high"


# ---- Messages upstreams


@pytest.mark.parametrize("caller", ["chat", "responses"])
def test_an_effort_goes_beside_the_switch_in_messages(caller: DialectName) -> None:
    for kind, model in (("deepseek", "deepseek-v4-pro"), ("moonshot", "kimi-k3")):
        body, told = sent(caller, "messages", of(kind, model), "high")
        assert (body["thinking"], body["output_config"]) == ({"type": "enabled"}, {"effort": "high"})
        assert told == {}
        body, told = sent(caller, "messages", of(kind, model), "medium")
        assert body["output_config"] == {"effort": "high"}
        assert told == {NAMES[caller]: "nearest"}
    assert sent(caller, "messages", of("deepseek", "deepseek-v4-pro"), "none")[0]["thinking"] == {
        "type": "disabled"
    }


@pytest.mark.parametrize("caller", ["chat", "responses"])
@pytest.mark.parametrize(
    ("model", "thinking", "output", "outcome"),
    [
        ("claude-opus-5", {"type": "disabled"}, None, None),
        ("claude-haiku-5-5", {"type": "disabled"}, None, None),
        ("claude-sonnet-5-5", {"type": "between_tools"}, None, None),
        ("claude-opus-5-5", {"type": "adaptive"}, {"effort": "low"}, "nearest"),
        ("claude-fable-5-1", {"type": "adaptive"}, {"effort": "low"}, "nearest"),
        ("claude-mythos-5", {"type": "adaptive"}, {"effort": "low"}, "nearest"),
    ],
)
def test_claude_is_told_not_to_reason_as_far_as_it_can_be(
    caller: DialectName, model: str, thinking: Any, output: Any, outcome: str | None
) -> None:
    for kind, name in (("anthropic", model), ("bedrock", f"anthropic.{model}")):
        body, told = sent(caller, "messages", of(kind, name), "none")
        assert (body["thinking"], body.get("output_config")) == (thinking, output)
        assert told == ({} if outcome is None else {NAMES[caller]: outcome})


def test_claude_4_6_has_no_effort_between_high_and_max() -> None:
    body, told = sent("chat", "messages", of("anthropic", "claude-opus-4-6"), "xhigh", max_tokens=9000)
    assert body["output_config"] == {"effort": "max"}
    assert told == {"reasoning_effort": "nearest"}
    body, told = sent("chat", "messages", of("anthropic", "claude-opus-4-7"), "xhigh", max_tokens=9000)
    assert (body["output_config"], told) == ({"effort": "xhigh"}, {})
    assert sent("chat", "messages", of("anthropic", "claude-opus-4-7"), "minimal")[0]["output_config"] == {
        "effort": "low"
    }


@pytest.mark.parametrize(
    ("model", "tokens", "streamed"),
    [
        ("claude-sonnet-5", 21_333, False),
        ("claude-sonnet-5", 21_334, True),
        ("claude-opus-4-1-20250805", 8192, False),
        ("claude-opus-4-1-20250805", 8193, True),
        ("claude-opus-4-20250514", 8193, True),
    ],
)
def test_long_answers_are_asked_for_as_streams(model: str, tokens: int, streamed: bool) -> None:
    body, _ = sent("chat", "messages", of("anthropic", model), stream=False, max_tokens=tokens)
    assert body.get("stream", False) is streamed


# ---- forced calls


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
@pytest.mark.parametrize(
    ("kind", "model", "upstream"),
    [
        ("anthropic", "claude-opus-5-5", "messages"),
        ("anthropic", "claude-haiku-5-5", "messages"),
        ("moonshot", "kimi-k3", "chat"),
        ("moonshot", "kimi-k2.7-code", "chat"),
        ("zai", "glm-5.2", "chat"),
        ("ollama", "any", "chat"),
        ("openrouter", "anthropic/claude-opus-5.5", "responses"),
    ],
)
def test_a_call_that_cannot_be_forced_is_left_to_the_model(
    caller: DialectName, kind: str, model: str, upstream: str
) -> None:
    if caller == upstream:
        return
    body, told = sent(
        caller, upstream, of(kind, model), tools=[tool_of(caller)], tool_choice=forced_by(caller)
    )
    assert body["tool_choice"] in ("auto", {"type": "auto"})
    assert "disabled" not in json.dumps(body)
    assert told == {"tool_choice": "auto"}
    for mode in ("auto", "none"):
        chosen: Any = {"type": mode} if caller == "messages" else mode
        told = sent(caller, upstream, of(kind, model), tools=[tool_of(caller)], tool_choice=chosen)[1]
        assert told == {}


def tool_of(caller: DialectName, schema: Any = TOOL) -> Any:
    if caller == "messages":
        return {"name": "get", "input_schema": schema}
    function = {"name": "get", "parameters": schema}
    return (
        {"type": "function", "function": function} if caller == "chat" else {"type": "function", **function}
    )


def forced_by(caller: DialectName) -> Any:
    return {"type": "any"} if caller == "messages" else "required"


@callers
def test_a_forced_call_goes_before_reasoning_that_a_vendor_has_by_default(caller: DialectName) -> None:
    kimi = of("moonshot", "kimi-k2.6")
    body, told = sent(caller, "chat", kimi, tools=[tool_of(caller)], tool_choice=forced_by(caller))
    assert (body["tool_choice"], body["thinking"]) == ("required", {"type": "disabled"})
    assert told == {NAMES[caller]: "disabled"}


# ---- sampling


@pytest.mark.parametrize(
    ("caller", "kind", "model", "upstream"),
    [
        ("messages", "openai", "gpt-5", "chat"),
        ("messages", "openai", "gpt-5-mini", "chat"),
        ("messages", "openai", "o3", "chat"),
        ("chat", "openai", "gpt-5.6", "responses"),
        ("responses", "moonshot", "kimi-k2.5", "chat"),
        ("responses", "moonshot", "kimi-k3", "chat"),
        ("chat", "moonshot", "kimi-k2.6", "chat"),
        ("chat", "openai", "gpt-5", "chat"),
        ("responses", "openai", "gpt-5.2", "responses"),
        ("chat", "anthropic", "claude-opus-4-7", "messages"),
    ],
)
def test_sampling_that_a_model_refuses_is_left_out_and_told(
    caller: DialectName, kind: str, model: str, upstream: str
) -> None:
    body, told = sent(caller, upstream, of(kind, model), temperature=0, top_p=0.5)
    assert not {"temperature", "top_p"} & body.keys()
    assert told.items() >= {("temperature", "dropped"), ("top_p", "dropped")}


@pytest.mark.parametrize(
    ("kind", "model"),
    [("openai", "gpt-4.1"), ("openai", "gpt-5-chat-latest"), ("moonshot", "moonshot-v1-8k")],
)
def test_sampling_that_a_model_takes_goes_on(kind: str, model: str) -> None:
    for caller in ("messages", "chat"):
        body, told = sent(caller, "chat", of(kind, model), temperature=0)
        assert (body["temperature"], told) == (0, {})


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_sampling_is_taken_where_nobody_reasons(caller: DialectName, upstream: str) -> None:
    latest = of("openai", "gpt-5.2")
    body, told = sent(caller, upstream, latest, "none", temperature=0)
    assert (body["temperature"], told.get("temperature")) == (0, None)
    for effort in ("low", None):
        body, told = sent(caller, upstream, latest, effort, temperature=0)
        assert ("temperature" in body, told["temperature"]) == (False, "dropped")


@pytest.mark.parametrize("caller", ["chat", "responses"])
def test_what_a_model_has_anyway_stays_in_the_callers_own_bytes(caller: DialectName) -> None:
    kimi = of("moonshot", "kimi-k2.6")
    body, told = sent(caller, caller, kimi, temperature=1, metadata={"temperature": "x"})
    assert body["temperature"] == 1
    assert "temperature" not in told
    body, _ = sent(caller, caller, kimi, instructions='a "temperature" in words')
    assert "temperature" not in body


def test_strict_callers_are_told_by_a_refusal() -> None:
    raw = json.dumps(asked("chat", temperature=0)).encode()
    with pytest.raises(InvalidRequest) as raised:
        prepare(
            read_envelope(raw, "chat"), caller="chat", upstream="chat", model="up",
            profile=of("moonshot", "kimi-k2.6"), strict=True,
        )  # fmt: skip
    assert raised.value.param == "temperature"


# ---- schemas of tools, from each caller to each upstream


UNION = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "path": {"type": "string"}},
    "anyOf": [{"required": ["id"]}, {"required": ["path"]}],
}
FIELDS = {
    "chat": "tools.function.parameters",
    "messages": "tools.input_schema",
    "responses": "tools.parameters",
}


def offered(body: dict[str, Any]) -> dict[str, Any]:
    (tool,) = body["tools"]
    tool = tool.get("function", tool)
    return {
        "schema": tool.get("parameters", tool.get("input_schema")),
        "description": tool.get("description"),
    }


@pytest.mark.parametrize(
    ("caller", "kind", "model", "upstream"),
    [
        ("chat", "anthropic", "claude-haiku-4-5", "messages"),
        ("responses", "anthropic", "claude-opus-5", "messages"),
        ("messages", "moonshot", "kimi-k3", "chat"),
        ("messages", "openai", "gpt-5", "chat"),
        ("messages", "openai", "gpt-5.6", "responses"),
        ("chat", "openai", "gpt-5.6", "responses"),
        ("responses", "openai", "gpt-4.1", "chat"),
        ("chat", "bedrock", "anthropic.claude-opus-5", "messages"),
        ("responses", "openrouter", "openai/gpt-5.2", "chat"),
    ],
)
def test_schemas_are_fitted_where_the_upstream_needs_it(
    caller: DialectName, kind: str, model: str, upstream: str
) -> None:
    profile = of(kind, model)
    body, told = sent(
        caller, upstream, profile, tools=[tool_of(caller, {"properties": {"p": {"type": "string"}}})]
    )
    assert offered(body) == {
        "schema": {"properties": {"p": {"type": "string"}}, "type": "object"},
        "description": None,
    }
    assert told == {FIELDS[caller]: "adapted"}
    body, told = sent(caller, upstream, profile, tools=[tool_of(caller, UNION)])
    found = offered(body)
    assert found["schema"] == {name: UNION[name] for name in ("type", "properties")}
    assert json.dumps(UNION["anyOf"], separators=(",", ":")) in found["description"]
    assert told == {FIELDS[caller]: "adapted"}
    body, told = sent(caller, upstream, profile, tools=[tool_of(caller)])
    assert (offered(body)["schema"], told) == (TOOL, {})


def test_schemas_stay_where_nobody_asks_for_more() -> None:
    for kind in ("together", "custom", "vllm"):
        body, told = sent("messages", "chat", of(kind, "any"), tools=[tool_of("messages", UNION)])
        assert (offered(body)["schema"], told) == (UNION, {})


def test_strict_tools_are_held_to_what_claude_takes() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "get", "parameters": schema, "strict": True}}
    body, told = sent("chat", "messages", of("anthropic", "claude-opus-4-6"), tools=[tool])
    assert body["tools"][0]["strict"] is True
    assert body["tools"][0]["input_schema"]["additionalProperties"] is False
    assert body["tools"][0]["input_schema"]["properties"]["n"] == {
        "type": "integer",
        "description": '{"minimum":3}',
    }
    assert told == {"tools.function.parameters": "adapted"}


# ---- which format is translated into


def plan_of(kind: str, model: str, caller: DialectName, row: Upstream | None = None) -> str:
    upstream = row or KINDS[kind]
    target = Model("m", "m", targets=(Target(upstream.id, model),))
    group = Upstreams([upstream]).group(target, caller, FORMATS)
    attempt = group.tiers[0].candidates[0].attempt
    return attempt.dialect


def test_the_latest_of_openai_is_asked_in_responses() -> None:
    for model, preferred in (
        ("gpt-5", "chat"),
        ("gpt-5.4", "chat"),
        ("gpt-5.6", "responses"),
        ("gpt-6", "responses"),
    ):
        assert plan_of("openai", model, "messages") == preferred
        assert plan_of("openai", model, "chat") == "chat"
        assert plan_of("openai", model, "responses") == "responses"


def test_a_format_that_is_not_spoken_is_not_preferred() -> None:
    lab = Upstream(
        "lab",
        "custom",
        speaks=(("chat", "http://127.0.0.1:1/v1"),),
        profile=Profile(preferred_format="responses"),
    )
    assert plan_of("lab", "m", "messages", lab) == "chat"


def test_the_default_asks_for_nothing_special() -> None:
    body, told = sent("messages", "chat", DEFAULT_PROFILE, "high", temperature=0.5)
    assert (body["reasoning_effort"], body["temperature"], told) == ("high", 0.5, {})
    body, told = sent("messages", "chat", with_changes(DEFAULT_PROFILE, reasoning_effort=False), "high")
    assert told == {"output_config.effort": "dropped"}
