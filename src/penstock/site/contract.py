"""Contract as people read it: the routes of ``openapi.json``, with their fields, parameters and answers in rows."""

from typing import TypeAlias, cast

import msgspec

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
"""A part of the document."""
Json: TypeAlias = dict[str, Value]
"""An object of it."""


class Field(msgspec.Struct, frozen=True):
    """A field of a body, or a parameter: its name, its type in words, where it stands, and what is said of it."""

    name: str
    type: str
    required: bool
    said: str
    place: str = ""


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status, what it means, and the headers that it has."""

    status: str
    said: str
    headers: tuple[str, ...]


class Operation(msgspec.Struct, frozen=True):
    """One method of one path."""

    method: str
    path: str
    summary: str
    anchor: str
    parameters: tuple[Field, ...]
    fields: tuple[Field, ...]
    example: str
    answers: tuple[Answer, ...]
    open: bool
    """Fields that are not listed are passed on."""
    more: str = ""
    """What else is said of it."""


class Header(msgspec.Struct, frozen=True):
    """A header of answers, and what it says."""

    name: str
    said: str


class Contract(msgspec.Struct, frozen=True):
    """All of it. ``headers`` are explained once, since most answers have most of them."""

    said: str
    operations: tuple[Operation, ...]
    headers: tuple[Header, ...]


ADMIN = "/admin/"
"""What the paths of the admin API begin with, in the same document."""


def read_contract(document: bytes, *, admin: bool = False) -> Contract:
    """The operations, in the document's order: those of the admin API, or all others."""
    root = msgspec.json.decode(document, type=dict[str, object])
    reader = _Reader(cast("Json", root))
    return Contract(
        said=_text(_object(reader.root["info"]).get("description")),
        operations=tuple(
            reader.operation(path, method, _object(operation))
            for path, methods in _object(reader.root["paths"]).items()
            if path.startswith(ADMIN) == admin
            for method, operation in _object(methods).items()
            if method in _METHODS
        ),
        headers=tuple(Header(name, said) for name, said in sorted(reader.headers.items())),
    )


_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "trace"})


class _Reader:
    def __init__(self, root: Json) -> None:
        self.root = root
        self.headers: dict[str, str] = {}

    def operation(self, path: str, method: str, found: Json) -> Operation:
        content = _object(self._at(_object(found.get("requestBody")).get("content")))
        body = _object(content.get("application/json"))
        schema = self._at(body.get("schema"))
        answers = _object(found["responses"])
        examples = [_object(one).get("value") for one in _object(body.get("examples")).values()]
        example = body.get("example", examples[0] if examples else None)
        return Operation(
            method=method.upper(),
            path=path,
            summary=_text(found.get("summary")),
            anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", "").replace("_", "-"),
            parameters=tuple(self._parameter(self._at(one)) for one in _list(found.get("parameters"))),
            fields=tuple(self._fields(schema)),
            example="" if example is None else _pretty(example),
            answers=tuple(self._answer(status, self._at(one)) for status, one in answers.items()),
            open=schema.get("additionalProperties") is True,
            more=_text(found.get("description")),
        )

    def _at(self, found: Value) -> Json:
        """An object, or the one that it refers to."""
        here = _object(found)
        while "$ref" in here:
            place: Value = self.root
            for name in _text(here["$ref"]).removeprefix("#/").split("/"):
                place = _object(place)[name]
            here = _object(place)
        return here

    def _fields(self, schema: Json) -> list[Field]:
        required = _list(schema.get("required"))
        return [
            Field(name, self._type(self._at(one)), name in required, _text(self._at(one).get("description")))
            for name, one in _object(schema.get("properties")).items()
        ]

    def _parameter(self, found: Json) -> Field:
        return Field(
            name=_text(found["name"]),
            type=self._type(self._at(found.get("schema"))),
            required=found.get("required") is True,
            said=_text(found.get("description")),
            place=_text(found["in"]),
        )

    def _answer(self, status: str, found: Json) -> Answer:
        headers = _object(found.get("headers"))
        for name, header in headers.items():
            self.headers.setdefault(name, _text(self._at(header).get("description")))
        return Answer(status, _text(found.get("description")), tuple(headers))

    def _type(self, schema: Json) -> str:
        """A type in words."""
        if "const" in schema:
            return _pretty(schema["const"])
        if "enum" in schema:
            return ", ".join(
                _text(one) if isinstance(one, str) else _pretty(one) for one in _list(schema["enum"])
            )
        either = _list(schema.get("oneOf", schema.get("anyOf")))
        if either:
            return " or ".join(dict.fromkeys(self._type(self._at(one)) for one in either))
        named = schema.get("type", "any")
        types = [_text(one) for one in (named if isinstance(named, list) else [named])]
        said = " or ".join(one for one in types if one != "null")
        if types == ["array"]:
            items = self._type(self._at(schema.get("items")))
            said = "list" if items == "any" else f"list of {items}"
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is not None and most is not None:
            return f"{said}, {least} to {most}"
        return said if least is None else f"{said}, from {least}"


def _object(value: Value) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _pretty(value: Value) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
