"""The part of Helm's template language that the chart keeps to, so that it can be rendered where Helm cannot be had.

Known: ``.Values.a.b``, ``.Release``, ``.Chart``, variables, ``if ... end``, ``range $name, $value := ... end``, and the filters
``quote``, ``toYaml`` and ``nindent``. Anything else is an error, so the chart cannot use what was not tested. What Helm 3.17.1
itself made of the chart, with the values of the tests, was the same document by document on 2026-11-29.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_TOKEN = re.compile(r"(\{\{-?\s*.*?\s*-?\}\})", re.DOTALL)
_RANGE = re.compile(r"range (\$\w+), (\$\w+) := (\S+)")

Scope = dict[str, Any]


def render(template: str, scope: Scope) -> str:
    """The template's text with ``scope`` (``Values``, ``Release``, ``Chart``) filled in."""
    tokens = _TOKEN.split(template)
    for at in range(1, len(tokens), 2):
        if tokens[at].startswith("{{-"):
            tokens[at - 1] = tokens[at - 1].rstrip()
        if tokens[at].endswith("-}}"):
            tokens[at + 1] = tokens[at + 1].lstrip()
    left = iter(tokens)
    text = _block(left, scope)
    assert next(left, None) is None, "an end without a beginning"
    return text


def _block(tokens: Iterator[str], scope: Scope, *, silent: bool = False) -> str:
    """What comes before the block's ``end``, or the end of the template."""
    text = ""
    for token in tokens:
        if not token.startswith("{{"):
            text += token
            continue
        action = token.strip("{}-").strip()
        if action == "end":
            break
        if action.startswith("if "):
            text += _block(tokens, scope, silent=silent or not _value(action[3:], scope))
        elif found := _RANGE.fullmatch(action):
            inner = list(_until_end(tokens))
            for name, value in sorted(_value(found[3], scope).items()):
                text += _block(iter(inner), {**scope, found[1]: name, found[2]: value}, silent=silent)
        else:
            text += _piped(action, scope)
    return "" if silent else text


def _until_end(tokens: Iterator[str]) -> Iterator[str]:
    depth = 0
    for token in tokens:
        action = token.strip("{}-").strip() if token.startswith("{{") else ""
        if action == "end" and depth == 0:
            return
        depth += action.startswith(("if ", "range ")) - (action == "end")
        yield token


def _piped(action: str, scope: Scope) -> str:
    first, *filters = (part.strip() for part in action.split("|"))
    value = _value(first, scope)
    for name in filters:
        match name.split():
            case ["quote"]:
                value = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
            case ["toYaml"]:
                value = yaml.safe_dump(value, default_flow_style=False).rstrip()
            case ["nindent", width]:
                value = "".join(f"\n{' ' * int(width)}{line}" for line in str(value).splitlines())
            case _:
                raise AssertionError(f"not a filter that is known: {name}")
    return str(value)


def _value(path: str, scope: Scope) -> Any:
    if path.startswith("$"):
        return scope[path]
    assert path.startswith("."), f"not understood: {path}"
    value: Any = scope
    for name in path[1:].split("."):
        value = value[name]
    return value
