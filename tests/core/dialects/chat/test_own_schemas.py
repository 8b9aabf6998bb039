"""A Chat caller's own schemas before a Chat upstream: fitted where its profile says so, byte for byte everywhere else."""

import json
from typing import Any

import pytest

from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import read_envelope
from penstock.core.profile import Profile

GOOD = {"type": "object", "properties": {"a": {"type": "string"}}}
UNION = {"anyOf": [GOOD, {"type": "object", "properties": {"b": {"type": "number"}}}]}
TUPLE = {"type": "object", "properties": {"r": {"type": "array", "items": [{"type": "string"}]}}}


def tool(schema: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": "go", "description": "Goes", "parameters": schema, **more},
    }


def body(**fields: Any) -> bytes:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return json.dumps(whole, indent=1).encode()


def prepared(data: bytes, profile: Profile) -> tuple[dict[str, Any], list[tuple[str, str]], bool]:
    envelope = read_envelope(data, "chat")
    made = prepare(envelope, caller="chat", upstream="chat", model="m", profile=profile)
    return json.loads(made.body), [(loss.field, loss.outcome) for loss in made.losses], made.body == data


@pytest.mark.parametrize("wanted", ["object", "no_unions", "bare", "moonshot"])
def test_what_fits_stays_byte_for_byte(wanted: Any) -> None:
    for tools in (
        [tool(GOOD)],
        [],
        [{"type": "web_search"}],
        [tool(None)],
        [{"type": "function"}],
        {"a": 1},
        "x",
    ):
        sent, losses, same = prepared(body(tools=tools), Profile(tool_schemas=wanted))
        assert (sent["tools"], losses, same) == (tools, [], True), tools


def test_nothing_is_read_where_the_profile_says_nothing() -> None:
    data = body(
        tools=[tool(UNION)], response_format={"type": "json_schema", "json_schema": {"schema": UNION}}
    )
    assert prepared(data, Profile())[1:] == ([], True)


@pytest.mark.parametrize(
    ("wanted", "schema"),
    [
        ("object", {"properties": {}}),
        ("no_unions", UNION),
        ("bare", {**GOOD, "enum": [{}]}),
        ("moonshot", TUPLE),
    ],
)
def test_what_does_not_fit_is_fitted_and_told(wanted: Any, schema: Any) -> None:
    other = tool(GOOD, strict=True) | {"more": [1]}
    first, losses, _ = prepared(body(tools=[tool(schema), other], seed=7), Profile(tool_schemas=wanted))
    assert losses == [("tools.function.parameters", "adapted")]
    made, kept = first["tools"]
    assert made["function"]["parameters"]["type"] == "object"
    assert made["function"]["parameters"] != schema
    assert made["function"]["description"].startswith("Goes")
    assert (kept, first["seed"]) == (other, 7)
    again, _, _ = prepared(body(tools=[tool(schema), other], seed=7), Profile(tool_schemas=wanted))
    assert again == first


@pytest.mark.parametrize(
    ("messages", "system"),
    [
        ([{"role": "user", "content": "Hi"}], ""),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "Be brief.\n\n"),
        ([{"role": "system", "content": [{"type": "text", "text": "x"}]}], ""),
    ],
)
def test_an_answers_schema_goes_into_the_prompt_where_none_is_taken(messages: Any, system: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": GOOD}}
    sent, losses, _ = prepared(body(messages=messages, response_format=form), Profile(json_schema=False))
    assert losses == [("response_format", "prompted")]
    assert sent["response_format"] == {"type": "json_object"}
    said = sent["messages"][0]["content"]
    assert said.startswith(system + "Answer with one JSON object")
    assert json.loads(said.partition("JSON Schema:\n")[2]) == GOOD
    assert sent["messages"][1 if not system else 0 :][-1]["role"] == messages[-1]["role"]


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "text"}, {"type": "json_schema"}, 7])
def test_other_forms_of_an_answer_pass(form: Any) -> None:
    assert prepared(body(response_format=form), Profile(json_schema=False))[1:] == ([], True)


def test_a_tool_without_a_description_and_many_of_them() -> None:
    bare = {"type": "function", "function": {"name": "go", "parameters": TUPLE}}
    sent, _, _ = prepared(body(tools=[bare]), Profile(tool_schemas="moonshot"))
    assert "description" not in sent["tools"][0]["function"]
    many = [tool(UNION, name=f"tool_{at}", description="x" * 600) for at in range(600)]
    sent, losses, _ = prepared(body(tools=many), Profile(tool_schemas="no_unions"))
    assert losses == [("tools.function.parameters", "adapted")]
    assert all("anyOf" not in each["function"]["parameters"] for each in sent["tools"])


def test_tools_of_an_odd_shape_pass() -> None:
    for tools in ([{"type": "function", "function": 7}], [7], [tool(UNION) | {"function": "go"}]):
        assert prepared(body(tools=tools), Profile(tool_schemas="bare"))[1:] == ([], True)
