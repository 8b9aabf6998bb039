"""An interpreter that has loaded Penstock and started nothing of it: each program that it is asked for is a copy of it.

A copy is what ``python`` would be with the same words, environment, folder and files, but for what it need not load again;
it is a process of its own. The last argument is the descriptor of the socket that is asked on; the end of standard input is
the end. Who connects sends one message, with the program's three files:

* ``{"words": ..., "environ": ..., "folder": ..., "session": ...}`` is answered with the id of the process, and then with an
  empty object once the process is the caller's own child. For that the caller is the reaper of orphans meanwhile.
* ``{"before": ...}`` comes from a program that stands for another: all is as it was itself started, with these words before
  its own. It is answered with the exit code at the end.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.clients.programs import interpreter

MESSAGE = 1 << 20
LOADED = ("penstock.commands.run_server", "penstock.commands.registry")
_WHO = struct.Struct("3i")


def load() -> None:
    """Load what commands and servers load, none of which starts anything or reads the environment."""
    for module in LOADED:
        importlib.import_module(module)
    (place,) = importlib.import_module("penstock.store.sql").__path__
    interpreter.load(
        Path(place, "migrate.py").read_text("utf-8")
    )  # a program itself, so it may not be loaded


def asked(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What somebody asks for, and the files."""
    message, files, _, _ = socket.recv_fds(connection, MESSAGE, 3)
    told = json.loads(message or "{}")
    if told and "before" not in told:
        return told, files
    caller, _, _ = _WHO.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _WHO.size))
    place = Path("/proc", str(caller))
    _interpreter, _option, _itself, *words = os.fsdecode((place / "cmdline").read_bytes()).split("\0")[:-1]
    variables = os.fsdecode((place / "environ").read_bytes()).split("\0")[:-1]
    environ = dict(variable.split("=", 1) for variable in variables)
    return told | {
        "words": told["before"] + words,
        "environ": environ,
        "folder": str((place / "cwd").readlink()),
    }, files


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Start what is asked for, until the end of standard input; in a copy, what to be."""
    end = sys.stdin.fileno()
    while end not in select.select([listener, end], (), ())[0]:
        connection, _ = listener.accept()
        told, files = asked(connection)
        if not told:  # somebody thought better of it
            connection.close()
            continue
        held, hold = os.pipe()
        between = os.fork()
        if not between:
            listener.close()
            os.close(hold)
            program = os.fork()
            if not program:
                connection.close()
                os.read(held, 1)  # until it is whose it shall be
                os.close(held)
                take(files)
                return told
            say(connection, program)
            if "before" in told:
                _, status = os.waitpid(program, 0)
                say(connection, os.waitstatus_to_exitcode(status))
            os._exit(0)
        for file in files:
            os.close(file)
        if "before" not in told:
            os.waitpid(between, 0)  # and then the program is an orphan
            say(connection, {})
        for file in (held, hold):
            os.close(file)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return None


def say(connection: socket.socket, told: object) -> None:
    """Answer, unless nobody waits any more."""
    with contextlib.suppress(ConnectionError):
        connection.send(json.dumps(told).encode())


def take(files: list[int]) -> None:
    """Have these as standard input, output and error."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)


def become(told: dict[str, Any]) -> None:
    """Be the program."""
    os.environ.clear()
    os.environ.update(told["environ"])
    time.tzset()
    os.chdir(told["folder"])
    if told.get("session"):
        os.setsid()
    if "executable" in told:
        sys.executable = told["executable"]
    if "PYTHONPATH" in told["environ"]:
        sys.path[1:1] = told["environ"]["PYTHONPATH"].split(os.pathsep)
    first, *words = told["words"]
    gc.enable()
    if first == "-m":
        sys.path[0] = told["folder"]
        sys.argv = ["-m", *words[1:]]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[1:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(words[0], "<string>", "exec"), vars(main))
    else:
        sys.path[0] = str(Path(first).parent)
        sys.argv = [first, *words]
        runpy.run_path(first, run_name="__main__")


def main() -> None:
    gc.disable()
    listener = socket.socket(fileno=int(sys.argv[-1]))
    load()
    assert threading.active_count() == 1, "a copy would lack the others"
    gc.freeze()
    told = serve(listener)
    if told is not None:
        become(told)


if __name__ == "__main__":
    main()
