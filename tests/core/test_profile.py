"""Habits of upstreams, a flag each: what a request becomes where a server is particular about it."""

import json
from typing import Any

import msgspec
import pytest

from penstock.core.catalog import DialectName, Model, Target, with_profile_values
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.core.endpoints import FORMATS
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.routing.candidates import Upstreams
from penstock.errors import InvalidRequest
from penstock.providers.profiles import with_changes
from penstock.providers.table import KINDS

HI = {"role": "user", "content": "hi"}
CALL = {"type": "tool_use", "id": "t1", "name": "get", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "found"}
TOOL = {"name": "get", "input_schema": {"type": "object"}}
LOOP = [HI, {"role": "assistant", "content": [CALL]}]


def sent(
    *turns: Any, caller: DialectName = "messages", upstream: str = "chat", profile: Profile, **fields: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """The upstream's body, and what is told of it."""
    rows = {"input": list(turns)} if caller == "responses" else {"messages": list(turns)}
    limit = {"max_tokens": 99} if caller == "messages" else {}
    raw = json.dumps({"model": "m", **limit, **rows, **fields}).encode()
    prepared = prepare(
        read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile
    )
    again = prepare(read_envelope(raw, caller), caller=caller, upstream=upstream, model="up", profile=profile)
    assert again == prepared
    return json.loads(prepared.body), {loss.field: loss.outcome for loss in prepared.losses}


def roles(*turns: Any, **flags: Any) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    body, told = sent(*turns, profile=with_changes(DEFAULT_PROFILE, **flags), tools=[TOOL])
    return [(message["role"], message["content"]) for message in body["messages"]], told


# ---- roles_alternate, user_after_tool, null_content


def test_messages_of_one_role_stay_apart_where_they_may() -> None:
    rows, told = roles(
        HI, HI, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, HI
    )
    assert [role for role, _ in rows] == ["user", "user", "assistant", "assistant", "user"]
    assert told == {}


def test_messages_of_one_role_are_one_where_roles_alternate() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    rows, told = roles(
        HI,
        {"role": "user", "content": "there"},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [image]},
        {"role": "user", "content": "look"},
        roles_alternate=True,
    )
    assert rows[:2] == [("user", "hi\n\nthere"), ("assistant", "a\n\nb")]
    assert [part["type"] for part in rows[2][1]] == ["image_url", "text"]
    assert told == {"messages.role": "merged"}


def test_what_an_assistant_says_and_does_is_one_message_where_roles_alternate() -> None:
    profile = Profile(roles_alternate=True, reasoning_field="reasoning_content")
    thought = {"type": "thinking", "thinking": "hm. ", "signature": ""}
    body, _ = sent(
        HI,
        {"role": "assistant", "content": [thought, {"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [thought, CALL]},
        {"role": "user", "content": [RESULT]},
        profile=profile,
        tools=[TOOL],
    )
    _, assistant, tool = body["messages"]
    assert (assistant["content"], assistant["reasoning_content"]) == ("a", "hm. hm. ")
    assert [call["id"] for call in assistant["tool_calls"]] == ["t1"]
    assert tool["role"] == "tool"


def test_details_of_reasoning_are_put_together_where_roles_alternate() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    body, told = sent(
        HI,
        item,
        {"role": "developer", "content": "now"},
        {"role": "developer", "content": "here"},
        HI,
        caller="responses",
        profile=Profile(roles_alternate=True),
    )
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "system", "user"]
    assert body["messages"][2]["content"] == "now\n\nhere"
    assert told == {"input.role": "merged"}


def test_calls_in_two_messages_are_of_one_where_roles_alternate() -> None:
    body, _ = sent(
        HI,
        {"role": "assistant", "content": [CALL]},
        {"role": "assistant", "content": [{**CALL, "id": "t2"}]},
        profile=Profile(roles_alternate=True),
        tools=[TOOL],
    )
    assert [call["id"] for call in body["messages"][1]["tool_calls"]] == ["t1", "t2"]
    assert body["messages"][1]["content"] is None


def test_an_empty_text_beside_an_image_is_left_out() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    empty = {"type": "text", "text": ""}
    for upstream in ("chat", "responses"):
        body, _ = sent(
            {"role": "user", "content": [empty, image]}, upstream=upstream, profile=DEFAULT_PROFILE
        )
        (message,) = body["messages" if upstream == "chat" else "input"]
        assert len(message["content"]) == 1


@pytest.mark.parametrize("budget", [None, 3000])
def test_a_budget_goes_with_the_switch_that_has_one(budget: int | None) -> None:
    thinking = {"type": "adaptive"} if budget is None else {"type": "enabled", "budget_tokens": budget}
    body, _ = sent(
        HI, profile=Profile(thinking_switch="enable_thinking", reasoning_effort=False), thinking=thinking
    )
    assert body["enable_thinking"] is True
    assert body.get("thinking_budget") == budget


def test_results_of_several_tools_are_never_one() -> None:
    rows, _ = roles(
        HI,
        {"role": "assistant", "content": [CALL, {**CALL, "id": "t2"}]},
        {"role": "user", "content": [RESULT, {**RESULT, "tool_use_id": "t2"}]},
        roles_alternate=True,
    )
    assert [role for role, _ in rows] == ["user", "assistant", "tool", "tool"]


def test_a_user_may_speak_right_after_a_tool() -> None:
    turns = [*LOOP, {"role": "user", "content": [RESULT, {"type": "text", "text": "go on"}]}]
    rows, told = roles(*turns)
    assert [role for role, _ in rows] == ["user", "assistant", "tool", "user"]
    assert told == {}
    rows, told = roles(*turns, user_after_tool=False)
    assert [role for role, _ in rows] == ["user", "assistant", "tool", "assistant", "user"]
    assert rows[3][1], "an assistant with nothing to say is refused"
    assert told == {"messages.role": "bridged"}


def test_a_message_that_only_calls_has_null_or_nothing_to_say() -> None:
    turns = [*LOOP, {"role": "user", "content": [RESULT]}]
    assert roles(*turns)[0][1] == ("assistant", None)
    assert roles(*turns, null_content=False)[0][1] == ("assistant", "")


# ---- forced_tools, prefill, continuous_usage


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [({"type": "auto"}, "auto"), ({"type": "any"}, "auto"), ({"type": "tool", "name": "get"}, "auto")],
)
def test_a_model_that_cannot_be_forced_is_asked(wanted: dict[str, str], chosen: str) -> None:
    body, told = sent(HI, profile=Profile(forced_tools=False), tools=[TOOL], tool_choice=wanted)
    assert body["tool_choice"] == chosen
    assert told == ({} if wanted["type"] == "auto" else {"tool_choice": "auto"})


def test_a_model_that_knows_no_none_is_offered_none() -> None:
    body, told = sent(HI, profile=Profile(forced_tools=False), tools=[TOOL], tool_choice={"type": "none"})
    assert body.keys().isdisjoint({"tools", "tool_choice"})
    assert told == {}


def test_a_beginning_is_gone_on_from_as_each_server_has_it() -> None:
    begun = {"role": "assistant", "content": "The answer is "}
    for way, found in (("prefix", {"prefix": True}), ("partial", {"partial": True}), ("continue", {})):
        body, _ = sent(HI, begun, profile=with_changes(DEFAULT_PROFILE, prefill=way))
        assert body["messages"][-1] == {"role": "assistant", "content": "The answer is", **found}
        asked = {"continue_final_message": True, "add_generation_prompt": False}
        assert (asked.items() <= body.items()) is (way == "continue")


@pytest.mark.parametrize("last", [HI, {"role": "assistant", "content": [CALL]}])
def test_nothing_is_gone_on_from_where_nothing_is_begun(last: dict[str, Any]) -> None:
    body, _ = sent(HI, last, profile=Profile(prefill="continue"), tools=[TOOL])
    assert "continue_final_message" not in body


def test_counts_on_every_chunk_are_asked_of_those_who_give_them() -> None:
    body, _ = sent(HI, profile=Profile(continuous_usage=True), stream=True)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert sent(HI, profile=DEFAULT_PROFILE, stream=True)[0]["stream_options"] == {"include_usage": True}


# ---- extra_body


EXTRA = Profile(extra_body='{"provider": {"order": ["a", "b"]}, "seed": 7, "stream": true}')


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
def test_fields_are_added_in_every_format_but_change_none(caller: DialectName, upstream: str) -> None:
    body, _ = sent(HI, caller=caller, upstream=upstream, profile=EXTRA, stream=False)
    assert body["provider"] == {"order": ["a", "b"]}
    assert body["seed"] == 7
    assert body.get("stream", False) is (caller != upstream and upstream == "messages")
    assert next(iter(body)) == "model"


def test_a_callers_own_field_is_kept_byte_for_byte() -> None:
    raw = b'{"model": "m", "seed": 1.50, "messages": [{"role":"user","content":"hi"}]}'
    prepared = prepare(read_envelope(raw, "chat"), caller="chat", upstream="chat", model="up", profile=EXTRA)
    assert b'"seed":1.50' in prepared.body
    assert b'"messages":[{"role":"user","content":"hi"}]' in prepared.body


@pytest.mark.parametrize("text", ["[]", "7", "{", '{"a": }', "words"])
def test_extra_fields_that_are_no_object_are_refused_in_the_catalogue(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="extra_body is not a JSON object"):
        with_profile_values(KINDS["custom"], {"extra_body": text})


# ---- web_search


SEARCHED: dict[str, tuple[dict[str, Any], str, str]] = {
    "chat": (
        {"web_search_options": {"search_context_size": "low"}},
        "web_search_options",
        "web_search_options",
    ),
    "messages": (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.web_search",
        "tools",
    ),
    "responses": ({"tools": [{"type": "web_search"}]}, "tools.web_search", "tools"),
}
OWN: dict[str, dict[str, Any]] = {
    "messages": {"type": "web_search_20250305", "name": "web_search"},
    "responses": {"type": "web_search"},
}
PAIRS: list[tuple[DialectName, str]] = [
    ("chat", "messages"),
    ("chat", "responses"),
    ("messages", "responses"),
    ("responses", "messages"),
]


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
def test_a_search_is_the_providers_own_where_its_profile_says_so(caller: DialectName, upstream: str) -> None:
    fields, field, _ = SEARCHED[caller]
    body, told = sent(HI, caller=caller, upstream=upstream, profile=Profile(web_search="mapped"), **fields)
    assert body["tools"] == [OWN[upstream]]
    assert told == {field: "mapped"}


@pytest.mark.parametrize(("caller", "upstream"), [*PAIRS, ("messages", "chat"), ("responses", "chat")])
@pytest.mark.parametrize("way", ["dropped", "refused", "mapped"])
def test_a_search_that_cannot_be_had_is_left_out_and_told_or_refused_where_the_operator_says_so(
    caller: DialectName, upstream: str, way: str
) -> None:
    if way == "mapped" and upstream != "chat":
        return
    fields, field, param = SEARCHED[caller]
    profile = with_changes(DEFAULT_PROFILE, web_search=way)
    if way != "refused":
        body, told = sent(HI, caller=caller, upstream=upstream, profile=profile, **fields)
        assert "tools" not in body
        assert told == {field: "dropped"}
    else:
        with pytest.raises(InvalidRequest) as raised:
            sent(HI, caller=caller, upstream=upstream, profile=profile, **fields)
        assert raised.value.param == param


def test_a_tool_of_the_callers_with_that_name_comes_first() -> None:
    own = {"type": "function", "name": "web_search", "parameters": {"type": "object"}}
    body, told = sent(
        HI, caller="responses", upstream="messages", profile=Profile(web_search="mapped"),
        tools=[own, {"type": "web_search"}],
    )  # fmt: skip
    assert [tool["name"] for tool in body["tools"]] == ["web_search"]
    assert "input_schema" in body["tools"][0]
    assert told == {"tools.web_search": "dropped"}


# ---- caches

MARKED = {
    "role": "user",
    "content": [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "c"},
    ],
}


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_29_cache_marks_are_carried_to_openai(upstream: str) -> None:
    body, told = sent(MARKED, upstream=upstream, profile=KINDS["openai"].profile_of("gpt-5.6"))
    (message,) = body["messages" if upstream == "chat" else "input"]
    marks = [part.get("prompt_cache_breakpoint") for part in message["content"]]
    assert marks == [{"mode": "explicit"}, {"mode": "explicit", "ttl": "12h"}, None]
    assert told == {}
    older, told = sent(MARKED, upstream=upstream, profile=KINDS["openai"].profile_of("gpt-5.2"))
    assert "prompt_cache_breakpoint" not in json.dumps(older)
    assert told == {"cache_control": "dropped"}


def test_a_mark_on_a_tool_is_told_where_only_parts_have_them() -> None:
    tool = {**TOOL, "cache_control": {"type": "ephemeral"}}
    _, told = sent(HI, profile=Profile(cache_breakpoints=True), tools=[tool])
    assert told == {"cache_control": "dropped"}
    body, told = sent(MARKED, profile=Profile(cache_control=True), tools=[tool])
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][0]["content"][1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert told == {}


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_a_session_of_claude_code_has_a_cache_key_of_its_own(upstream: str) -> None:
    def key(user: str, profile: Profile = KINDS["openai"].profile) -> Any:
        body, _ = sent(HI, upstream=upstream, profile=profile, metadata={"user_id": user})
        return body.get("prompt_cache_key")

    one = key("user_1_account__session_11111111")
    assert len(one) == 32
    assert key("user_2_account__session_11111111") == one != key("user_1_account__session_2222")
    assert key("user_1") is key("user_1_session_") is None
    assert key("user_1_account__session_11111111", Profile()) is None


# ---- what a caller left out


def test_an_answer_that_nobody_limited_ends_where_the_model_ends() -> None:
    target = Target("anthropic", "claude-sonnet-4-6")
    model = Model("m", "m", targets=(target,), max_output_tokens=64_000)
    for habits, limit in (({}, 64_000), ({"default_max_tokens": 500}, 500)):
        upstreams = Upstreams([with_profile_values(KINDS["anthropic"], habits)])
        group = upstreams.group(model, "chat", FORMATS)
        attempt = group.tiers[0].candidates[0].attempt
        body, _ = sent(HI, caller="chat", upstream="messages", profile=attempt.profile)
        assert body["max_tokens"] == limit
        assert body.get("stream", False) is (limit > 21_333)


def test_a_forced_call_goes_before_reasoning_that_nobody_asked_for() -> None:
    forced = {"tools": [{"type": "function", "function": {"name": "get"}}], "tool_choice": "required"}
    for name, thinking in (("claude-sonnet-5", {"type": "disabled"}), ("claude-opus-4-8", None)):
        profile = KINDS["anthropic"].profile_of(name)
        body, told = sent(HI, caller="chat", upstream="messages", profile=profile, **forced)
        assert body.get("thinking") == thinking
        assert told == ({"reasoning_effort": "disabled"} if thinking else {})
        body, _ = sent(
            HI, caller="chat", upstream="messages", profile=profile, **{**forced, "tool_choice": "auto"}
        )
        assert "thinking" not in body


def test_an_effort_that_a_model_does_not_know_is_the_nearest_in_responses_too() -> None:
    profile = KINDS["openai"].profile_of("gpt-5")
    body, told = sent(HI, upstream="responses", profile=profile, output_config={"effort": "max"})
    assert body["reasoning"]["effort"] == "high"
    assert told == {"output_config.effort": "nearest"}


# ---- rows


def test_rows_say_what_their_servers_are_particular_about() -> None:
    def profile(kind: str) -> Profile:
        return KINDS[kind].profile_of("any")

    mistral = profile("mistral")
    assert (mistral.roles_alternate, mistral.user_after_tool) == (True, False)
    assert profile("vllm").prefill == "continue"
    assert not profile("lmstudio").null_content
    assert not profile("zai").forced_tools
    assert {kind for kind in KINDS if profile(kind).roles_alternate} == {
        "mistral", "llama-server", "vllm", "lmstudio",
    }  # fmt: skip
