"""Input of custom tools: the free text, taken out of the JSON arguments of the function that stood for the tool."""

import re

import msgspec

from penstock.core.neutral.text_pieces import TextPieces

_START = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_START_SO_FAR = re.compile(r'\s*(?:\{\s*(?:"(?:i(?:n(?:p(?:u(?:t(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?\Z')
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt])|u([0-9a-fA-F]{4}))')
_LOW = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_LOW_SO_FAR = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z")
_HIGH_HALVES, _HALVES = range(0xD800, 0xDC00), range(0xD800, 0xE000)
"""Of characters in two escapes. One without the other is U+FFFD, as in all that servers cut by UTF-16 units."""
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class _Input(msgspec.Struct):
    input: str


_decode = msgspec.json.Decoder(_Input).decode


class CustomInput:
    """Follows the arguments ``{"input": "..."}`` as they come and gives the text as far as it is certain."""

    __slots__ = ("_held", "_pieces", "_state", "given")

    def __init__(self) -> None:
        self._pieces = TextPieces()
        self._held = ""  # not yet understood
        self._state = "before"
        self.given = TextPieces()
        """The text given so far."""

    @property
    def size(self) -> int:
        """Characters that are kept."""
        return self._pieces.size + self.given.size

    def feed(self, fragment: str) -> str:
        """The text that this fragment of the arguments adds."""
        self._pieces.add(fragment)
        if self._state == "after":
            return ""
        self._held += fragment
        if self._state == "before":
            start = _START.match(self._held)
            if start is None:
                if _START_SO_FAR.match(self._held) is None:
                    self._state = "after"  # something else: the whole is looked at when it is there
                return ""
            self._held = self._held[start.end() :]
            self._state = "inside"
        text = self._inside()
        if text:
            self.given.add(text)
        return text

    def finish(self) -> str:
        """All of the text. Arguments that are not of the form are themselves the text."""
        arguments = self._pieces.text()
        try:
            return _decode(arguments).input
        except (ValueError, RecursionError):
            given = self.given.text()
            return given or ("" if arguments.strip() in ("", "{}") else arguments)

    def _inside(self) -> str:
        text, at, out = self._held, 0, [""]
        size = len(text)
        while at < size:
            plain = _PLAIN.match(text, at)
            if plain is not None:
                out.append(plain.group())
                at = plain.end()
                continue
            if text[at] == '"':
                self._state = "after"
                break
            escape = _ESCAPE.match(text, at)
            if escape is None:
                break  # the rest of it is still to come
            simple, code = escape.groups()
            if simple is not None:
                out.append(_SIMPLE.get(simple, simple))
                at = escape.end()
                continue
            unit, after = int(code, 16), escape.end()
            low = _LOW.match(text, after) if unit in _HIGH_HALVES else None
            if low is not None:
                out.append(chr(0x10000 + ((unit - 0xD800) << 10) + (int(low.group(1), 16) - 0xDC00)))
                after = low.end()
            elif unit in _HIGH_HALVES and _LOW_SO_FAR.match(text, after) is not None:
                break  # its other half may still come
            else:
                out.append("\ufffd" if unit in _HALVES else chr(unit))
            at = after
        self._held = text[at:]
        return "".join(out)


def text_of(arguments: str) -> str:
    """The free text of whole arguments."""
    free = CustomInput()
    free.feed(arguments)
    return free.finish()
