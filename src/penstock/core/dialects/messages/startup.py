"""Start-up frames of Messages: ``message_start``, pings, and blocks that begin with nothing in them."""

import msgspec

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_EMPTY_AT_FIRST = {"text", "thinking", "tool_use"}
"""Blocks whose content comes in deltas. A block of a tool that the provider runs says that it runs."""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    content_block: _Block | None = None


_event = msgspec.json.Decoder(_Event).decode


def _is_startup(frame: Frame) -> bool:
    try:
        event = _event(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    match event.type:
        case "message_start" | "ping":
            return True
        case "content_block_start":
            block = event.content_block or _Block()
            return block.type in _EMPTY_AT_FIRST and not block.text and not block.thinking
        case _:
            return False


def is_startup(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
