"""Keys are unique, recognised for what they are, and a slip of one character is caught."""

import random
import string
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core import api_key

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def test_a_known_key() -> None:
    key = api_key.make_key(bytes(32))
    assert api_key.is_well_formed(key)
    assert key == "sk-ps-" + "0" * 43 + "0Oxu95"
    assert api_key.make_key(b"\xff" * 32) == "sk-ps-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13UEViN"
    checksum = 0
    for character in "0Oxu95":
        checksum = checksum * 62 + ALPHABET.index(character)
    assert checksum == crc32(b"sk-ps-" + b"0" * 43)


def test_a_hundred_thousand_keys_are_distinct_and_well_formed() -> None:
    generator = random.Random(1)
    keys = {api_key.make_key(generator.randbytes(32)) for _ in range(100_000)}
    assert len(keys) == 100_000
    assert all(api_key.is_well_formed(key) for key in keys)


def test_every_one_character_edit_is_refused() -> None:
    generator = random.Random(2)
    for _ in range(100_000):
        key = api_key.make_key(generator.randbytes(32))
        at = generator.randrange(len(key))
        other = generator.choice([c for c in ALPHABET + "-_ é" if c != key[at]])
        assert not api_key.is_well_formed(key[:at] + other + key[at + 1 :])


@given(st.binary(min_size=32, max_size=32), st.data())
def test_a_swap_a_cut_and_a_double_are_refused(random: bytes, data: st.DataObject) -> None:
    key = api_key.make_key(random)
    assert api_key.is_well_formed(key)
    at = data.draw(st.integers(0, len(key) - 2))
    swapped = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    assert swapped == key or not api_key.is_well_formed(swapped)
    assert not api_key.is_well_formed(key[:at] + key[at + 1 :])
    assert not api_key.is_well_formed(key[: at + 1] + key[at:])


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert not api_key.is_well_formed(text)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_only_256_bits_make_a_key(size: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        api_key.make_key(bytes(size))


def test_what_is_shown_keeps_the_secret() -> None:
    key = api_key.make_key(bytes(range(32)))
    assert api_key.display(key) == f"{key[:12]}...{key[-4:]}"
    hidden = key[12:-4]
    assert len(hidden) >= 37
    assert hidden not in api_key.display(key)


def test_identifiers() -> None:
    assert api_key.identifier("usr", bytes(16)) == "usr_" + "0" * 22
    assert api_key.identifier("key", b"\xff" * 16) == "key_7n42DGM5Tflk9n8mt7Fhc7"
    with pytest.raises(ValueError, match="16 random bytes"):
        api_key.identifier("usr", b"")


@given(st.integers(0, 62**6 - 1))
def test_base62_can_be_read_back(number: int) -> None:
    value = 0
    for character in api_key.base62(number, 6):
        value = value * 62 + ALPHABET.index(character)
    assert value == number


def test_base62_never_cuts() -> None:
    with pytest.raises(ValueError, match="more than 6"):
        api_key.base62(62**6, 6)
