"""What a request costs in the ledger, in this process: its two records in the journal, and its row on SQLite.

Processor time of the thread that does it, on a database of its own in a new directory. Run it twice: other work on the
machine makes it slower, never quicker. ``--without usage_times`` leaves the statements of a table of sums out, in turn with
all of them, so that the difference is what that table costs; it says the least of ``--turns``.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger.kinds import Kind, KnownKind, PlainEnd
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import Batch, Row, booking
from penstock.store.request_key import key_of
from penstock.store.sql.database import Database

BATCH = 64
DAY = 20_787
END = PlainEnd(Usage(input=1200, output=345, cache_read=800), first_byte_ms=420, total_ms=900)
KINDS = [
    Kind(
        "chat",
        f"model-{number}",
        f"model-{number}",
        True,
        "openai-sdk",
        "provider",
        f"model-{number}",
        "chat",
    )
    for number in range(8)
]


async def journal(directory: Path, requests: int) -> None:
    """Records alone: nothing is written to the database meanwhile, since the loop has no turn."""
    database = await Database.open(f"sqlite:///{directory}/journal.db")
    ledger = await Ledger.start(database, boot="bench", journal_bytes=64 << 20)
    known = [ledger.kind(kind) for kind in KINDS]
    ids = [f"req_{0x5EED:016x}{number:08x}" for number in range(requests)]
    opening = ending = 0.0
    for start in range(0, requests, BATCH):
        began = time.thread_time()
        some = [
            ledger.open(id, known[number % 8], "usr_1", "key_1", DAY, DAY * 86_400_000 + number)
            for number, id in enumerate(ids[start : start + BATCH])
        ]
        opened = time.thread_time()
        for row in some:
            ledger.settle_plainly(row, END)
        ending += time.thread_time() - opened
        opening += opened - began
    used = ledger._journal.current.used  # noqa: SLF001 - a figure that only the bench wants
    print(
        f"journal: {opening / requests * 1e6:.2f} us to open, {ending / requests * 1e6:.2f} us to settle,"
        f" {used / requests:.0f} bytes a request"
    )
    await ledger.close()
    await database.close()


async def rows(directory: Path, requests: int, users: int, without: str = "") -> dict[str, float]:
    """Batches of ``BATCH``, whole, and opened and ended apart: microseconds a row. ``without``: a table that is not written."""
    directory = Path(tempfile.mkdtemp(dir=directory))
    database = await Database.open(f"sqlite:///{directory}/rows-{users}.db")
    connection = database.batch_connection()
    draw, known = random.Random(1), [KnownKind(kind) for kind in KINDS]
    stored: set[int] = set()
    number = 0

    def made() -> Iterator[Row]:
        nonlocal number
        for _ in range(BATCH):
            number += 1
            user = draw.randrange(users)
            at = DAY * 86_400_000 + number
            id = f"req_{0x5EED:016x}{number:08x}"
            yield Row(id, known[number % 8], f"usr_{user:026d}", f"key_{user:026d}", DAY, at, key_of(id))

    def write(batch: Batch) -> None:
        sums = (it for it in rolling(batch.ended()) if not without or f"INTO {without} " not in it[0])
        connection.write(chain(booking(batch, "bench", stored), sums))
        stored.update(batch.kinds())

    spent: dict[str, float] = {"whole": 0.0, "opened": 0.0, "ended": 0.0}

    def timed(name: str, batch: Batch, work: Callable[[Batch], None]) -> None:
        began = time.thread_time()
        work(batch)
        spent[name] += time.thread_time() - began

    for _ in range(requests // BATCH):
        timed("whole", Batch([], [(row, END) for row in made()], []), write)
    for _ in range(requests // BATCH):
        some = list(made())
        timed("opened", Batch(some, [], []), write)
        timed("ended", Batch([], [], [(row, END) for row in some]), write)
    count = requests // BATCH * BATCH
    connection.close()
    await database.close()
    return {name: seconds / count * 1e6 for name, seconds in spent.items()}


async def compared(directory: Path, options: argparse.Namespace, users: int) -> None:
    """The least of some turns, with all tables and, where one is to be left out, without it."""
    ways = ("", options.without) if options.without else ("",)
    least: dict[str, dict[str, float]] = {}
    for _ in range(options.turns):
        for without in ways:
            took = await rows(directory, options.requests, users, without)
            known = least.setdefault(without, took)
            least[without] = {name: min(known[name], us) for name, us in took.items()}
    for without, took in least.items():
        told = ", ".join(f"{name} {us:.1f} us" for name, us in took.items())
        print(
            f"rows of {users} users, {BATCH} a transaction{f', without {without}' if without else ''}: {told}"
        )
    if options.without:
        more = {name: us / least[options.without][name] - 1 for name, us in least[""].items()}
        print(f"  {options.without}: " + ", ".join(f"{name} {share:+.1%}" for name, share in more.items()))


async def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        await journal(Path(directory), options.requests)
        for users in (1, 1000):
            await compared(Path(directory), options, users)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--without", default="", help="a table of sums to leave out, to see what it costs")
    parser.add_argument("--turns", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
