"""Splicing: changes one value inside JSON text and touches no other byte."""

import re

import msgspec

# A string, a bracket, a separator, or a run of anything else (a number, true, null); white space lies between.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)


def find_values(json: bytes, path: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the values at ``path`` (keys from the top level down) lie: start and end offsets, in order.

    More than one where a key is repeated; none where it is absent. ``json`` must be valid JSON: of anything else the
    answer is only safe, not meaningful.
    """
    spans: list[tuple[int, int]] = []
    stack: list[int] = []  # the opening brackets we are inside of
    matched = 0  # how many keys of the path lead to where we are
    key: bytes | None = None  # the last string, which is a key if a colon follows
    expecting = False  # right after the colon of the key looked for
    opened = -1  # where a found value that is an object or array began
    for token in _TOKEN.finditer(json):
        first = json[token.start()]
        if first in b"{[":
            stack.append(first)
            if expecting:
                expecting = False
                if matched + 1 == len(path):
                    opened = token.start()
                elif first == 0x7B:
                    matched += 1
        elif first in b"}]":
            if not stack:
                return []
            stack.pop()
            depth = len(stack)
            if opened >= 0 and depth == matched + 1:
                spans.append((opened, token.end()))
                opened = -1
            elif depth == matched and matched:
                matched -= 1
        elif first == 0x3A:
            here = opened < 0 and len(stack) == matched + 1 and stack[-1] == 0x7B
            expecting = here and key is not None and _is_key(key, path[matched])
        elif expecting:
            expecting = False
            if matched + 1 == len(path):
                spans.append(token.span())
        key = token.group() if first == 0x22 else None
    return spans


def _is_key(token: bytes, key: str) -> bool:
    if b"\\" not in token:
        return token[1:-1] == key.encode()
    try:
        return msgspec.json.decode(token, type=str) == key
    except ValueError:
        return False


def replace_spans(json: bytes, spans: list[tuple[int, int]], new_value: bytes) -> bytes:
    """``json`` with what lies at ``spans`` replaced by ``new_value`` (itself JSON)."""
    pieces: list[bytes] = []
    at = 0
    for start, end in spans:
        pieces += (json[at:start], new_value)
        at = end
    return b"".join((*pieces, json[at:])) if pieces else json


def replace_at(json: bytes, path: tuple[str, ...], new_value: bytes) -> bytes:
    """``json`` with each value at ``path`` replaced by ``new_value`` (itself JSON); unchanged where the path is absent."""
    return replace_spans(json, find_values(json, path), new_value)


def replace_top_level(json: bytes, key: str, new_value: bytes) -> bytes:
    """``json`` (an object) with the value of its top-level ``key`` replaced; unchanged where the key is absent."""
    return replace_at(json, (key,), new_value)


def replace_known(json: bytes, path: tuple[str, ...], old: str, new_value: bytes) -> bytes:
    """As ``replace_at``, for a caller that has read ``json`` and found the string ``old`` at ``path``."""
    replaced = replace_once(json, path[-1], old, new_value)
    return replace_at(json, path, new_value) if replaced is None else replaced


def replace_once(json: bytes, name: str, old: str, new_value: bytes) -> bytes | None:
    """``json`` with the value ``old`` (a string) of the key ``name`` replaced; None where it is not plain where that is.

    A key that is written once in the whole text can only be the one that was read, so no search through it is needed:
    inside a string its quotation marks would be escaped.
    """
    key = b'"%b"' % name.encode()
    at = json.find(key)
    if at > 0 and json[at - 1] != _BACKSLASH and json.find(key, at + 1) < 0:
        value = b'"%b"' % old.encode()
        start = at + len(key) + (2 if json.startswith(b": ", at + len(key)) else 1)
        if json.startswith(value, start) and json[at + len(key)] == _COLON:
            return json[:start] + new_value + json[start + len(value) :]
    return None


_BACKSLASH, _COLON = b"\\:"
