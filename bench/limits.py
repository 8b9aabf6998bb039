"""``python -m bench.limits``: what a request's slot and count cost the worker, in memory and in Redis, one after the other."""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import uvloop

from penstock.store.counters import Counters, MemoryCounters
from penstock.store.redis.counters import RedisCounters
from penstock.store.redis.link import RedisLink
from penstock.store.redis.scripts import SCRIPTS
from penstock.store.sql.database import Database

_DAY = 20_000
_DAILY = 10**9
_USERS = 200


async def _ask(counters: Counters, name: str, times: int) -> None:
    """One caller: takes a slot, counts, gives it back."""
    for number in range(times):
        user = f"usr_{number % _USERS}"
        lease = await counters.lease(user, 1000, f"{name}-{number}", _DAY, _DAILY)
        if lease is None or lease.count() is None:
            sys.exit("a limit was reached that is not there")
        lease.release()
        # a request does something else between two looks at its limits
        await asyncio.sleep(0)


async def _round(counters: Counters, callers: int, requests: int) -> tuple[float, float]:
    """Microseconds a request: of this process's CPU, and of the clock."""
    each = requests // callers
    name = secrets.token_hex(4)
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    await asyncio.gather(*(_ask(counters, f"{name}-{caller}", each) for caller in range(callers)))
    done = each * callers * 1000
    return (time.process_time_ns() - cpu) / done, (time.perf_counter_ns() - wall) / done


async def _measure(url: str, requests: int, reps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        database = await Database.open(f"sqlite:///{place}/penstock.db", directory=place)
        memory = await MemoryCounters.open(database, today=_DAY, clock=time.time)
        link = RedisLink(url, timeout=5.0, scripts=SCRIPTS)
        prefix = f"bench:{secrets.token_hex(4)}:"
        redis = RedisCounters(link, database, time.time, prefix=prefix, node="bench")
        print(
            "| callers | memory, CPU us a request | Redis, CPU us a request | more | Redis, us of the clock |"
        )
        print("|---|---|---|---|---|")
        for callers in (1, 8, 64):
            pairs = [
                (await _round(memory, callers, requests), await _round(redis, callers, requests))
                for _ in range(reps + 1)
            ][1:]  # the first made the days' counts
            ours, theirs = (median(pair[which][0] for pair in pairs) for which in (0, 1))
            clock = median(pair[1][1] for pair in pairs)
            more = median(pair[1][0] - pair[0][0] for pair in pairs)
            print(f"| {callers} | {ours:.1f} | {theirs:.1f} | {more:.1f} | {clock:.1f} |")
        await link.close()
        await database.close()


def main(arguments: Sequence[str]) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", metavar="URL")
    parser.add_argument("--requests", type=int, default=40_000, help="of a run (40,000)")
    parser.add_argument("--reps", type=int, default=5, help="pairs of runs (5)")
    options = parser.parse_args(arguments)
    uvloop.run(_measure(options.redis, options.requests, options.reps))


if __name__ == "__main__":
    main(sys.argv[1:])
