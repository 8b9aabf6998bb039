"""``python -m bench.pages``: how long the pages of an account take with a million rows in SQLite.

A database is filled with ``--rows`` requests of ``--people`` accounts over 90 days, one of which has one in ``--mine`` of
them; the sums are made from the rows, as after a crash. Then each page is fetched from a running server ``--times`` times,
signed in as that account. What is printed is the time of the fastest and of the median fetch, in milliseconds.
"""

import argparse
import asyncio
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from msgspec.structs import asdict
from sqlalchemy import insert

from penstock.core.limits import day_of
from penstock.core.neutral.usage import Usage
from penstock.domain.accounts import accounts
from penstock.domain.accounts.credentials import set_password
from penstock.domain.accounts.passwords import PasswordHasher
from penstock.domain.accounts.sessions import form_token
from penstock.domain.ledger import rollups
from penstock.domain.ledger.kinds import Kind, KindRow, KnownKind, Settlement
from penstock.operations.first_start import open_store
from penstock.settings import Settings
from penstock.store.sql.schema import kinds, requests, usage_days

EMAIL = "heavy@example.com"
PASSWORD = "a long enough sentence"
PAGES = (
    "/dashboard",
    "/dashboard?days=90",
    "/requests",
    "/requests?model=deepseek-3.2",
    "/requests?outcome=failed",
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
    "/requests/req_000000000000000000000005",
    "/keys",
    "/status",
)
RARE = 50_000
"""One in so many requests is of a kind that is found nowhere else."""
MODELS = ("claude-haiku-4.5", "claude-sonnet-4.6", "deepseek-3.2", "minimax-m2.1")
DAYS = 90
BATCH = 5000


async def fill(data: Path, rows: int, people: int, mine: int) -> None:
    """The database, with its sums."""
    draw = random.Random(1)
    today = day_of(time.time())
    async with open_store(Settings(data=data)) as store:
        async with store.database.transaction() as conn:
            user = await accounts.create_user(
                conn, EMAIL, plan="pro", admin=False, verified=True, now=1, id="usr_0"
            )
            await set_password(
                conn, user.id, await PasswordHasher(at_once=1, waiting=1).hash(PASSWORD), now=1
            )
        async with store.database.transaction() as conn:
            await conn.execute(
                insert(kinds), [asdict(kind) for kind in (SELDOM, *(one for pair in KINDS for one in pair))]
            )
        for start in range(0, rows, BATCH):
            made = [_row(draw, start + at, today, people, mine) for at in range(min(BATCH, rows - start))]
            async with store.database.transaction() as conn:
                await conn.execute(insert(requests), made)
        async with store.database.transaction() as conn:
            await conn.execute(
                insert(usage_days), [{"user_id": "usr_0", "day": today, "used": 100, "refunded": 0}]
            )
            for sums in rollups.sums_of_rows(0, None):
                await conn.execute(insert(sums.table).from_select([*sums.key, *sums.columns], sums.made))


def _kinds() -> list[tuple[KindRow, KindRow]]:
    """For each model that of an answer, and that of a failure."""
    found: list[tuple[KindRow, KindRow]] = []
    for model in MODELS:
        known = KnownKind(Kind("chat", model, "m", True, "openai", "p", "m", "chat"))
        failed = Settlement(
            id="", status=502, outcome="upstream_error", counted=False, refund_reason="no_output",
            error_code="provider_timeout", usage=Usage(), estimated=False, provider="p", upstream_model="m",
            upstream_dialect="chat", attempts=1, first_byte_ms=None, total_ms=None, translation=None,
        )  # fmt: skip
        found.append((known.plain, known.ended(failed)))
    return found


def _row(draw: random.Random, number: int, today: int, people: int, mine: int) -> dict[str, object]:
    day = today - draw.randrange(DAYS)
    failed = draw.random() < 0.02
    return {
        "id": f"req_{number:024x}",
        "user_id": "usr_0" if number % mine == 0 else f"usr_{draw.randrange(1, people)}",
        "key_id": f"key_{number % 3}",
        "day": day,
        "created_at": day * 86_400_000 + draw.randrange(86_400_000),
        "kind": SELDOM.id if number % RARE == 0 else draw.choice(KINDS)[failed].id,
        "requested_model": "m",
        "input_tokens": draw.randrange(10_000),
        "output_tokens": draw.randrange(1000),
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": None,
        "first_byte_ms": min(60_000, round(draw.lognormvariate(5, 1.2))),
        "total_ms": min(600_000, round(draw.lognormvariate(7.5, 1))),
        "translation": None,
    }


KINDS = _kinds()
SELDOM = KnownKind(Kind("messages", "rare-model", "m", False, "seldom", "p", "m", "messages")).plain


def measure(data: Path, times: int) -> None:
    """Each page, from a server of its own."""
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--data", str(data)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        origin = next(
            found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        with httpx2.Client(base_url=origin, trust_env=False, timeout=120) as reader:
            reader.get("/signin")
            fields = {
                "form_token": form_token(reader.cookies["penstock"]),
                "email": EMAIL,
                "password": PASSWORD,
            }
            assert reader.post("/signin", data=fields).status_code == 303
            print(f"{'page':<32}{'fastest':>10}{'median':>10}  ms")
            for page in PAGES:
                taken = []
                for _ in range(times):
                    began = time.perf_counter()
                    assert reader.get(page).status_code == 200
                    taken.append((time.perf_counter() - began) * 1000)
                print(f"{page:<32}{min(taken):>10.1f}{statistics.median(taken):>10.1f}")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--mine", type=int, default=5, help="one in so many is of the account that looks")
    parser.add_argument("--keep", type=Path, help="a folder for the data, which stays")
    parser.add_argument("--times", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data: Path = given.keep or Path(folder)
        if not (data / "penstock.db").exists():
            began = time.perf_counter()
            asyncio.run(fill(data, given.rows, given.people, given.mine))
            print(
                f"{given.rows:,} rows of {given.people:,} accounts made in {time.perf_counter() - began:.0f} s"
            )
        measure(data, given.times)


if __name__ == "__main__":
    main()
