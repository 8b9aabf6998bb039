"""The part of like cases that ``make test`` takes."""

from pathlib import Path

import pytest

from tests import samples
from tests.samples import ONE_OF, taken

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ALL", False)


def cases(file: str, name: str, number: int) -> list[tuple[str, str, int]]:
    return [(file, name, at) for at in range(number)]


def split(
    *all_of: list[tuple[str, str, int]],
) -> tuple[list[tuple[str, str, int]], list[tuple[str, str, int]]]:
    return taken([case for some in all_of for case in some], lambda case: case[:2])


def test_every_file_of_the_table_is_there() -> None:
    assert [name for name in ONE_OF if not (HERE / name).is_file()] == []


def test_of_each_test_one_case_of_so_many_is_taken_and_one_at_least() -> None:
    file, number = next((file, number) for file, number in ONE_OF.items() if number == 3)
    for count in range(1, 20):
        for name in ("test_a", "test_b", "test_c"):
            kept, left = split(cases(file, name, count))
            assert sorted(kept + left) == cases(file, name, count)
            assert max(1, count // number) <= len(kept) <= -(-count // number)


def test_tests_take_different_cases() -> None:
    file = next(file for file, number in ONE_OF.items() if number == 2)
    firsts = {split(cases(file, f"test_{letter}", 2))[0][0][2] for letter in "abcdefgh"}
    assert firsts == {0, 1}


def test_nothing_is_left_out_elsewhere_nor_where_all_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert split(cases("core/test_memo.py", "test_a", 9)) == (cases("core/test_memo.py", "test_a", 9), [])
    monkeypatch.setattr(samples, "ALL", True)
    file = next(iter(ONE_OF))
    assert split(cases(file, "test_a", 9)) == (cases(file, "test_a", 9), [])
