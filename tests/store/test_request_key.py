"""The bytes that a request's id is kept as say the same as the id, whatever the id is."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.store.request_key import KEY_BYTES, id_of, key_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_an_id_of_ours_is_twelve_bytes_and_comes_back(key: bytes) -> None:
    id = f"req_{key.hex()}"
    assert key_of(id) == key
    assert id_of(key) == id


@given(TEXT)
@example("")
@example("r1")
@example("r" * 11)
@example("req_" + "A" * 24)
@example("req_" + "0" * 23 + " ")
@example("req_" + "00 " * 8)
@example("req_" + "0" * 25)
@example("req_" + "g" * 24)
@example("req_" + "\u0661" * 24)
def test_any_other_text_comes_back_and_is_no_key_of_ours(id: str) -> None:
    key = key_of(id)
    assert id_of(key) == id
    assert (len(key) == KEY_BYTES) is (key.hex() == id.removeprefix("req_") and id.startswith("req_"))


@given(st.sets(TEXT, max_size=5))
def test_no_two_ids_have_one_key(ids: set[str]) -> None:
    assert len({key_of(id) for id in ids}) == len(ids)


@pytest.mark.parametrize("number", [0, 255, 2**32 - 2])
def test_keys_of_one_process_are_ordered_as_its_requests_came(number: int) -> None:
    assert key_of(f"req_{'7' * 16}{number:08x}") < key_of(f"req_{'7' * 16}{number + 1:08x}")


def test_half_a_surrogate_pair_is_a_question_mark() -> None:
    assert id_of(key_of("r\ud800")) == "r?"
