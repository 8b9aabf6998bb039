"""Start-up frames of Responses: the response before it has output, items and parts that begin empty, and a plain end."""

import msgspec

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_BEFORE_OUTPUT = {"response.created", "response.queued", "response.in_progress"}
_EMPTY_AT_FIRST = {"message", "reasoning", "function_call", "custom_tool_call"}
"""Items whose content comes in deltas. An item of a tool that the provider runs says that it runs."""
_PARTS = {
    "response.content_part.added",
    "response.content_part.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
}


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_Part] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it is a message that says nothing."""
        return self.type == "message" and all(
            part.type == "output_text" and not part.text for part in self.content or ()
        )


class _Response(msgspec.Struct):
    status: str = ""
    output: list[_Item] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    item: _Item | None = None
    part: _Part | None = None
    text: str | None = None
    response: _Response | None = None


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
    match event.type:
        case "response.output_item.done":
            return event.item is not None and event.item.is_empty
        case "response.output_text.done":
            return event.text == ""
        case "response.completed":
            done = event.response
            return done is not None and done.output is not None and all(item.is_empty for item in done.output)
        case _:
            return event.type in _BEFORE_OUTPUT


def says_nothing(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
