"""Mutate the source, one place at a time, and see whether the tests that are to notice it do.

``tests/mutants.toml`` is the table: for each mutant a file below ``src/penstock``, the text that stands there, what takes its
place, and the tests that must fail then. A mutant lives in a copy of ``src``; the work tree is never changed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "mutants.toml"
PACKAGE = Path("src") / "penstock"
PATIENCE = 900
"""Seconds for the tests of one mutant; pytest ends each test after a minute."""
FAILED = 1
"""How pytest exits when tests failed; 2 and above say that it could not run them."""


@dataclass(frozen=True)
class Mutant:
    """One row. ``time`` is which occurrence is changed; ``times`` is how many there must be."""

    file: str
    was: str
    becomes: str
    tests: tuple[str, ...]
    time: int = 1
    times: int = 1

    @property
    def name(self) -> str:
        """The row in one line."""
        was, becomes = (" ".join(text.split()) for text in (self.was, self.becomes))
        return f"{self.file}: {was} -> {becomes or '(gone)'}"

    def applied(self, source: str) -> str:
        """``source`` with the change. Raises ``ValueError`` where the text does not stand there as the row says."""
        found = source.count(self.was)
        if not self.was or found != self.times or not 1 <= self.time <= self.times:
            raise ValueError(f"{self.file} has {found} times, and not {self.times}: {self.was}")
        at = -1
        for _ in range(self.time):
            at = source.index(self.was, at + 1)
        return source[:at] + self.becomes + source[at + len(self.was) :]


@dataclass(frozen=True)
class Told:
    """What became of one mutant, or of the tests without any."""

    noticed: bool
    how: str
    output: str = ""


def table(path: Path = TABLE) -> tuple[Mutant, ...]:
    """All rows."""
    return tuple(
        Mutant(
            row["file"],
            row["was"],
            row["becomes"],
            tuple(row["tests"]),
            **{name: row[name] for name in ("time", "times") if name in row},
        )
        for row in tomllib.loads(path.read_text())["mutant"]
    )


class Workshop:
    """A copy of ``src`` in which one mutant lives at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))

    def tell(self, mutant: Mutant) -> Told:
        """Apply a mutant, run its tests, and take it back."""
        path = self.place / PACKAGE / mutant.file
        before = path.read_text()
        self._write(path, mutant.applied(before))
        try:
            return run(self.place, mutant.tests)
        finally:
            self._write(path, before)

    def _write(self, path: Path, source: str) -> None:
        # what was compiled is known by the second and the length of its source, which a mutant may share
        Path(cache_from_source(str(path))).unlink(missing_ok=True)
        path.write_text(source)


def run(place: Path, tests: tuple[str, ...], *options: str) -> Told:
    """Run tests against the copy of ``src`` in ``place``, up to the first that fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(place / "src"),
        "PYTHONDONTWRITEBYTECODE": "",
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *options, *tests]
    try:
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Told(False, f"the tests had not ended after {PATIENCE} s")
    output = ran.stdout + ran.stderr
    if ran.returncode == FAILED and re.search(r"^(=+ )?\d+ failed\b", ran.stdout, re.MULTILINE):
        failed = re.search(r"^FAILED (\S+)", ran.stdout, re.MULTILINE)
        return Told(True, failed[1] if failed else "a test", output)
    if ran.returncode == FAILED and re.search(r"^\++ Timeout \++$", output, re.MULTILINE):
        return Told(True, "a test that did not end", output)
    how = "every test passes" if not ran.returncode else f"the tests could not be run ({ran.returncode})"
    return Told(False, how, output)


def chosen(words: list[str]) -> list[Mutant]:
    """The rows that have all of these words in their file, their texts or their tests."""
    return [row for row in table() if all(word in " ".join((row.name, *row.tests)) for word in words)]


def told(mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, Told]]:
    """Each mutant and what became of it, in the order of the table."""
    with tempfile.TemporaryDirectory(prefix="penstock-mutants.") as place:
        free: SimpleQueue[Workshop] = SimpleQueue()
        for number in range(jobs):
            free.put(Workshop(Path(place) / str(number)))

        def one(mutant: Mutant) -> Told:
            workshop = free.get()
            try:
                return workshop.tell(mutant)
            finally:
                free.put(workshop)

        with ThreadPoolExecutor(jobs) as threads:
            yield from zip(mutants, threads.map(one, mutants), strict=True)


def unchanged(mutants: list[Mutant], jobs: int) -> Told:
    """Run all tests of these mutants without any: one that fails anyway notices nothing."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    with tempfile.TemporaryDirectory(prefix="penstock-mutants.") as place:
        return run(Workshop(Path(place)).place, tuple(tests), "-n", str(jobs), "--dist", "loadgroup")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only rows that have these words in them")
    parser.add_argument("-j", "--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("-v", "--verbose", action="store_true", help="what pytest said of those not noticed")
    asked = parser.parse_args()
    mutants = chosen(asked.words)
    if not mutants:
        print("no row has these words")
        return 1
    begun = monotonic()
    print("the tests, without any mutant ...", flush=True)
    plain = unchanged(mutants, asked.jobs)
    if plain.how != "every test passes":
        print(f"without any mutant: {plain.how}\n{plain.output}")
        return 1
    noticed = 0
    for mutant, result in told(mutants, asked.jobs):
        noticed += result.noticed
        print(
            f"{'noticed' if result.noticed else 'NOT NOTICED'}  {mutant.name}\n    {result.how}", flush=True
        )
        if asked.verbose and not result.noticed:
            print(result.output)
    print(f"{noticed} noticed, {len(mutants) - noticed} not noticed ({monotonic() - begun:.0f} s)")
    return 0 if noticed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
