"""Request keys: the bytes that a request's public id is kept as, and the id that bytes are shown as.

An id of ours is ``req_`` and 24 hexadecimal digits: 12 bytes. Any other text is its UTF-8 behind a zero byte, never 12 bytes
long. Keys of one process are ordered as its requests came.
"""

from typing import Final

PREFIX: Final = "req_"
KEY_BYTES: Final = 12

_ID_LENGTH: Final = len(PREFIX) + 2 * KEY_BYTES


def key_of(id: str) -> bytes:
    """The key of a request; lone surrogates become question marks."""
    if len(id) == _ID_LENGTH and id.startswith(PREFIX):
        digits = id[len(PREFIX) :]
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            return _other(id)
        # Upper-case digits and spaces are taken, too, and would not come back.
        if key.hex() == digits:
            return key
    return _other(id)


def id_of(key: bytes) -> str:
    """The id that ``key_of`` made the key of."""
    if len(key) == KEY_BYTES:
        return PREFIX + key.hex()
    return key[1:].rstrip(b"\0").decode()


def _other(id: str) -> bytes:
    key = b"\0" + id.encode("utf-8", "replace")
    return key + b"\0" if len(key) == KEY_BYTES else key
