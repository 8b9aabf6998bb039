"""A pytest plugin that tells which branches of ``penstock.core`` no test of the run has taken (``--untaken FILE``).

Each block of the core's source gets a mark at its start, before its last statement and after each block within it, and
so does each way round a block: an ``if`` that is not taken, a loop that ends, a ``match`` without a match. A mark that
was never run is written to the file by its line. No tracer looks on, for two reasons: compilers of some Pythons give a
jump the line of the statement before it (3.11.2: the end of a ``case`` whose last statement is an ``if``), so that a
tracer sees what was not run; and a tracer costs as much as the tests.
"""

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import pytest

MARKS = "__marks__"
"""What a marked module calls the marks of all modules."""


class Marks:
    """The marks by their numbers: where each one is, and whether it was run."""

    __slots__ = ("paths", "places", "run")

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.places: list[tuple[str, int]] = []
        self.run = bytearray()

    def new(self, path: str, line: int) -> ast.stmt:
        """A statement that takes the next mark."""
        number = len(self.run)
        self.places.append((path, line))
        self.run.append(False)
        statement = ast.parse(f"{MARKS}[{number}] = True").body[0]
        for node in ast.walk(statement):
            ast.copy_location(node, ast.Pass(lineno=line, col_offset=0, end_lineno=line, end_col_offset=0))
        return statement

    def untaken(self) -> dict[str, list[int]]:
        """The lines of each file whose marks were not run; a file without any is named, too."""
        found: dict[str, set[int]] = {path: set() for path in self.paths}
        for (path, line), run in zip(self.places, self.run, strict=True):
            if not run:
                found[path].add(line)
        return {path: sorted(lines) for path, lines in found.items()}


def marked(source: str | bytes, path: str, marks: Marks) -> ast.Module:
    """The module with its marks. Left without one: a docstring, a body that is ``...``, and what no value reaches."""
    marks.paths.append(path)
    module = ast.parse(source, path)
    module.body = _block(module.body, path, marks)
    return module


def _block(statements: Sequence[ast.stmt], path: str, marks: Marks) -> list[ast.stmt]:
    if all(_says_nothing(statement) for statement in statements) or _is_unreachable(statements[0]):
        return list(statements)
    first = next(at for at, statement in enumerate(statements) if not _is_prologue(statement))
    written = list(statements[:first])
    after_block = False
    for at, statement in enumerate(statements[first:], first):
        if at == first or after_block or at == len(statements) - 1:
            written.append(marks.new(path, statement.lineno))
        after_block = _mark_within(statement, path, marks)
        written.append(statement)
    return written


def _mark_within(statement: ast.stmt, path: str, marks: Marks) -> bool:
    """Mark the blocks of the statement; whether it has any."""
    match statement:
        case ast.If():
            statement.body = _block(statement.body, path, marks)
            statement.orelse = _otherwise(statement, statement.orelse, path, marks)
        case ast.For() | ast.AsyncFor():
            statement.body = _block(statement.body, path, marks)
            statement.orelse = _otherwise(statement, statement.orelse, path, marks)
        case ast.While():
            statement.body = _block(statement.body, path, marks)
            if not isinstance(statement.test, ast.Constant):  # `while True` ends by what is in it
                statement.orelse = _otherwise(statement, statement.orelse, path, marks)
        case ast.Match():
            for case in statement.cases:
                case.body = _block(case.body, path, marks)
            if not _takes_all(last := statement.cases[-1]):
                none = marks.new(path, last.pattern.lineno)
                statement.cases.append(ast.match_case(pattern=_anything(none), body=[none]))
        case ast.Try() | ast.TryStar():
            statement.body = _block(statement.body, path, marks)
            for handler in statement.handlers:
                handler.body = _block(handler.body, path, marks)
            statement.orelse = statement.orelse and _block(statement.orelse, path, marks)
            statement.finalbody = statement.finalbody and _block(statement.finalbody, path, marks)
        case ast.With() | ast.AsyncWith() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            statement.body = _block(statement.body, path, marks)
        case _:
            return False
    return True


def _otherwise(statement: ast.stmt, orelse: Sequence[ast.stmt], path: str, marks: Marks) -> list[ast.stmt]:
    return _block(orelse, path, marks) if orelse else [marks.new(path, statement.lineno)]


def _anything(place: ast.stmt) -> ast.pattern:
    line = place.lineno
    return ast.MatchAs(lineno=line, col_offset=0, end_lineno=line, end_col_offset=0)


def _takes_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring, or the ``...`` of a protocol."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_prologue(statement: ast.stmt) -> bool:
    """A docstring, or an import that must be a module's first."""
    return _says_nothing(statement) or (
        isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
    )


def _is_unreachable(statement: ast.stmt) -> bool:
    """What the type checker proves that no value reaches."""
    return ast.unparse(statement).startswith("assert_never(")


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, marks: Marks) -> None:
        super().__init__(name, path)
        self._marks = marks

    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: what is kept beside the source has no marks."""
        path = self.get_filename(fullname)
        return compile(marked(self.get_data(path), path, self._marks), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[MARKS] = self._marks.run
        super().exec_module(module)


class Finder(MetaPathFinder):
    """Finds the modules of one package, and marks them."""

    def __init__(self, package: str, marks: Marks) -> None:
        self._package = package
        self._marks = marks

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._package and not fullname.startswith(self._package + "."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._marks)
        return spec


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--untaken", required=True, help="where the branches that no test took are written")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    Path(str(session.config.getoption("--untaken"))).write_text(json.dumps(_MARKS.untaken()))


_MARKS = Marks()
sys.meta_path.insert(0, Finder("penstock.core", _MARKS))
