"""JSON Schemas of tools' arguments, fitted to what an upstream takes: its root, and what of the format it knows.

What cannot stand in a schema there is kept as text for the tool's description, where it is still worth something to the
model. Deterministic; a schema that needs no change stays byte for byte.
"""

from typing import Any, cast

import msgspec

from penstock.core.body.value_limits import real
from penstock.core.profile import ToolSchemas

_UNIONS = ("anyOf", "oneOf", "allOf")
_ROOT: dict[ToolSchemas, tuple[str, ...]] = {
    "object": (),
    "no_unions": _UNIONS,
    "bare": (*_UNIONS, "enum", "const", "not"),
    "moonshot": (*_UNIONS, "enum", "const", "not"),
}
"""What may not stand at the root."""
_USUAL = b'{"type":"object","'
"""Begins nearly every schema of a tool."""
_TO_LOOK_FOR = {
    wanted: tuple(b'"%b"' % name.encode() for name in ("$ref", *names)) for wanted, names in _ROOT.items()
}
"""Where none of these is anywhere, the root has nothing that may not stand there: no need to read it."""
_MOST_STEPS = 32
"""References and unions inside unions that are followed; deeper ones stay as text."""

Json = dict[str, Any]

_decode = msgspec.json.Decoder(float_hook=real).decode
_encode = msgspec.json.Encoder().encode


class FittedSchema(msgspec.Struct, frozen=True):
    """A schema as it may be sent; ``note`` goes into the description, '' for nothing. ``changed``: it is another one."""

    schema: msgspec.Raw
    note: str = ""
    changed: bool = False

    def described(self, description: str | None) -> str | None:
        """The tool's description with the note."""
        if not self.note:
            return description
        return f"{description}\n\n{self.note}" if description else self.note


def fit_tool_schema(schema: msgspec.Raw, wanted: ToolSchemas) -> FittedSchema:
    """The schema as an upstream takes it that wants ``wanted`` of schemas."""
    if wanted == "any":
        return FittedSchema(schema)
    if wanted != "moonshot":
        text = bytes(schema)
        # a list, because a generator would cost more than the searches
        if text.startswith(_USUAL) and not any([text.find(word) >= 0 for word in _TO_LOOK_FOR[wanted]]):  # noqa: C419
            return FittedSchema(schema)
    try:
        before: object = _decode(schema)
    except (ValueError, RecursionError):
        return FittedSchema(schema)
    if not isinstance(before, dict):
        return FittedSchema(schema)
    root, note = _rooted(cast("Json", before), _ROOT[wanted])
    if wanted == "moonshot":
        root = cast("Json", _Moonshot(root).plain(root))
    if root == before:
        return FittedSchema(schema)
    return FittedSchema(msgspec.Raw(_encode(root)), note, changed=True)


def _rooted(before: Json, barred: tuple[str, ...]) -> tuple[Json, str]:
    """The schema of an object, without what is ``barred``; and that as text."""
    root = _inlined(before)
    if root.get("type") != "object":
        root = {**root, "type": "object"}
    moved = {name: root[name] for name in barred if name in root}
    if not moved:
        return root, ""
    out = {name: value for name, value in root.items() if name not in moved}
    properties = dict(_object(root.get("properties")))
    needed = _names(root.get("required"))
    for name in _UNIONS:
        if name in moved:
            needed += _merge(moved[name], before, properties, every=name == "allOf", steps=_MOST_STEPS)
    if properties:
        out["properties"] = properties
    if needed:
        out["required"] = list(dict.fromkeys(needed))
    return out, "The arguments must also fit this JSON Schema: " + _encode(moved).decode()


def _inlined(root: Json) -> Json:
    """The schema with what its root refers to in its place: a type beside a reference is not what everybody takes."""
    if "$ref" not in root:
        return root
    rest = {name: value for name, value in root.items() if name != "$ref"}
    found = _resolved(root, root, _MOST_STEPS)
    return {**{name: value for name, value in found.items() if name != "$ref"}, **rest}


def _merge(branches: object, root: Json, properties: Json, *, every: bool, steps: int) -> list[str]:
    """Add the properties of a union's branches; what ``every`` branch requires, or all of them do, is required."""
    needed: list[list[str]] = []
    for branch in cast("list[object]", branches) if isinstance(branches, list) else []:
        one = _resolved(branch, root, steps)
        for name, value in _object(one.get("properties")).items():
            known = properties.get(name)
            properties[name] = value if known is None else _either(known, value)
        names = _names(one.get("required"))
        if steps:
            for inner in _UNIONS:
                if inner in one:
                    names += _merge(one[inner], root, properties, every=inner == "allOf", steps=steps - 1)
        needed.append(names)
    if every:
        return [name for names in needed for name in names]
    return [name for name in needed[0] if all(name in names for names in needed)] if needed else []


def _either(one: object, other: object) -> object:
    """What two branches say of a property, as one schema."""
    if one == other:
        return one
    known = _object(one)
    members = cast("list[object]", known["anyOf"]) if known.keys() == {"anyOf"} else [one]
    return known if other in members else {"anyOf": [*members, other]}


def _resolved(branch: object, root: Json, steps: int) -> Json:
    """A branch, or what it refers to in the same schema."""
    one = _object(branch)
    while steps and isinstance(one.get("$ref"), str):
        steps -= 1
        found: object = root
        for step in str(one["$ref"]).removeprefix("#").split("/")[1:]:
            found = _object(found).get(step.replace("~1", "/").replace("~0", "~"))
        one = _object(found)
    return one


# ---- inside of it, for Moonshot

_MOST_WRITTEN_OUT = 64
"""References to other places than ``$defs`` that are written out; what comes after is left open."""
_MOST_INSIDE = 3
"""Of these inside one another."""


class _Moonshot:
    """One schema being fitted: ``root`` is where its references lead."""

    __slots__ = ("_left", "_root")

    def __init__(self, root: Json) -> None:
        self._root = root
        self._left = _MOST_WRITTEN_OUT

    def plain(self, schema: object, inside: int = 0) -> object:
        if isinstance(schema, list):
            return [self.plain(item, inside) for item in cast("list[object]", schema)]
        if not isinstance(schema, dict):
            return schema
        members = cast("Json", schema)
        target = members.get("$ref")
        if isinstance(target, str):
            return self._referred(members, target, inside)
        out: Json = {}
        for name, value in members.items():
            if name == "definitions":
                out["$defs"] = {**_object(out.get("$defs")), **self._maps(value, inside)}
            elif name in ("properties", "$defs"):
                out[name] = {**_object(out.get(name)), **self._maps(value, inside)}
            elif name in ("items", "additionalProperties", *_UNIONS):
                out[name] = self.plain(value, inside)
            elif name == "prefixItems" and isinstance(value, list):
                out[name] = self.plain(cast("list[object]", value), inside)
            else:
                out[name] = value
        _one_for_all(out)
        union = next((name for name in ("anyOf", "oneOf") if isinstance(out.get(name), list)), None)
        if union is not None and "type" in out:
            kind = out.pop("type")
            out[union] = [_typed(branch, kind) for branch in out[union]]
        return out

    def _referred(self, members: Json, target: str, inside: int) -> object:
        """A reference to ``$defs``, with nothing beside it; any other is written out, or left open where it leads nowhere."""
        if target.startswith(("#/$defs/", "#/definitions/")):
            kept = {
                name: self._maps(members[name], inside)
                for name in ("$defs", "definitions")
                if name in members
            }
            if "definitions" in kept:
                kept = {"$defs": {**_object(kept.get("$defs")), **_object(kept["definitions"])}}
            return {"$ref": _reference(target), **kept}
        rest = {name: value for name, value in members.items() if name != "$ref"}
        if inside < _MOST_INSIDE and self._left > 0:
            self._left -= 1
            rest = {**_resolved({"$ref": target}, self._root, _MOST_STEPS), **rest}
            rest.pop("$ref", None)
        else:
            rest = {name: value for name, value in rest.items() if name in ("description", "title", "type")}
        return self.plain(rest, inside + 1)

    def _maps(self, value: object, inside: int) -> Json:
        return {name: self.plain(inner, inside) for name, inner in _object(value).items()}


def _one_for_all(array: Json) -> None:
    """Make one schema of those that stand for each place of an array."""
    first, rest = array.get("prefixItems"), array.get("items")
    if not isinstance(first, list) and not isinstance(rest, list):
        return
    places: list[object] = []
    for value in cast("tuple[object, object]", (first, rest)):
        several = cast("list[object]", value) if isinstance(value, list) else [value]
        for place in several:
            if isinstance(place, dict) and place not in places:
                places.append(cast("Json", place))
    for name in ("prefixItems", "additionalItems", "items"):
        array.pop(name, None)
    if places:
        array["items"] = places[0] if len(places) == 1 else {"anyOf": places}


def _typed(branch: object, kind: object) -> object:
    """A branch of a union with the type that stood beside the union."""
    members = _object(branch)
    if members is not branch or "type" in members or "$ref" in members:
        return branch
    return {"type": kind, **members}


def _reference(target: str) -> str:
    return (
        "#/$defs/" + target.removeprefix("#/definitions/") if target.startswith("#/definitions/") else target
    )


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _names(value: object) -> list[str]:
    return (
        [name for name in cast("list[object]", value) if isinstance(name, str)]
        if isinstance(value, list)
        else []
    )
