"""The table of mutants still fits the source and the tests: what `make mutants` needs, without running any of it."""

import ast
from functools import cache
from pathlib import Path

import pytest

from scripts.mutants import PACKAGE, ROOT, Mutant, run, table

SOURCE = ROOT / PACKAGE


@cache
def functions(file: str) -> set[str]:
    """The names of all tests in a file."""
    tree = ast.parse((ROOT / file).read_text())
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, found) and node.name.startswith("test_")}


def test_every_mutant_can_be_made_of_what_stands_in_its_file() -> None:
    for mutant in table():
        source = (SOURCE / mutant.file).read_text()
        changed = mutant.applied(source)
        assert changed != source, mutant.name
        try:
            compile(changed, mutant.file, "exec")
        except SyntaxError as error:
            pytest.fail(f"{mutant.name}: {error}")


def test_every_test_that_is_to_notice_one_is_there() -> None:
    for mutant in table():
        assert mutant.tests, mutant.name
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert name.partition("[")[0] in functions(file), f"{mutant.name}: {test}"


def test_no_mutant_is_there_twice() -> None:
    rows = [(mutant.file, mutant.was, mutant.becomes, mutant.time) for mutant in table()]
    assert len(set(rows)) == len(rows)


def test_a_text_that_stands_there_another_number_of_times_is_told() -> None:
    source = "a = 1\nb = 1\n"
    assert Mutant("x.py", "a = 1", "a = 2", ()).applied(source) == "a = 2\nb = 1\n"
    assert Mutant("x.py", "= 1", "= 2", (), time=2, times=2).applied(source) == "a = 1\nb = 2\n"
    for row in (
        Mutant("x.py", "= 1", "= 2", ()),
        Mutant("x.py", "c = 1", "", ()),
        Mutant("x.py", "", "c", ()),
        Mutant("x.py", "= 1", "= 2", (), time=3, times=2),
    ):
        with pytest.raises(ValueError, match=r"x\.py has \d+ times"):
            row.applied(source)


@pytest.mark.parametrize(
    ("source", "noticed", "how"),
    [
        ("def test_it(): assert False", True, "test_it"),
        ("def test_it(): pass", False, "every test passes"),
        ("import no_such_module", False, "the tests could not be run (2)"),
        ("def test_it(no_such_fixture): pass", False, "the tests could not be run (1)"),
        ("", False, "the tests could not be run (5)"),
    ],
)
def test_only_a_test_that_fails_has_noticed(tmp_path: Path, source: str, noticed: bool, how: str) -> None:
    file = tmp_path / "test_one.py"
    file.write_text(source)
    told = run(tmp_path, (str(file),))
    assert told.noticed is noticed
    assert how in told.how
