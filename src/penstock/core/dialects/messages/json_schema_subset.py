"""JSON Schemas for Anthropic's structured output: what it does not take is moved into descriptions.

Constraints that the decoder does not enforce (lengths, ranges, patterns ...) are refused there, although as a hint they
are still worth something: they end up as text in the ``description`` of what they constrain.
"""

from typing import Any, cast

import msgspec

from penstock.core.body.value_limits import real
from penstock.errors import InvalidRequest

_decode = msgspec.json.Decoder(dict[str, Any], float_hook=real).decode
_encode = msgspec.json.Encoder().encode

_UNSUPPORTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "contains",
    "minContains",
    "maxContains",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "prefixItems",
)
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf")


def fit_schema(schema: bytes) -> tuple[bytes, bool]:
    """The schema as it may be sent, and whether that took a change; an unchanged one stays byte for byte.

    ``schema`` must be a JSON object. Raises ``InvalidRequest`` for a number that is out of range, and for text that is none.
    """
    try:
        before = _decode(schema)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The schema cannot be read: {error}.") from error
    after = _fit(before)
    return (schema, False) if after == before else (_encode(after), True)


def _fit(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, Any]", schema)
    out: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    for name, value in members.items():
        if (
            name in _UNSUPPORTED
            or (name == "format" and not (isinstance(value, str) and value in _FORMATS))
            or (name == "minItems" and value not in (0, 1))
        ):
            hints[name] = value
        elif name in _MAPS and isinstance(value, dict):
            out[name] = {key: _fit(inner) for key, inner in cast("dict[str, Any]", value).items()}
        elif name in _LISTS and isinstance(value, list):
            # the decoder knows no "exactly one of"
            out["anyOf" if name == "oneOf" else name] = [_fit(inner) for inner in cast("list[Any]", value)]
        elif name == "items":
            out[name] = _fit(value)
        else:
            out[name] = value
    if members.get("type") == "object" or "properties" in members:
        out["additionalProperties"] = False
    if hints:
        text = _encode(hints).decode()
        described = out.get("description")
        out["description"] = f"{described}\n\n{text}" if isinstance(described, str) and described else text
    return out
