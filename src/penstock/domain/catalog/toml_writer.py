"""The catalogue as a TOML document, written so that it reads back to the same."""

from typing import cast

import msgspec

from penstock.core.catalog import Model, Upstream
from penstock.core.quoting import toml_key, toml_string
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.reach_fields import document_fields
from penstock.domain.catalog.toml_document import CatalogDocument


def dump(document: CatalogDocument) -> str:
    """The document as TOML that reads back to the same document."""
    blocks = [_provider(row) for row in document.providers]
    blocks += [_model(model) for model in document.models]
    blocks += [_plan(plan) for plan in document.plans]
    return "\n\n".join(blocks) + "\n"


def _provider(row: Upstream) -> str:
    lines = ["[[provider]]", _line("id", row.id), _line("kind", row.kind), _line("speaks", dict(row.speaks))]
    if row.credentials:
        lines += _listed("credentials", msgspec.to_builtins(row.credentials))
    else:
        lines.append(_line("secret", row.secret))
    lines.append(_line("auth", row.auth))
    lines += [_line(name, value) for name, value in document_fields(row).items()]
    if row.habits:
        lines.append(_line("profile", dict(row.habits)))
    if row.tags:
        lines.append(_line("tags", list(row.tags)))
    if row.in_flight is not None:
        lines.append(_line("in_flight", row.in_flight))
    return "\n".join(lines)


def _model(model: Model) -> str:
    lines = ["[[model]]", _line("id", model.id), _line("name", model.name)]
    if not model.chats:
        lines.append(_line("kind", model.kind))
    if model.aliases:
        lines.append(_line("aliases", list(model.aliases)))
    if model.auto:
        lines.append(_line("auto", list(model.auto)))
    else:
        targets = ",\n".join("    " + _value(msgspec.to_builtins(target)) for target in model.targets)
        lines.append(f"targets = [\n{targets},\n]")
    if not model.sticky:
        lines.append(_line("sticky", value=False))
    lines += _listed("rules", msgspec.to_builtins(model.rules))
    lines += _listed("fallback", msgspec.to_builtins(model.fallback))
    for key, value in (
        ("most_usd_per_million", model.most_usd_per_million),
        ("max_output_tokens", model.max_output_tokens),
        ("context_tokens", model.context_tokens),
        ("capabilities", model.capabilities),
        ("sunset", model.sunset),
        ("successor", model.successor),
    ):
        built = msgspec.to_builtins(value)
        if built not in (None, {}, ""):
            lines.append(_line(key, built))
    return "\n".join(lines)


def _plan(plan: Plan) -> str:
    lines = ["[[plan]]", _line("id", plan.id), _line("name", plan.name)]
    lines += [_line("daily_requests", plan.daily_requests)]
    lines += [_line("concurrent_requests", plan.concurrent_requests)]
    lines += [_line("queue_seconds", plan.queue_seconds), _line("models", list(plan.models))]
    if plan.weight != 1:
        lines.append(_line("weight", plan.weight))
    if plan.requires:
        lines.append(_line("requires", list(plan.requires)))
    return "\n".join(lines)


def _listed(key: str, rows: list[object]) -> list[str]:
    """A list with a line for each of its tables; nothing where it is empty."""
    return [f"{key} = [\n" + "".join(f"    {_value(row)},\n" for row in rows) + "]"] if rows else []


def _line(key: str, value: object) -> str:
    return f"{toml_key(key)} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return toml_string(value)
        case dict():
            pairs = cast("dict[str, object]", value)
            return (
                "{ " + ", ".join(_line(key, inner) for key, inner in pairs.items()) + " }" if pairs else "{}"
            )
        case list() | tuple():
            items = cast("list[object]", value)
            return "[" + ", ".join(_value(item) for item in items) + "]"
        case _:
            raise TypeError(f"no TOML for {type(value).__name__}")
