"""What a body may cost: every field that names another model or multiplies the bill, however it is spelt."""

import json
from typing import Any

import msgspec
import pytest

from penstock.core.body.cost_fields import CostBounds
from penstock.core.body.envelope import Envelope, bounded, read_body, takes_long_to_bound
from penstock.core.dialects.prepare import prepare, translation_header
from penstock.core.endpoints import ENDPOINTS
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest, ModelNotOnPlan

RULES = {row.name: row.caller.body for row in ENDPOINTS if row.caller.body.form is None}
FORMATS = tuple(RULES)
DIALECTS = tuple(row.name for row in ENDPOINTS if row.side is not None)
BOUNDS = CostBounds({"cheap", "held"}.__contains__, max_choices=4)
PLAIN: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "x"}]},
    "messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    "responses": {"input": "x", "store": False},
    "embeddings": {"input": "x"},
    "completions": {"prompt": "x"},
    "images": {"prompt": "x"},
    "speech": {"input": "x"},
    "rerank": {"query": "x", "documents": ["x"]},
    "moderations": {"input": "x"},
}


def body(dialect: str, **more: Any) -> bytes:
    return json.dumps({"model": "cheap", **PLAIN[dialect], **more}).encode()


def bound(dialect: str, sent: bytes) -> Envelope:
    return bounded(read_body(sent, RULES[dialect]), BOUNDS)


NAMING: dict[str, dict[str, Any]] = {
    "models": {"models": ["held", "dear"]},
    "models-text": {"models": "dear"},
    "models-object": {"models": {"primary": "dear"}},
    "fallbacks": {"fallbacks": [{"model": "dear"}]},
    "fallbacks-of-names": {"fallbacks": ["dear"]},
    "fallbacks-by-model": {"fallbacks": [{"cheap": ["dear"]}]},
    "model-list": {"model_list": [{"model_name": "cheap", "litellm_params": {"model": "dear"}}]},
    "plugins": {"plugins": [{"id": "web", "model": "dear"}]},
    "provider-options": {"providerOptions": {"gateway": {"models": ["dear"]}}},
    "provider": {"provider": {"fallbackModels": ["dear"]}},
    "extra-body": {"extra_body": {"models": ["dear"]}},
    "deep": {"extra_body": {"a": [{"b": [[{"fallbacks": ["dear"]}]]}]}},
    "unknown": {"x_new": {"advisorModel": "dear"}},
    "unknown-by-name": {"judge_model": "dear"},
    "other-case": {"Models": ["dear"]},
    "other-model": {"Model": "dear"},
    "kelvin-and-long-s": {"model\u017f": ["dear"]},
    "engine": {"engine": "dear"},
    "named-by-an-object": {"x_new": {"model": {"id": "dear"}}},
}


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("fields", NAMING.values(), ids=NAMING)
def test_a_model_that_the_caller_does_not_have_is_refused_wherever_it_is_named(
    dialect: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(ModelNotOnPlan, match="dear is not a model of your plan") as refused:
        bound(dialect, body(dialect, **fields))
    assert refused.value.param == next(iter(fields))
    escaped = "".join(f"\\u{ord(sign):04x}" for sign in "model")
    spelt = body(dialect, **fields).replace(b'"model', b'"' + escaped.encode())
    with pytest.raises(ModelNotOnPlan):
        bound(dialect, spelt)


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("fields", NAMING.values(), ids=NAMING)
def test_one_that_the_caller_has_passes_as_it_was_written(dialect: str, fields: dict[str, Any]) -> None:
    sent = body(dialect, **fields).replace(b'"dear"', b'"held"')
    envelope = bound(dialect, sent)
    assert envelope.body == sent
    assert envelope.left_out == ()


TOOLS: dict[str, dict[str, Any]] = {
    "advisor": {"type": "advisor_20260301", "name": "advisor", "model": "dear"},
    "openrouter": {"type": "openrouter:advisor", "parameters": {"model": "dear"}},
    "image": {"type": "image_generation", "model": "dear"},
    "listed": {"type": "openrouter:fusion", "parameters": {"analysis_models": ["held", "dear"]}},
    "in-a-namespace": {
        "type": "namespace",
        "name": "x",
        "tools": [{"type": "image_generation", "model": "dear"}],
    },
    "beside-a-function": {"type": "function", "function": {"name": "x"}, "model": "dear"},
    "search-with-a-model": {"type": "openrouter:web_search", "parameters": {"model": "dear"}},
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_a_tool_that_runs_a_model_runs_only_one_that_the_caller_has(
    dialect: str, tool: dict[str, Any]
) -> None:
    sent = body(dialect, tools=[tool])
    with pytest.raises(ModelNotOnPlan, match="tools: dear"):
        bound(dialect, sent)
    with pytest.raises(ModelNotOnPlan):
        bound(dialect, sent.replace(b'model": ', b'mod\\u0065l": '))
    mine = sent.replace(b'"dear"', b'"held"')
    assert bound(dialect, mine).body == mine


def test_of_a_key_that_is_there_twice_both_are_looked_at() -> None:
    two_types = b'{"type":"openrouter:advisor","type":"function","parameters":{"model":"dear"}}'
    two_names = b'{"type":"image_generation","model":"dear","model":"held"}'
    for tool in (two_types, two_names):
        with pytest.raises(ModelNotOnPlan):
            bound("chat", body("chat", tools=[0]).replace(b"[0]", b"[%b]" % tool))
    with pytest.raises(ModelNotOnPlan):
        bound("chat", body("chat", x_new=0).replace(b": 0", b':{"model":"dear","model":"held"}'))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["advisor_20260301", "openrouter:fusion", "Advisor_20990101"])
def test_a_tool_that_runs_a_model_of_its_own_choice_is_left_out(dialect: str, kind: str) -> None:
    own = {"type": "custom", "name": "advisor", "odd": 1.50}
    envelope = bound(dialect, body(dialect, tools=[own, {"type": kind, "name": "x"}], tool_choice="auto"))
    kept = {"type": "custom", "custom": {"name": "advisor"}} if dialect == "chat" else own
    assert json.loads(envelope.body)["tools"] == [kept]
    assert envelope.left_out == ("tools",)
    alone = bound(dialect, body(dialect, tools=[{"type": kind}], tool_choice="auto"))
    assert not {"tools", "tool_choice"} & alone.fields.keys()


ORDINARY: dict[str, dict[str, Any]] = {
    "function": {
        "type": "function",
        "function": {
            "name": "task",
            "parameters": {"properties": {"model": {"type": "string", "default": "opus"}}, "model": "dear"},
        },
    },
    "untyped": {"name": "task", "input_schema": {"examples": [{"model": "dear"}]}},
    "search": {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    "openrouter-search": {"type": "openrouter:web_search", "parameters": {"max_results": 3}},
    "image": {"type": "image_generation", "size": "1024x1024"},
    "named-like-one": {"type": "custom", "name": "advisor", "description": "asks openrouter: advisor, a model"},
    "namespace": {
        "type": "namespace",
        "name": "x",
        "tools": [{"type": "function", "name": "f", "parameters": {"default": {"model": "dear"}}}],
    },
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("tool", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_tools_pass_as_they_were_written(dialect: str, tool: dict[str, Any]) -> None:
    sent = body(dialect, tools=[tool])
    made = bound(dialect, sent)
    if dialect == "chat" and tool.get("type", "custom") == "custom":  # a flat one, which Chat has nested
        kind = "function" if "input_schema" in tool else "custom"
        assert json.loads(made.body)["tools"][0][kind]["name"] == tool["name"]
        assert made.left_out == ()
    else:
        assert made.body == sent


def test_letters_that_fold_to_others_hide_nothing() -> None:
    for key in ("ad\u212aeys_model\u017f", "model\u017f"):
        for ensure_ascii in (True, False):
            tool = {"type": "image_generation", key: ["dear"]}
            plain = {"model": "cheap", **PLAIN["chat"], "tools": [tool]}
            with pytest.raises(ModelNotOnPlan):
                bound("chat", json.dumps(plain, ensure_ascii=ensure_ascii).encode())
    accents = json.dumps(
        {"model": "cheap", **PLAIN["chat"], "x_new": "\u00e9\u2014"}, ensure_ascii=False
    ).encode()
    assert bound("chat", accents).body == accents


@pytest.mark.parametrize("tools", [None, "model", {"model": 1}, [1, "model"], []])
def test_tools_that_are_no_tools_are_left_to_others(tools: object) -> None:
    sent = body("chat", tools=tools)
    assert bound("chat", sent).body == sent


def test_tools_in_the_place_of_a_list_are_searched() -> None:
    with pytest.raises(ModelNotOnPlan):
        bound("chat", body("chat", tools={"a": {"model": "dear"}}))


DEAR: dict[str, dict[str, Any]] = {
    "tier": {"service_tier": "priority"},
    "tier-in-capitals": {"service_tier": "PRIORITY"},
    "tier-elsewhere": {"serviceTier": "scale"},
    "tier-of-another-kind": {"service_tier": ["priority"]},
    "speed": {"speed": "fast"},
    "speed-in-a-list": {"speed": [1]},
    "speed-as-a-truth": {"speed": True},
    "answers": {"n": 128},
    "answers-as-text": {"n": "128"},
    "answers-as-a-fraction": {"n": 128.0},
    "very-many-answers": {"n": 10**30},
    "capital": {"N": 5},
    "best": {"best_of": 20},
    "route": {"route": "fallback"},
    "preset": {"preset": "dear-one"},
    "plugin": {"plugins": [{"id": "fusion"}]},
    "plugins-that-are-none": {"plugins": {"id": "web"}},
    "plugin-without-a-name": {"plugins": [{}]},
    "plugin-of-two-names": {"plugins": "[0]"},
    "inside": {"extra_body": {"a": [{"service_tier": "priority"}]}},
    "beside-a-model": {"fallbacks": [{"model": "held", "speed": "fast"}]},
    "options": {"providerOptions": {"openai": {"serviceTier": "priority", "n": None}}},
}


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("fields", DEAR.values(), ids=DEAR)
def test_what_multiplies_the_bill_is_left_out_and_nothing_else(dialect: str, fields: dict[str, Any]) -> None:
    (name,) = fields
    sent = body(dialect, **fields, x_last={"a": 1.50})
    envelope = bound(dialect, sent)
    assert envelope.left_out == (name,)
    assert envelope.fields == {
        key: raw for key, raw in msgspec.json.decode(sent, type=dict[str, msgspec.Raw]).items() if key != name
    }
    assert json.loads(envelope.body) == json.loads(body(dialect, x_last={"a": 1.50}))


CHEAP: dict[str, dict[str, Any]] = {
    **{f"tier-{tier}": {"service_tier": tier} for tier in ("auto", "default", "flex", "standard_only")},
    "speed": {"speed": "standard"},
    "speed-of-speech": {"speed": 1.25, "x_more": 1},
    "speed-inside": {"extra_body": {"speed": 2}},
    "answers": {"n": 4},
    "nothing": {"n": None, "service_tier": None, "models": None, "route": None, "plugins": None},
    "plugins": {"plugins": [{"id": "web", "max_results": 3}, {"id": "file-parser"}]},
    "provider": {"provider": {"order": ["a"], "allow_fallbacks": False, "data_collection": "deny"}},
    "unknown": {"x_new": {"a": ["dear", {"b": "dear"}]}, "x_more": 1},
    "a-text-that-speaks-of-it": {"x_new": 'a "model": "dear"'},
    "numbers": {"x_new": {"model": 1.5, "models": [True, None, 3], "n": 99}},
    "metadata": {"metadata": {"model": "dear"}},
    "thinking": {"extra_body": {"google": {"thinking_config": {"include_thoughts": True}}}},
    "tier-inside": {"extra_body": {"service_tier": "flex", "n": 1}},
}


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("fields", CHEAP.values(), ids=CHEAP)
def test_what_costs_no_more_passes_as_it_was_written(dialect: str, fields: dict[str, Any]) -> None:
    sent = body(dialect, **fields)
    envelope = bound(dialect, sent)
    assert envelope.body == sent
    assert envelope.left_out == ()


def test_items_of_responses_bring_tools_and_settings_of_their_own() -> None:
    user = {"role": "user", "content": "a model and tools"}
    dear = {"type": "additional_tools", "tools": [{"type": "image_generation", "model": "dear"}]}
    with pytest.raises(ModelNotOnPlan):
        bound("responses", body("responses", input=[user, dear]))
    with pytest.raises(ModelNotOnPlan):
        bound("responses", body("responses", input=[user, dear]).replace(b'"tools"', b'"tool\\u0073"'))
    update = {"type": "configuration_update", "service_tier": "priority", "reasoning": {"effort": "low"}}
    envelope = bound("responses", body("responses", input=[user, update]))
    assert json.loads(envelope.body)["input"] == [
        user,
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
    ]
    assert envelope.left_out == ("input",)
    kept = body("responses", input=[user, {"type": "tool_search_output", "tools": [ORDINARY["function"]]}])
    assert bound("responses", kept).body == kept


TURNS = {"chat": "messages", "messages": "messages", "responses": "input"}
"""The field of the conversation, by dialect."""
USER = {"role": "user", "content": [{"type": "text", "text": 'a "tool_addition" of "model": "dear"'}]}


def adding(definition: Any, **more: Any) -> dict[str, Any]:
    """A system message that brings this tool."""
    tool = {"type": "tool_definition", "definition": definition}
    return {"role": "system", "content": [{"type": "tool_addition", "tool": tool, **more}]}


ADDED_NAMING: dict[str, Any] = {
    "advisor": {"type": "advisor_20260301", "name": "advisor", "model": "dear"},
    "parameters": {"type": "openrouter:advisor", "parameters": {"model": "dear"}},
    "of-the-callers-own-type": {"type": "custom", "name": "f", "model": "dear"},
    "in-a-namespace": {"type": "namespace", "tools": [{"type": "image_generation", "model": "dear"}]},
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("definition", ADDED_NAMING.values(), ids=ADDED_NAMING)
def test_a_tool_that_the_conversation_brings_may_name_no_other_model(dialect: str, definition: Any) -> None:
    place = TURNS[dialect]
    sent = body(dialect, **{place: [USER, adding(definition)]})
    for spelt in (
        sent,
        sent.replace(b'"tool_addition", "tool"', b'"tool_\\u0061ddition", "tool"'),
        sent.replace(b'"tool_addition", "tool"', b'"tool\\u005faddition", "Tool"'),
        sent.replace(b'"definition": {', b'"d\\u0065finition": {'),
        sent.replace(b'"model": "dear"', b'"m\\u006fdel": "dear"'),
    ):
        with pytest.raises(ModelNotOnPlan):
            bound(dialect, spelt)
    held = body(
        dialect, **{place: [USER, adding(json.loads(json.dumps(definition).replace("dear", "held")))]}
    )
    assert bound(dialect, held).body == held


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tool_of_the_conversation_that_runs_a_model_without_a_name_is_left_out(dialect: str) -> None:
    place = TURNS[dialect]
    runs, tells = {"type": "openrouter:fusion"}, {"type": "text", "text": "More tools."}
    alone, beside = adding(runs), adding(runs)
    beside["content"].append(tells)
    envelope = bound(dialect, body(dialect, **{place: [USER, alone, beside]}))
    assert json.loads(envelope.body)[place] == [USER, {"role": "system", "content": [tells]}]
    assert envelope.left_out == (place,)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "turn",
    [
        adding(
            {"name": "f", "input_schema": {"type": "object", "properties": {"model": {"type": "string"}}}}
        ),
        adding({"type": "custom", "name": "f", "description": 'names a "model": "dear"'}),
        adding({"type": "web_search_20260318", "name": "web_search"}),
        adding(None),
        {
            "role": "system",
            "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}],
        },
        {"role": "system", "content": [{"type": "tool_addition", "tool": "f"}, {"type": "tool_removal"}]},
        {"role": "user", "content": "tool_addition"},
        {"role": "user", "content": [{"type": "text", "text": "tool_addition"}]},
        {
            "role": "assistant",
            "content": [{"type": "fallback", "from": {"model": "dear"}, "to": {"model": "dear"}}],
        },
    ],
)
def test_what_the_conversation_says_passes_as_it_was_written(dialect: str, turn: Any) -> None:
    sent = body(dialect, **{TURNS[dialect]: [USER, turn]})
    assert bound(dialect, sent).body == sent


@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize("upstream", DIALECTS)
def test_what_was_left_out_is_told_in_both_lanes_and_refused_where_nothing_may_be_lost(
    caller: str, upstream: str
) -> None:
    envelope = bound(caller, body(caller, service_tier="priority", n=128, speed="fast"))
    prepared = prepare(envelope, caller=caller, upstream=upstream, model="up", profile=Profile())
    told = translation_header(prepared.losses).split("; ")
    assert {"service_tier=dropped", "n=dropped", "speed=dropped"} <= set(told)
    sent = json.loads(prepared.body)
    assert not {"service_tier", "n", "speed"} & sent.keys()
    with pytest.raises(InvalidRequest, match="service_tier=dropped"):
        prepare(envelope, caller=caller, upstream=upstream, model="up", profile=Profile(), strict=True)


def test_what_is_nested_too_deeply_to_be_looked_at_is_refused() -> None:
    deep = b'{"model":' * 5000 + b"1" + b"}" * 5000
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        bound("chat", body("chat", x_new=0).replace(b": 0", b":" + deep))


@pytest.mark.parametrize(
    ("dialect", "fields", "long"),
    [
        ("chat", {"x_new": 1}, False),
        ("chat", {"user": "x" * 20_000}, False),
        ("chat", {"user": "x" * 20_000, "x_new": 1}, True),
        ("chat", {"tools": [{}] * 5000}, True),
        ("responses", {"input": [{}] * 5000}, True),
        ("embeddings", {"input": ["{" * 20_000]}, False),
        ("messages", {"messages": [USER] * 1000}, True),
        ("messages", {"messages": [{"role": "user", "content": "\u003c\\n\u00e9" * 5000}]}, False),
        ("chat", {"messages": [{"role": "user", "content": "x" * 20_000}]}, False),
    ],
)
def test_only_a_body_with_much_to_look_at_is_said_to_take_long(
    dialect: str, fields: dict[str, Any], long: bool
) -> None:
    assert takes_long_to_bound(read_body(body(dialect, **fields), RULES[dialect])) is long
