"""Start-up frames of Chat: chunks whose deltas name a role and hold nothing, and chunks without choices."""

import msgspec
from msgspec import Raw

from penstock.core.dialects.startup import starts_only
from penstock.core.sse import Frame

_NOTHING = {b"null", b'""', b"[]"}


class _Choice(msgspec.Struct):
    delta: dict[str, Raw] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_chunk = msgspec.json.Decoder(_Chunk).decode


def _says_nothing(choice: _Choice) -> bool:
    if choice.finish_reason:
        return False
    return all(name == "role" or bytes(value) in _NOTHING for name, value in (choice.delta or {}).items())


def _is_startup(frame: Frame) -> bool:
    try:
        chunk = _chunk(frame.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return chunk.choices is not None and all(_says_nothing(choice) for choice in chunk.choices)


def is_startup(frames: bytes) -> bool:
    """Whether these whole frames say nothing yet of the answer."""
    return starts_only(frames, _is_startup)
