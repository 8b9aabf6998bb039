"""An interpreter that keeps what it has loaded: each program that it is given runs in a copy of it, as if started alone.

A line on stdin names the program: its ``code`` or its ``file``, ``arguments``, ``environ``, ``folder``, and the files for its
``out`` and ``err``. What it imports at its top is loaded here first, so that the copies after it have it. A line on stdout is
the exit code.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
from typing import Any


def load(code: str) -> None:
    """Import the modules that a program imports at its top; what cannot be imported, it will tell itself."""
    for node in ast.parse(code).body:
        match node:
            case ast.Import(names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        for module in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)


def become(told: dict[str, Any]) -> None:
    """Be the program: its environment, its folder, its three files."""
    os.environ.clear()
    os.environ.update(told["environ"])
    os.chdir(told["folder"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, told["out"], os.O_WRONLY),
        (2, told["err"], os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    gc.enable()
    if told["file"] is None:
        sys.argv = ["-c", *told["arguments"]]
        exec(compile(told["code"], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [told["file"], *told["arguments"]]
        runpy.run_path(told["file"], run_name="__main__")


def main() -> None:
    gc.disable()
    for line in iter(sys.stdin.readline, ""):
        told = json.loads(line)
        load(told["code"])
        gc.freeze()
        child = os.fork()
        if not child:
            become(told)
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
