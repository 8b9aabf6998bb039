"""Start-up frames: what a stream says before the first content of its answer.

Until then a failure can still be made good by another attempt, whose own start-up the caller gets instead. So they are
held until content comes. Content is whatever a caller shows, acts on or is billed for by itself: text, thinking, a tool
call with arguments, a refusal, a tool that the provider runs. The good end of an answer without any is held like its
beginning, because that is a failure, too, where another provider can be asked; an end that explains itself is not.
"""

from collections.abc import Callable

from penstock.core.sse import Frame, parse_frame, split_whole


def starts_only(frames: bytes, says_nothing: Callable[[Frame], bool]) -> bool:
    """Whether nothing of these whole frames is content; comments are none of an answer."""
    for raw in split_whole(frames):
        frame = parse_frame(raw)
        if frame is not None and not says_nothing(frame):
            return False
    return True
