"""A number with its noun: one is one, all else is several, nought too."""

import ast
import re
from pathlib import Path

import pytest

from penstock.core.amounts import amount


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("account",), "0 accounts"), (1, ("account",), "1 account"), (2, ("account",), "2 accounts"),
        (1_000, ("row",), "1,000 rows"), (1, ("copy", "copies"), "1 copy"), (0, ("copy", "copies"), "0 copies"),
        (1, ("request runs", "requests run"), "1 request runs"), (-1, ("day",), "-1 days"),
    ],
)  # fmt: skip
def test_an_amount(number: int, words: tuple[str, ...], said: str) -> None:
    assert amount(number, *words) == said


CHOOSES_TEXT = re.compile(r"""\belse[\s(]+[A-Za-z]{0,2}["']""")
"""What a choice of a text is written with, whatever else it is."""


def test_nothing_chooses_between_one_and_several_by_itself() -> None:
    """A word that is given an s, or none, where it is written is an amount."""
    root = Path(__file__).parents[2] / "src" / "penstock"
    for file in root.rglob("*.py"):
        text = file.read_text()
        if not CHOOSES_TEXT.search(text):
            continue  # to parse all of the source takes seconds
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.IfExp) and {type(node.body), type(node.orelse)} == {ast.Constant}:
                one, many = (
                    str(part.value) for part in (node.body, node.orelse) if isinstance(part, ast.Constant)
                )
                if file.name != "amounts.py":
                    assert f"{one}s" != many or not one, f"{file}:{node.lineno}"
    for file in root.rglob("*.html"):
        assert not re.search(r'"" if [a-z_.]+ == 1 else "s"', file.read_text()), file
