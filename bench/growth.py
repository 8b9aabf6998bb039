"""``python -m bench.growth``: what a million users, and rows of many months, cost PostgreSQL.

Three parts, in a database of their own on the server at ``--server`` (needs the right to make one; removed in the end):

- ``users``: ``--people`` accounts with a key each and a counter of today. Sizes, and the time to look a key up by its
  digest and to count one request more, at random.
- ``shipping``: batches of whole requests, ``--batch`` rows each, of ``--people`` users, written by one, two and four
  connections at once with the statements of the ledger. Rows a second, the server's CPU a row, bytes a row.
- ``months``: ``--months`` months of ``--rows`` rows each. The cost of a batch that opens and one that ends requests beside
  that in a single month, the pages' questions, the sums of a day, and dropping a month.
- ``migrating``: the newest schema from before the partitions, with ``--rows`` rows, migrated.
"""

import argparse
import asyncio
import random
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import chain
from pathlib import Path

import asyncpg
import msgspec
from sqlalchemy import func, select

from penstock.core.neutral.usage import Usage
from penstock.domain.ledger import history, request_log
from penstock.domain.ledger.kinds import Kind, KnownKind, PlainEnd
from penstock.domain.ledger.reconciliation import compare
from penstock.domain.ledger.retention import keep
from penstock.domain.ledger.rollups import rolling
from penstock.domain.ledger.rows import Batch, Row, booking
from penstock.store.request_key import key_of
from penstock.store.sql.database import Database
from penstock.store.sql.migrate import migrate_database
from penstock.store.sql.partitions import make_for
from penstock.store.sql.schema import requests

SCHEMAS = Path(__file__).parent.parent / "tests" / "store" / "schemas"
NAME = "penstock_bench_growth"
DAY = 20_758
"""2026-11-01."""
DAY_MS = 86_400_000


KIND = KnownKind(
    Kind(
        dialect="messages", model="claude-sonnet-4.6", requested_model="claude-sonnet-4-6", stream=True, client="claude-code",
        provider="anthropic", upstream_model="claude-sonnet-4-6", upstream_dialect="messages",
    )
)  # fmt: skip
END = PlainEnd(Usage(input=1200, output=345, cache_read=800), first_byte_ms=420, total_ms=9000)


def opened(number: int, user: int, day: int) -> Row:
    at = day * DAY_MS + number % DAY_MS
    id = f"req_{number:024x}"
    return Row(id, KIND, f"usr_{user:026d}", f"key_{user:026d}", day, at, key_of(id))


class Server:
    """The PostgreSQL server, and what its processes for our database have used of the processor."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.url = f"{address}/{NAME}"

    async def remake(self, *, away: bool = False) -> None:
        connection = await asyncpg.connect(f"{self.address}/postgres")
        await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        if not away:
            await connection.execute(f"CREATE DATABASE {NAME}")
        await connection.close()

    async def value(self, query: str) -> int:
        connection = await asyncpg.connect(self.url)
        found = await connection.fetchval(query)
        await connection.close()
        return int(found or 0)


def _seconds(pid: int) -> float:
    try:
        nanoseconds = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
    except OSError:
        return 0.0
    return int(nanoseconds) / 1e9


async def timed(times: int, work: Callable[[], Awaitable[object]]) -> str:
    """Median and the 99th of a hundred, in milliseconds."""
    taken: list[float] = []
    for _ in range(times):
        at = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - at) * 1000)
    taken.sort()
    return f"median {statistics.median(taken):.2f} ms, p99 {taken[int(len(taken) * 0.99)]:.2f} ms"


async def users(server: Server, people: int) -> None:
    connection = await asyncpg.connect(server.url)
    at = time.perf_counter()
    await connection.execute(
        "INSERT INTO users (id, email, email_canonical, plan_id, created_at, verified_at) SELECT"
        " 'usr_' || lpad(n::text, 26, '0'), 'person' || n || '@example.com', 'person' || n || '@example.com', 'pro',"
        f" 1, 1 FROM generate_series(1, {people}) n"
    )
    await connection.execute(
        "INSERT INTO api_keys (id, user_id, name, prefix, last4, digest, pepper_id, sealed, created_at) SELECT"
        " 'key_' || lpad(n::text, 26, '0'), 'usr_' || lpad(n::text, 26, '0'), 'first', 'sk-ps-abcdef', 'wxyz',"
        " sha256(n::text::bytea), 'p1', sha256(n::text::bytea) || sha256(n::text::bytea) || sha256(n::text::bytea), 1"
        f" FROM generate_series(1, {people}) n"
    )
    await connection.execute(
        f"INSERT INTO usage_days SELECT 'usr_' || lpad(n::text, 26, '0'), {DAY}, 40, 1 FROM generate_series(1, {people}) n"
    )
    await connection.execute("ANALYZE")
    print(f"users: {people} accounts, keys and counters of a day, filled in {time.perf_counter() - at:.0f} s")
    for table in ("users", "api_keys", "usage_days"):
        heap, whole = [
            await connection.fetchval(f"SELECT {what}('{table}')")
            for what in ("pg_relation_size", "pg_total_relation_size")
        ]
        print(
            f"  {table}: {whole / 1e6:.0f} MB ({whole / people:.0f} bytes each, {(whole - heap) / people:.0f} of them indexes)"
        )
    draw = random.Random(1)

    async def look_up() -> None:
        await connection.fetch(
            "SELECT k.*, u.plan_id FROM api_keys k JOIN users u ON u.id = k.user_id WHERE digest = sha256($1::text::bytea)",
            str(draw.randint(1, people)),
        )

    async def count() -> None:
        await connection.execute(
            "UPDATE usage_days SET used = used + 1 WHERE user_id = $1 AND day = $2",
            f"usr_{draw.randint(1, people):026d}",
            DAY,
        )

    print(f"  a key by its digest: {await timed(5000, look_up)}")
    print(f"  one request more on a counter: {await timed(2000, count)}")
    await connection.close()


def _batch(first: int, size: int, people: int, day: int) -> Batch:
    draw = random.Random(first)
    rows = [opened(first + number, draw.randint(1, people), day) for number in range(size)]
    return Batch([], [(row, END) for row in rows], [])


async def shipping(server: Server, database: Database, people: int, size: int, seconds: float) -> None:
    first = 1
    for shippers in (1, 2, 4):
        until = time.perf_counter() + seconds
        written = [0] * shippers

        used = [0.0] * shippers

        def ship(
            number: int,
            start: int,
            until: float = until,
            written: list[int] = written,
            used: list[float] = used,
        ) -> None:
            batches = database.batch_connection(f"s{start}")
            while time.perf_counter() < until:
                batch = _batch(start + written[number], size, people, DAY)
                batches.write(list(chain(booking(batch, "b"), rolling(batch.ended()))))
                written[number] += size
            used[number] = _backend_seconds(batches)
            batches.close()

        threads = [
            threading.Thread(target=ship, args=(number, first + number * 10_000_000))
            for number in range(shippers)
        ]
        at = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        took, total = time.perf_counter() - at, sum(written)
        first += shippers * 10_000_000
        print(
            f"shipping: {shippers} connections, {size} rows a transaction: {total / took:.0f} rows/s,"
            f" {sum(used) / total * 1e6:.0f} us of the server's CPU a row"
        )
    await _sizes(server)


def _backend_seconds(batches: object) -> float:
    connection = getattr(batches, "_connection", None)
    return 0.0 if connection is None else _seconds(connection.get_server_pid())


async def _sizes(server: Server) -> None:
    count = await server.value("SELECT count(*) FROM requests")
    whole = await server.value(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'requests'::regclass"
    )
    heap = await server.value(
        "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'requests'::regclass"
    )
    print(f"  {count} rows: {whole / count:.0f} bytes each, {(whole - heap) / count:.0f} of them indexes")


async def _fill(server: Server, first: int, months: int, rows: int, people: int) -> None:
    """Months before ``DAY``, by the server itself: a row of each fast."""
    connection = await asyncpg.connect(server.url)
    names = ", ".join(KIND.plain.__struct_fields__)
    places = ", ".join(f"${number}" for number in range(1, len(KIND.plain.__struct_fields__) + 1))
    await connection.execute(
        f"INSERT INTO kinds ({names}) VALUES ({places}) ON CONFLICT (id) DO NOTHING",
        *msgspec.structs.astuple(KIND.plain),
    )
    for month in range(months):
        day = first - 30 * month
        await connection.execute(
            "INSERT INTO requests (day, id, user_id, key_id, created_at, kind, requested_model, input_tokens, output_tokens,"
            " cache_read_tokens, first_byte_ms, total_ms) SELECT"
            f" {day} - n % 28, decode('{month:04x}' || lpad(to_hex(n), 20, '0'), 'hex'), {_person('usr', people)},"
            f" {_person('key', people)}, ({day} - n % 28)::bigint * {DAY_MS} + n, {KIND.plain.id}, '{KIND.requested_model}',"
            f" 1200, 345, 800, 420, 9000 FROM generate_series(1, {rows}) n"
        )
    await connection.execute("ANALYZE requests")
    await connection.close()


def _person(word: str, people: int) -> str:
    return f"'{word}_' || lpad((1 + n % {people})::text, 26, '0')"


async def _fill_first(server: Server, day: int, rows: int, people: int) -> None:
    """The log as the first schema has it."""
    connection = await asyncpg.connect(server.url)
    kind = KIND.kind
    await connection.execute(
        "INSERT INTO requests (id, user_id, key_id, day, created_at, boot, state, dialect, model, requested_model, stream,"
        " client, provider, upstream_model, upstream_dialect, attempts, status, outcome, counted, input_tokens,"
        " output_tokens, cache_read_tokens, estimated, first_byte_ms, total_ms) SELECT"
        f" 'req_' || lpad(to_hex(n), 24, '0'), {_person('usr', people)}, {_person('key', people)}, {day} - n % 28,"
        f" ({day} - n % 28)::bigint * {DAY_MS} + n, 'b', 'settled', 'messages', '{kind.model}', '{kind.requested_model}', TRUE,"
        f" 'claude-code', 'anthropic', '{kind.upstream_model}', 'messages', 1, 200, 'completed', TRUE, 1200, 345, 800, FALSE,"
        f" 420, 9000 FROM generate_series(1, {rows}) n"
    )
    await connection.close()


async def months(server: Server, database: Database, people: int, options: argparse.Namespace) -> None:
    for count in (1, options.months):
        days = [DAY + 29 - 30 * month - back for month in range(count) for back in (0, 27)]
        async with database.transaction() as conn:
            await conn.run_sync(make_for, sorted(days))
        at = time.perf_counter()
        await _fill(server, DAY + 29, count, options.rows, people)
        print(f"months: {count} of {options.rows} rows, filled in {time.perf_counter() - at:.0f} s")
        await _ask(database, people, count, options.rows)
        if count > 1:
            await _sizes(server)
            at = time.perf_counter()
            gone = await keep(database, DAY + 29, 30 * (count - 2))
            print(f"  dropping {gone} days: {(time.perf_counter() - at) * 1000:.0f} ms")
        else:
            connection = await asyncpg.connect(server.url)
            await connection.execute(
                "TRUNCATE requests, usage_days, usage_hours, usage_kinds, usage_times, usage_errors, model_days"
            )
            await connection.close()


async def _ask(database: Database, people: int, count: int, each: int) -> None:
    batches = database.batch_connection(f"asking {count}")
    draw = random.Random(2)
    number = 500_000_000 * count

    def write(batch: Batch) -> None:
        batches.write(list(chain(booking(batch, "b"), rolling(batch.ended()))))

    spent: dict[str, float] = {}
    for _ in range(200):
        rows = [opened(number + n, draw.randint(1, people), DAY + 29) for n in range(64)]
        number += 64
        for name, batch in (
            ("opens", Batch(rows, [], [])),
            ("ends", Batch([], [], [(row, END) for row in rows])),
        ):
            before = _backend_seconds(batches)
            await asyncio.to_thread(write, batch)
            spent[name] = spent.get(name, 0.0) + _backend_seconds(batches) - before
    batches.close()
    for name, seconds in spent.items():
        print(
            f"  a batch that {name} 64 requests: {seconds / 200 / 64 * 1e6:.0f} us of the server's CPU a row"
        )
    async with database.connect() as conn:

        async def page() -> None:
            await request_log.page(conn, f"usr_{draw.randint(1, people):026d}", request_log.Filter())

        async def receipt() -> None:
            month, n = draw.randrange(count), draw.randint(1, each)
            await history.receipt(conn, f"usr_{1 + n % people:026d}", f"req_{month:04x}{n:020x}")

        async def of_day() -> None:
            await conn.scalar(select(func.count()).where(requests.c.day == DAY + 20))

        print(f"  the newest page of a user: {await timed(200, page)}")
        print(f"  a receipt by its id: {await timed(200, receipt)}")
        print(f"  counting the rows of a day: {await timed(5, of_day)}")
        at = time.perf_counter()
        await compare(conn, DAY + 20)
        print(f"  comparing a day with its sums: {(time.perf_counter() - at) * 1000:.0f} ms")


async def migrating(server: Server, rows: int) -> None:
    await server.remake()
    connection = await asyncpg.connect(server.url)
    await connection.execute((SCHEMAS / "0001-4.sql").read_text().replace(" BLOB", " BYTEA"))
    await connection.close()
    await _fill_first(server, DAY + 29, rows, 1000)
    at = time.perf_counter()
    await asyncio.to_thread(migrate_database, server.url)
    print(f"migrating: {rows} rows in {time.perf_counter() - at:.1f} s")


async def run(options: argparse.Namespace) -> None:
    server = Server(options.server)
    for part in options.only.split(","):
        await server.remake()
        database = await Database.open(server.url, directory=Path("/tmp"))  # nothing is written there
        async with database.transaction() as conn:
            await conn.run_sync(lambda connection: make_for(connection, [DAY]))
        if part == "users":
            await users(server, options.people)
        elif part == "shipping":
            await shipping(server, database, options.people, options.batch, options.seconds)
        elif part == "months":
            await months(server, database, options.people, options)
        await database.close()
        if part == "migrating":
            await migrating(server, options.rows)
    await server.remake(away=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="postgresql://postgres@127.0.0.1:5432")
    parser.add_argument("--only", default="users,shipping,months,migrating")
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--months", type=int, default=13)
    parser.add_argument("--rows", type=int, default=200_000)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
