"""The schema filler: the smallest value that fits a JSON Schema, for the simulator's tool calls and structured answers."""

from collections.abc import Iterator, Mapping
from typing import cast

from penstock.providers.simulator.request import JsonValue

_MOST_DEPTH = 8
_MOST_ITEMS = 100
_FORMATS: Mapping[str, str] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def filler(schema: Mapping[str, JsonValue]) -> JsonValue:
    """A value that fits, as far as types, enums, required members, bounds and lengths go; patterns are not met."""
    return _fill(schema, schema, 0)


def _fill(schema: Mapping[str, JsonValue], root: Mapping[str, JsonValue], depth: int) -> JsonValue:
    if depth > _MOST_DEPTH:
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _fill(_at(root, reference), root, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        values = _list(schema.get(key))
        if values:
            return values[0]
    for key in ("anyOf", "oneOf"):
        options = _list(schema.get(key))
        if options:
            return _fill(_both({**schema, key: None}, _mapping(options[0])), root, depth + 1)
    options = _list(schema.get("allOf"))
    if options:
        merged: Mapping[str, JsonValue] = {**schema, "allOf": None}
        for option in options:
            merged = _both(merged, _mapping(option))
        return _fill(merged, root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, JsonValue], root: Mapping[str, JsonValue], depth: int) -> JsonValue:
    match _type(schema):
        case "object":
            properties = _mapping(schema.get("properties"))
            return {
                name: _fill(_mapping(properties.get(name)), root, depth + 1) for name in _required(schema)
            }
        case "array":
            least = schema.get("minItems")
            count = min(least, _MOST_ITEMS) if isinstance(least, int) else 0
            return [_fill(_mapping(schema.get("items")), root, depth + 1) for _ in range(count)]
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return _string(schema)


def _both(first: Mapping[str, JsonValue], second: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Both schemas at once: the second's words, and the members of either."""
    return {
        **first,
        **second,
        "properties": {**_mapping(first.get("properties")), **_mapping(second.get("properties"))},
        "required": list(dict.fromkeys([*_required(first), *_required(second)])),
    }


def _list(value: JsonValue) -> list[JsonValue]:
    return cast("list[JsonValue]", value) if isinstance(value, list) else []


def _type(schema: Mapping[str, JsonValue]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        names = [name for name in cast("list[JsonValue]", kind) if isinstance(name, str) and name != "null"]
        return names[0] if names else "null"
    if isinstance(kind, str):
        return kind
    return "object" if schema.get("properties") else "string"


def _mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    return cast("Mapping[str, JsonValue]", value) if isinstance(value, dict) else {}


def _required(schema: Mapping[str, JsonValue]) -> Iterator[str]:
    yield from (name for name in _list(schema.get("required")) if isinstance(name, str))


def _at(root: Mapping[str, JsonValue], reference: str) -> Mapping[str, JsonValue]:
    found: JsonValue = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = _mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
    return _mapping(found)


def _number(schema: Mapping[str, JsonValue], *, whole: bool) -> int | float:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, step = schema.get("maximum"), schema.get("multipleOf")
    value: float = 1
    if isinstance(most, int | float):
        value = min(value, most)
    if isinstance(least, int | float):
        value = max(value, least)
    if isinstance(above, int | float) and not isinstance(above, bool) and value <= above:
        value = above + 1
    if isinstance(step, int | float) and step > 0:
        value = -(-value // step) * step
    return int(value) if whole or float(value).is_integer() else value


def _string(schema: Mapping[str, JsonValue]) -> str:
    form = schema.get("format")
    text = _FORMATS.get(form, "simulated") if isinstance(form, str) else "simulated"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if isinstance(least, int):
        text = text.ljust(min(least, 10_000), "x")
    return text[:most] if isinstance(most, int) else text
