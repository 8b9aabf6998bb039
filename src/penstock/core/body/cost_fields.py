"""Cost fields: where a body names another model than ``model``, or multiplies what its answer costs the operator.

Each format has a table of its own (``cost_fields.py`` beside its dialect). A model that the caller may not use is refused,
wherever it is named; a dearer tier, more answers than the operator allows, or a tool that runs a model which is not named
are left out; so it is with tools that a block inside the conversation brings. Keys are read as the most lenient upstream
would read them: without regard to case or escapes, and with every member of a key that is there twice. An ordinary body
costs a comparison of its top-level names, a search in its tools, and one for a word in its conversation.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

import msgspec
from msgspec import Raw

from penstock.errors import ModelNotOnPlan

Decoded: TypeAlias = "str | float | bool | list[Decoded] | tuple[tuple[str, Decoded], ...] | None"
"""JSON with an object as a tuple of its members, so that none is hidden by another of the same key; a list stays a list."""
Action = Literal["names", "searched", "bounded", "count", "left_out", "plugins"]
"""What is done about a field. ``names``: every text in it is the name of a model, and the caller must have it. ``searched``:
so is every text under a key that names models. Of neither anything passes with a dearer thing in it. ``bounded``: only
values that cost no more pass. ``count``: as many answers as allowed pass. ``left_out``: it never passes. ``plugins``: a list
of what an upstream runs beside the model, of which the kinds that run none pass."""


@dataclass(frozen=True, slots=True)
class CostField:
    """One row of a format's table: a top-level field, what is done about it, and the values that pass."""

    name: str
    action: Action
    passes: frozenset[str] = frozenset()
    numbers: bool = False
    """Whether a number passes, because it says something else: how fast is spoken, and no dearer tier."""


@dataclass(frozen=True, slots=True)
class CostRules:
    """A format's table. A field that is neither a row nor ``ordinary`` is ``searched``, and always passes.

    ``tools`` is the field of the tools, ``items`` the field whose items have fields by the rules of ``item``, ``turns`` the
    conversation, of which blocks may bring tools. A tool whose type begins with one of ``running`` runs a model, unless its
    type is one of ``searching``.
    """

    fields: tuple[CostField, ...]
    ordinary: frozenset[str]
    tools: str = "tools"
    items: str = ""
    item: "CostRules | None" = None
    turns: str = ""
    running: tuple[str, ...] = ("advisor", "openrouter:")
    searching: frozenset[str] = frozenset(
        ("openrouter:web_search", "openrouter:web_fetch", "openrouter:datetime")
    )


@dataclass(frozen=True, slots=True)
class CostBounds:
    """What a caller may ask for: ``holds`` says whether a name that goes upstream as it is means a model of the caller's."""

    holds: Callable[[str], bool]
    max_choices: int


SHARED = (
    CostField("models", "names"),
    CostField("fallbacks", "names"),
    CostField("fallback_models", "names"),
    CostField("model_list", "names"),
    CostField("engine", "names"),
    CostField("deployment", "names"),
    CostField("deployment_id", "names"),
    CostField("extra_body", "searched"),
    CostField("provider", "searched"),
    CostField("providerOptions", "searched"),
    CostField("plugins", "plugins", frozenset(("web", "file-parser", "response-healing"))),
    CostField("route", "left_out"),
    CostField("preset", "left_out"),
    CostField("n", "count"),
    CostField("best_of", "count"),
    CostField(
        "service_tier",
        "bounded",
        frozenset(("auto", "default", "flex", "standard", "standard_only", "batch")),
    ),
    CostField("speed", "bounded", frozenset(("standard", "normal")), numbers=True),
)
"""The rows of every format: an upstream may take the fields of another one's format."""

_NULL = b"null"
_NAMING = ("model", "models", "modelid", "modelids", "modelname", "modelnames", "modellist")
NAMING_WORDS = (b"model", b"fallback")
_MULTIPLIES = (b"tier", b"speed", b'"n"', b"best")
RUNNING_WORDS = (b"advisor", b"openrouter:")
_TOOL_WORDS = (*NAMING_WORDS, *RUNNING_WORDS)
_ITEM_WORDS = (b'"tools"', b'"model', b'tier"', b"fallback")
_ESCAPED = re.compile(rb"\\u(?:00[2-7]|017[fF]|212[aA])")
"""How a letter of ASCII can be written that a search for a word does not find: as an escape, or as one of ``_FOLDING``."""
ADDS = b"tool_addition"
_ESCAPE = b"\\u00"
_ESCAPED_WORD = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")
"""An escaped small letter or low line: no encoder writes them so, and a type may be hidden by it."""
_FOLDING = (b"\xc5\xbf", b"\xe2\x84\xaa")
"""The letters that fold to ASCII's: the long s and the sign of Kelvin."""
_SHOWN = 100
_QUICK = 16 * 1024
_MOST_OBJECTS = 2000
_MOST_DIGITS = 18


def _integer(text: str) -> float:
    return int(text) if len(text) <= _MOST_DIGITS else math.inf


_decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=_integer)
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def bound_cost(
    fields: dict[str, Raw], rules: CostRules, bounds: CostBounds
) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """The top level as it may go on, and the names of the fields of which something was left out.

    Raises ``ModelNotOnPlan`` for a model that the caller may not use.
    """
    kept: dict[str, Raw | None] = {}
    if not rules.ordinary.issuperset(fields):
        rows = {_folded(row.name): row for row in rules.fields}
        for name, raw in fields.items():
            if name not in rules.ordinary and not _passes(name, raw, rows.get(_folded(name)), bounds):
                kept[name] = None
    for name, place in ((rules.tools, _tools), (rules.items, _items), (rules.turns, _turns)):
        if name in fields:
            changed = place(kept.get(name) or fields[name], rules, bounds)
            if changed is not None:
                kept[name] = changed
    if not kept:
        return fields, ()
    left_out = tuple(kept)
    tools = kept.get(rules.tools)
    if tools is not None and bytes(tools) == b"[]":
        kept[rules.tools] = kept["tool_choice"] = None
    merged = {name: kept.get(name, raw) for name, raw in fields.items()}
    return {name: raw for name, raw in merged.items() if raw is not None}, left_out


def takes_long(fields: dict[str, Raw], rules: CostRules, size: int) -> bool:
    """Whether looking at a body of this size may take milliseconds: it has more in it than ordinary fields and tools."""
    if size <= _QUICK:
        return False
    tools, items = (bytes(fields.get(place, b"")) for place in (rules.tools, rules.items))
    return (
        not rules.ordinary.issuperset(fields)
        or tools.count(b"{") > _MOST_OBJECTS
        or (rules.item is not None and items.count(b"{") > _MOST_OBJECTS)
        or may_add_tools(bytes(fields.get(rules.turns, b"")))
    )


def says_cost(name: str) -> bool:
    """Whether a field of this name may name a model or multiply the bill, in any format."""
    folded = _folded(name)
    return _names_a_model(folded) or folded in _ROWS


# ---- the top level


def _passes(name: str, raw: Raw, row: CostField | None, bounds: CostBounds) -> bool:
    text = bytes(raw)
    if text == _NULL:
        return True
    if row is None:
        naming = _names_a_model(_folded(name))
        if naming or hides(NAMING_WORDS, text):
            _check_names(name, _value(text), bounds, naming=naming)
        return True
    match row.action:
        case "bounded" | "count":
            return _cheap(_value(text), row, bounds)
        case "left_out":
            return False
        case "plugins":
            value = _value(text)
            _check_names(name, value, bounds)
            return _known_plugins(value, row.passes)
        case "names" | "searched":
            naming = row.action == "names"
            if not naming and not hides(NAMING_WORDS, text) and not hides(_MULTIPLIES, text):
                return True
            value = _value(text)
            _check_names(name, value, bounds, naming=naming)
            return not _multiplies(value, bounds)
        case _:
            assert_never(row.action)


def _cheap(value: Decoded, row: CostField, bounds: CostBounds) -> bool:
    """Whether a value passes. Of a number of answers, what is no integer may be read as any."""
    if row.action == "count":
        return isinstance(value, int) and value <= bounds.max_choices
    if row.numbers and isinstance(value, int | float) and not isinstance(value, bool):
        return True
    return isinstance(value, str) and value in row.passes


def _known_plugins(value: Decoded, passes: frozenset[str]) -> bool:
    if not isinstance(value, list):
        return False
    for each in value:
        ids = [inner for key, inner in _members(each) if _folded(key) == "id"]
        if not ids or not passes.issuperset(one if isinstance(one, str) else "" for one in ids):
            return False
    return True


def _multiplies(value: Decoded, bounds: CostBounds) -> bool:
    """Whether anything in a decoded value is a dearer tier or speed, or more answers than allowed."""
    stack: list[Decoded] = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(value)
        for key, inner in _members(value):
            row = _MULTIPLYING.get(_folded(key))
            if row is not None and inner is not None and not _cheap(inner, row, bounds):
                return True
            stack.append(inner)
    return False


# ---- names


def _check_names(field: str, value: Decoded, bounds: CostBounds, *, naming: bool = False) -> bool:
    """Whether a decoded value names a model. Raises ``ModelNotOnPlan``. ``naming``: a text by itself is a name."""
    named = False
    for name in _named(value, naming=naming):
        named = True
        if not bounds.holds(name):
            raise ModelNotOnPlan(
                f"{field[:_SHOWN]}: {name[:_SHOWN]} is not a model of your plan and key.",
                param=field[:_SHOWN],
            )
    return named


def _named(value: Decoded, *, naming: bool) -> Iterator[str]:
    """The names of models in a decoded value.

    A text under a key that names models is one, and so is every text of an object under such a key that has no such key
    of its own.
    """
    stack: list[tuple[Decoded, bool]] = [(value, naming)]
    while stack:
        value, naming = stack.pop()
        if isinstance(value, str) and naming:
            yield value
        if isinstance(value, list):
            stack.extend((each, naming) for each in value)
        members = _members(value)
        own = [_names_a_model(_folded(key)) for key, _ in members]
        inherited = naming and not any(own)
        stack.extend((each[1], names or inherited) for each, names in zip(members, own, strict=True))


def _names_a_model(key: str) -> bool:
    return key.endswith(_NAMING) or "fallback" in key


# ---- tools


def _tools(raw: Raw, rules: CostRules, bounds: CostBounds) -> Raw | None:
    """The tools that may go on; None: all of them."""
    text = bytes(raw)
    if not hides(_TOOL_WORDS, text):
        return None
    try:
        tools = _raws(text)
    except msgspec.ValidationError:  # no list
        _check_names(rules.tools, _value(text), bounds)
        return None
    spelt = hides(RUNNING_WORDS, text)
    kept = [tool for tool in tools if _tool_passes(tool, rules, bounds, spelt=spelt)]
    return Raw(_encode(kept)) if len(kept) < len(tools) else None


def _tool_passes(tool: Raw, rules: CostRules, bounds: CostBounds, *, spelt: bool) -> bool:
    """Whether a tool may go on. ``spelt``: a word for tools that run models is somewhere in the request."""
    text = bytes(tool)
    try:
        fields = _fields(text)
    except msgspec.ValidationError:  # no object
        return True
    plain = bytes(fields.get("type", _FUNCTION)) in _OWN and not (spelt and hides(RUNNING_WORDS, text))
    if plain and not any(_names_a_model(_folded(name)) for name in fields):
        return True
    return _decoded_passes(_value(text), rules, bounds)


_CALLERS = frozenset(("function", "custom"))
"""Types of tools that the caller runs."""
_FUNCTION = Raw(b'"function"')
_OWN = frozenset((b'"function"', b'"custom"', b"null"))


def _decoded_passes(tool: Decoded, rules: CostRules, bounds: CostBounds) -> bool:
    """Whether a decoded tool may go on, with the tools that it holds."""
    members = _members(tool)
    types = [inner.casefold() for key, inner in members if _folded(key) == "type" and isinstance(inner, str)]
    if _CALLERS.issuperset(types):  # what is said inside of it is the caller's own
        beside = tuple(member for member in members if _names_a_model(_folded(member[0])))
        _check_names(rules.tools, beside, bounds)
        return True
    inner_tools = [
        each
        for key, inner in members
        if _folded(key) == "tools" and isinstance(inner, list)
        for each in inner
    ]
    rest = tuple(member for member in members if _folded(member[0]) != "tools")
    named = _check_names(rules.tools, rest, bounds)
    runs = any(kind.startswith(rules.running) and kind not in rules.searching for kind in types)
    return (named or not runs) and all(_decoded_passes(each, rules, bounds) for each in inner_tools)


def _items(raw: Raw, rules: CostRules, bounds: CostBounds) -> Raw | None:
    """The items as they may go on; None: unchanged."""
    text = bytes(raw)
    if rules.item is None or not text.startswith(b"[") or not hides(_ITEM_WORDS, text):
        return None
    items = _raws(text)
    changed = False
    for at, item in enumerate(items):
        if hides(_ITEM_WORDS, bytes(item)):
            fields, left_out = bound_cost(_fields(item), rules.item, bounds)
            if left_out:
                changed = True
                items[at] = Raw(_encode(fields))
    return Raw(_encode(items)) if changed else None


# ---- tools that the conversation brings


def _turns(raw: Raw, rules: CostRules, bounds: CostBounds) -> Raw | None:
    """The conversation as it may go on; None: unchanged. A turn of which nothing is left is left out with its blocks."""
    text = bytes(raw)
    if not text.startswith(b"[") or not may_add_tools(text):
        return None
    turns = _raws(text)
    kept = [_turn(turn, rules, bounds) for turn in turns]
    if all(after is before for after, before in zip(kept, turns, strict=True)):
        return None
    return Raw(_encode([turn for turn in kept if turn is not None]))


def _turn(turn: Raw, rules: CostRules, bounds: CostBounds) -> Raw | None:
    """A turn as it may go on; None: not at all."""
    if not may_add_tools(bytes(turn)):
        return turn
    fields = _fields(turn)
    content = bytes(fields.get("content", b""))
    if not content.startswith(b"["):
        return turn
    blocks = _raws(content)
    kept = [block for block in blocks if _block_passes(block, rules, bounds)]
    if len(kept) == len(blocks):
        return turn
    return Raw(_encode({**fields, "content": kept})) if kept else None


def _block_passes(block: Raw, rules: CostRules, bounds: CostBounds) -> bool:
    """Whether a block may go on: one that defines a tool by its value is as that tool is."""
    if not may_add_tools(bytes(block)):
        return True
    members = _members(_value(bytes(block)))
    if not any(_folded(key) == "type" and inner == ADDS.decode() for key, inner in members):
        return True
    return all(
        _decoded_passes(definition, rules, bounds)
        for key, tool in members
        if _folded(key) == "tool"
        for word, definition in _members(tool)
        if _folded(word) == "definition"
    )


def may_add_tools(text: bytes) -> bool:
    """Whether a block that brings a tool may be in JSON text."""
    # `find`, because `in` tries whether the needle is a number first, and a search by pattern is ten times as slow
    if text.find(ADDS) >= 0:
        return True
    return text.find(_ESCAPE) >= 0 and _ESCAPED_WORD.search(text) is not None


# ---- what is read leniently


def _value(text: bytes) -> Decoded:
    value: Decoded = _decoder.decode(text.decode())
    return value


def _members(value: Decoded) -> tuple[tuple[str, Decoded], ...]:
    """The members of a decoded object; of anything else there are none."""
    return value if isinstance(value, tuple) else ()


def _folded(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "")


def hides(words: tuple[bytes, ...], text: bytes) -> bool:
    """Whether one of the words is in JSON text, or may be in other letters."""
    lowered = text.lower()
    for word in words:  # a generator would cost more than the search
        if word in lowered:
            return True
    if b"\\u" in text and _ESCAPED.search(text) is not None:
        return True
    return not text.isascii() and any(letter in text for letter in _FOLDING)


_ROWS = frozenset(_folded(row.name) for row in SHARED)
_MULTIPLYING = {_folded(row.name): row for row in SHARED if row.action in {"bounded", "count"}}
