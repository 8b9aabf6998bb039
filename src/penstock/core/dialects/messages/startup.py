"""Start-up frames of Messages: ``message_start``, pings, blocks that begin with nothing in them, and a plain end."""

import msgspec

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_EMPTY_AT_FIRST = {"text", "thinking", "tool_use"}
"""Blocks whose content comes in deltas. A block of a tool that the provider runs says that it runs."""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: _Delta | None = None
    content_block: _Block | None = None


_event = msgspec.json.Decoder(_Event).decode


def _is_startup(frame: Frame) -> bool:
    try:
        event = _event(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    match event.type:
        case "message_start" | "ping" | "content_block_stop" | "message_stop":
            return True
        case "message_delta":
            return event.delta is not None and event.delta.stop_reason == "end_turn"
        case "content_block_start":
            block = event.content_block or _Block()
            return block.type in _EMPTY_AT_FIRST and not block.text and not block.thinking
        case _:
            return False


def says_nothing(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
