"""The written examples of ``tests/core`` take every branch of the core but those in ``UNTAKEN``, which have a reason.

Properties are left out (``-m "not hypothesis"``): what chance reaches today it may miss tomorrow. A new branch without
an example fails here, and so does an exception that is none any more. Where all tests are run, this is where those run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import FUZZ, LONG

ROOT = Path(__file__).parent.parent

UNTAKEN: dict[tuple[str, str], str] = {
    (
        "dialects/prepare.py",
        "if caller.decode_remembered is not None:",
    ): "every format that callers write has it; the type leaves it open",
    (
        "neutral/fold.py",
        "if self._call is not None:",
    ): "a call is open wherever the kind is 'call'; the type cannot say so",
    (
        "dialects/translation_memory.py",
        'raise ValueError("the tools come first")',
    ): "a request is read in one order; the type cannot say so",
    (
        "dialects/translation_memory.py",
        "if self._turns is not None:",
    ): "what was written has turns; the type cannot say so",
    (
        "dialects/messages/remembered_request.py",
        'raise ValueError("the turns come first")',
    ): "a request is read in one order; the type cannot say so",
    (
        "dialects/messages/decode_request.py",
        "return []",
    ): "the turn has read those blocks; the type cannot say so",
    ("body/envelope.py", "raise too_deep() from error"): "depends on how deep the caller's own stack is, too",
    ("dialects/prepare.py", "raise too_deep() from error"): "depends on how deep the caller's own stack is",
    (
        "dialects/responses/decode_response.py",
        "elif not opened.calls:  # late, and something else has begun: after that, then",
    ): ("a call is never late: the items after it wait for its end"),
}
"""By module and line, as it is written there: why no example gets there, or (of an `if`) past it."""


@pytest.mark.timeout(600)  # five thousand tests
def test_every_branch_of_the_core_has_its_example(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    tests = ["tests/core", f"--ignore=tests/core/{FUZZ}", "-m", "not hypothesis"]
    chosen = ["-k", " and ".join(f"not {word}" for word in LONG), "-q", "-p", "no:cacheprovider"]
    measured = ["-p", "tests.branches", "--untaken", str(tmp_path / "untaken")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *measured, *tests, *chosen],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    found: dict[str, list[int]] = json.loads((tmp_path / "untaken").read_text())
    core = ROOT / "src" / "penstock" / "core"
    assert found.keys() == {str(module) for module in core.rglob("*.py")}
    untaken: set[tuple[str, str]] = set()
    for name, numbers in found.items():
        lines = Path(name).read_text("utf-8").splitlines()
        for number in numbers:
            untaken.add((Path(name).relative_to(core).as_posix(), lines[number - 1].strip()))
    without = sorted(f"{module}: {line}" for module, line in untaken - UNTAKEN.keys())
    assert not without, "no example takes:\n" + "\n".join(without)
    assert UNTAKEN.keys() <= untaken
