"""No document names a file or folder that is not there, and neither does the text of a source file.

Looked at are the Markdown files of the repository but the changelog and the benchmarks' records, which tell of the past,
the scripts, and docstrings and comments of every source file. A path may be whole (``src/penstock/relay/relay.py``) or
begin below ``src/penstock`` (``relay/relay.py``, ``core/limits``); a file's name alone must be that of some file.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest

from penstock import __version__
from tests.test_architecture import CORE_MAY_IMPORT, MAY_IMPORT

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "penstock"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "bench").glob("*.md")),
    *sorted((ROOT / "scripts").glob("*.sh")),
    *(ROOT / name for name in ("Makefile", "pyproject.toml", "deploy/Dockerfile")),
]

FOLDERS = {"bench", "deploy", "docs", "requirements", "scripts", "src", "tests"}
FILES = [
    path
    for path in (*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.is_file() and "__pycache__" not in path.parts  # a folder that has moved leaves one behind
]
THERE = {way for path in FILES for way in accumulate(f"/{part}" for part in path.relative_to(ROOT).parts)}
PARTS = {
    path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES if PACKAGE in path.parents
} - {"__init__", "__main__"}

NOT_OURS = {
    "deploy/.env": "a file that the reader makes",
    "journal/": "in the data directory",
    "metrics/": "in the data directory",
    "ollama/": "how the models of a local server are called",
}
"""What looks like a path of ours, and what it is."""

_SPAN = re.compile(r"``?([^`\n]+?)``?(?!`)")
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#[^)]*)?\)")
_WHOLE = re.compile(rf"(?<![\w/.$~-])(?:{'|'.join(sorted(FOLDERS))})/[\w./<*{{-]*")
_SHORT = re.compile(r"(?<![\w/.:$~*<>@-])(?:[a-z_][\w-]*(?:/[\w.<*{-]*)+|[\w-]+\.py\b)")
_DOTTED = re.compile(r"(?<![\w./@-])penstock((?:\.[A-Za-z_]\w*)+)")


def wrong_paths(text: str, folder: Path = ROOT) -> Iterator[str]:
    """Each path in the text that leads nowhere; ``folder`` is where the text's links begin."""
    for found in _LINK.finditer(text):
        target = found[1]
        if target and not re.match(r"[a-z]+:|/", target) and not (folder / target).exists():
            yield target
    for found in _WHOLE.finditer(text):
        if found[0] not in NOT_OURS and not _is_there(found[0]):
            yield found[0]
    for span in _SPAN.finditer(text):
        for found in _SHORT.finditer(span[1]):
            if _means_us(found[0], span[1]) and not _is_there(found[0]):
                yield found[0]
    for found in _DOTTED.finditer(text):
        names = found[1].strip(".").split(".")
        if names[0] in PARTS and not _is_module(names):
            yield found[0]


def _means_us(name: str, span: str) -> bool:
    """Whether it looks like ours: below a part, or a Python file, or a folder that stands by itself."""
    if name in NOT_OURS or re.match(r"api/v1|[a-z]+/\d", name):
        return False
    return (
        name.partition("/")[0] in PARTS | FOLDERS or name.endswith(".py") or name == span != name.rstrip("/")
    )


def _is_there(name: str) -> bool:
    """Whether it is the end of a path of ours; a pattern or a placeholder is looked up as far as the folder before it."""
    name = name.rstrip(".")
    cut = re.search(r"[<*{]|_$|NAME|SUBJECT", name)
    if cut is not None:
        name = name[: cut.start()].rpartition("/")[0]
    end = "/" + name.rstrip("/")
    return any(path.endswith((end, f"{end}.py")) for path in THERE)


def _is_module(names: list[str]) -> bool:
    """A module or package, or a name in a module, or a class in a package."""
    path = PACKAGE.joinpath(*names)
    parent = path.parent
    return (
        f"/{path.relative_to(ROOT).as_posix()}" in THERE
        or path.with_suffix(".py").exists()
        or parent.with_suffix(".py").exists()
        or (f"/{parent.relative_to(ROOT).as_posix()}" in THERE and names[-1][:1].isupper())
    )


def prose(source: str) -> str:
    """The docstrings and comments of a source file."""
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join(texts)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_names_what_is_there(document: Path) -> None:
    assert not list(dict.fromkeys(wrong_paths(document.read_text("utf-8"), document.parent)))


@pytest.mark.parametrize(
    ("heading", "table"),
    [("| Part |", MAY_IMPORT), ("| Part of the core |", CORE_MAY_IMPORT)],
    ids=["parts", "core"],
)
def test_the_architecture_shows_who_may_import_whom(heading: str, table: dict[str, set[str]]) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows, _, _ = text[text.index(heading) :].partition("\n\n")
    shown: dict[str, set[str]] = {}
    for row in rows.splitlines()[2:]:
        _, parts, _, imports, _ = row.split("|")
        named = set(re.findall(r"\w+", imports))
        shown |= {part.strip("/`").removesuffix(".py"): named for part in parts.split()}
    assert shown == table


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    section = re.search(
        r"^## (\d\S*) \((unreleased|\d{4}-\d\d-\d\d)\)$",
        (ROOT / "CHANGELOG.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert section is not None
    assert project["version"] == __version__ == section[1]


def test_docstrings_and_comments_name_what_is_there() -> None:
    wrong = {
        path.relative_to(ROOT).as_posix(): list(dict.fromkeys(found))
        for folder in (PACKAGE, ROOT / "tests", ROOT / "bench", ROOT / "scripts")
        for path in sorted(folder.rglob("*.py"))
        if ".build" not in path.parts  # environments that the benchmarks measure with or against
        if path != Path(__file__)  # its examples are wrong on purpose
        and (found := list(wrong_paths(prose(path.read_text("utf-8")), path.parent)))
    }
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "see src/penstock/web/api.py",
        "the folder src/penstock/wire/",
        "run scripts/nothing.sh, please",
        "`tests/core/test_nothing.py`",
        "`relay/switchboard.py` chooses",
        "`core/chat_read` reads",
        "`core/dialects/chat/chat_wire.py`",
        "``web/``",
        "| `wire/`, `server/listen.py` |",
        "`switchboard.py` alone",
        "[a link](nowhere.md)",
        "[a link](nowhere.md#part)",
        "`python -m penstock.commands.working`",
        "penstock.store.sql.vault.Vault",
        "vectors are in tests/nothing/<dialect>/",
    ],
)
def test_a_wrong_path_is_seen(text: str) -> None:
    assert list(wrong_paths(text))


@pytest.mark.parametrize(
    "text",
    [
        "see src/penstock/relay/relay.py.",
        "`core/limits`, `core/` and `relay/router.py`",
        "tests/vectors/<dialect>/<case>/, `tests/core/*.py` and tests/core/dialects/NAME/x.py",
        "`/api/v1/messages` and `api/v1`, `https://example.com/docs/nothing.md`",
        "[a link](docs/architecture.md#errors), [another](https://example.com), [a page](/docs)",
        "`penstock.toml`, `penstock.service`, penstock.store.sql.database.Database",
        "`sqlite.py`, `claude/x`, `text/event-stream`, `ollama/`, `PENSTOCK_X=tests`",
    ],
)
def test_a_right_path_is_left_alone(text: str) -> None:
    assert not list(wrong_paths(text))


def test_the_page_of_editors_names_the_pinned_versions():
    """What it says was tried is what the tests install."""
    page = (PACKAGE / "site" / "docs" / "editors.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \| ([^ |]+) \|", page, re.MULTILINE)
    asked = msgspec.json.decode((ROOT / "tests" / "clients" / "package.json").read_bytes())
    pinned = {**asked["dependencies"], **asked["optionalDependencies"]}
    for name in (
        "aider",
        "llama-index",
        "frameworks",
    ):  # where several have one, it is the last that is meant
        lock = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
        pinned |= dict(re.findall(r"^([\w-]+)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE))
    assert len(rows) > 10
    assert dict(rows) == {name: pinned[name] for name, _ in rows}
