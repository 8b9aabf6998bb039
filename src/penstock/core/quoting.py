"""Quoting: text that others wrote, written so that it stays one text where it goes: a shell, a terminal, a log, a table.

Each place has one function here; two have their own elsewhere: HTML is escaped by Jinja and ``html.escape``, and labels of
metrics by prometheus-client. What is plain comes back as it was, so quoting can stand wherever text is put together.
"""

import json
import re
import shlex
from urllib.parse import quote

_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What begins a formula in a spreadsheet, in both widths."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_BARE_VALUE = re.compile(r"[^\s\"'=]+").fullmatch


def visible(text: str) -> str:
    """``text`` on one line, with an escape such as ``\\x1b`` or ``\\u202e`` for every character that is not printed.

    Not printed are control characters, marks that turn the direction of writing, what has no width, and half characters.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def terminal_text(text: str) -> str:
    """``text`` for a terminal: lines stay lines, all else that a terminal would obey is written out."""
    return text if text.isprintable() else "\n".join(visible(line) for line in text.split("\n"))


def log_value(text: str) -> str:
    """The value of ``name=value`` in a line of the log, in quotes where it would look like several."""
    return text if _BARE_VALUE(text) and text.isprintable() else json_string(text)


def shell_word(text: str) -> str:
    """One word of a command that is pasted into a shell; a bash or zsh where a character of it is not printed."""
    if text.isprintable():
        return shlex.quote(text)
    octets = text.encode(errors="replace")
    return "$'" + "".join(f"\\x{octet:02x}" for octet in octets) + "'"


def shell_option(name: str, value: str) -> str:
    """``--name value`` for a shell, in one word where the value would be an option of its own."""
    return f"--{name}{'=' if value.startswith('-') else ' '}{shell_word(value)}"


def header_text(text: str) -> str:
    """Text for a mail's header: no line of its own, and nothing that reads as an encoded word (RFC 2047)."""
    return visible(text).replace("=?", "= ?")


def csv_cell(value: object) -> object:
    """A cell of a table: a text that a spreadsheet would take for a formula is kept a text by a quote before it."""
    if not isinstance(value, str):
        return value
    first = next((character for character in value if character.isprintable() and character != " "), "")
    return f"'{value}" if first in _FORMULA or not value[:1].isprintable() else value


def json_string(text: str) -> str:
    """A string of JSON, and of Python and JavaScript, in which everything that is not printed is escaped."""
    return json_text(json.dumps(text, ensure_ascii=False))


def json_text(encoded: str) -> str:
    """JSON with all that is not printed escaped: outside strings it has nothing of the kind but blanks."""
    if encoded.isprintable():
        return encoded
    return "".join(
        character if character.isprintable() or character in "\n\r\t" else json.dumps(character)[1:-1]
        for character in encoded
    ).replace("\x7f", "\\u007f")


def toml_string(text: str) -> str:
    """A basic string of TOML. It has JSON's escapes, but a longer one in place of pairs of halves."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        character
        if character.isprintable()
        else f"\\u{ord(character):04X}"
        if ord(character) <= 0xFFFF
        else f"\\U{ord(character):08X}"
        for character in quoted
    )


def toml_key(text: str) -> str:
    """A key of TOML, in quotes where it cannot stand bare."""
    return text if _BARE_KEY(text) else toml_string(text)


def url_path(text: str) -> str:
    """A path, or a part of one, in a URL."""
    return quote(text, safe="/", errors="replace")


def url_host(text: str) -> str:
    """Host and port in a URL. A name may hold what a shell obeys; percent signs in place of it mean the same host."""
    return quote(text, safe=":[]", errors="replace")


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
