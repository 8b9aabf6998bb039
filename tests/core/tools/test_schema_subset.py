"""Schemas of tools as upstreams take them: the root, unions at it, references, and what Moonshot wants inside."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from penstock.core.profile import ToolSchemas
from penstock.core.tools.schema_subset import fit_tool_schema

FORMS: tuple[ToolSchemas, ...] = get_args(ToolSchemas)
STRING = {"type": "string"}


def fitted(schema: object, wanted: ToolSchemas) -> tuple[Any, str]:
    raw = json.dumps(schema).encode()
    found = fit_tool_schema(Raw(raw), wanted)
    assert fit_tool_schema(Raw(raw), wanted) == found
    if not found.changed:
        assert bytes(found.schema) == raw
        assert found.note == ""
    else:
        again = fit_tool_schema(found.schema, wanted)
        assert not again.changed, "what was fitted fits"
    return json.loads(bytes(found.schema)), found.note


@pytest.mark.parametrize("wanted", FORMS)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"p": STRING}, "required": ["p"], "additionalProperties": False},
        {"type": "object", "properties": {"p": {"anyOf": [STRING, {"type": "null"}]}}},
        {"type": "object"},
    ],
)
def test_what_everybody_takes_stays_byte_for_byte(schema: Any, wanted: ToolSchemas) -> None:
    assert fitted(schema, wanted) == (schema, "")


@pytest.mark.parametrize("schema", [{"anyOf": [{}]}, [], "x", 5, {"properties": {}}])
def test_who_wants_nothing_gets_the_callers_own(schema: Any) -> None:
    assert fitted(schema, "any") == (schema, "")


@pytest.mark.parametrize("wanted", FORMS[1:])
@pytest.mark.parametrize("schema", [[], "x", True, None])
def test_what_is_no_object_is_the_upstreams_to_refuse(schema: Any, wanted: ToolSchemas) -> None:
    assert fitted(schema, wanted) == (schema, "")
    assert not fit_tool_schema(Raw(b"{"), wanted).changed
    assert not fit_tool_schema(Raw(b"[" * 5000), wanted).changed


@pytest.mark.parametrize("wanted", FORMS[1:])
@pytest.mark.parametrize("root", [{}, {"type": None}, {"type": ["object", "null"]}, {"type": "string"}])
def test_the_root_is_of_the_type_object(root: Any, wanted: ToolSchemas) -> None:
    schema = {**root, "properties": {"p": STRING}}
    assert fitted(schema, wanted) == ({"type": "object", "properties": {"p": STRING}}, "")


@pytest.mark.parametrize("wanted", ["no_unions", "bare", "moonshot"])
@pytest.mark.parametrize("name", ["anyOf", "oneOf"])
def test_a_union_at_the_root_becomes_properties_and_a_note(name: str, wanted: ToolSchemas) -> None:
    union = [
        {"properties": {"a": STRING, "k": {"const": 1}}, "required": ["a", "k"]},
        {"properties": {"b": STRING, "k": {"const": 2}}, "required": ["b", "k"]},
    ]
    found, note = fitted(
        {"type": "object", "properties": {"c": STRING}, "required": ["c"], name: union}, wanted
    )
    assert found == {
        "type": "object",
        "properties": {"c": STRING, "a": STRING, "k": {"anyOf": [{"const": 1}, {"const": 2}]}, "b": STRING},
        "required": ["c", "k"],
    }
    assert json.loads(note.partition(": ")[2]) == {name: union}


def test_what_all_of_the_branches_want_is_wanted() -> None:
    branches = [
        {"properties": {"a": STRING}, "required": ["a"]},
        {"properties": {"b": STRING}, "required": ["b"]},
    ]
    found, note = fitted({"allOf": branches}, "no_unions")
    assert found == {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a", "b"]}
    assert "allOf" in note


def test_branches_are_followed_through_references_and_unions() -> None:
    schema = {
        "type": "object",
        "oneOf": [{"$ref": "#/$defs/a~1x"}, {"anyOf": [{"properties": {"d": STRING}}], "required": ["d"]}],
        "$defs": {"a/x": {"$ref": "#/$defs/b"}, "b": {"properties": {"e": STRING}, "required": ["e"]}},
    }
    found, _ = fitted(schema, "bare")
    assert set(found["properties"]) == {"e", "d"}
    assert "required" not in found
    assert "$defs" in found
    looped = {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert fitted(looped, "no_unions")[0] == {"type": "object", "$defs": looped["$defs"]}
    deep: dict[str, Any] = {"properties": {"z": STRING}}
    for _ in range(40):
        deep = {"anyOf": [deep]}
    assert fitted(deep, "no_unions")[0]["type"] == "object"


@pytest.mark.parametrize("wanted", FORMS[1:])
def test_a_reference_at_the_root_is_written_out(wanted: ToolSchemas) -> None:
    schema = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"type": "object", "properties": {"p": STRING}}},
        "title": "A",
    }
    found, _ = fitted(schema, wanted)
    assert found == {"type": "object", "properties": {"p": STRING}, "$defs": schema["$defs"], "title": "A"}
    for lost in ("#/$defs/none", "https://a.example/b.json", 5):
        assert fitted({"$ref": lost}, wanted)[0] == {"type": "object"}


def test_three_branches_of_one_property_are_one_union() -> None:
    branches: list[Any] = [{"properties": {"k": {"const": at}, "same": STRING}} for at in (1, 2, 2, 3)]
    found, _ = fitted({"anyOf": [*branches, 5], "required": "k"}, "no_unions")
    assert found["properties"] == {"k": {"anyOf": [{"const": 1}, {"const": 2}, {"const": 3}]}, "same": STRING}
    assert fitted({"anyOf": "x"}, "no_unions")[0] == {"type": "object"}


@pytest.mark.parametrize("name", ["enum", "const", "not"])
def test_openai_has_fewer_words_at_the_root(name: str) -> None:
    schema = {"type": "object", name: {"x": 1}}
    assert fitted(schema, "no_unions") == (schema, "")
    found, note = fitted(schema, "bare")
    assert found == {"type": "object"}
    assert f'"{name}"' in note


def test_moonshot_has_its_own_flavor() -> None:
    schema = {
        "type": "object",
        "definitions": {"v": {"type": "string", "oneOf": [{"minLength": 1}, {"$ref": "#/definitions/w"}]}, "w": STRING},
        "properties": {
            "r": {"$ref": "#/definitions/v", "description": "a reference", "type": "string"},
            "u": {"type": "string", "anyOf": [{"maxLength": 2}, {"type": "integer"}, True]},
            "l": {"type": "array", "items": {"$ref": "#/$defs/x"}},
            "n": {"$ref": "#/$defs/x", "definitions": {"q": STRING}, "$defs": {"p": STRING}},
            "any": True,
        },
        "$defs": {"x": STRING},
    }  # fmt: skip
    found, note = fitted(schema, "moonshot")
    assert note == ""
    assert found["$defs"] == {
        "v": {"oneOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/w"}]},
        "w": STRING,
        "x": STRING,
    }
    assert found["properties"] == {
        "r": {"$ref": "#/$defs/v"},
        "u": {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}, True]},
        "l": {"type": "array", "items": {"$ref": "#/$defs/x"}},
        "n": {"$ref": "#/$defs/x", "$defs": {"p": STRING, "q": STRING}},
        "any": True,
    }


def test_a_note_goes_behind_the_description() -> None:
    found = fit_tool_schema(Raw(b'{"anyOf":[]}'), "no_unions")
    assert found.described("Reads.") == f"Reads.\n\n{found.note}"
    assert found.described(None) == found.described("") == found.note
    plain = fit_tool_schema(Raw(b'{"type":"object"}'), "no_unions")
    assert (plain.described("Reads."), plain.described(None)) == ("Reads.", None)


_WORDS = st.sampled_from(
    [
        "type",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "$ref",
        "$defs",
        "definitions",
        "required",
        "items",
        "enum",
        "a",
    ]
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["object", "string", "#/$defs/a", "#/definitions/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(FORMS))
def test_any_json_comes_out_fitted(schema: object, wanted: ToolSchemas) -> None:
    found, _ = fitted(schema, wanted)
    if isinstance(schema, dict) and wanted != "any":
        assert found["type"] == "object"
        if wanted != "object":
            assert not {"anyOf", "oneOf", "allOf"} & found.keys()
