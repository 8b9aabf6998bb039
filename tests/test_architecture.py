"""The house rules that a reader can rely on: which part may import which, what the core may not touch, and sizes.

Everything is read from the source with ``ast``; nothing of ``penstock`` is imported. The three tables below are the
rules; a change to one is a change to the architecture and wants a word in ``docs/decisions/``.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "penstock"

# The parts of penstock, lowest first, and what each may import besides its own modules. A part is a folder or a module
# at the root; ``cli`` and ``__main__`` belong to the commands.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "exchange": {"errors"},
    "timeouts": set(),
    "settings": {"errors"},
    "tokens": set(),
    "core": {"errors"},
    "upstream": {"errors", "timeouts", "core"},
    "server": {"errors", "exchange", "settings"},
    "providers": {"errors", "exchange", "settings", "core"},
    "store": {"errors", "timeouts", "settings", "core"},
    "domain": {"errors", "timeouts", "settings", "core", "store"},
    "operations": {"__version__", "errors", "timeouts", "settings", "core", "upstream", "providers", "store", "domain"},
    "relay": {"errors", "exchange", "core", "tokens", "upstream", "providers", "domain", "operations"},
    "site": {"errors", "settings", "core", "store", "domain", "operations"},
    "api": {"errors", "exchange", "core", "domain", "operations", "relay"},
    "app": {
        "errors", "exchange", "settings", "core", "tokens", "upstream", "server", "providers", "store", "domain",
        "operations", "relay", "site", "api",
    },
    "commands": {
        "__version__", "errors", "exchange", "settings", "core", "upstream", "server", "providers", "store", "domain",
        "operations", "app",
    },
}  # fmt: skip
# The same inside the core: its folders, and its modules that lie in none.
CORE_MAY_IMPORT: dict[str, set[str]] = {
    "quoting": set(),
    "base_url": set(),
    "revision": set(),
    "sse": {"body"},
    "amounts": set(),
    "api_key": set(),
    "limits": set(),
    "memo": set(),
    "profile": set(),
    "body": set(),
    "neutral": set(),
    "failure_classes": set(),
    "tools": {"body", "neutral", "profile"},
    "reasoning": {"body", "memo", "neutral", "profile", "tools"},
    "dialects": {
        "body",
        "failure_classes",
        "limits",
        "memo",
        "neutral",
        "profile",
        "reasoning",
        "sse",
        "tools",
    },
    "catalog": {"body", "profile"},
    "formats": {"body", "dialects", "neutral", "sse"},
    "endpoints": {"body", "catalog", "dialects", "formats", "limits"},
    "routing": {"catalog", "failure_classes", "profile"},
}

# The core is a function of its arguments: bytes, time, randomness and ids are handed to it.
CORE_LIBRARIES = {"msgspec"}
CORE_FORBIDDEN_MODULES = {
    "asyncio", "concurrent", "contextvars", "ctypes", "getpass", "glob", "http", "importlib", "io", "locale", "logging",
    "multiprocessing", "os", "pathlib", "platform", "queue", "random", "sched", "secrets", "select", "selectors",
    "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib.request", "uuid", "warnings",
}  # fmt: skip
CORE_FORBIDDEN_CALLS = {"breakpoint", "input", "open", "print", "now", "today", "utcnow"}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
# What is longer, and why splitting it would hide it: "relay/relay.py" or "relay/relay.py:Relay.run" -> the reason.
LONGER: dict[str, str] = {
    "settings/schema.py": "the table of settings, one after the other",
    "store/sql/schema.py": "the tables of the database, one after the other",
    "store/migrations/versions/0001_initial.py:upgrade": "the first schema, table by table",
    "store/migrations/first_tables.py:sign_in": "a part of the first schema, table by table",
    "relay/relayed_call.py": "one machine, whose states call each other: a reader follows a request in one file",
    "core/dialects/responses/encode_response.py": "the format's objects, one struct each, beside what writes them",
    "app.py:Service.running": "every part is opened here, in order, to be closed in the opposite one",
}

# Imports inside functions: what only some installations or requests need is loaded when the first one does, because what
# is imported stays in memory. Why, and what each costs: docs/decisions/0009-late-imports.md.
LATE: dict[str, str] = {
    "app.py:_redis": "the Redis client, for several servers",
    "operations/export_spans.py:post_spans": "OpenTelemetry, where receipts go to a collector",
    "operations/tracing/collector.py:_span_export": "OpenTelemetry's exporter, where there is a collector",
    "operations/tracing/collector.py:_metrics_export": "likewise",
    "cli.py:_call": "what reads every command line and writes the help: a server has no use for it",
    "cli.py:_serve": "the server, which other commands have no use for",
    "site/process.py:oauth_of": "the OAuth client, where a provider to sign in with is configured",
    "server/body_coding.py:_Zstd.__init__": "the decoder of zstd, at the first body that is compressed so",
    "server/body_coding.py:_Brotli.__init__": "the decoder of br, likewise",
    "operations/mail_sender.py:Smtp.send": "the SMTP client, where mail goes over SMTP",
    "operations/mail_sender.py:Smtp.look": "likewise",
    "operations/mail_sender.py:_composed": "the grammar of mail, at the first mail",
    "store/sql/database.py:_backend": "the PostgreSQL driver, where that is the database",
    "store/sql/database.py:_insert": "PostgreSQL's dialect, likewise",
    "tokens/estimator.py:Estimator._load": "the tokenizer, at the first estimate",
    "providers/tokens/google.py:_rs256": "what signs with a key of RSA, where a provider is signed in to so",
    "site/brand.py:_rendered": "Markdown, where the operator has a footer",
    "site/document_pages.py:_rendered": "Markdown and its lexers, at the first page that is written in it",
    "site/settings_pages.py:SettingsPages._picture": "what draws QR codes, where a second factor is set up",
}

NAMES_THAT_SAY_NOTHING = {
    "utils",
    "util",
    "helpers",
    "helper",
    "manager",
    "managers",
    "base",
    "common",
    "misc",
}
SQL_TEXT = {"text", "literal_column", "DDL"}  # of sqlalchemy; exec_driver_sql is a method and checked by name


@dataclass(frozen=True)
class Module:
    """One source file: its path below src/penstock, and its text."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def name(self) -> str:
        """The dotted name below penstock; a package's own file has the package's name."""
        return ".".join(Path(self.path).with_suffix("").parts).removesuffix(".__init__")

    @property
    def part(self) -> str:
        return part_of(self.name.split(".")[0])

    @property
    def core_part(self) -> str:
        return self.name.split(".")[1] if self.name.startswith("core.") else ""


def part_of(first: str) -> str:
    """The part that a first name below penstock belongs to."""
    return "commands" if first in {"cli", "__main__"} else first


DIALECT_NAMES = {
    path.parent.name for path in (ROOT / "core" / "dialects").glob("*/dialect.py")
}  # their folders are named as they are


MODULES = [Module(p.relative_to(ROOT).as_posix(), p.read_text("utf-8")) for p in sorted(ROOT.rglob("*.py"))]


def imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Each import statement with each dotted name it may load; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from ((node, f"{origin}.{alias.name}") for alias in node.names)


def own_imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """The imports of penstock's own modules, as names below the package."""
    for node, name in imports(module):
        if name.split(".")[0] == "penstock":
            yield node, name.removeprefix("penstock").removeprefix(".") or "__init__"


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


# ---- the rules: each takes a module and yields what is wrong with it


def imports_only_what_its_part_may(module: Module) -> Iterator[str]:
    if module.path == "__init__.py":
        return
    if module.part not in MAY_IMPORT or (module.core_part and module.core_part not in CORE_MAY_IMPORT):
        yield f"{module.path}: this part is not in MAY_IMPORT; where does it stand?"
        return
    for node, name in own_imports(module):
        target = name.split(".")[0]
        if part_of(target) not in {module.part, *MAY_IMPORT[module.part]}:
            yield f"{module.path}:{node.lineno}: {module.part} may not import {target}"
        inner = name.split(".")[1] if name.startswith("core.") else ""
        if module.core_part and inner and inner not in {module.core_part, *CORE_MAY_IMPORT[module.core_part]}:
            yield f"{module.path}:{node.lineno}: core/{module.core_part} may not import core/{inner}"


def imports_at_the_top_by_full_name(module: Module) -> Iterator[str]:
    for what, line in late_imports(module):
        if what not in LATE:
            yield f"{module.path}:{line}: import inside {what.partition(':')[2]}(), which is not in LATE"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            yield f"{module.path}:{node.lineno}: import by a call"
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module.path}:{node.lineno}: relative import"


def late_imports(module: Module) -> Iterator[tuple[str, int]]:
    """Each import inside a function: the function as LATE names it, and the line."""
    for name, function in functions(module.tree, ""):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield f"{module.path}:{name}", node.lineno


def core_is_pure(module: Module) -> Iterator[str]:
    if module.part != "core":
        return
    for node, name in imports(module):
        parents = {name, name.rpartition(".")[0], name.split(".")[0]}
        if parents & CORE_FORBIDDEN_MODULES:
            yield f"{module.path}:{node.lineno}: the core may not import {name}"
        first = name.split(".")[0]
        if first != "penstock" and first not in CORE_LIBRARIES and first not in sys.stdlib_module_names:
            yield f"{module.path}:{node.lineno}: the core may use the standard library and msgspec, not {first}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called(node) in CORE_FORBIDDEN_CALLS:
            yield f"{module.path}:{node.lineno}: the core may not call {called(node)}()"
        if isinstance(node, ast.AsyncFunctionDef):
            yield f"{module.path}:{node.lineno}: the core waits for nothing"


DIALECT_FILES = {
    "dialect.py", "request_schema.py", "decode_request.py", "encode_request.py", "response_schema.py",
    "decode_response.py", "encode_response.py", "passthrough.py",
}  # fmt: skip
CALLER_FILES = {"request_schema.py", "decode_request.py", "encode_response.py", "passthrough.py"}
"""What a dialect that serves upstreams alone has no use for: no caller speaks it, so nothing is decoded or passed through."""
SQL_STATEMENTS = {"select", "insert", "update", "delete", "text", "func"}


def names_a_dialect_in_its_own_folder(module: Module) -> Iterator[str]:
    """A dialect's facts live with it: nothing else asks which one it has before it. The simulator speaks all of them."""
    if module.path.startswith(("core/dialects/", "providers/simulator/")):
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.Compare():
                named = any(is_dialect(each) for each in (node.left, *node.comparators))
            case ast.MatchValue(value=value):
                named = is_dialect(value)
            case _:
                named = False
        if named:
            yield f"{module.path}:{getattr(node, 'lineno', 0)}: compares a dialect's name; make it a member of the dialect"


def is_dialect(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=str(value)):
            return value in DIALECT_NAMES
        case ast.Tuple(elts=elts) | ast.Set(elts=elts) | ast.List(elts=elts):
            return any(is_dialect(each) for each in elts)
        case _:
            return False


def imports_no_other_dialect(module: Module) -> Iterator[str]:
    own = module.name.split(".")
    if own[:2] != ["core", "dialects"] or len(own) < 4:
        return
    for node, name in own_imports(module):
        target = name.split(".")
        if target[:2] == ["core", "dialects"] and target[2] in DIALECT_NAMES - {own[2]}:
            yield f"{module.path}:{node.lineno}: {own[2]} may not import {target[2]}; what both need goes elsewhere"


def leaves_queries_to_their_subject(module: Module) -> Iterator[str]:
    """Statements are made and executed in the store and the domain alone."""
    if module.part in {"store", "domain"}:
        return
    for node, name in imports(module):
        if name.split(".")[0] == "sqlalchemy" and name.rpartition(".")[2] in SQL_STATEMENTS:
            yield f"{module.path}:{node.lineno}: SQL belongs to the store or to a subject of the domain"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called(node) == "exec_driver_sql":
            yield f"{module.path}:{node.lineno}: SQL belongs to the store or to a subject of the domain"


def sql_is_never_built_from_text(module: Module) -> Iterator[str]:
    makers = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy"
        for alias in node.names
        if alias.name in SQL_TEXT
    }
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and node.args
            and is_sql_maker(node.func, makers)
            and is_built(node.args[0])
        ):
            yield f"{module.path}:{node.lineno}: SQL text is a literal; values are bound parameters"


def is_sql_maker(function: ast.expr, makers: set[str]) -> bool:
    match function:
        case ast.Name(id=name):
            return name in makers
        case ast.Attribute(value=ast.Name(id="sa" | "sqlalchemy"), attr=name):
            return name in SQL_TEXT
        case ast.Attribute(attr=name):
            return name == "exec_driver_sql"
        case _:
            return False


def is_built(node: ast.expr) -> bool:
    """Whether a string is put together at run time, here or in the call's argument."""
    match node:
        case ast.JoinedStr(values=parts):
            return any(isinstance(part, ast.FormattedValue) for part in parts)
        case ast.BinOp(op=ast.Mod() | ast.Add()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "format_map" | "join" | "replace")):
            return True
        case _:
            return False


def opens_with_a_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield f"{module.path}: say in a docstring what this module is for"


def has_a_name_that_says_something(module: Module) -> Iterator[str]:
    if bad := NAMES_THAT_SAY_NOTHING.intersection(module.name.split(".")):
        yield f"{module.path}: {', '.join(bad)} says nothing; name it after what it holds"


def leaves_no_notes_to_self(module: Module) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} and re.search(r"\b(TODO|FIXME)\b", token.string):
            yield f"{module.path}:{token.start[0]}: finish it, or file it where it will be seen"


def keeps_to_size(module: Module) -> Iterator[str]:
    for what, lines, most in sizes(module):
        if lines > most and what not in LONGER:
            yield f"{what}: {lines} lines, over {most}; split it, or give the reason in LONGER"


def sizes(module: Module) -> Iterator[tuple[str, int, int]]:
    """The file and each of its functions: name, lines (docstrings of functions not counted), and the most allowed."""
    yield module.path, len(module.source.splitlines()), MAX_FILE_LINES
    for name, function in functions(module.tree, ""):
        first = function.body[0]
        docstring = 0
        if ast.get_docstring(function, clean=False) is not None:
            docstring = (first.end_lineno or 0) - first.lineno + 1
        lines = (function.end_lineno or 0) - function.lineno + 1 - docstring
        yield f"{module.path}:{name}", lines, MAX_FUNCTION_LINES


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        name = getattr(child, "name", None) if isinstance(child, ast.ClassDef | ast.FunctionDef) else None
        yield from functions(child, f"{prefix}{name}." if name else prefix)


SAFE_REPEAT = r'(?:\\.[^"\\]*+)*+'
"""Nothing in it can go back, so every Python takes it."""
POSSESSIVE_GROUP = re.compile(r"[^(]\)(?:[*+?]|\{[\d,]+\})\+")


def repeats_no_group_possessively(module: Module) -> Iterator[str]:
    """CPython before 3.11.5 matches wrongly where the group has alternatives (its issue 106052); Debian 12 has 3.11.2."""
    for found in POSSESSIVE_GROUP.finditer(module.source.replace(SAFE_REPEAT, "")):
        yield f"{module.path}: {found[0]!r} in a pattern; write (?>(?:...)*)"


RULES: list[Callable[[Module], Iterator[str]]] = [
    imports_only_what_its_part_may,
    imports_at_the_top_by_full_name,
    core_is_pure,
    names_a_dialect_in_its_own_folder,
    imports_no_other_dialect,
    leaves_queries_to_their_subject,
    sql_is_never_built_from_text,
    opens_with_a_docstring,
    has_a_name_that_says_something,
    leaves_no_notes_to_self,
    keeps_to_size,
    repeats_no_group_possessively,
]


def import_graph(modules: list[Module]) -> dict[str, set[str]]:
    """Which module imports which; ``from penstock.core import turn`` is an import of ``core.turn``."""
    known = {module.name for module in modules}
    graph: dict[str, set[str]] = {module.name: set() for module in modules}
    for module in modules:
        for _, name in own_imports(module):
            target = name
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target and target != module.name:
                graph[module.name].add(target)
    return graph


# ---- the tests


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module(rule: Callable[[Module], Iterator[str]]) -> None:
    broken = dict.fromkeys(what for module in MODULES for what in rule(module))
    assert not broken, "\n" + "\n".join(broken)


def test_every_dialect_has_the_same_files_or_lacks_a_side() -> None:
    assert {"chat", "messages", "responses"} <= DIALECT_NAMES
    for name in DIALECT_NAMES:
        files = {path.name for path in (ROOT / "core" / "dialects" / name).glob("*.py")}
        assert files >= DIALECT_FILES or files >= DIALECT_FILES - CALLER_FILES, name


def public_names() -> dict[str, set[str]]:
    """Each public name and the parts that define it: the core's folders are parts of their own; schemas are left out."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        schema = module.path.endswith("_schema.py") or "migrations" in module.path
        for node in () if schema else module.tree.body:
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names = [name]
                case ast.Assign(targets=targets):
                    names = [target.id for target in targets if isinstance(target, ast.Name)]
                case ast.AnnAssign(target=ast.Name(id=name)):
                    names = [name]
                case _:
                    names = []
            for name in names:
                if not name.startswith("_") and name not in {"log", "app"}:
                    found.setdefault(name, set()).add(
                        f"core/{module.core_part}" if module.core_part else module.part
                    )
    return found


def test_one_thing_has_one_name() -> None:
    names = public_names()
    twice = {name: parts for name, parts in names.items() if len(parts) > 1}
    assert len(twice) < 0.034 * len(names), twice


def test_the_core_is_a_house_of_small_rooms() -> None:
    folders = Counter(Path(module.path).parent for module in MODULES if module.part == "core")
    assert max(folders.values()) <= 17, folders.most_common(3)
    graph = import_graph([module for module in MODULES if module.core_part])
    between = {
        (source, target)
        for source, targets in graph.items()
        for target in targets
        if source.split(".")[:2] != target.split(".")[:2]
    }
    parts = {(source.split(".")[1], target.split(".")[1]) for source, target in between}
    parts = {(source, target) for source, target in parts if target != "memo"}  # which is a kind of dict
    assert len(parts) <= 30, sorted(parts)


def test_no_import_cycle() -> None:
    try:
        TopologicalSorter(import_graph(MODULES)).prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " -> ".join(error.args[1]))


def test_the_table_of_longer_things_is_true() -> None:
    over = {what for module in MODULES for what, lines, most in sizes(module) if lines > most}
    assert not set(LONGER) - over, "no longer too long: take them out of LONGER"
    assert all(reason.strip() for reason in LONGER.values())


def test_the_table_of_late_imports_is_true() -> None:
    late = {what for module in MODULES for what, _ in late_imports(module)}
    assert not set(LATE) - late, "imported nothing late: take them out of LATE"


def test_serving_loads_nothing_that_only_some_need() -> None:
    """What Alembic, Authlib and the rest take in memory is 30 MB, and half a second of each start."""
    loaded = "import sys, penstock.commands.run_server, penstock.cli; print(*sys.modules)"
    command = [sys.executable, "-c", loaded]
    modules = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    late = "aiosmtplib alembic asyncpg authlib cyclopts httpx2 markdown_it pygments redis segno tiktoken"
    assert not {*late.split(), "sqlalchemy.dialects.postgresql"} & set(modules.split())


BAD = {
    imports_only_what_its_part_may: [
        ("core/dialects/chat/dialect.py", "from penstock import relay"),
        ("core/dialects/chat/dialect.py", "from penstock.settings import Settings"),
        ("core/dialects/chat/dialect.py", "if TYPE_CHECKING:\n    import penstock.store.sql.schema"),
        ("store/counters.py", "from penstock.domain import limits"),
        ("domain/catalog/catalog.py", "from penstock import domain, providers"),
        ("upstream.py", "from penstock.settings import Settings"),
        ("api/routes.py", "from penstock.app import build"),
        ("gadgets.py", ""),
    ],
    imports_at_the_top_by_full_name: [
        ("relay/relay.py", "def f():\n    import json"),
        ("relay/relay.py", "class A:\n    async def f(self):\n        from json import loads"),
        ("relay/relay.py", "import importlib\nm = importlib.import_module('json')"),
        ("core/sse.py", "from . import limits"),
    ],
    core_is_pure: [
        ("core/sse.py", "import time"),
        ("core/sse.py", "from os import path"),
        ("core/sse.py", "import os.path"),
        ("core/sse.py", "from urllib import request"),
        ("core/sse.py", "import sqlalchemy"),
        ("core/sse.py", "data = open('x')"),
        ("core/sse.py", "day = datetime.now()"),
        ("core/sse.py", "async def f(): ..."),
    ],
    names_a_dialect_in_its_own_folder: [
        ("relay/relay.py", "if call.dialect == 'messages': pass"),
        ("relay/relay.py", "if name in ('chat', 'x'): pass"),
        ("core/limits.py", "match name:\n    case 'responses':\n        pass"),
    ],
    imports_no_other_dialect: [
        ("core/dialects/chat/passthrough.py", "from penstock.core.dialects.responses import tools"),
        (
            "core/dialects/messages/encode_request.py",
            "from penstock.core.dialects.chat.tool_call_assembly import ToolCalls",
        ),
    ],
    leaves_queries_to_their_subject: [
        ("site/pages.py", "from sqlalchemy import select"),
        ("operations/doctor.py", "import sqlalchemy as sa\nfrom sqlalchemy.sql import text"),
        ("commands/user.py", "conn.exec_driver_sql('select 1')"),
    ],
    sql_is_never_built_from_text: [
        ("store/sql/database.py", "from sqlalchemy import text\ntext(f'select {x}')"),
        ("store/sql/database.py", "from sqlalchemy.sql import text as t\nt('select %s' % x)"),
        ("store/sql/database.py", "import sqlalchemy as sa\nsa.text('select {}'.format(x))"),
        ("store/sql/database.py", "connection.exec_driver_sql('pragma ' + x)"),
    ],
    opens_with_a_docstring: [("relay/relay.py", "import json")],
    has_a_name_that_says_something: [("core/utils.py", ""), ("helpers/text.py", "")],
    leaves_no_notes_to_self: [("relay/relay.py", "x = 1  # TODO later"), ("relay/relay.py", "'FIXME'")],
    keeps_to_size: [
        ("relay/upstream_errors.py", "x = 1\n" * 601),
        ("relay/relay.py", "class A:\n  def f(self):\n" + "    x = 1\n" * 60),
    ],
    repeats_no_group_possessively: [
        ("core/sse.py", r"find = re.compile('(?:a|b)*+c')"),
        ("core/sse.py", r"find = re.compile('(?:a|b)?+c')"),
        ("core/sse.py", r"find = re.compile('(?:a|b){2,3}+c')"),
    ],
}
GOOD = [
    (
        "core/dialects/chat/dialect.py",
        "from penstock import errors\nfrom penstock.core.neutral import request\nimport msgspec\nfrom urllib import parse",
    ),
    ("core/sse.py", r"""find = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?>(?:a|b)*)|[()*+]')"""),
    ("store/sql/database.py", "from sqlalchemy import text\ntext('select :x')\npage.text(f'{x}')"),
    (
        "site/site.py",
        "from penstock.operations import health\nfrom penstock.domain import limits\nfrom starlette.responses import Response",
    ),
]


@pytest.mark.parametrize(
    ("rule", "path", "source"), [(rule, *case) for rule, cases in BAD.items() for case in cases]
)
def test_the_rules_see_what_breaks_them(
    rule: Callable[[Module], Iterator[str]], path: str, source: str
) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_the_rules_leave_the_rest_alone(path: str, source: str) -> None:
    module = Module(path, '"""A part."""\n' + source)
    assert not [what for rule in RULES for what in rule(module)]


def test_a_cycle_is_seen() -> None:
    modules = [
        Module("store/__init__.py", "from penstock.store.sql.schema import users"),
        Module("store/sql/schema.py", "from penstock import store"),
    ]
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(modules)).prepare()
