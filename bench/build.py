"""The mock upstream and the load generator compiled, and virtual environments of other interpreters made, in ``.build/``."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parent
BUILD = BENCH / ".build"


class NotBuilt(Exception):
    """Something that the benchmarks need is missing on this machine; the text says what and how to get it."""


def tool(name: str) -> Path:
    """The compiled program of ``bench/<name>.c``, made again when its source or a header has changed. Raises ``NotBuilt``."""
    source, program = BENCH / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in (source, *BENCH.glob("*.h")))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = next((path for word in ("cc", "gcc", "clang") if (path := shutil.which(word))), None)
    if compiler is None:
        raise NotBuilt("a C compiler is needed (Debian and Ubuntu: apt-get install gcc libc6-dev)")
    BUILD.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotBuilt(f"{source.name} does not compile:\n{done.stderr}")
    return program


def environment(interpreter: str | None) -> Path:
    """The ``bin`` directory whose ``python`` and ``penstock`` are measured.

    Without an interpreter it is the project's ``.venv``. With one, a virtual environment of it holds the run-time lock
    alone; it is made again when the locks have changed. Raises ``NotBuilt``.
    """
    if interpreter is None:
        found = ROOT / ".venv" / "bin"
        if not (found / "penstock").exists():
            raise NotBuilt("there is no .venv with penstock in it: run `make env`")
        return found
    locks = [ROOT / "requirements" / "run.txt", ROOT / "requirements" / "build.txt"]
    state = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    home = BUILD / ("venv-" + interpreter.strip("/").replace("/", "-"))
    stamp = home / "locks.sha256"
    if stamp.exists() and stamp.read_text() == state:
        return home / "bin"
    _run([interpreter, "-m", "venv", "--clear", str(home)], "Debian and Ubuntu: apt-get install python3-venv")
    pip = [str(home / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    _run([*pip, "--require-hashes", *(word for lock in locks for word in ("-r", str(lock)))], "")
    _run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], "", home / "bin")
    stamp.write_text(state)
    return home / "bin"


def _run(command: list[str], advice: str, first_on_path: Path | None = None) -> None:
    surroundings = dict(os.environ, PIP_CONSTRAINT=os.devnull)
    if first_on_path is not None:
        surroundings["PATH"] = f"{first_on_path}{os.pathsep}{surroundings['PATH']}"
    done = subprocess.run(
        command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise NotBuilt(f"{' '.join(command)} failed. {advice}\n{done.stdout}")
