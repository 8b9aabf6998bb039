"""The command line: how a command is called, and how its failure is reported.

A server keeps in memory whatever its process has loaded, so a plain ``serve`` is understood here, without what reads every
command line and writes the help. All else is ``commands/registry.py``'s.
"""

import atexit
import gc
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from penstock.core.quoting import terminal_text
from penstock.errors import OperatorError, PenstockError

_TEXT, _NUMBER = str.isprintable, str.isdecimal
_SERVE = {"--host": _TEXT, "--port": _NUMBER, "--workers": _NUMBER, "--data": _TEXT, "--config": _TEXT}
"""The options of ``serve``, and what makes a value of theirs a plain one."""
_OBJECTS = 200_000
"""New objects between two looks of the garbage collector while modules are loaded."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 when it failed, 2 when it was called wrongly."""
    if arguments is None:
        # A process of its own: at its end Python would look through all that was loaded, for a fifth of the command's time.
        atexit.register(gc.freeze)
        arguments = sys.argv[1:]
    given = list(arguments)
    try:
        options = plain_serve(given)
        return _call(given) if options is None else _serve(options)
    except OperatorError as error:
        return _failed(str(error), error.exit_code)
    except PenstockError as error:
        return _failed(error.message, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`penstock user list | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def plain_serve(arguments: Sequence[str]) -> dict[str, str] | None:
    """The options of ``serve``, where it is called with nothing but plain ones, each once; else None."""
    if not arguments or arguments[0] != "serve" or len(arguments) % 2 == 0:
        return None
    pairs = list(zip(arguments[1::2], arguments[2::2], strict=True))
    for name, value in pairs:
        plain = _SERVE.get(name)
        if plain is None or not value.isascii() or not plain(value) or value[:1] in ("", "-"):
            return None
    options = {name.removeprefix("--"): value for name, value in pairs}
    return options if len(options) == len(pairs) else None


@contextmanager
def _loading() -> Generator[None]:
    """Let the garbage collector look seldom: to look again and again through what stays is a tenth of a start."""
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _serve(options: dict[str, str]) -> int:
    with _loading():
        from penstock.commands.installation import Installation  # noqa: PLC0415 - only one of the two is loaded
        from penstock.commands.run_server import run  # noqa: PLC0415 - the same

    place = {name: Path(options.pop(name)) for name in ("data", "config") if name in options}
    run(Installation(**place), options)
    return 0


def _call(arguments: list[str]) -> int:
    with _loading():
        from penstock.commands.registry import call  # noqa: PLC0415 - the same

    if arguments[:1] in (["serve"], ["simulate"]):  # they run for months, at the usual pace
        return call(arguments)
    with _loading():
        return call(arguments)


def _failed(text: str, code: int) -> int:
    for line in terminal_text(text).split("\n"):
        sys.stderr.write(f"penstock: {line}\n")
    return code
