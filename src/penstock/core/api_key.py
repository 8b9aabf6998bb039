"""The form of an API key, and of a token of the staff: made from random bytes, recognised without a query.

A key is ``sk-ps-`` (a token ``pa-ps-``), 43 base62 characters that hold 256 random bits, and 6 of the CRC32 of what stands
before them. The prefix lets scanners find leaked keys; the checksum lets a mistyped or made-up one be refused at once.
CRC32 sees every change that is confined to 32 neighbouring bits, so every one-character slip is caught.
"""

from zlib import crc32

KEY_PREFIX = "sk-ps-"
TOKEN_PREFIX = "pa-ps-"  # noqa: S105 - what every token begins with
"""What a token of the admin API begins with; as long as a key's."""
RANDOM_BYTES = 32
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY = 43
_CHECK = 6
LENGTH = len(KEY_PREFIX) + _BODY + _CHECK
_CHECKED = len(KEY_PREFIX) + _BODY
_START = len(KEY_PREFIX) + 6
"""How much of a key's beginning is shown: the prefix and 6 of its 43 random characters."""


def base62(number: int, width: int) -> str:
    """``number`` in base 62, padded with zeros to ``width`` characters. It must fit."""
    digits: list[str] = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    if number:
        raise ValueError(f"the number needs more than {width} base62 characters")
    return "".join(reversed(digits))


def make_key(random: bytes, prefix: str = KEY_PREFIX) -> str:
    """The key, or the token, that 32 random bytes give."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made from {RANDOM_BYTES} random bytes, not {len(random)}")
    checked = prefix + base62(int.from_bytes(random), _BODY)
    return checked + _checksum(checked)


def is_well_formed(key: str, prefix: str = KEY_PREFIX) -> bool:
    """Whether ``key`` has our prefix, length, alphabet and checksum: False means that it cannot be one of ours."""
    return (
        len(key) == LENGTH
        and key.startswith(prefix)
        and key.isascii()
        and key[len(prefix) :].isalnum()
        and key[_CHECKED:] == _checksum(key[:_CHECKED])
    )


def start_of(key: str) -> str:
    """The beginning of a key that may be stored and shown: 12 characters, 6 of them random."""
    return key[:_START]


def end_of(key: str) -> str:
    """The end of a key that may be stored and shown: 4 characters of its checksum."""
    return key[-4:]


def masked_key(start: str, end: str) -> str:
    """How a key is shown where the key itself must not be: ``sk-ps-AbCdEf...wxyz``."""
    return f"{start}...{end}"


def display(key: str) -> str:
    """``masked_key`` for a whole key."""
    return masked_key(start_of(key), end_of(key))


def identifier(kind: str, random: bytes) -> str:
    """An id such as ``usr_...`` or ``key_...``: the kind and 16 random bytes as 22 base62 characters."""
    if len(random) != 16:
        raise ValueError(f"an id is made from 16 random bytes, not {len(random)}")
    return f"{kind}_{base62(int.from_bytes(random), 22)}"


_PAIRS = [base62(number, 2) for number in range(3844)]
"""Two digits at once: a checksum is then three look-ups, which every request pays for."""


def _checksum(checked: str) -> str:
    high, low = divmod(crc32(checked.encode()), 3844)
    return _PAIRS[high // 3844] + _PAIRS[high % 3844] + _PAIRS[low]
