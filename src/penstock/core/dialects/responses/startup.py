"""Start-up frames of Responses: the response itself before it has output, and items and parts that begin empty."""

import msgspec

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_BEFORE_OUTPUT = {"response.created", "response.queued", "response.in_progress"}
_EMPTY_AT_FIRST = {"message", "reasoning", "function_call", "custom_tool_call"}
"""Items whose content comes in deltas. An item of a tool that the provider runs says that it runs."""
_PARTS = {"response.content_part.added", "response.reasoning_summary_part.added"}


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    item: _Part | None = None
    part: _Part | None = None


_event = msgspec.json.Decoder(_Event).decode


def _is_startup(frame: Frame) -> bool:
    try:
        event = _event(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if event.type == "response.output_item.added":
        return event.item is not None and event.item.type in _EMPTY_AT_FIRST
    if event.type in _PARTS:
        return event.part is not None and not event.part.text
    return event.type in _BEFORE_OUTPUT


def is_startup(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
