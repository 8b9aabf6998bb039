"""The form of a Chat stream's text chunks, learnt from one of them so that those like it need not be decoded.

Servers print each chunk of a stream alike but for its text. A chunk that begins and ends with the same bytes as one that
was decoded, and between them holds nothing but plain characters of a JSON string, differs from it in its text alone.
"""

import re

from penstock.core.dialects.chat.response_schema import Chunk, read_chunk

_KEY = b'"content":'
_PLAIN = re.compile(rb'[^"\\\x00-\x1f\x80-\xff]++')
"""Characters that stand for themselves in a JSON string; others are left to the decoder."""
_PROBE = b"probe"
_DATA = len(b"data: ")
_END = len(b"\n\n")


class TextPattern:
    """What stands before and after the text in such a chunk, and what we relay in place of what stands before."""

    __slots__ = ("_after", "_before", "_instead", "_least")

    def __init__(self, before: bytes, after: bytes, instead: bytes) -> None:
        self._before = before
        self._after = after
        self._instead = instead
        self._least = len(before) + len(after)

    def relay(self, raw: bytes) -> bytes | None:
        """The frame as it is relayed, or None for one of another form."""
        start, end = len(self._before), len(raw) - len(self._after)
        if not raw.startswith(self._before) or not raw.endswith(self._after) or end <= start:
            return None
        return self._instead + raw[start:] if _PLAIN.fullmatch(raw, start, end) else None

    def text_size(self, raw: bytes) -> int:
        """The length of the text in a frame of this form."""
        return len(raw) - self._least


def learn(raw: bytes, relayed: bytes, chunk: Chunk) -> TextPattern | None:
    """The pattern of a frame (``data: JSON`` and an empty line) that was decoded to ``chunk`` and relayed as ``relayed``.

    None for a chunk that holds anything but plain text.
    """
    text = _plain_text(chunk)
    if text is None or raw.count(_KEY) != 1:
        return None
    start = raw.find(b'"', raw.find(_KEY) + len(_KEY)) + 1
    end = start + len(text)
    if raw[start:end] != text or raw[end : end + 1] != b'"' or not relayed.endswith(raw[start:]):
        return None
    before, after = raw[:start], raw[end:]
    # The text stands where it was found only if another one there is read back.
    probe = read_chunk(before[_DATA:] + _PROBE + after[:-_END])
    if probe is None or _plain_text(probe) != _PROBE:
        return None
    return TextPattern(before, after, relayed[: len(relayed) - (len(raw) - start)])


def _plain_text(chunk: Chunk) -> bytes | None:
    """The text of a chunk that has one choice with some plain text in it, and nothing that a meter would note."""
    if chunk.usage is not None or chunk.choices is None or len(chunk.choices) != 1:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.index or choice.finish_reason is not None or choice.usage is not None:
        return None
    if delta.reasoning_content or delta.reasoning or delta.tool_calls or not delta.content:
        return None
    text = delta.content.encode("utf-8", "surrogatepass")
    return text if _PLAIN.fullmatch(text) else None
