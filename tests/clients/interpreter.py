"""Python programs that use the same packages, each in a copy of one interpreter: loading these takes longer than most run."""

import atexit
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.clients.installed import QUIET, python_path, search_path

PROGRAM = Path(__file__).parent / "programs" / "interpreter.py"
PATIENCE = 200.0


class Interpreter:
    """An interpreter with a set of packages, in a home of its own and with no way out but to this machine."""

    def __init__(self, packages: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="penstock-interpreter-")
        # what libraries look for when they are loaded
        environ = {**python_path(packages), **QUIET, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            cwd=self._home.name,
            env={"PATH": search_path(), "HOME": self._home.name, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        program: str | Path,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        folder: Path,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end: a file, or the text of one."""
        is_file = isinstance(program, Path)
        with (
            tempfile.NamedTemporaryFile(dir=self._home.name) as out,
            tempfile.NamedTemporaryFile(dir=self._home.name) as err,
        ):
            told = {
                "code": program.read_text("utf-8") if is_file else program,
                "file": str(program) if is_file else None,
                "arguments": list(arguments),
                "environ": dict(environ),
                "folder": str(folder),
                "out": out.name,
                "err": err.name,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            late = threading.Timer(PATIENCE, self._process.kill)
            late.start()
            ended = self._process.stdout.readline()
            late.cancel()
            return subprocess.CompletedProcess(
                [str(program), *arguments],
                int(ended) if ended else -9,
                Path(out.name).read_text("utf-8"),
                Path(err.name).read_text("utf-8"),
            )

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        self._home.cleanup()


def run_python(
    packages: str, program: str | Path, arguments: Sequence[str], environ: Mapping[str, str], folder: Path
) -> str:
    """What a program prints, in a home of its own and with no way out but to this machine."""
    own = {"PATH": search_path(), "HOME": str(folder), **QUIET, **python_path(packages), **environ}
    done = interpreter(packages).run(program, arguments, own, folder)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@cache
def interpreter(packages: str) -> Interpreter:
    """The interpreter of this test process for a set of packages of ``tests/clients/installed.py``."""
    made = Interpreter(packages)
    atexit.register(made.close)
    return made
