"""Figures of the source tree, as ``docs/decisions/0013-the-house.md`` has them: ``python -m bench.tree [src/penstock]``.

Works on any tree with a ``core`` folder, so that two commits can be compared.
"""

import ast
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

WORDS = [
    "failover",
    "fallback",
    "circuit",
    "router",
    "routing",
    "auth",
    "rate_limit",
    "quota",
    "middleware",
    "proxy",
    "stream",
    "translate",
    "adapter",
    "passthrough",
    "lease",
    "usage",
    "budget",
    "retry",
    "upstream",
    "health",
]
"""What a reader who knows gateways would look for among the names of files and folders."""
DIALECTS = {"chat", "messages", "responses"}


def modules(root: Path) -> dict[str, ast.Module]:
    """Each module's tree by its path below ``root``."""
    return {
        p.relative_to(root).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(root.rglob("*.py"))
    }


def part_of(path: str) -> str:
    """The folder of the core, or the first folder or module below the root."""
    first, _, rest = path.partition("/")
    return (
        f"core/{rest.split('/')[0].removesuffix('.py')}"
        if first == "core" and rest
        else first.removesuffix(".py")
    )


def module_of(name: str, known: set[str]) -> str | None:
    """The path of the module that a dotted name is, or is in."""
    names = name.split(".")[1:]
    while names:
        for path in ("/".join(names) + ".py", "/".join(names) + "/__init__.py"):
            if path in known:
                return path
        names.pop()
    return None


def imports(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Which module imports which."""
    known = set(trees)
    found: set[tuple[str, str]] = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("penstock"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("penstock.")]
            else:
                continue
            found |= {
                (path, target) for name in names if (target := module_of(name, known)) and target != path
            }
    return found


def comparisons(trees: dict[str, ast.Module]) -> int:
    """Lines outside ``core/dialects`` and the simulator that compare a string that names a dialect."""

    def names(node: ast.expr) -> bool:
        return any(isinstance(each, ast.Constant) and each.value in DIALECTS for each in ast.walk(node))

    lines: set[tuple[str, int]] = set()
    for path, tree in trees.items():
        if path.startswith(("core/dialects", "providers/sim")):
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Compare(left=left, comparators=others) if any(map(names, (left, *others))):
                    lines.add((path, node.lineno))
                case ast.MatchValue(value=value) if names(value):
                    lines.add((path, node.lineno))
                case _:
                    pass
    return len(lines)


def public_names(trees: dict[str, ast.Module], *, by_module: bool) -> tuple[int, int]:
    """How many public names more than one part (or module) defines, and how many there are."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees.items():
        if path.endswith("_schema.py") or "migrations" in path:
            continue
        for node in tree.body:
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
                    found[name].add(path if by_module else part_of(path))
    return sum(len(where) > 1 for where in found.values()), len(found)


def main() -> None:
    """Print one figure a line."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "src/penstock")
    trees = modules(root)
    arrows = imports(trees)
    lines = [len(path.read_text("utf-8").splitlines()) for path in root.rglob("*.py")]
    core = Counter(path.rpartition("/")[0] for path in trees if path.startswith("core"))
    inside = {(a, b) for a, b in arrows if a.startswith("core/") and b.startswith("core/")}
    between = {(a, b) for a, b in inside if part_of(a) != part_of(b)}
    twice, names = public_names(trees, by_module=False)
    twice_by_module, _ = public_names(trees, by_module=True)
    heard = [word for word in WORDS if any(word in path for path in trees)]
    for what, figure in {
        "files, lines": f"{len(lines)}, {sum(lines)}",
        "lines of a file, median and largest": f"{statistics.median(lines):.0f}, {max(lines)}",
        "modules at the root": sum("/" not in path and not path.startswith("__") for path in trees),
        "folders at the root": len({path.split("/")[0] for path in trees if "/" in path}),
        "imports between modules": len(arrows),
        "files of the largest folder of the core": core.most_common(1)[0][1],
        "imports inside the core": len(inside),
        "of them between parts of the core": len(between),
        "pairs of such parts": len({(part_of(a), part_of(b)) for a, b in between}),
        "lines that compare a dialect elsewhere": comparisons(trees),
        "public names in two parts": f"{twice / names:.1%} of {names}",
        "public names in two modules": f"{twice_by_module / names:.1%}",
        "words of the field in a path": f"{len(heard)} of {len(WORDS)}: {' '.join(heard)}",
    }.items():
        print(f"{what:42}{figure}")


if __name__ == "__main__":
    main()
