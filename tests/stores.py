"""The engines that the store runs on, for tests: a SQLite file, or a PostgreSQL database of the test's own.

The server is the one at ``PENSTOCK_TEST_POSTGRESQL``, or a cluster that is started for the test process and removed with it:
making and dropping a database takes a tenth of a second on one that need not outlive a power cut, and up to two seconds on
one that must. Where PostgreSQL's programs are missing it is the server on this machine's usual port. A database is a copy of a
template that has the schema already; a test that leaves the schema as it was leaves its database, emptied, to the next.
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
from collections.abc import Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

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
    original = template()
    if _unused:
        name, used = _unused.pop()
    else:
        name, used = f"penstock_test_{os.getpid()}_{next(_numbers)}", 0
        execute(f"CREATE DATABASE {name} TEMPLATE {original.name}")
    try:
        yield Engine("postgresql", f"{server()}/{name}")
    finally:
        if used < _MOST_USES and _run(_emptied(name, original)):
            _unused.append((name, used + 1))
        else:
            execute(f"DROP DATABASE {name} WITH (FORCE)")


def execute(statement: str) -> None:
    """One statement on the server; its names are made here."""
    _run(_executing(statement))


async def _executing(statement: str, database: str = "postgres") -> None:
    connection = await asyncpg.connect(f"{server()}/{database}", timeout=30)
    await connection.execute(statement)
    await connection.close()


class Template(NamedTuple):
    """A database to copy: ``shape`` is its schema's, and ``rows`` those that it begins with, as text, by table."""

    name: str
    shape: str
    rows: Mapping[str, list[str]]


_unused: list[tuple[str, int]] = []
"""Databases that are as the template is, and how many tests had them."""
_MOST_USES = 40
"""Tests that may have the same database: what they delete stays in its files."""

_ENDS_OTHERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_SHAPE = """
    SELECT md5(string_agg(row, ' ' ORDER BY row)) FROM (
        SELECT 'c' || oid || ' ' || xmin AS row FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'n' || oid || ' ' || xmin FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
        UNION ALL SELECT 'a' || attrelid || ' ' || attnum || ' ' || a.xmin FROM pg_attribute a
            JOIN pg_class c ON c.oid = attrelid AND relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'k' || oid || ' ' || xmin FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 't' || oid || ' ' || xmin FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'p' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 's' || setdatabase || ' ' || setrole FROM pg_db_role_setting
    ) rows
"""
"""What any change of the schema changes: each part of it has the transaction that wrote it."""
_FILLED = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0 ORDER BY 1
"""
"""Tables that have had a row."""


async def _rows(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """All rows of those tables that have had any."""
    return {
        table: [row for (row,) in await connection.fetch(f"SELECT t::text FROM {table} t")]
        for (table,) in await connection.fetch(_FILLED)
    }


async def _emptied(name: str, original: Template) -> bool:
    """Whether a database is as the template again, nobody being connected to it any more."""
    try:
        connection = await asyncpg.connect(f"{server()}/{name}", timeout=30)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False  # the test has made it such that nobody gets in
    try:
        while await connection.fetchval(_ENDS_OTHERS):
            pass
        if await connection.fetchval(_SHAPE) != original.shape:
            return False
        found = await _rows(connection)
        changed = [
            table for table in {**found, **original.rows} if found.get(table) != original.rows.get(table, [])
        ]
        # neither rules of the schema nor keys of others forbid it
        deleting = (f"DELETE FROM {table};" for table in changed)
        await connection.execute(f"SET session_replication_role = replica; {''.join(deleting)}")
        for table in changed:
            again = f"INSERT INTO {table} SELECT ($1::text::{table}).*"
            await connection.executemany(again, [(row,) for row in original.rows.get(table, ())])
    except asyncpg.PostgresError:
        return False  # a role that may not, on a server that was given
    finally:
        await connection.close()
    return True


@cache
def template() -> Template:
    """A database with the schema, for this process."""
    name = f"penstock_template_{os.getpid()}"
    execute(f"CREATE DATABASE {name}")

    def remove() -> None:
        # at exit no loop runs any more, and a pool's thread could not be started
        for database in (name, *(name for name, _ in _unused)):
            asyncio.run(_executing(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)"))

    if not _ours():
        atexit.register(remove)  # our own cluster goes with all that is in it

    async def filling() -> Template:
        address = f"{server()}/{name}"
        await (await Database.open(address, directory=Path(tempfile.gettempdir()))).close()
        connection = await asyncpg.connect(address, timeout=30)
        made = Template(name, str(await connection.fetchval(_SHAPE)), await _rows(connection))
        await connection.close()
        return made

    return _run(filling())


def _ours() -> bool:
    """Whether the server is a cluster of this process."""
    return not os.environ.get("PENSTOCK_TEST_POSTGRESQL") and programs() is not None


@cache
def server() -> str:
    """The address of a server that lets us make databases, without a database's name."""
    given = os.environ.get("PENSTOCK_TEST_POSTGRESQL")
    if _ours():
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
            f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c autovacuum=off"
            f" -c full_page_writes=off -c max_connections=300 {more}"
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
