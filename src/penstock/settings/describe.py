"""Descriptions of the settings: ``docs/configuration.md`` is made from here.

``penstock settings --markdown`` prints that, the tests hold the file to it.
"""

import re
from collections.abc import Iterator
from typing import cast, get_type_hints

from msgspec import Struct, inspect

from penstock.settings.schema import YEAR, Settings

ENVIRONMENT_PREFIX = "PENSTOCK_"
"""What the variables of the settings begin with."""


class Field(Struct, frozen=True):
    """A field of the record, as far as reading and describing it needs."""

    name: str
    hint: object
    expects: str
    default: str
    description: str
    secret: bool
    is_list: bool
    is_switch: bool
    is_path: bool


class SettingRow(Struct, frozen=True):
    """What the documentation says about one setting."""

    group: str
    name: str
    variable: str
    default: str
    expects: str
    description: str


def rows() -> list[SettingRow]:
    """Each setting in the order of the record, with the group that the comments above make."""
    return [
        SettingRow(
            group=GROUPS.get(field.name, ""),
            name=field.name,
            variable=ENVIRONMENT_PREFIX + field.name.upper(),
            default=field.default,
            expects=field.expects,
            description=field.description,
        )
        for field in FIELDS.values()
    ]


def shown_value(settings: Settings, name: str) -> str:
    """The value of a setting as it may be printed: without passwords and tokens."""
    value: object = getattr(settings, name)
    text = ", ".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
    if FIELDS[name].secret:
        return _without_secrets(text, whole=name.endswith(("_token", "_secret", "_headers")))
    return text


def markdown() -> str:
    """The tables of ``docs/configuration.md``."""
    lines: list[str] = []
    for row in rows():
        if row.group:
            lines += ["", f"### {row.group}", "", "| Setting | Variable | Default | Value | What it is |"]
            lines.append("|---|---|---|---|---|")
        lines.append(
            f"| `{row.name}` | `{row.variable}` | {row.default} | {row.expects} | {row.description} |"
        )
    return "\n".join(lines[1:]) + "\n"


def _without_secrets(value: str, *, whole: bool) -> str:
    if whole:
        return "(set)" if value else ""
    # as addresses are read: up to the last @ before the path, for a user may be a mail address
    return re.sub(r"(://[^:/?#\s]*):[^/?#\s]*@", r"\1:(hidden)@", value).partition("?")[0]


# ---- reading the record


def _inner(info: inspect.Field) -> inspect.Type:
    return info.type.type if isinstance(info.type, inspect.Metadata) else info.type


def _extra(info: inspect.Field) -> dict[str, object]:
    extra: dict[str, object] | None = getattr(info.type, "extra", None)
    return extra or {}


def _description(info: inspect.Field) -> str:
    schema: dict[str, object] | None = getattr(info.type, "extra_json_schema", None)
    return str((schema or {})["description"])


def _expects(info: inspect.Field) -> str:
    """What a value of the setting looks like, to complete "is not ..."."""
    said = _extra(info).get("expects")
    match _inner(info):
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.FloatType(le=most):
            return str(said) if most == YEAR else f"{said}, at most {most}"
        case inspect.LiteralType(values=values):
            return " or ".join(str(value) for value in values)
        case inspect.VarTupleType():
            return f"a list of {said}"
        case _:
            return str(said or "a path")


def _default(info: inspect.Field) -> str:
    """The default as the documentation shows it."""
    said = _extra(info).get("default")
    match info.default:
        case _ if said:
            return str(said)
        case bool(value):
            return f"`{str(value).lower()}`"
        case float(value):
            return f"`{value:g}`"
        case ():
            return "none"
        case value:
            return f"`{value}`"


def _fields() -> Iterator[Field]:
    hints = get_type_hints(Settings, include_extras=True)
    record = inspect.type_info(Settings)
    for info in record.fields if isinstance(record, inspect.StructType) else ():
        kind = _inner(info)
        yield Field(
            name=info.name,
            hint=hints[info.name],
            expects=_expects(info),
            default=_default(info),
            description=_description(info),
            secret=bool(_extra(info).get("secret")),
            is_list=isinstance(kind, inspect.VarTupleType),
            is_switch=isinstance(kind, inspect.BoolType),
            is_path=isinstance(kind, inspect.CustomType | inspect.UnionType),
        )


FIELDS = {field.name: field for field in _fields()}

GROUPS = {
    "data": "Where things are",
    "report_zone": "What staff are told, and what goes out",
    "header_bytes": "What a caller may send",
    "upstream_connect": "Providers",
    "head_hold": "Streams",
    "errors_per_minute": "Limits, keys and the catalogue",
    "signup": "Accounts",
    "drain_delay": "Running it",
    "otel_endpoint": "Traces",
}
"""The headings of the documentation, each before the setting that it is named with."""
