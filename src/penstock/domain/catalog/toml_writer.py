"""The catalogue as a TOML document, written so that it reads back to the same."""

from typing import cast

import msgspec

from penstock.core.quoting import toml_key, toml_string
from penstock.domain.catalog.toml_document import CatalogDocument


def dump(document: CatalogDocument) -> str:
    """The document as TOML that reads back to the same document."""
    blocks: list[str] = []
    for row in document.providers:
        lines = [
            "[[provider]]",
            _line("id", row.id),
            _line("kind", row.kind),
            _line("speaks", dict(row.speaks)),
        ]
        lines += [_line("secret", row.secret), _line("auth", row.auth)]
        if row.habits:
            lines.append(_line("profile", dict(row.habits)))
        blocks.append("\n".join(lines))
    for model in document.models:
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
        if model.max_output_tokens is not None:
            lines.append(_line("max_output_tokens", model.max_output_tokens))
        if model.context_tokens is not None:
            lines.append(_line("context_tokens", model.context_tokens))
        capabilities = msgspec.to_builtins(model.capabilities)
        if capabilities:
            lines.append(_line("capabilities", capabilities))
        blocks.append("\n".join(lines))
    for plan in document.plans:
        lines = ["[[plan]]", _line("id", plan.id), _line("name", plan.name)]
        lines += [_line("daily_requests", plan.daily_requests)]
        lines += [_line("concurrent_requests", plan.concurrent_requests)]
        lines += [_line("queue_seconds", plan.queue_seconds), _line("models", list(plan.models))]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _line(key: str, value: object) -> str:
    return f"{toml_key(key)} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
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
