"""Start-up frames of Chat: chunks whose deltas name a role and hold nothing, chunks without choices, and a plain end."""

import msgspec
from msgspec import Raw

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_NOTHING = {b"null", b'""', b"[]"}
_PLAIN_END = "stop"


class _Choice(msgspec.Struct):
    delta: dict[str, Raw] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode


def _is_silent(choice: _Choice) -> bool:
    if choice.finish_reason and choice.finish_reason != _PLAIN_END:
        return False
    return all(name == "role" or bytes(value) in _NOTHING for name, value in (choice.delta or {}).items())


def _is_startup(frame: Frame) -> bool:
    if frame.data.strip() == b"[DONE]":
        return True
    try:
        chunk = _chunk(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return chunk.choices is not None and all(_is_silent(choice) for choice in chunk.choices)


def says_nothing(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
