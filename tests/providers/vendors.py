"""Doubles of vendors: what each refuses of a request's body, as its own texts say it, written without a look at our habits.

A double knows the facts that ``providers/facts.py`` names, one function each, and says for a body what its vendor would say.
``REQUESTS`` are what callers of each format send that some vendor refuses; ``tried`` sends them all to one row's models.
"""

import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, cast

from penstock.core.catalog import DialectName
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.errors import InvalidRequest
from penstock.providers.table import KINDS, PROVIDERS

Body = dict[str, Any]
Rule = Callable[[Body, str], str | None]
"""Takes a body and the dialect; gives the refusal."""

MODELS: dict[str, tuple[str, ...]] = {
    "anthropic": (
        "claude-haiku-4-5", "claude-opus-4-1-20250805", "claude-sonnet-4-6", "claude-opus-4-7", "claude-opus-4-8",
        "claude-sonnet-5", "claude-opus-5", "claude-fable-5-1", "claude-mythos-5", "claude-opus-5-5", "claude-sonnet-5-5",
        "claude-haiku-5-5",
    ),
    "bedrock": ("anthropic.claude-sonnet-4-6", "anthropic.claude-opus-5", "anthropic.claude-opus-5-5"),
    "openai": ("gpt-4.1", "o3", "gpt-5", "gpt-5-mini", "gpt-5-pro", "gpt-5.1", "gpt-5.2", "gpt-5.4-mini", "gpt-5.6", "gpt-6"),
    "deepseek": ("deepseek-v4-flash", "deepseek-v4-pro"),
    "dashscope": ("qwen3.8-max", "qwen3-coder-plus"),
    "minimax": ("MiniMax-M2.7", "MiniMax-M3"),
    "openrouter": (
        "anthropic/claude-sonnet-4.6", "anthropic/claude-opus-5.5", "openai/gpt-5.2", "moonshotai/kimi-k3", "x/any",
    ),
    "moonshot": ("kimi-k2.5", "kimi-k2.6", "kimi-k2.7-code", "kimi-k3", "moonshot-v1-128k"),
    "zai": ("glm-4.7", "glm-5.1", "glm-5.2", "glm-5.3"),
    "gemini": ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3.5-flash"),
    "groq": ("openai/gpt-oss-120b", "llama-3.3-70b-versatile"),
    "mistral": ("mistral-small-latest", "mistral-medium-3-5", "mistral-large-4-0", "codestral-latest"),
    "xai": ("grok-4.3", "grok-4.5", "grok-4-1-fast-reasoning", "grok-code-fast-1"),
    "together": ("zai-org/GLM-5.2",),
    "fireworks": ("accounts/fireworks/models/glm-5",),
    "azure": ("gpt-4.1", "gpt-5.2", "gpt-6"),
    "azure-anthropic": ("claude-sonnet-4-6", "claude-opus-5-5"),
    "vertex": ("google/gemini-2.5-flash", "google/gemini-3.5-flash"),
    "vertex-anthropic": ("claude-sonnet-4-6", "claude-opus-5-5"),
    "ollama": ("qwen3.5", "gpt-oss:20b"),
    "llama-server": ("local",),
    "vllm": ("Qwen/Qwen3.8-27B",),
    "lmstudio": ("openai/gpt-oss-20b",),
    "simulator": ("sim-ok",),
}  # fmt: skip
"""Models of today, of every row that names vendors'."""


# ---- what bodies say


def _tools(body: Body) -> list[Body]:
    """The schemas of the offered functions."""
    found = [tool.get("function", tool) for tool in body.get("tools", [])]
    return [tool.get("parameters", tool.get("input_schema", {})) for tool in found]


def _forced(body: Body) -> bool:
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        return choice.get("type") not in ("auto", "none")
    return choice not in (None, "auto", "none")


def _effort(body: Body) -> str | None:
    found = body.get("reasoning_effort") or body.get("reasoning", {}).get("effort")
    return found or body.get("output_config", {}).get("effort")


def _nested(schema: object) -> Iterator[Body]:
    if isinstance(schema, dict):
        yield cast("Body", schema)
        for value in schema.values():
            yield from _nested(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _nested(item)


# ---- rules


def root_is_an_object(body: Body, _: str) -> str | None:
    wrong = any(schema.get("type") != "object" for schema in _tools(body))
    return "parameters.type is required and must be object" if wrong else None


def root_has_none_of(*names: str) -> Rule:
    def rule(body: Body, _: str) -> str | None:
        wrong = any(name in schema for schema in _tools(body) for name in names)
        return f"no {names} at the top level" if wrong else None

    return rule


def moonshot_flavored(body: Body, _: str) -> str | None:
    for schema in _tools(body):
        for inner in _nested(schema):
            if "$ref" in inner and inner.keys() - {"$ref", "$defs"}:
                return "conflicting keywords found after $ref expansion"
            if isinstance(inner.get("$ref"), str) and not inner["$ref"].startswith("#/$defs/"):
                return "references must start with #/$defs/"
            if isinstance(inner.get("anyOf"), list) and "type" in inner:
                return "when using anyOf, type should be defined in anyOf items"
    return None


def no_sampling(body: Body, _: str) -> str | None:
    asked = [name for name in ("temperature", "top_p", "top_k") if body.get(name) not in (None, 1, 1.0)]
    return f"unsupported: {asked}" if asked else None


def one_of_temperature_and_top_p(body: Body, _: str) -> str | None:
    both = body.get("temperature") is not None and body.get("top_p") is not None
    return "`temperature` and `top_p` cannot both be specified for this model" if both else None


def no_sampling_while_reasoning(body: Body, dialect: str) -> str | None:
    return None if _effort(body) == "none" else no_sampling(body, dialect)


def efforts(*known: str) -> Rule:
    def rule(body: Body, _: str) -> str | None:
        asked = _effort(body)
        return f"effort {asked} is none of {known}" if asked is not None and asked not in known else None

    return rule


def no_effort(body: Body, _: str) -> str | None:
    return "does not support parameter reasoning_effort" if _effort(body) is not None else None


def nothing_forced(body: Body, _: str) -> str | None:
    return "tool_choice must be auto" if _forced(body) else None


def not_forced_while_thinking(body: Body, _: str) -> str | None:
    """Reasons unless told not to."""
    off = body.get("thinking", {}).get("type") == "disabled" or body.get("enable_thinking") is False
    return "tool_choice is incompatible with thinking enabled" if _forced(body) and not off else None


def not_forced_where_asked_to_think(body: Body, _: str) -> str | None:
    on = body.get("thinking", {}).get("type", "disabled") != "disabled" or body.get("enable_thinking") is True
    return "tool_choice is incompatible with thinking enabled" if _forced(body) and on else None


def never_disabled(body: Body, _: str) -> str | None:
    kind = body.get("thinking", {}).get("type")
    return f"thinking.type.{kind} is not supported" if kind in ("disabled", "enabled") else None


def no_thinking_field(body: Body, dialect: str) -> str | None:
    return "unknown field thinking" if dialect == "chat" and "thinking" in body else None


def adaptive_alone(body: Body, _: str) -> str | None:
    return "budgets are gone" if body.get("thinking", {}).get("type") == "enabled" else None


def streamed_above(most: int) -> Rule:
    def rule(body: Body, _: str) -> str | None:
        long = body.get("max_tokens", 0) > most and not body.get("stream")
        return "streaming is required for long requests" if long else None

    return rule


def thinks_in_streams(body: Body, _: str) -> str | None:
    whole = body.get("enable_thinking") is True and not body.get("stream")
    return "enable_thinking must be set to false for non-streaming calls" if whole else None


def no_tools_with_effort(body: Body, dialect: str) -> str | None:
    asked = dialect == "chat" and bool(body.get("tools")) and _effort(body) not in (None, "none")
    return "Function tools with reasoning_effort are not supported" if asked else None


def one_stop(body: Body, _: str) -> str | None:
    return "at most one stop" if len(body.get("stop", [])) > 1 else None


def no_scores(body: Body, _: str) -> str | None:
    return "logprobs is not supported" if {"logprobs", "top_logprobs"} & body.keys() else None


def no_unknown_fields(body: Body, _: str) -> str | None:
    unknown = {"stream_options", "user", "cache_control", "logprobs", "top_logprobs"} & body.keys()
    return f"extra inputs are not permitted: {unknown}" if unknown else None


_CLAUDE = (
    root_is_an_object,
    root_has_none_of("anyOf", "oneOf", "allOf"),
    streamed_above(21_333),
    not_forced_where_asked_to_think,
)
_BARE = (root_is_an_object, root_has_none_of("anyOf", "oneOf", "allOf", "enum", "const", "not"))
_LATER = (*_CLAUDE, no_sampling, adaptive_alone)
_KIMI = (*_BARE[:1], root_has_none_of("anyOf", "oneOf", "allOf"), moonshot_flavored)

_OWN: dict[str, tuple[tuple[str, tuple[Rule, ...]], ...]] = {
    "anthropic": (
        ("*claude-opus-4-1*", (*_CLAUDE, one_of_temperature_and_top_p, streamed_above(8192))),
        ("*claude-haiku-4-5*", (*_CLAUDE, one_of_temperature_and_top_p)),
        ("*claude-*-4-6*", (*_CLAUDE, one_of_temperature_and_top_p, efforts("low", "medium", "high", "max"))),
        ("*claude-opus-5-5*", (*_LATER, never_disabled, nothing_forced, efforts("low", "medium", "high", "xhigh", "max"))),
        ("*claude-fable*", (*_LATER, never_disabled, nothing_forced)),
        ("*claude-mythos*", (*_LATER, never_disabled, nothing_forced)),
        ("*claude-sonnet-5-5*", (*_LATER, never_disabled, nothing_forced)),
        ("*claude-haiku-5-5*", (*_LATER, nothing_forced)),
        ("*claude-*-4-[78]*", _LATER),
        ("*claude-*-[5-9]*", (*_LATER, not_forced_while_thinking)),
    ),
    "openai": (
        ("gpt-4*", (*_BARE, no_effort)),
        ("o3", (*_BARE, no_sampling, efforts("low", "medium", "high"))),
        ("gpt-5-pro", (*_BARE, no_sampling, efforts("high"))),
        ("gpt-5.1*", (*_BARE, no_sampling_while_reasoning, efforts("none", "low", "medium", "high"))),
        ("gpt-5.[2-5]*", (*_BARE, no_sampling_while_reasoning, efforts("none", "low", "medium", "high", "xhigh"))),
        ("gpt-5.6*", (*_BARE, no_sampling_while_reasoning, no_tools_with_effort)),
        ("gpt-6*", (*_BARE, no_sampling_while_reasoning, no_tools_with_effort)),
        ("gpt-5*", (*_BARE, no_sampling, efforts("minimal", "low", "medium", "high"))),
    ),
    "deepseek": (("*", (root_is_an_object, efforts("low", "high", "max"), not_forced_while_thinking)),),
    "dashscope": (("*coder*", (no_effort,)), ("*", (thinks_in_streams, not_forced_where_asked_to_think))),
    "moonshot": (
        ("kimi-k3*", (*_KIMI, no_sampling, efforts("low", "high", "max"), nothing_forced, no_thinking_field)),
        ("kimi-k2.7-code*", (*_KIMI, no_sampling, nothing_forced)),
        ("moonshot-v1*", (*_KIMI, no_effort)),
        ("*", (*_KIMI, no_sampling, not_forced_while_thinking)),
    ),
    "zai": (("glm-5.[2-9]*", (nothing_forced, one_stop)), ("*", (nothing_forced, one_stop, no_effort))),
    "gemini": (
        ("gemini-2.5-flash*", (root_is_an_object, efforts("none", "low", "medium", "high"))),
        ("gemini-3-pro*", (root_is_an_object, efforts("low", "high"))),
        ("*", (root_is_an_object, efforts("minimal", "low", "medium", "high"))),
    ),
    "groq": (("openai/gpt-oss*", (no_scores, efforts("low", "medium", "high"))), ("*", (no_scores, no_effort))),
    "together": (("*", (no_scores,)),),
    "mistral": (
        ("mistral-large-4*", (no_unknown_fields, efforts("low", "medium", "high"))),
        ("mistral-small-latest", (no_unknown_fields, efforts("none", "high"))),
        ("mistral-medium-3-5", (no_unknown_fields, efforts("none", "high"))),
        ("*", (no_unknown_fields, no_effort)),
    ),
    "xai": (
        ("grok-4.3", (efforts("none", "low", "medium", "high"),)),
        ("grok-4.5", (efforts("low", "medium", "high"),)),
        ("*", (no_effort,)),
    ),
    "openrouter": (
        ("anthropic/*-4.6", (efforts("low", "medium", "high", "max"),)),
        ("anthropic/*-5.5", (no_sampling, nothing_forced)),
        ("moonshotai/*", _KIMI),
        ("openai/*", _BARE),
        ("*", ()),
    ),
    "ollama": (("*", (efforts("none", "low", "medium", "high"), nothing_forced)),),
    "lmstudio": (("*", (no_effort,)),),
}  # fmt: skip
RULES: dict[str, tuple[tuple[str, tuple[Rule, ...]], ...]] = {
    **_OWN,
    **dict.fromkeys(("bedrock", "azure-anthropic", "vertex-anthropic"), _OWN["anthropic"]),
    "azure": _OWN["openai"],
    "vertex": _OWN.get("gemini", ()),
}
"""By row, in order, by the models' names; the first that fits counts."""


def refusals(kind: str, model: str, body: Body, dialect: str) -> list[str]:
    """What the double of this vendor says of a body; nothing where it takes it."""
    for pattern, rules in RULES.get(kind, ()):
        if fnmatchcase(model, pattern):
            return [said for rule in rules if (said := rule(body, dialect)) is not None]
    return []


# ---- what callers send


_UNION = {
    "type": "object",
    "properties": {"id": {"type": "string"}},
    "anyOf": [{"required": ["id"]}, {"required": ["path"]}],
}
_SCHEMAS: dict[str, Body] = {
    "plain": {"type": "object", "properties": {"p": {"type": "string"}}},
    "no root": {"properties": {"p": {"type": "string"}}},
    "empty": {},
    "union": _UNION,
    "all": {
        "allOf": [{"$ref": "#/definitions/a"}, {"properties": {"b": {"type": "integer"}}}],
        "definitions": {"a": {"type": "object"}},
    },
    "inner": {"type": "object", "properties": {"f": {"type": "string", "anyOf": [{"minLength": 1}, {"const": ""}]}}},
    "reference": {
        "type": "object",
        "$defs": {"v": {"type": "string"}},
        "properties": {"v": {"$ref": "#/$defs/v", "description": "x"}},
    },
}  # fmt: skip


def requests(caller: DialectName) -> Iterator[tuple[str, Body]]:
    """Bodies of this format, each with a name."""
    messages = caller == "messages"
    turn = {"role": "user", "content": "hi"}
    plain: Body = (
        {"model": "m", "input": "hi"} if caller == "responses" else {"model": "m", "messages": [turn]}
    )
    plain |= {"max_tokens": 4096} if messages else {}
    yield "plain", plain
    yield "temperature", {**plain, "temperature": 0}
    yield "top_p", {**plain, "top_p": 0.5}
    yield "long", {**plain, ("max_output_tokens" if caller == "responses" else "max_tokens"): 50_000}
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        if messages:
            asked: Body = {"output_config": {"effort": effort}}
            if effort in ("none", "minimal"):
                asked = {"thinking": {"type": "disabled"}}
        elif caller == "chat":
            asked = {"reasoning_effort": effort}
        else:
            asked = {"reasoning": {"effort": effort}}
        yield f"effort {effort}", {**plain, **asked}
        yield f"effort {effort}, temperature", {**plain, **asked, "temperature": 0.5}
        yield f"effort {effort}, tools", {**plain, **asked, "tools": [_tool(caller, _SCHEMAS["plain"])]}
    if messages:
        yield "budget", {**plain, "thinking": {"type": "enabled", "budget_tokens": 2000}}
        yield "adaptive", {**plain, "thinking": {"type": "adaptive"}}
    for name, schema in _SCHEMAS.items():
        yield f"schema {name}", {**plain, "tools": [_tool(caller, schema)]}
    if caller == "chat":
        yield "log probabilities", {**plain, "logprobs": True, "top_logprobs": 2}
    elif caller == "responses":
        yield "log probabilities", {**plain, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    forced = {"type": "any"} if messages else "required"
    yield "forced", {**plain, "tools": [_tool(caller, _SCHEMAS["plain"])], "tool_choice": forced}


def _tool(caller: DialectName, schema: Body) -> Body:
    if caller == "messages":
        return {"name": "get", "description": "gets", "input_schema": schema}
    function = {"name": "get", "description": "gets", "parameters": schema}
    return (
        {"type": "function", "function": function} if caller == "chat" else {"type": "function", **function}
    )


CALLERS: tuple[DialectName, ...] = ("chat", "messages", "responses")


def tried(kind: str) -> Iterator[tuple[str, list[str]]]:
    """Each request of each caller to each model of this row, by each format that is translated into: its name, the refusals."""
    row = KINDS[kind]
    for model in MODELS.get(kind, ()):
        profile = row.profile_of(model)
        for upstream in PROVIDERS[kind].speaks:
            if upstream not in CALLERS or (upstream == "chat" and profile.preferred_format == "responses"):
                continue
            if kind == "bedrock" and upstream != "messages":
                continue  # Claude speaks that alone there; the row says so
            for caller in CALLERS:
                if caller == upstream != "chat":
                    continue
                for name, body in requests(caller):
                    if caller == upstream and not name.startswith("schema"):
                        continue  # passed through as it is
                    try:
                        prepared = prepare(
                            read_envelope(json.dumps(body).encode(), caller),
                            caller=caller, upstream=upstream, model=model, profile=profile,
                        )  # fmt: skip
                    except InvalidRequest:
                        continue  # refused in words, before anything is sent
                    said = refusals(kind, model, json.loads(prepared.body), upstream)
                    yield f"{kind}/{model}: {name}, {caller} -> {upstream}", said
