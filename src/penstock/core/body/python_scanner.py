"""The scanner in Python, on msgspec's decoder, for where the one in C could not be built.

The contract is in ``scanner.py``. It agrees with the other on every input but one kind: what is nested deeper than that puts up
with may pass here, as deep as the decoder goes.
"""

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from penstock.core.body.cost_fields import hides
from penstock.core.body.scan_rules import CLOSE, ESCAPED, MARKS, Form, ScanRules, Spans
from penstock.core.body.utf8 import find_invalid
from penstock.core.body.value_limits import check_values
from penstock.errors import InvalidRequest


class _Turn(msgspec.Struct):
    role: str
    content: Raw = Raw(b"null")


class _Options(msgspec.Struct):
    include_usage: bool | None = None


_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_turns = msgspec.json.Decoder(list[_Turn]).decode
_options = msgspec.json.Decoder(_Options | None).decode
_encode = msgspec.json.Encoder().encode

_SPACE = b" \t\r\n"
_MEMBER = re.compile(rb'[ \t\r\n]*"([^"\\]*)"[ \t\r\n]*:[ \t\r\n]*')
_AFTER = re.compile(rb"[ \t\r\n]*[,}]")
_IDS = re.compile(rb"\[[ \t\r\n]*\d+(?:[ \t\r\n]*,[ \t\r\n]*\d+)*[ \t\r\n]*\]")
_ESCAPE = b"\\u00"
_LETTER = re.compile(rb"(?<!\\)(?:\\\\)*\\u00[5-7]")
"""An escape of one of ``ESCAPED``; a backslash before it would be one that is escaped itself."""
_NULL = Raw(b"null")
_REFERENCE = b'"item_reference"'
_OWN = frozenset((b'"function"', b'"custom"', b"null"))
"""Types of tools that the caller runs."""


def scan_in_python(data: bytes, start: int, end: int, rules: ScanRules) -> Spans | None:
    """As ``scanner.scan``."""
    if not 0 <= start <= end <= len(data):
        raise ValueError("scan: start and end are outside of the data")
    body = data if end - start == len(data) else data[start:end]
    try:
        fields = _fields(body)
        check_values(body, rules.max_values)
        if find_invalid(body) >= 0 or not rules.named.keys() >= fields.keys() >= rules.required:
            return None
        values = {name: bytes(raw) for name, raw in fields.items()}
        if not all(_fits(name, value, rules) for name, value in values.items()):
            return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidRequest):
        return None
    # the same length: no white space between the members, so no room for a second one of any of them, or for an escape
    compact = len(_encode(fields)) == len(body)
    spans = _count_spans(start, values, rules) if compact else _find_spans(body, start, values, rules)
    if spans is None:
        return None
    spans[MARKS] = _marks(body, rules)
    return tuple(spans)


def _marks(body: bytes, rules: ScanRules) -> int:
    """The marks that strings of a valid object begin with."""
    found = 0
    for searched, pattern, bit in rules.patterns:
        if body.find(searched) >= 0 and pattern.search(body) is not None:
            found |= bit
    if body.find(_ESCAPE) >= 0 and _LETTER.search(body) is not None:
        found |= ESCAPED
    return found


def _fits(name: str, value: bytes, rules: ScanRules) -> bool:
    """Whether a member's value has its form. May raise ``msgspec.DecodeError`` where not."""
    if value == b"null" and name in rules.required:
        return False
    return _CHECKS[rules.named[name].form](value, rules)


def _count_spans(start: int, values: dict[str, bytes], rules: ScanRules) -> list[int]:
    """The places in an object without white space, out of the lengths of its members."""
    spans = [start, 0] + [0, 0] * rules.wanted + [0]
    at = start
    for name, value in values.items():
        at += len(name) + len(b',"":')
        place = rules.places.get(name)
        if place is not None:
            spans[place : place + 2] = at, at + len(value)
        at += len(value)
    spans[CLOSE] = at if values else at + 1
    return spans


def _find_spans(body: bytes, start: int, values: dict[str, bytes], rules: ScanRules) -> list[int] | None:
    """Step over each member as the dict has it; None where a name is written with an escape, or is there twice."""
    opened = body.index(b"{")
    at = opened + 1
    spans = [start + opened, 0] + [0, 0] * rules.wanted + [0]
    for name, value in values.items():
        member = _MEMBER.match(body, at)
        if member is None or member.group(1) != name.encode():
            return None
        begin, stop = member.end(), member.end() + len(value)
        after = _AFTER.match(body, stop)
        if after is None or not body.startswith(value, begin):
            return None
        at = after.end()
        place = rules.places.get(name)
        if place is not None:
            spans[place : place + 2] = start + begin, start + stop
    close = at - 1 if values else body.index(b"}")
    if body[close : close + 1] != b"}" or body[close + 1 :].strip(_SPACE):
        return None
    spans[CLOSE] = start + close
    return spans


def _are_options(value: bytes, rules: ScanRules) -> bool:  # noqa: ARG001 - as the other checks
    _options(value)
    return True


def _are_turns(value: bytes, rules: ScanRules) -> bool:
    turns = _turns(value)
    return 0 < len(turns) <= rules.max_entries and all(
        memoryview(turn.content)[0] in b'"[n' for turn in turns
    )


def _are_items(value: bytes, rules: ScanRules) -> bool:
    if value.startswith(b'"'):
        return True
    items = _objects(value)
    names = frozenset(rules.items)
    return len(items) <= rules.max_entries and all(
        names.issuperset(item) and bytes(item.get("type", _NULL)) != _REFERENCE and item.keys() != {"id"}
        for item in items
    )


def _are_tools(value: bytes, rules: ScanRules) -> bool:
    names = frozenset(rules.tools)
    plain = value.startswith(b"[") and all(_is_plain(tool, names) for tool in _raws(value))
    words = rules.running if plain else (*rules.running, *rules.naming)
    return not hides(words, value)


def _is_plain(tool: Raw, names: frozenset[str]) -> bool:
    """Whether a tool is an object of ordinary names, and the caller runs it."""
    if memoryview(tool)[0] != b"{"[0]:
        return False
    fields = _fields(tool)
    return names.issuperset(fields) and bytes(fields.get("type", _NULL)) in _OWN


def _are_texts(value: bytes, rules: ScanRules) -> bool:
    if value.startswith(b'"'):
        return len(value) > len(b'""')
    if b'"' not in value:
        return _IDS.match(value) is not None
    texts = _raws(value)
    return len(texts) <= rules.max_entries and all(memoryview(each)[0] == b'"'[0] for each in texts)


def _match(pattern: bytes) -> "Check":
    match = re.compile(pattern).match
    return lambda value, _rules: match(value) is not None


Check = Callable[[bytes, ScanRules], bool]
_CHECKS: tuple[Check, ...] = tuple(
    {
        Form.ANY: _match(rb""),
        Form.NAME: _match(rb'"[^"\\]*[!#-\[\]-~][^"\\]*"\Z'),
        Form.FLAG: _match(rb"[tfn]"),
        Form.WHOLE: _match(rb"(?:null|-?\d{1,18})\Z"),
        Form.NATURAL: _match(rb"(?:null|\d{1,18})\Z"),
        Form.POSITIVE: _match(rb"(?:null|[1-9]\d{0,17})\Z"),
        Form.NUMBER: _match(rb"(?:null|-?\d{1,15}(?:\.\d{1,15})?)\Z"),
        Form.TEMPERATURE: _match(rb"(?:null|[01](?:\.\d{1,15})?|2(?:\.0{1,15})?)\Z"),
        Form.OPTIONS: _are_options,
        Form.TURNS: _are_turns,
        Form.ITEMS: _are_items,
        Form.TOOLS: _are_tools,
        Form.TEXTS: _are_texts,
        Form.FILLED: _match(rb"\[[ \t\r\n]*[^] \t\r\n]"),
        Form.OBJECT: _match(rb"\{"),
    }[form]
    for form in Form
)
"""By the number of a form: whether a value has it. May raise ``msgspec.DecodeError`` where not."""
