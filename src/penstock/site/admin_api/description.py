"""Description of the admin API for ``openapi.json``, made from the table of operations and the types of each."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from penstock.domain.staff.roles import PERMISSIONS, ROLES
from penstock.site.admin_api.dispatch import AdminError, BoundOperation, Nothing
from penstock.site.admin_api.parity import BASE, PARITY, ParityRow

SECURITY: Final = "adminToken"
SCHEMA_PREFIX: Final = "Admin"
"""What the names of its schemas begin with, beside those of the data plane."""
_REF: Final = "#/components/schemas/"
_SERVER: Final = "http://127.0.0.1:8484"
_WRITE_PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "AdminDryRun": {
        "name": "dry_run",
        "in": "query",
        "required": False,
        "schema": {"type": "string", "enum": ["0", "1", "false", "true"], "default": "0"},
        "description": "1: answer as if it were done, and change nothing",
    },
    "AdminIdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
        "description": "The same request with the same key is done once, and answered alike",
    },
}
_ERRORS: Final[Mapping[str, str]] = {
    "400": "The query or the body is not one of this route",
    "401": "No token, or not one that works",
    "403": "The token, or the person whom it acts for, may not do this",
    "404": "There is no such thing",
    "409": "It cannot be done as things are, or the request with this Idempotency-Key still runs",
    "412": "The catalogue is not any more what If-Match says",
    "413": "The body is too large",
    "422": "The document cannot be applied, or the Idempotency-Key came with another request",
    "429": "The token has sent too many requests in this minute",
    "503": "The database does not answer",
}


class AdminPart(msgspec.Struct, frozen=True):
    """The part of the contract: its paths, and what they refer to, by the kind of component."""

    paths: dict[str, Any]
    components: dict[str, dict[str, Any]]


def admin_contract(operations: Mapping[str, BoundOperation]) -> AdminPart:
    """The part of all operations."""
    rows = [row for row in PARITY if row.route]
    kinds: list[Any] = [AdminError]
    for row in rows:
        bound = operations[row.name]
        kinds += [bound.answer, bound.query, bound.body]
    found, schemas = msgspec.json.schema_components(kinds, ref_template=_REF + SCHEMA_PREFIX + "{name}")
    of_kind = dict(zip([repr(kind) for kind in kinds], found, strict=True))
    paths: dict[str, Any] = {}
    for row in rows:
        method, _, path = row.route.partition(" ")
        at = paths.setdefault(BASE + path.replace(":path", ""), {"servers": [{"url": _SERVER}]})
        at[method.lower()] = _operation(row, path, operations[row.name], of_kind, schemas)
    asked = {operations[row.name].query.__name__ for row in rows}  # shown as parameters
    wrong = {"application/json": {"schema": {"$ref": f"{_REF}{SCHEMA_PREFIX}AdminError"}}}
    return AdminPart(
        paths,
        {
            "schemas": {
                _name(name): _renamed(schema) for name, schema in sorted(schemas.items()) if name not in asked
            },
            "parameters": dict(_WRITE_PARAMETERS),
            "responses": {
                f"{SCHEMA_PREFIX}{status}": {"description": said, "content": wrong}
                for status, said in _ERRORS.items()
            },
            "securitySchemes": {
                SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the admin API (pa-ps-...)",
                }
            },
        },
    )


def _operation(
    row: ParityRow, path: str, bound: BoundOperation, of_kind: Mapping[str, Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    roles = [role for role in ROLES if row.permission in PERMISSIONS[role]]
    wants = f"the scope {row.scope}" if row.scope else "no scope"
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _renamed(schema)}
        for name, schema in _schema_of(of_kind[repr(bound.query)], schemas).get("properties", {}).items()
    ]
    if row.writes:
        parameters += [{"$ref": f"#/components/parameters/{name}"} for name in _WRITE_PARAMETERS]
    found: dict[str, Any] = {
        "operationId": f"admin_{row.name}",
        "tags": ["admin"],
        "summary": row.what,
        "description": f"Wants {wants} and the role {' or '.join(roles)}.",
        "security": [{SECURITY: []}],
        "parameters": parameters,
    }
    if bound.body is not Nothing:
        body = _schema_of(of_kind[repr(bound.body)], schemas)
        found["requestBody"] = {
            "required": bool(body.get("required")),
            "content": {"application/json": {"schema": _renamed(of_kind[repr(bound.body)])}},
        }
    answers: dict[str, Any] = {
        "200": {
            "description": "Done",
            "content": {"application/json": {"schema": _renamed(of_kind[repr(bound.answer)])}},
        }
    }
    for status in _ERRORS:
        if (status == "412" and row.scope != "catalog:write") or (status == "409" and not row.writes):
            continue
        answers[status] = {"$ref": f"#/components/responses/{SCHEMA_PREFIX}{status}"}
    found["responses"] = answers
    return found


def _schema_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    reference: str | None = schema.get("$ref")
    return schema if reference is None else schemas[reference.removeprefix(_REF + SCHEMA_PREFIX)]


def _name(text: str) -> str:
    """The name of a schema: letters, digits, ``.``, ``_`` and ``-`` alone, as the format wants it."""
    return SCHEMA_PREFIX + re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_")


def _renamed(schema: Any) -> Any:
    """The same with each reference to the name that the schema has in the document."""
    if isinstance(schema, list):
        return [_renamed(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _REF + _name(value.removeprefix(_REF + SCHEMA_PREFIX)) if key == "$ref" else _renamed(value)
        for key, value in cast("dict[str, Any]", schema).items()
    }
