"""The marks of ``tests/branches.py`` find what was not run, on every Python alike."""

from typing import Any, Self

import pytest

from tests.branches import MARKS, Marks, marked

SOURCE = '''"""A module whose docstring stays its first statement."""
from __future__ import annotations
from typing import Protocol, assert_never

class Reader(Protocol):
    def read(self) -> bytes:
        """Never run, and has nothing to run."""
        ...

def chosen(kind, value):
    """Every case ends in an `if`: where 3.11.2 gives the jump past it another line."""
    match kind:
        case "taken":
            if value is not None:
                found = 1
        case "not taken":
            if value is not None:  # untaken
                found = 2
        case "not passed":
            if value is not None:
                found = 3  # untaken
        case _:
            found = 4
    return kind

def without_a_default(kind):
    match kind:
        case "a":
            return 1
        case "b":  # untaken
            return 2

def with_a_default(kind):
    match kind:
        case "a":
            return 1
        case _:
            assert_never(kind)

def other_ways(value):
    if value == 1:
        return "one"
    elif value == 2:
        return "two"  # untaken
    else:
        return "many"

def loops(values):
    for value in values:
        if value > 1:
            break
    else:
        return "none"  # untaken
    for value in values:  # untaken
        return value
    while values:  # untaken
        values.pop()  # untaken
    while True:  # untaken
        return None  # untaken

async def waited(values):
    async with values as opened:
        async for value in opened:  # untaken
            return value

def guarded(value):
    try:
        found = 1 // value
    except ZeroDivisionError:
        found = 0  # untaken
    except TypeError:
        found = None
    else:
        found += 1
    finally:
        value = None
    return found

def always_raises(value):
    value = value.missing
    value = value.other
    return value  # untaken

def never_called():
    return 1  # untaken

class Holder:
    """A class."""

    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held

    @property
    def twice(self):
        def inner():
            return self.held  # untaken
        return self.held * 2
'''


class _Opened:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        return 1


async def test_what_was_not_run_is_found_by_its_line() -> None:
    marks = Marks()
    module: dict[str, Any] = {MARKS: marks.run, "__name__": "sample"}
    exec(compile(marked(SOURCE, "sample.py", marks), "sample.py", "exec", dont_inherit=True), module)
    for kind, value in (("taken", 1), ("taken", None), ("not taken", 1), ("not passed", None), ("else", 1)):
        assert module["chosen"](kind, value) == kind
    assert [module["without_a_default"](kind) for kind in "ab"] == [1, 2]
    assert module["with_a_default"]("a") == 1
    assert [module["other_ways"](value) for value in (1, 3)] == ["one", "many"]
    assert module["loops"]([1, 2]) == 1
    assert await module["waited"](_Opened()) == 1
    assert [module["guarded"](value) for value in (1, "")] == [2, None]
    with pytest.raises(AttributeError):
        module["always_raises"](1)
    assert module["Holder"](2).twice == 4
    assert module["__doc__"] == SOURCE.split('"""')[1]
    expected = [at for at, line in enumerate(SOURCE.splitlines(), 1) if line.endswith("# untaken")]
    assert marks.untaken() == {"sample.py": expected}


async def test_what_was_run_both_ways_has_nothing_untaken() -> None:
    marks = Marks()
    module: dict[str, object] = {MARKS: marks.run}
    source = "def f(x):\n    if x:\n        x = 1\n    for _ in x, 2:\n        pass\n\nf(0)\nf(1)\n"
    exec(compile(marked(source, "sample.py", marks), "sample.py", "exec", dont_inherit=True), module)
    assert marks.untaken() == {"sample.py": []}
