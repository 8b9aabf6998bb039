"""The engines that the store runs on, for tests: a SQLite file, or a PostgreSQL database of the test's own.

The server is the one at ``PENSTOCK_TEST_POSTGRESQL``, or a cluster that is started for the test process and removed with it:
making and dropping a database takes a tenth of a second on one that need not outlive a power cut, and up to two seconds on
one that must. Where PostgreSQL's programs are missing it is the server on this machine's usual port. A database is a copy of a
template that has the schema already.
"""

import asyncio
import atexit
import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from penstock.store.sql.database import Database

USUAL = ("postgresql://postgres@127.0.0.1:5432", "postgresql://root@127.0.0.1:5432")
T = TypeVar("T")
_numbers = itertools.count(1)


class Engine:
    """One engine; ``url`` names the test's own database on it."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url

    async def open(self, directory: Path) -> Database:
        """The database, opened. ``directory`` is for what lies beside it."""
        return await Database.open(self.url, directory=directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Engine]:
    """Each test that wants it runs once on each engine."""
    if request.param == "sqlite":
        yield Engine("sqlite", f"sqlite:///{tmp_path}/penstock.db")
        return
    with _database() as made:
        yield made


@pytest.fixture
def postgresql() -> Generator[Engine]:
    """For tests of PostgreSQL alone."""
    with _database() as made:
        yield made


@pytest.fixture
def empty_postgresql(postgresql: Engine) -> Engine:
    """A database without tables, as createdb makes it."""
    remake(postgresql)
    return postgresql


def remake(engine: Engine) -> None:
    """Empty a PostgreSQL database to its last table."""
    name = engine.url.rpartition("/")[2]
    execute(f"DROP DATABASE {name} WITH (FORCE)")
    execute(f"CREATE DATABASE {name}")


@contextmanager
def _database() -> Generator[Engine]:
    name = f"penstock_test_{os.getpid()}_{next(_numbers)}"
    execute(f"CREATE DATABASE {name} TEMPLATE {template()}")
    try:
        yield Engine("postgresql", f"{server()}/{name}")
    finally:
        execute(f"DROP DATABASE {name} WITH (FORCE)")


def execute(statement: str) -> None:
    """One statement on the server; its names are made here."""
    _run(_executing(statement))


async def _executing(statement: str) -> None:
    connection = await asyncpg.connect(f"{server()}/postgres", timeout=30)
    await connection.execute(statement)
    await connection.close()


@cache
def template() -> str:
    """A database with the schema, for this process."""
    name = f"penstock_template_{os.getpid()}"
    execute(f"CREATE DATABASE {name}")
    # at exit no loop runs any more, and a pool's thread could not be started
    atexit.register(lambda: asyncio.run(_executing(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")))

    async def filling() -> None:
        await (await Database.open(f"{server()}/{name}", directory=Path(tempfile.gettempdir()))).close()

    _run(filling())
    return name


@cache
def server() -> str:
    """The address of a server that lets us make databases, without a database's name."""
    given = os.environ.get("PENSTOCK_TEST_POSTGRESQL")
    if not given and programs() is not None:
        return _start()
    for address in (given,) if given else USUAL:
        if _run(_answers(address)):
            return address
    raise AssertionError("the tests need PostgreSQL: make clients installs it")


def _run(work: Coroutine[None, None, T]) -> T:
    """What is waited for, on a loop of its own: the test's may be running already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _answers(address: str) -> bool:
    try:
        connection = await asyncpg.connect(f"{address}/postgres", timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    may = await connection.fetchval(
        "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    await connection.close()
    return bool(may)


def programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian puts them where no PATH looks."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("postgres")
    return debian[-1] if debian else Path(found).parent if found else None


def _start() -> str:
    cluster = Cluster()
    cluster.start()
    atexit.register(cluster.remove)
    return cluster.address


class Cluster:
    """A cluster in a directory of its own; PostgreSQL does not run as root, so root starts it as ``postgres``."""

    def __init__(self) -> None:
        place = programs() or Path("/nowhere")
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-postgresql-"))
        be: list[str] = []
        if os.geteuid() == 0:
            who = pwd.getpwnam("postgres")
            os.chown(self._folder, who.pw_uid, who.pw_gid)
            be = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            self._port = plug.getsockname()[1]
        self.address = f"postgresql://postgres@127.0.0.1:{self._port}"
        self._data = self._folder / "data"
        making = [*be, place / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(making, check=True, capture_output=True)
        self._control = [*be, place / "pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log"]

    def start(self, more: str = "") -> None:
        """Start it, with what it had; ``more`` are options for the server."""
        options = (
            f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
            f" -c max_connections=300 {more}"
        )
        subprocess.run([*self._control, "-o", options, "start"], check=True, capture_output=True)

    def keep(self, name: str, text: bytes) -> None:
        """Put a file in its data directory, such as a certificate; none but the server can read it."""
        path = self._data / name
        path.write_bytes(text)
        path.chmod(0o600)
        if os.geteuid() == 0:
            who = pwd.getpwnam("postgres")
            os.chown(path, who.pw_uid, who.pw_gid)

    def stop(self) -> None:
        """End it, as if by a crash."""
        subprocess.run([*self._control, "-m", "immediate", "stop"], check=True, capture_output=True)

    def signal(self, number: int) -> None:
        """Send a signal to the server and all its processes, such as one that stops them for a while."""
        leader = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for process in (leader, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # one that was ending, and has ended since
                os.kill(process, number)

    def remove(self) -> None:
        """End it and delete its directory."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
