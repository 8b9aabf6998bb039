"""The arguments that the simulator calls tools with fit the tools' schemas."""

import pytest

from penstock.providers.simulator.schema_filler import filler


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "simulated"),
        ({"type": "object"}, {}),
        ({"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"a": None}),
        ({"type": ["null", "boolean"]}, False),
        ({"type": ["null"]}, None),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 4, "type": "string"}, 4),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": "string", "minLength": 12}, "simulatedxxx"),
        ({"type": "string", "maxLength": 3}, "sim"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "a"),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": False},
        ),
        (
            {
                "type": "object",
                "properties": {"p": {"$ref": "#/$defs/point"}},
                "required": ["p"],
                "$defs": {
                    "point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
                },
            },
            {"p": {"x": 1}},
        ),
        ({"$ref": "#/nowhere"}, "simulated"),
    ],
)
def test_the_smallest_value_that_fits(schema: dict[str, object], expected: object):
    assert filler(schema) == expected


def test_a_schema_that_refers_to_itself_ends():
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    depth, value = 0, filler(node)
    while isinstance(value, dict):
        depth, value = depth + 1, value["next"]
    assert (value, 0 < depth < 20) == (None, True)
