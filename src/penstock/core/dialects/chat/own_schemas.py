"""Schemas of a Chat caller's own, fitted to an upstream of the same format: those of its tools, and that of its answer.

Most upstreams take them as they are, and get them byte for byte. Where the profile says that one does not, the body is read as
far as its tools and its ``response_format``, and what need not change in them does not. A client's tools are the same at every
turn, so what became of them is remembered.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from penstock.core.body.envelope import Envelope
from penstock.core.memo import Memo
from penstock.core.neutral.request import Loss
from penstock.core.profile import Profile, ToolSchemas
from penstock.core.tools.schema_subset import fit_tool_schema

_ADAPTED: Final = Loss("tools.function.parameters", "adapted")
_PROMPTED: Final = Loss("response_format", "prompted")
ONLY_SCHEMA: Final = (
    "Answer with one JSON object and nothing else, with no code fence. It must fit this JSON Schema:\n"
)
"""Goes before the schema of an answer, where the upstream cannot be given one but in the prompt."""
_KEPT: Final = 64
_LARGEST_KEPT: Final = 256 << 10

_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.Encoder().encode

_known: Memo[tuple[bytes, ToolSchemas], bytes | None] = Memo(_KEPT)
"""Tools as they came, and as they go; None: the same. A pure function of the key."""


def fitted_schemas(
    envelope: Envelope, profile: Profile, messages: bytes | None
) -> tuple[dict[str, bytes], tuple[Loss, ...]]:
    """The members that have to differ, and what is told of it. Of what is of an odd shape nothing is changed.

    ``messages`` are those that are sent, where they are not the caller's.
    """
    changes: dict[str, bytes] = {}
    losses: list[Loss] = []
    if profile.tool_schemas != "any":
        tools = envelope.value("tools")
        if tools.startswith(b"["):
            fitted = _fitted_tools(tools, profile.tool_schemas)
            if fitted is not None:
                changes["tools"] = fitted
                losses.append(_ADAPTED)
    if not profile.json_schema:
        form = envelope.value("response_format")
        if b'"json_schema"' in form:
            changes |= _prompted(form, messages or envelope.value("messages"), profile)
            if "response_format" in changes:
                losses.append(_PROMPTED)
    return changes, tuple(losses)


def _fitted_tools(tools: bytes, wanted: ToolSchemas) -> bytes | None:
    if len(tools) > _LARGEST_KEPT:
        return _fit(tools, wanted)
    key = (tools, wanted)
    if key in _known:
        return _known[key]
    return _known.keep(key, _fit(tools, wanted))


def _fit(tools: bytes, wanted: ToolSchemas) -> bytes | None:
    changed = False
    try:
        rows = _objects(tools)
        for row in rows:
            function = _object(row["function"]) if "function" in row else {}
            schema = function.get("parameters")
            if schema is None:
                continue
            fitted = fit_tool_schema(schema, wanted)
            if fitted.changed:
                described = fitted.described(_text(function.get("description", Raw(b"null"))))
                function["parameters"] = fitted.schema
                if described is not None:
                    function["description"] = Raw(_encode(described))
                row["function"] = Raw(_encode(function))
                changed = True
    except (ValueError, RecursionError):
        return None
    return _encode(rows) if changed else None


def _prompted(form: bytes, messages: bytes, profile: Profile) -> dict[str, bytes]:
    """The schema in the prompt, at the end of the system message that leads or in one of its own."""
    try:
        wanted = _object(form)
        schema = _object(wanted["json_schema"])["schema"]
        rows = _objects(messages)
        instruction = ONLY_SCHEMA + bytes(schema).decode()
        first: dict[str, Any] = dict(rows[0]) if rows else {}
        said = msgspec.json.decode(first.get("content", b"null"))
        if msgspec.json.decode(first.get("role", b"null")) in ("system", "developer") and isinstance(
            said, str
        ):
            first["content"] = f"{said}\n\n{instruction}"
            turns = [first, *rows[1:]]
        else:
            turns = [{"role": profile.system_role, "content": instruction}, *rows]
    except (KeyError, ValueError, RecursionError):
        return {}
    return {"response_format": b'{"type":"json_object"}', "messages": _encode(turns)}
