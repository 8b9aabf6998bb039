"""``python -m bench.turns --keep DIR``: how long a turn of the event loop is while the files of a large account are written.

The database is that of ``bench.pages`` with the same ``--keep`` (and ``--server``), filled before. The server runs in this
process. A task beside sleeps a millisecond, over and over: what is printed, in milliseconds, is how much longer it slept,
which has the rest of the machine in it, and what processor time the loop's thread took meanwhile, which has not. Templates
are compiled at their first use, so each file is asked for twice, and the second time is told.
"""

import argparse
import asyncio
import multiprocessing
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from bench.pages import CUSTOMER, DATABASE, EXPORTS, Browser
from penstock.app import Service
from penstock.commands.run_server import limits_of
from penstock.providers.secrets import Secrets
from penstock.server.listen import listen
from penstock.settings import Settings

MORE = ("/requests.csv?model=deepseek-3.2",)


def _fetch(origin: str, told: Any) -> None:
    """Each file twice, in a process of its own; says when one begins and when it has come."""
    reader = Browser(origin, CUSTOMER)
    for path in (*EXPORTS, *MORE):
        for _ in range(2):
            told.put(("", 0.0))
            began, size = time.perf_counter(), 0
            with reader.http.stream("GET", path) as answer:
                for chunk in answer.iter_bytes():
                    size += len(chunk)
            told.put((f"{path:<36}{size / 1e6:>8.1f}", time.perf_counter() - began))
    told.put(None)


async def _turns(found: list[tuple[float, float]]) -> None:
    wall, spent = time.perf_counter(), time.thread_time()
    while True:
        await asyncio.sleep(0.001)
        now, used = time.perf_counter(), time.thread_time()
        found.append(((now - wall - 0.001) * 1000, (used - spent) * 1000))
        wall, spent = now, used


def _told(found: list[tuple[float, float]]) -> str:
    parts = [sorted(part) for part in zip(*found, strict=True)]
    return "".join(f"{part[int(len(part) * 0.99)]:>12.1f}{part[-1]:>10.1f}" for part in parts)


async def run(settings: Settings) -> None:
    service = Service(settings, Secrets({}))
    async with service.running():
        listener = await listen(service.application, "127.0.0.1", 0, limits_of(settings))
        await asyncio.sleep(15)  # yesterday is compared with its rows meanwhile
        found: list[tuple[float, float]] = []
        beside = asyncio.create_task(_turns(found))
        print(
            f"{'file':<36}{'MB':>8}{'seconds':>10}{'late: 99 %':>12}{'longest':>10}{'used: 99 %':>12}{'most':>10}  ms"
        )
        await asyncio.sleep(10)
        print(f"{'nothing':<54}{_told(found)}")
        context = multiprocessing.get_context("spawn")
        told = context.Queue()
        other = context.Process(target=_fetch, args=(f"http://127.0.0.1:{listener.port}", told))
        other.start()
        while (heard := await asyncio.to_thread(told.get)) is not None:
            name, took = heard
            if name:
                print(f"{name}{took:>10.1f}{_told(found)}", flush=True)
            found.clear()
        beside.cancel()
        with suppress(asyncio.CancelledError):
            await beside
        await listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--server", default="", help="of PostgreSQL; without it SQLite")
    given = parser.parse_args()
    uvloop.run(
        run(Settings(data=given.keep, database_url=f"{given.server}/{DATABASE}" if given.server else ""))
    )


if __name__ == "__main__":
    main()
