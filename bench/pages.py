"""``python -m bench.pages``: how long pages take with a million rows in SQLite, or with ten million in PostgreSQL.

A database is filled (``bench/page_rows.py``) with ``--rows`` requests of 90 days, one in ``--mine`` of them of the customer who
looks. Each page of that customer and each of the staff is then fetched from a running server ``--times`` times. What is printed
is the time of the fastest and of the median fetch, in milliseconds, and a mark where the median is above ``--most``.

``--server postgresql://postgres@127.0.0.1:5432`` takes a database of that server, which is made and stays; ``--export`` also
downloads the whole log of the customer, in each form, and prints how long a probe waited beside it.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import asyncpg
import httpx2

from bench.page_rows import CUSTOMER, OWNER, PASSWORD, Wanted, fill
from penstock.domain.accounts.sessions import form_token
from penstock.settings import Settings

DATABASE = "penstock_bench_pages"
CUSTOMERS = (
    "/dashboard",
    "/dashboard?days=90",
    "/requests",
    "/requests?model=deepseek-3.2",
    "/requests?outcome=failed",
    "/requests?outcome=refused",
    "/requests?model=rare-model",
    "/requests?client=seldom",
    "/requests?status=502&code=provider_timeout&stream=yes&key=key_0",
    "/requests?sort=oldest",
    "/requests?model=deepseek-3.2&sort=oldest",
    "/requests?sort=whole",
    "/requests?sort=written&model=deepseek-3.2",
    "/requests?sort=read&client=seldom",
    "/usage",
    "/usage?length=day&by=key&show=first",
    "/usage?length=year&by=client&show=whole",
    "/slots",
    "/plan",
    "/settings",
    "RECEIPT",
    "/keys",
    "/playground",
    "/status",
    "/models/deepseek-3.2",
)
STAFF = (
    "/admin",
    "/admin/live",
    "/admin/requests",
    "/admin/requests?outcome=failed",
    "/admin/requests?outcome=running",
    "/admin/requests?outcome=client_gone",
    "/admin/requests?model=rare-model",
    "/admin/requests?provider=rare-provider",
    "/admin/requests?account=usr_0",
    "/admin/requests?account=usr_0&model=rare-model",
    "/admin/requests?account=usr_77",
    "/admin/requests?day=YESTERDAY",
    "/admin/requests?day=YESTERDAY&model=rare-model",
    "ADMIN RECEIPT",
    "/admin/users",
    "/admin/users?q=person0012",
    "/admin/users?q=nobody",
    "/admin/users?plan=starter",
    "/admin/users?plan=none",
    "/admin/users?state=unverified",
    "/admin/users?state=disabled",
    "/admin/users?state=leaving",
    "/admin/users?state=staff",
    "/admin/users?state=wish",
    "/admin/users/usr_0",
    "/admin/users/usr_77",
    "SEARCH person0012345@example.com",
    "SEARCH nobody-at-all",
    "SEARCH 7777",
    "SEARCH sk-ps-012345",
    "SEARCH sk-ps-zzzzzz",
    "SEARCH key_12345",
    "/admin/plans",
    "/admin/plans/free",
    "/admin/models",
    "/admin/models/deepseek-3.2",
    "/admin/providers",
    "/admin/providers/anthropic",
    "/admin/notices",
    "/admin/mail",
    "/admin/staff",
    "/admin/tokens",
    "/admin/audit",
    "/admin/audit?action=user_deleted",
    "/admin/audit?action=catalog_changed",
    "/admin/audit?actor=owner@example.com",
    "/admin/audit?actor=nobody@example.com",
    "/admin/audit?object_id=usr_77",
    "/admin/audit?address=198.51.100.1",
    "/admin/changes",
    "/admin/settings",
    "/admin/jobs",
)
"""Those that only read; what is typed into the search goes in the body of a form."""
EXPORTS = ("/requests.csv", "/settings/export")


class Browser:
    """Somebody signed in."""

    def __init__(self, origin: str, email: str) -> None:
        self.http = httpx2.Client(base_url=origin, trust_env=False, timeout=600)
        self.http.get("/signin")
        assert self.post("/signin", email=email, password=PASSWORD).status_code == 303

    def post(self, path: str, **fields: str) -> httpx2.Response:
        token = form_token(self.http.cookies["penstock"])
        return self.http.post(path, data={"form_token": token, **fields})

    def ask(self, page: str) -> httpx2.Response:
        """A page, or what was typed into the search."""
        word, _, typed = page.partition(" ")
        return self.post("/admin/search", q=typed) if word == "SEARCH" else self.http.get(page)


@contextmanager
def serving(settings: Settings) -> Generator[str]:
    """A server of its own, at the address that it prints."""
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--data", str(settings.data)]
    environment = os.environ | {"PENSTOCK_DATABASE_URL": settings.database_url}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        yield next(
            found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
    finally:
        server.terminate()
        server.wait()


def measure(origin: str, times: int, most: float, only: str) -> None:
    """Each page, for each of the two."""
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    for email, pages in ((CUSTOMER, CUSTOMERS), (OWNER, STAFF)):
        reader = Browser(origin, email)
        page = reader.ask("/requests" if email == CUSTOMER else "/admin/requests?account=usr_0").text
        receipt = re.search(r"/requests/(req_\w+)", page)
        assert receipt is not None
        places = {"RECEIPT": f"/requests/{receipt[1]}", "ADMIN RECEIPT": f"/admin/requests/{receipt[1]}"}
        print(f"{'page of ' + email.partition('@')[0]:<66}{'fastest':>10}{'median':>10}  ms")
        for name in pages:
            if only not in name:
                continue
            page = places.get(name, name.replace("YESTERDAY", yesterday))
            taken: list[float] = []
            for _ in range(times):
                began = time.perf_counter()
                answer = reader.ask(page)
                assert answer.status_code in {200, 303}, (page, answer.status_code)
                taken.append((time.perf_counter() - began) * 1000)
            middle = statistics.median(taken)
            mark = "  SLOW" if middle > most else ""
            print(f"{name:<66}{min(taken):>10.1f}{middle:>10.1f}{mark}", flush=True)


def _probe(origin: str, ended: Event, waits: "Queue[list[float]]") -> None:
    """Asks for ``/healthz`` over and over, in a process of its own: how long each answer took, in milliseconds."""
    taken: list[float] = []
    with httpx2.Client(base_url=origin, trust_env=False, timeout=60) as http:
        while not ended.wait(0.005):
            began = time.perf_counter()
            http.get("/healthz")
            taken.append((time.perf_counter() - began) * 1000)
    waits.put(taken)


@contextmanager
def _probing(origin: str, found: list[float]) -> Generator[None]:
    """A probe beside; ``found`` has what it waited, once it has ended."""
    context = multiprocessing.get_context("spawn")
    ended, waits = context.Event(), context.Queue()
    process = context.Process(target=_probe, args=(origin, ended, waits))
    process.start()
    yield
    ended.set()
    found += waits.get()
    process.join()


def export(origin: str) -> None:
    """Everything of the customer as files, with a probe beside; and the probe with nothing, on the machine as it is."""
    reader = Browser(origin, CUSTOMER)
    print(f"{'file':<32}{'MB':>8}{'seconds':>10}{'probe: median':>16}{'99 %':>8}{'longest':>10}  ms")
    for path in ("", *EXPORTS):
        waits: list[float] = []
        size, began = 0, time.perf_counter()
        with _probing(origin, waits):
            if path:
                with reader.http.stream("GET", path) as answer:
                    assert answer.status_code == 200, path
                    for chunk in answer.iter_bytes():
                        size += len(chunk)
            else:
                time.sleep(10)
        took = time.perf_counter() - began
        waits.sort()
        print(
            f"{path or 'nothing':<32}{size / 1e6:>8.1f}{took:>10.1f}{statistics.median(waits):>16.1f}"
            f"{waits[int(len(waits) * 0.99)]:>8.1f}{waits[-1]:>10.1f}",
            flush=True,
        )


async def _make_database(server: str) -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f"CREATE DATABASE {DATABASE}")
    await connection.close()


async def _has_database(server: str) -> bool:
    connection = await asyncpg.connect(f"{server}/postgres")
    found = await connection.fetchval(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'")
    await connection.close()
    return bool(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--mine", type=int, default=5, help="one in so many is of the account that looks")
    parser.add_argument(
        "--around", type=int, default=100_000, help="entries of the trail, mails and the like"
    )
    parser.add_argument("--server", default="", help="of PostgreSQL; without it SQLite")
    parser.add_argument("--keep", type=Path, help="a folder for the data, which stays")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--most", type=float, default=200.0)
    parser.add_argument("--only", default="", help="pages with this in their address")
    parser.add_argument("--export", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data: Path = given.keep or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        settings = Settings(data=data, database_url=f"{given.server}/{DATABASE}" if given.server else "")
        there = asyncio.run(_has_database(given.server)) if given.server else (data / "penstock.db").exists()
        if not there:
            if given.server:
                asyncio.run(_make_database(given.server))
            began = time.perf_counter()
            asyncio.run(fill(settings, Wanted(given.rows, given.people, given.mine, given.around)))
            print(f"{given.rows:,} rows of {given.people:,} accounts in {time.perf_counter() - began:.0f} s")
        with serving(settings) as origin:
            if given.export:
                export(origin)
            else:
                measure(origin, given.times, given.most, given.only)


if __name__ == "__main__":
    main()
