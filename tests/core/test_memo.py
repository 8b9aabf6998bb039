"""A memory that is full begins anew."""

from penstock.core.memo import Memo


def test_what_is_kept_is_found_until_there_is_too_much() -> None:
    memo: Memo[str, int] = Memo(2)
    assert memo.get("a") is None
    assert memo.keep("a", 1) == 1
    memo.keep("b", 2)
    assert memo == {"a": 1, "b": 2}
    memo.keep("c", 3)
    assert memo == {"c": 3}
