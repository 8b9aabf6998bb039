"""``python`` with words about Penstock as a process: a copy of an interpreter that has loaded what such a program loads.

To load it takes longer than most of these programs run. Each is a process like any other: it has its own id, it is a child of
the test process, and all that ``subprocess`` says of files, signals and exit codes holds. What an interpreter reads before
there is a program is not heard: the variables of the language, and those of Python but for PYTHONPATH. A few tests start an
interpreter, so that what is loaded in vain or not at all is seen.
"""

import asyncio
import atexit
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.loaded import MESSAGE

ROOT = Path(__file__).parents[1]
PATIENCE = 200.0
MIGRATING = ["-m", "penstock.store.sql.migrate"]
"""What a program starts beside itself and waits for."""

_PR_SET_CHILD_SUBREAPER = 36
_STANDING_FOR = """#!{python} -IS
import os, sys, _socket
if {when}:
    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    asking.connect({place!r})
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    asking.sendmsg([{message!r}], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    asking.recv(99)
    ended = int(asking.recv(99) or b"-9")
    if ended < 0:
        os.kill(os.getpid(), -ended)
    os._exit(ended)
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


class Interpreter:
    """The interpreter that is copied."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="penstock-loaded-")
        self._place = str(Path(self._home.name) / "asking")
        self._starting = threading.Lock()
        installed = Path(sys.executable).parent / "penstock"
        self.programs = Path(self._home.name) / "programs"
        """A folder with the installed ``penstock``, which is a copy as well."""
        self.programs.mkdir()
        self._stand_for("programs/penstock", "True", [str(installed)])
        self.executable = self._stand_for("python", f"sys.argv[1:] == {MIGRATING!r}", [])
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._place)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.loaded", str(listener.fileno())],
                cwd=ROOT,
                env={name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )

    def _stand_for(self, name: str, when: str, before: Sequence[str]) -> str:
        program = Path(self._home.name, name)
        told = {"before": before}
        text = _STANDING_FOR.format(
            python=sys.executable, when=when, place=self._place, message=json.dumps(told).encode()
        )
        program.write_text(text, "utf-8")
        program.chmod(0o700)
        return str(program)

    def start(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        folder: str,
        files: Sequence[int],
        *,
        session: bool,
    ) -> int:
        """Start a program as a child of this process; its id."""
        told = {
            "words": list(words),
            "environ": dict(environ),
            "folder": folder,
            "session": session,
            "executable": self.executable,
        }
        with self._starting, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
            asking.settimeout(PATIENCE)
            asking.connect(self._place)
            _reap_orphans(True)
            try:
                socket.send_fds(asking, [json.dumps(told).encode()], list(files))
                pid = int(asking.recv(99))
                assert asking.recv(99) == b"{}"
            finally:
                _reap_orphans(False)
        return pid

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        self._home.cleanup()


def _reap_orphans(whether: bool) -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(whether), 0, 0, 0) == 0


@cache
def interpreter() -> Interpreter:
    """The one of this test process."""
    made = Interpreter()
    atexit.register(made.close)
    return made


_EXECUTE: Any = vars(subprocess.Popen)["_execute_child"]
_CLOSE: Any = vars(subprocess.Popen)["_close_pipe_fds"]
_, *PARAMETERS = inspect.signature(_EXECUTE).parameters
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
UNKNOWN = {
    "executable": None,
    "preexec_fn": None,
    "pass_fds": (),
    "shell": False,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""What no program is started with, so that nobody has to see to it."""


class Program(subprocess.Popen[Any]):
    """A process that is started in another way, where its words begin with this interpreter."""

    def _execute_child(self, *given: Any) -> None:
        told = dict(zip(PARAMETERS, given, strict=True))
        files = [told[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        own = {name: told.pop(name) for name in ("args", "cwd", "env", "start_new_session")}
        assert {name: told[name] for name in UNKNOWN} == UNKNOWN
        first, *words = map(str, own["args"])
        assert first == sys.executable
        self.pid = interpreter().start(
            words,
            os.environ if own["env"] is None else own["env"],
            str(own["cwd"] or Path.cwd()),
            [number if file == -1 else file for number, file in enumerate(files)],
            session=own["start_new_session"],
        )
        self._child_created = True
        _CLOSE(self, *(told[name] for name in PIPES))


def run_program(
    command: Sequence[str], environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a program printed, to its end."""
    pipe = subprocess.PIPE
    with Program(command, env=environ, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)


class Copy:
    """A program as asyncio has its processes, with both of its outputs in pipes."""

    def __init__(self, program: subprocess.Popen[bytes]) -> None:
        self._program = program
        self._ended = asyncio.Event()
        self._pipes: list[asyncio.ReadTransport] = []
        self.pid = program.pid
        self.send_signal = program.send_signal
        self.kill = program.kill
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()

    @classmethod
    async def start(cls, command: Sequence[str], environ: Mapping[str, str]) -> "Copy":
        """Start one; the first one of a test process waits for what is loaded."""
        pipe = subprocess.PIPE
        program = await asyncio.to_thread(Program, command, env=environ, stdout=pipe, stderr=pipe, bufsize=0)
        started = cls(program)
        await started._watch()
        return started

    @property
    def returncode(self) -> int | None:
        return self._program.poll()

    async def wait(self) -> int:
        await self._ended.wait()
        return self._program.wait()

    async def communicate(self) -> tuple[bytes, bytes]:
        """All that it says from here on, to its end."""
        said = await asyncio.gather(self.stdout.read(), self.stderr.read())
        for pipe in self._pipes:
            pipe.close()
        await self.wait()
        return said[0], said[1]

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        for reader, file in ((self.stdout, self._program.stdout), (self.stderr, self._program.stderr)):
            pipe, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), file)
            self._pipes.append(pipe)
        watched = os.pidfd_open(self.pid)

        def ended() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            self._ended.set()

        loop.add_reader(watched, ended)
