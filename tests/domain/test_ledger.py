"""The ledger: one row per request, written before the upstream is asked, settled once, and lost or doubled never."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace
from sqlalchemy import select

from penstock.core.neutral.usage import Special, Usage
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.kinds import Settlement
from penstock.domain.ledger.ledger import Ledger
from penstock.errors import CannotRecord
from penstock.store.sql.database import Database
from tests.domain.ledger_rows import agree, end, open_ledger, row, states, url, used, written
from tests.stores import Engine


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


async def test_a_row_is_there_and_counted_while_its_request_runs(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    assert await states(database) == {"r1": ("open", None, True)}
    assert await used(database) == (1, 0)
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    await written(ledger)
    assert await states(database) == {"r1": ("settled", "upstream_error", False)}
    assert await used(database) == (0, 1)
    await agree(database)
    await ledger.close()


async def test_the_end_is_written_once_and_the_first_one_stays(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    ledger.settle(end("r1"))
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error"))
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "completed", True)}
    assert await used(database) == (1, 0)


async def test_an_end_that_comes_long_after_the_first_changes_nothing(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.opened(row("r1"))
    await written(ledger)
    for refund in (None, "no_output"):
        ledger.settle(end("r1", refund=refund))
        await written(ledger)
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "completed", True)}
    assert await used(database) == (1, 0)
    await agree(database)


async def test_a_refund_lowers_the_count_with_its_row(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    for id in ("r1", "r2"):
        await ledger.opened(row(id))
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    ledger.settle(end("r1", refund="no_output", outcome="upstream_error", status=502))
    await ledger.close()
    assert await used(database) == (1, 1)
    assert (await states(database))["r1"] == ("settled", "upstream_error", False)
    await agree(database)


async def test_an_end_that_follows_at_once_finds_its_row(database: Database) -> None:
    """The relay settles a request whose caller left while the row was being written."""
    ledger = await open_ledger(database, "b1")
    waiting = asyncio.ensure_future(ledger.opened(row("r1")))
    await asyncio.sleep(0)
    waiting.cancel()
    ledger.settle(end("r1", refund="not_sent", outcome="client_gone", status=None))
    await ledger.close()
    assert await states(database) == {"r1": ("settled", "client_gone", False)}
    assert await used(database) == (0, 1)


PLAIN = Settlement(
    id="r1",
    status=200,
    outcome="completed",
    counted=True,
    refund_reason=None,
    error_code=None,
    usage=Usage(input=1, output=2, cache_read=3, cache_write=4, reasoning=5),
    estimated=False,
    provider="p",
    upstream_model="m-1",
    upstream_dialect="messages",
    attempts=1,
    first_byte_ms=6,
    total_ms=7,
    translation=None,
)


SPECIAL = Special("priority", 1, 2, 3, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    "settlement",
    [
        PLAIN,
        replace(PLAIN, usage=Usage(), first_byte_ms=None, status=None),
        replace(PLAIN, attempts=2, provider="q", upstream_model="m-2", upstream_dialect="chat"),
        replace(
            PLAIN, attempts=0, counted=False, refund_reason="not_sent", outcome="client_gone", status=None
        ),
        replace(PLAIN, estimated=True),
        replace(PLAIN, usage=replace(PLAIN.usage, special=SPECIAL)),
        replace(PLAIN, usage=Usage(special=SPECIAL), attempts=2),
        replace(PLAIN, translation="top_k=dropped"),
        replace(PLAIN, answered_model="vendor/other"),
        replace(PLAIN, error_code="provider_cut", outcome="upstream_error"),
        replace(PLAIN, refund_reason="no_output", counted=False, status=502),
    ],
    ids=[
        "plain",
        "unknown",
        "fallback",
        "not_sent",
        "estimated",
        "special",
        "special after another",
        "translated",
        "other model",
        "error",
        "refunded",
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
async def test_everything_about_an_end_is_in_its_row(
    database: Database, settlement: Settlement, apart: bool
) -> None:
    ledger = await open_ledger(database, "b1")
    opened = replace(row("r1"), provider="p", upstream_model="m-1", upstream_dialect="messages")
    await ledger.opened(opened)
    if apart:
        await written(ledger)
    ledger.settle(settlement)
    await ledger.close()
    async with database.connect() as conn:
        found = dict((await conn.execute(select(entries))).mappings().one())
    told, usage = asdict(settlement), settlement.usage
    del told["usage"], told["day"]
    to_come = ("account_id", "actor_id", "upstream_request_id", "cost", "charge")
    special = asdict(usage.special or Special())
    assert found.pop("kind") is not None
    assert found == asdict(opened) | told | dict.fromkeys(to_come) | {
        **{name: value or None for name, value in special.items()},
        "boot": None,
        "state": "settled",
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "reasoning_tokens": usage.reasoning,
    }
    await agree(database)


@pytest.mark.parametrize("estimated", [False, True], ids=["plain", "whole"])
async def test_whatever_an_upstream_reports_can_be_stored(database: Database, estimated: bool) -> None:
    """Numbers beyond 64 bits, half a surrogate pair, a NUL, a name of a megabyte: the row is settled all the same."""
    ledger = await open_ledger(database, "b1")
    await ledger.opened(replace(row("r1"), requested_model="\ud800\0" + "m" * 10**6, client="\udfff" * 100))
    special = Special("\ud800\0" + "t" * 100, audio_input_tokens=2**70, code_runs=-3)
    usage = Usage(input=2**70, output=-1, cache_read=2**63 - 1, special=special)
    ledger.settle(replace(PLAIN, usage=usage, estimated=estimated, outcome="o" * 1000))
    await ledger.close()
    async with database.connect() as conn:
        found = (await conn.execute(select(entries))).one()
    assert (found.input_tokens, found.output_tokens, found.cache_read_tokens) == (2**63 - 1, 0, 2**63 - 1)
    assert found.requested_model == "??" + "m" * 126
    assert found.client == "?" * 64
    assert (found.service_tier, found.audio_input_tokens, found.code_runs) == (
        "??" + "t" * 30,
        2**63 - 1,
        None,
    )
    assert found.state == "settled"
    assert ledger.trouble is None


async def test_many_at_once_share_their_commits_and_all_are_there(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    ids = [f"r{number}" for number in range(500)]
    await asyncio.gather(*(ledger.opened(row(id, user=f"usr_{len(id)}")) for id in ids))
    for id in ids:
        ledger.settle(end(id, refund="no_output" if id.endswith("7") else None))
    await ledger.close()
    found = await states(database)
    assert set(found) == set(ids)
    assert {state for state, _, _ in found.values()} == {"settled"}
    await agree(database)


async def test_rows_of_a_dead_process_are_closed_and_stay_counted(database: Database) -> None:
    first = await open_ledger(database, "b1")
    await first.opened(row("r1"))
    await first.close()
    second = await open_ledger(database, "b2")
    assert second.recovered == 1
    await second.opened(row("r2"))
    await second.close()
    found = await states(database)
    assert found["r1"] == ("settled", "aborted", True)
    assert found["r2"][0] == "open"
    assert await used(database) == (2, 0)


async def test_after_the_end_nothing_is_taken(database: Database) -> None:
    ledger = await open_ledger(database, "b1")
    await ledger.close()
    with pytest.raises(CannotRecord):
        await ledger.opened(row("r1"))


ROOT = Path(__file__).parents[2]
WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from penstock.domain.ledger.ledger import Ledger
from penstock.domain.ledger.kinds import Settlement
from penstock.store.sql.database import Database
from tests.domain.ledger_rows import end, row, url

async def main(directory, boot):
    database = await Database.open(url(Path(directory)))
    ledger = await Ledger.start(database, boot=boot)
    print("ready", flush=True)
    async def one(number):
        for turn in itertools.count():
            id = f"{boot}-{number}-{turn}"
            await ledger.opened(row(id))
            print("sent", id, flush=True)
            await asyncio.sleep(0)
            ledger.settle(end(id, refund="no_output" if turn % 3 == 0 else None))
    await asyncio.gather(*(one(number) for number in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_process_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Whatever was sent has its one row, whenever the process is killed."""
    sent: set[str] = set()
    for boot in range(8):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path),
            f"boot{boot}",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src")))},
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        for _ in range(40 + 60 * boot):
            sent.add((await process.stdout.readline()).split()[1].decode())
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        await process.wait()
        whole, _, _torn = rest.decode().rpartition("\n")
        sent.update(line.split()[1] for line in whole.splitlines())
    database = await Database.open(url(tmp_path))
    ledger = await Ledger.start(database, boot="last")
    await ledger.close()
    found = await states(database)
    assert sent <= set(found)
    assert {state for state, _, _ in found.values()} == {"settled"}
    # A row may have been written whose process died before it could say so; each of 8 tasks had one at most.
    assert len(found) - len(sent) <= 8 * 8
    await agree(database)
    await database.close()
