"""Bytes that parts of a request take in memory, about."""

from typing import assert_never

from penstock.core.neutral.request import (
    AnyPart,
    Document,
    Hosted,
    Image,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Turn,
)

OVERHEAD = 240
"""Bytes of an object with its texts' heads."""


def turn_bytes(turn: Turn) -> int:
    """The bytes of a turn, about."""
    spent = OVERHEAD
    for part in turn.parts:
        spent += _part_bytes(part)
    return spent


def _part_bytes(part: AnyPart) -> int:
    if isinstance(part, Text):
        spent = OVERHEAD + _text_bytes(part.text)
        for cited in part.cites:
            spent += OVERHEAD + sum(
                _text_bytes(text) for text in (cited.url, cited.title, cited.cited_text) if text
            )
        return spent
    if isinstance(part, ToolResult):
        spent = OVERHEAD + _text_bytes(part.call_id)
        for inner in part.parts:
            spent += _part_bytes(inner)
        return spent
    match part:
        case ToolCall():
            texts = part.arguments, part.name, part.id
        case Thought():
            texts = part.text, part.signature, part.redacted
        case Image():
            texts = part.url, part.data
        case Document():
            texts = part.url, part.data, part.title
        case Hosted():
            pages = [text for page in part.pages for text in (page.url, page.title, page.text)]
            texts = part.id, part.name, part.input, part.output, part.raw, *pages
        case _:
            assert_never(part)
    return OVERHEAD + sum([_text_bytes(text) for text in texts if text])


def _text_bytes(text: str) -> int:
    # characters of two bytes or four, and the UTF-8 form that an encoder leaves beside them
    return len(text) if text.isascii() else 5 * len(text)
