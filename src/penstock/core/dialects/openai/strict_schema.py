"""Strict schemas: which JSON Schemas OpenAI's strict mode takes."""

from typing import cast

import msgspec
from msgspec import Raw

from penstock.core.body.value_limits import real

_SCHEMA_MAPS = ("properties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf")

_decode = msgspec.json.Decoder(float_hook=real).decode


def strict_fits(schema: Raw) -> bool:
    """Whether a schema is in the subset that strict mode takes: closed objects with every property required."""
    try:
        root: object = _decode(schema)
    except (ValueError, RecursionError):
        return False
    if not isinstance(root, dict):
        return False
    members = cast("dict[str, object]", root)
    return members.get("type") == "object" and _closed(members)


def _closed(value: object) -> bool:
    if not isinstance(value, dict):
        return True
    schema = cast("dict[str, object]", value)
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False:
            return False
        if not isinstance(properties, dict) or not isinstance(required, list):
            return False
        if {*cast("dict[str, object]", properties)} != {*map(str, cast("list[object]", required))}:
            return False
    inner: list[object] = [schema["items"]] if "items" in schema else []
    for key in _SCHEMA_MAPS:
        members = schema.get(key)
        if isinstance(members, dict):
            inner += cast("dict[str, object]", members).values()
    for key in _SCHEMA_LISTS:
        variants = schema.get(key)
        if isinstance(variants, list):
            inner += cast("list[object]", variants)
    return all(_closed(item) for item in inner)
