"""Damaged requests, answers and streams for ``bench.fuzz``: the recorded ones of the tests, changed in every wrong way."""

import ast
import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGE = 100_000
"""Bytes of a grown input."""

Json = Any
Places = list[tuple[Any, Any]]

_PIECES = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u", b"\\ud83d", b":", b",", b"null", b"1e999", b"-0", b"0.0", b"NaN",
    b"9" * 40, b"\n", b"\n\n", b"\r", b"\r\n", b"data:", b"data: ", b"event: ", b": c\n", b"[DONE]", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b"\xf0\x9f", b"\x00", b"\xff", b"{" * 50, b"[" * 2000, b'{"a":' * 1200,
)  # fmt: skip


def words() -> list[str]:
    """Every short string in the source of the core: the names that readers look for."""
    found: set[str] = set()
    for path in sorted((ROOT / "src" / "penstock" / "core").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 40:
                found.add(node.value)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return sorted(found)


def streams(dialect: str) -> list[bytes]:
    """What upstreams of a dialect sent in the recorded vectors."""
    found = [*sorted((ROOT / "tests/vectors" / dialect).glob("*/upstream.*"))]
    found += sorted((ROOT / "tests/vectors/translate").glob(f"*/upstream.{dialect}.sse"))
    return [path.read_bytes() for path in found]


class Mutator:
    """Makes inputs from a seed; the same seed makes the same inputs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._words = words()

    # ---- JSON

    def value(self, depth: int = 0) -> Json:
        """Some JSON."""
        draw = self.random
        kind = draw.randrange(12 if depth < 4 else 9)
        match kind:
            case 0 | 1:
                return draw.choice(self._words)
            case 2:
                return draw.choice([None, True, False])
            case 3 | 4:
                return draw.choice([0, 1, -1, 2, 7, 0.5, 1e300, 2**31, 2**63, 10**25, -5.5])
            case 5:
                return draw.choice(
                    ["", " ", "x", "é🎉", "\ud800", "\x00", "{}", '{"a":1}', '{"a":', "[]", "a" * 300]
                )
            case 6:
                return {}
            case 7:
                return []
            case 8:
                return draw.choice(
                    ["data:image/png;base64,AA==", "https://x.example/a.png", "gw1.AAAA", "gwi_AAAA"]
                )
            case 9 | 10:
                return {draw.choice(self._words): self.value(depth + 1) for _ in range(draw.randrange(4))}
            case _:
                return [self.value(depth + 1) for _ in range(draw.randrange(4))]

    def _places(self, root: Json) -> Places:
        found: Places = []
        rest = [root]
        while rest:
            at = rest.pop()
            keys = at.keys() if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
            for key in keys:
                found.append((at, key))
                rest.append(at[key])
        return found

    def damaged(self, root: Json, others: list[Json]) -> Json:
        """``root`` with one to four of its values replaced, removed, renamed, added or doubled."""
        root = copy.deepcopy(root)
        for _ in range(self.random.randint(1, 4)):
            places = self._places(root)
            if not places:
                return self.value()
            where, key = self.random.choice(places)
            change: Callable[[Any, Any, list[Json]], None] = self.random.choice(
                [
                    self._replace,
                    self._replace,
                    self._borrow,
                    self._remove,
                    self._add,
                    self._double,
                    self._type,
                ]
            )
            change(where, key, others)
        return root

    def _replace(self, where: Any, key: Any, others: list[Json]) -> None:  # noqa: ARG002 - as the other changes
        where[key] = self.value()

    def _borrow(self, where: Any, key: Any, others: list[Json]) -> None:
        places = self._places(self.random.choice(others)) if others else []
        if places:
            there, name = self.random.choice(places)
            where[key] = copy.deepcopy(there[name])

    def _remove(self, where: Any, key: Any, others: list[Json]) -> None:  # noqa: ARG002 - as the other changes
        del where[key]

    def _add(self, where: Any, key: Any, others: list[Json]) -> None:  # noqa: ARG002 - as the other changes
        if isinstance(where, dict):
            where[self.random.choice(self._words)] = self.value()
        else:
            where.insert(key, self.value())

    def _double(self, where: Any, key: Any, others: list[Json]) -> None:  # noqa: ARG002 - as the other changes
        if isinstance(where, list):
            where[key:key] = [where[key]] * self.random.randint(1, 5)
        elif isinstance(where[key], str):
            where[key] *= self.random.randint(2, 5)
        else:
            where[key] = [where[key]] * 2

    def _type(self, where: Any, key: Any, others: list[Json]) -> None:  # noqa: ARG002 - as the other changes
        if isinstance(where, dict):
            name = self.random.choice(["type", "role", "status", "finish_reason", "index", "id", "name", key])
            where[name] = self.random.choice(self._words)

    def grown(self, root: Json) -> Json:
        """``root`` with one value repeated, lengthened or nested to about ``LARGE`` bytes."""
        root = copy.deepcopy(root)
        places = self._places(root)
        if not places:
            return root
        where, key = self.random.choice(places)
        size = max(len(json.dumps(where[key])), 1)
        times = LARGE // size
        if isinstance(where[key], str) and self.random.random() < 0.7:
            filler = self.random.choice(
                ["a", '"', "\\", "{", "é", "🎉", "a b ", '{"a":', where[key] or "x", "\n", ","]
            )
            where[key] = filler * (LARGE // max(len(json.dumps(filler)) - 2, 1))
        elif isinstance(where, list):
            where[key:key] = [where[key]] * times
        elif self.random.random() < 0.5:
            where[key] = [where[key]] * times
        else:
            for at in range(LARGE // (size + 12)):
                where[f"{key}{at}"] = where[key]
        return root

    def dumped(self, root: Json) -> bytes:
        """``root`` as some JSON text."""
        ascii_only = self.random.random() < 0.5
        text = json.dumps(
            root, ensure_ascii=ascii_only, separators=self.random.choice([(",", ":"), (", ", ": ")])
        )
        return text.encode("utf-8", "surrogatepass" if self.random.random() < 0.1 else "replace")

    # ---- streams

    def stream(self, seeds: list[bytes], *, large: bool) -> bytes:
        """A stream made of frames of the ``seeds``: left out, doubled, mixed, damaged, or one of them without end."""
        frames = self.random.choice(seeds).split(b"\n\n")
        if self.random.random() < 0.3:
            frames += self.random.choice(seeds).split(b"\n\n")
        for _ in range(self.random.randrange(4)):
            at = self.random.randrange(len(frames))
            match self.random.randrange(5):
                case 0:
                    del frames[at : at + self.random.randint(0, 2)]
                case 1:
                    frames[at:at] = frames[at : at + self.random.randint(1, 3)]
                case 2:
                    other = self.random.choice(seeds).split(b"\n\n")
                    frames[at:at] = self.random.sample(other, min(len(other), 2))
                case _:
                    frames[at] = self._frame(frames[at])
            frames = frames or [b""]
        if large:
            at = self.random.randrange(len(frames))
            match self.random.randrange(3):
                case 0:
                    frames[at] = self._frame(frames[at], grow=True)
                case 1:
                    frames[at : at + 1] = [frames[at]] * min(LARGE // (len(frames[at]) + 2), LARGE // 8)
                case _:
                    few = frames[at : at + 3]
                    frames[at : at + 3] = few * min(LARGE // (sum(map(len, few)) + 2), LARGE // 8)
        ending = self.random.choice([b"\n"] * 6 + [b"\r\n", b"\r"])
        return self.broken(b"\n\n".join(frames).replace(b"\n", ending))[: 4 * LARGE]

    def _frame(self, frame: bytes, *, grow: bool = False) -> bytes:
        head, mark, data = frame.partition(b"data: ")
        try:
            root = json.loads(data)
        except ValueError:
            return frame * (LARGE // (len(frame) + 1)) if grow else frame + self.random.choice(_PIECES)
        return head + mark + self.dumped(self.grown(root) if grow else self.damaged(root, [root]))

    def body(self, seeds: list[Json], *, large: bool) -> bytes:
        """A body made of the ``seeds``."""
        root = self.random.choice(seeds)
        if self.random.random() < 0.9:
            root = self.damaged(root, seeds)
        if large:
            root = self.grown(root)
        return self.broken(self.dumped(root))[: 4 * LARGE]

    def broken(self, data: bytes) -> bytes:
        """``data``, in one of four cases with bytes changed as well."""
        if self.random.random() < 0.75:
            return data
        broken = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randint(0, len(broken))
            broken[at : at + self.random.choice([0, 0, 1, 3, 30])] = self.random.choice(
                [*_PIECES, self.random.randbytes(2), broken[at // 2 : at]]
            )
        return bytes(broken)

    def cuts(self, data: bytes) -> list[bytes]:
        """``data`` in pieces."""
        if len(data) < 2000 and self.random.random() < 0.2:
            return [data[at : at + 1] for at in range(len(data))]
        marks = sorted(self.random.randint(0, len(data)) for _ in range(self.random.randint(1, 12)))
        return [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]
