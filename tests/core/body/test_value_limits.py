"""The bound on values: as many as it says and not one more, whatever the strings hold."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.body.value_limits import check_values, is_dense, real
from penstock.errors import InvalidRequest

MOST = 1000


def passes(body: bytes, most: int = MOST) -> bool:
    try:
        check_values(body, most)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize(
    "one",
    [b"[]", b"{}", b"1", b'""', b'"a,b"', b'{"k":1}'],
    ids=["list", "object", "number", "empty", "comma", "nested"],
)
def test_many_of_anything_are_too_many(one: bytes) -> None:
    assert not passes(b"[" + b",".join([one] * 10 * MOST) + b"]")


def test_what_is_too_short_for_many_is_not_looked_at() -> None:
    assert passes(b"[1,2,3]")
    assert passes(b"[1,2]" + b" " * 10 * MOST)


def test_what_a_text_holds_is_not_counted() -> None:
    text = json.dumps({"text": 'a, {b}, [c], \\"d\\", \\\\' * 10 * MOST}).encode()
    assert passes(text)
    assert passes(json.dumps(["\\", '"', '\\"', ",,,,,,,,,"] * 200).encode())


def test_the_bound_is_exact() -> None:
    # an object, a list in it, and the commas between the list's members; long enough for a second look
    body = json.dumps({"x": ["y, " * 9] * (MOST - 1)}).encode()
    assert passes(body)
    assert not passes(json.dumps({"x": ["y, " * 9] * MOST}).encode())


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a,{["\\}]:é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=',"\\['), inner),
)


def count(value: object) -> int:
    """Openings and commas, by walking through the value."""
    match value:
        case list():
            return 1 + max(0, len(value) - 1) + sum(map(count, value))
        case dict():
            return 1 + max(0, len(value) - 1) + sum(map(count, value.values()))
        case _:
            return 0


@given(JSON)
def test_it_counts_what_a_walk_counts(value: object) -> None:
    body = json.dumps(value).encode() + b" " * 10_000  # long enough to be looked at
    values = count(value)
    assert passes(body, max(values, 1))
    if values > 1:
        assert not passes(body, values - 1)


@pytest.mark.parametrize("text", ["1e300", "1E-300", "-0.0", "1.5", "123456789012345678901234567890.5"])
def test_numbers_are_read_as_they_are_written(text: str) -> None:
    decode = msgspec.json.Decoder(float_hook=real).decode
    assert decode(text) == json.loads(text)
    assert decode(f'{{"a": [{text}]}}') == {"a": [json.loads(text)]}


def test_numbers_beyond_all_others_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="out of range"):
        msgspec.json.Decoder(float_hook=real).decode(b"[1e400]")


def test_a_text_of_values_alone_is_dense() -> None:
    for one in (b"[]", b"{}", b"1,1"):
        assert is_dense(b"[" + b",".join([one] * 1000) + b"]")
    assert not is_dense(b"[" + b",".join([b"[]"] * 30) + b"]")
    assert not is_dense(b"[" + b",".join([b'"a line"'] * 1000) + b"]")
