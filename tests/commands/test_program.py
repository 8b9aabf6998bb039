"""A copy of the interpreter that has loaded Penstock is what an interpreter is that was started with the same words."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.program import Copy, Program, interpreter, run_program

TELLING = """
import gc, json, os, resource, signal, sys, threading

print(json.dumps({
    "words": sys.argv,
    "path": sys.path,
    "name": __name__,
    "environ": dict(os.environ),
    "folder": os.getcwd(),
    "files": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],  # the last one is the list's own
    "streams": [(each.encoding, each.errors, each.line_buffering) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "parent": os.getppid(),
    "leads": os.getpid() == os.getsid(0),
    "group": os.getpgrp(),
    "signals": {int(each): repr(signal.getsignal(each)) for each in signal.valid_signals()},
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "collector": (gc.isenabled(), gc.get_threshold()),
    "threads": threading.active_count(),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "flags": list(sys.flags),
    "read": sys.stdin.read(),
}))
sys.stderr.write("aside")
sys.exit(7)
"""


@pytest.fixture
def environ() -> dict[str, str]:
    language = {name: text for name, text in os.environ.items() if name.startswith(("LANG", "LC_"))}
    return {
        "PATH": os.environ["PATH"],
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": "/nowhere",
        "ODD": "ä=\n",
        **language,  # which is the one thing that is read before there is a program
    }


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("way", ["text", "file"])
def test_it_is_what_an_interpreter_is(tmp_path: Path, environ: dict[str, str], way: str, apart: bool) -> None:
    file = tmp_path / "telling.py"
    file.write_text(TELLING)
    words = ["-c", TELLING] if way == "text" else [str(file)]
    told: list[Any] = []
    for start in (subprocess.Popen, Program):
        process = start(
            [sys.executable, *words, "one", "two words"],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=apart,
        )
        with process:
            out, err = process.communicate("some text")
            if apart:
                out = out.replace(f'"group": {process.pid}', '"group": "its own"')
            told.append((process.returncode, err, json.loads(out)))
    for name, as_usual in told[0][2].items():
        assert told[1][2][name] == as_usual, name
    assert told[0] == told[1]
    assert told[1][:2] == (7, "aside")
    assert told[1][2]["parent"] == os.getpid()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_is_told(number: signal.Signals) -> None:
    asleep = "import sys, time; print(flush=True); time.sleep(1000)"
    with Program(
        [sys.executable, "-c", asleep], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait() == -number


def test_its_chance_is_its_own() -> None:
    code = "import random, uuid; print(random.random(), uuid.uuid4())"
    said = [run_program([sys.executable, "-c", code]).stdout for _ in range(2)]
    assert said[0] != said[1]
    assert str(random.random()) not in said[0]
    assert str(uuid.uuid4()) not in said[0]


async def test_a_loop_hears_it_and_of_its_end() -> None:
    code = "import sys; print('out', flush=True); sys.stderr.write('aside'); input()"
    told = await Copy.start((sys.executable, "-c", code), os.environ)
    assert await told.stdout.readline() == b"out\n"
    out, err = await told.communicate()
    assert (out, err.startswith(b"aside"), told.returncode) == (b"", True, 1)


async def test_several_at_once() -> None:
    commands = [(sys.executable, "-c", f"print({number})") for number in range(8)]
    told = await asyncio.gather(*(asyncio.to_thread(run_program, command) for command in commands))
    assert [each.stdout for each in told] == [f"{number}\n" for number in range(8)]


def test_the_installed_program_is_a_copy_as_well(tmp_path: Path) -> None:
    """With the files, the environment and the exit code of what stands for it; only its id is another's."""
    environ = {"PATH": f"{interpreter().programs}:{os.environ['PATH']}", "PENSTOCK_DATA": str(tmp_path)}
    script = "penstock --version; penstock no-such || echo $?; penstock settings | grep -F $PENSTOCK_DATA"
    done = subprocess.run(
        ["sh", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    real = Path(sys.executable).parent / "penstock"
    version = subprocess.run([real, "--version"], capture_output=True, text=True, check=True).stdout
    assert done.stdout.startswith(f"{version}2\n")
    assert str(tmp_path) in done.stdout.removeprefix(version)
    assert "no-such" in done.stderr
