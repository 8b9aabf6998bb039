"""Settled requests reach every destination at least once, in the order of their settling, whatever is away or killed."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, update

from penstock.domain.exports import destinations, settled
from penstock.domain.exports.destinations import Destination, NewDestination
from penstock.domain.exports.places import DestinationWish
from penstock.domain.ledger import rows as ledger_rows
from penstock.domain.trail.entries import SYSTEM
from penstock.errors import CallerError
from penstock.operations.exporter import Exporter
from penstock.operations.first_start import Store
from penstock.store.sql.schema import destinations as destination_rows
from penstock.store.sql.schema import settled_batches
from tests.service.conversations import PATHS, body_of
from tests.service.processes import serving
from tests.service.receivers import Receiver, receiving, trusting
from tests.service.running_service import House, furnished, make_user, open_house
from tests.service.scripted import PATIENCE
from tests.stores import Engine, engine, postgresql

__all__ = ["engine", "postgresql"]


async def add(store: Store, name: str, kind: str, url: str = "") -> NewDestination:
    async with store.database.transaction() as conn:
        return await destinations.add_destination(
            conn,
            store.secrets_file,
            DestinationWish(name, kind, url),
            SYSTEM,
            now=1,
            entropy=secrets.token_bytes,
        )


class Yard:
    """A house whose settled requests go out."""

    def __init__(self, house: House, receiver: Receiver) -> None:
        self.house = house
        self.receiver = receiver

    @property
    def exporter(self) -> Exporter:
        assert self.house.service is not None
        assert self.house.service.exporter is not None
        return self.house.service.exporter

    async def named(self, name: str) -> Destination:
        async with self.house.store.database.connect() as conn:
            return await destinations.destination_named(conn, name)

    async def batches(self) -> int:
        async with self.house.store.database.connect() as conn:
            return await conn.scalar(select(func.count()).select_from(settled_batches)) or 0

    def receipts(self) -> list[dict[str, Any]]:
        return [each for message in self.receiver.got for each in message.json["data"]]


@pytest.fixture
async def yard(engine: Engine, tmp_path: Path) -> AsyncGenerator[Yard]:
    async with receiving() as receiver:
        more = trusting(tmp_path)
        async with open_house(tmp_path / "data", database_url=engine.url, **more) as house:
            yield Yard(house, receiver)


async def test_a_settled_request_arrives_signed_without_its_content(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    await house.ask("chat", "chat-plain", user)
    await house.rows(user)
    assert await yard.batches() == 0, "nothing is written down where there is no destination"
    made = await add(house.store, "billing", "webhook", yard.receiver.url)
    await add(house.store, "lake", "file")
    turns = [{"role": "user", "content": "canary-prompt-3c1"}]
    for model in ("chat-plain", "messages-error-500", "chat-error-400", "messages-cut"):
        await house.ask("chat", model, user, messages=turns)
    rows = (await house.rows(user))[1:]
    assert await yard.exporter.round() == 8
    (message,) = yard.receiver.got
    assert message.is_signed(made.secret)
    assert message.json["type"] == "receipts"
    assert {each["id"]: each["outcome"] for each in yard.receipts()} == {
        it["id"]: it["outcome"] for it in rows
    }
    first = next(each for each in yard.receipts() if each["id"] == rows[0]["id"])
    assert first["version"] == 1
    assert (first["account"], first["model"]) == (user.id, "chat-plain")
    assert first["input_tokens"] == rows[0]["input_tokens"]
    assert first["cost"] is None, "unknown is not zero"
    (file,) = (house.settings.data / "exports" / "lake").glob("*.jsonl")
    assert [json.loads(line) for line in file.read_text().splitlines()] == yard.receipts()
    assert file.stat().st_mode & 0o077 == 0
    assert b"canary-prompt" not in message.body + file.read_bytes()
    assert await yard.exporter.round() == 0
    assert await yard.batches() == 0, "what all have got is forgotten"
    assert (await yard.named("billing")).delivered == 4


async def test_a_destination_whose_address_does_not_open_holds_up_no_other(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    await add(house.store, "broken", "webhook", yard.receiver.url)
    await add(house.store, "good", "webhook", yard.receiver.url)
    async with house.store.database.transaction() as conn:
        of_broken = destination_rows.c.name == "broken"
        await conn.execute(update(destination_rows).where(of_broken).values(sealed=b"\x01" + b"00000000" * 8))
    await house.ask("chat", "chat-plain", user)
    await house.rows(user)
    assert await yard.exporter.round() == 1
    broken, good = await yard.named("broken"), await yard.named("good")
    assert (good.delivered, good.error) == (1, None)
    assert broken.delivered == 0
    assert broken.error is not None
    assert broken.error.startswith("its address cannot be opened: ")


async def test_case_39_a_destination_that_is_away_loses_nothing_and_its_lag_rises_and_falls(
    yard: Yard,
) -> None:
    house = yard.house
    user = await house.user()
    await add(house.store, "billing", "webhook", yard.receiver.url)
    await add(house.store, "lake", "file")
    yard.receiver.answer = 503
    for hour in range(4):
        for _ in range(5):
            await house.ask("chat", "chat-plain", user)
        await house.rows(user)
        await yard.exporter.round()
        page = (await house.page("/metrics")).body.decode()
        told = {
            name: float(line.rpartition(" ")[2])
            for line in page.splitlines()
            for name in ("billing", "lake")
            if line.startswith(f'penstock_export_lag_seconds{{destination="{name}"}}')
        }
        assert told["lake"] == 0
        assert (told["billing"] > 3000 * hour) == (hour > 0)
        house.clock.now += 3600
    away = await yard.named("billing")
    assert away.error == "answered 503"
    assert away.failed_at is not None
    yard.receiver.got.clear()
    yard.receiver.answer = 200
    assert await yard.exporter.round() == 20
    ids = [row["id"] for row in await house.rows(user)]
    assert sorted(each["id"] for each in yard.receipts()) == sorted(ids)
    assert (await yard.named("billing")).failed_at is None
    page = (await house.page("/metrics")).body.decode()
    assert 'penstock_export_lag_seconds{destination="billing"} 0.0' in page


async def test_a_bucket_gets_objects_whose_names_stay_and_whose_links_are_signed(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    secret = "canary/secret+of-a-bucket"
    url = f"https://localhost:{yard.receiver.port}/my-bucket/receipts%20of/"
    wish = DestinationWish("lake", "s3", url, "eu-central-1", "AKIAEXAMPLE", secret)
    async with house.store.database.transaction() as conn:
        for wrong in (
            {"region": ""},
            {"key_id": "a/b"},
            {"secret": ""},
            {"secret": "\u2022\u2022"},
            {"url": f"{url}?x"},
        ):
            with pytest.raises(CallerError) as refused:
                await destinations.add_destination(
                    conn,
                    house.store.secrets_file,
                    replace(wish, **wrong),
                    SYSTEM,
                    now=1,
                    entropy=secrets.token_bytes,
                )
            assert "canary" not in refused.value.message
        await destinations.add_destination(
            conn, house.store.secrets_file, wish, SYSTEM, now=1, entropy=secrets.token_bytes
        )
    for _ in range(3):
        await house.ask("chat", "chat-plain", user)
    rows = await house.rows(user)
    assert await yard.exporter.round() == 0, "an object is worth waiting for company"
    house.clock.now += house.settings.export_collect + 60
    yard.receiver.answer = 403
    assert await yard.exporter.round() == 0
    assert (await yard.named("lake")).error == "answered 403"
    house.clock.now += 86_400
    yard.receiver.answer = 200
    assert await yard.exporter.round() == 3
    first, again = yard.receiver.got
    assert first.first.partition("?")[0] == again.first.partition("?")[0], "it takes its own place"
    assert re.fullmatch(
        r"PUT /my-bucket/receipts%20of/2027/01/15/dst_\w+-000000000001-0000000000\d\d\.jsonl\?\S+ HTTP/1\.1",
        first.first,
    )
    assert again.is_put_by("AKIAEXAMPLE", secret)
    assert not again.is_put_by("AKIAEXAMPLE", f"{secret}x")
    assert "canary" not in again.first
    assert sorted(json.loads(line)["id"] for line in again.body.splitlines()) == [row["id"] for row in rows]
    dump = b"".join(file.read_bytes() for file in house.settings.data.glob("penstock.db*"))
    assert secret.encode() not in dump


async def test_batches_have_five_hundred_receipts_at_most(yard: Yard) -> None:
    await add(yard.house.store, "billing", "webhook", yard.receiver.url)
    async with yard.house.store.database.transaction() as conn:
        for number in range(7):
            keys = [(1, bytes([number]) * 12)] * 200
            made = settled_batches.insert().values(
                id=secrets.token_bytes(16), at=number, members=ledger_rows._pack_keys(keys)
            )
            await conn.execute(made)
        assert await settled.number_new(conn) == 7
        cursor, sizes = 0, []
        while (part := await settled.read_after(conn, cursor)) is not None:
            sizes.append(len(part.keys))
            cursor = part.cursor
    assert sizes == [400, 400, 400, 200]


async def test_a_number_never_appears_below_one_that_was_read(postgresql: Engine, tmp_path: Path) -> None:
    """A server that began first and commits last is behind what was read before. SQLite has one writer at a time."""
    database = await postgresql.open(tmp_path)
    late, early = secrets.token_bytes(16), secrets.token_bytes(16)
    keys = ledger_rows._pack_keys([(1, bytes(12))])
    try:
        slow = await asyncpg.connect(postgresql.url)
        async with slow.transaction():
            await slow.execute(
                "INSERT INTO settled_batches (id, at, members) VALUES ($1, $2, $3)", late, 1, keys
            )
            async with database.transaction() as conn:
                await conn.execute(settled_batches.insert().values(id=early, at=2, members=keys))
            async with database.transaction() as conn:
                assert await settled.number_new(conn) == 1
                read = await settled.read_after(conn, 0)
            assert read is not None
        await slow.close()
        async with database.transaction() as conn:
            assert await settled.number_new(conn) == 1
            more = await settled.read_after(conn, read.cursor)
        assert more is not None
        assert more.cursor > read.cursor
    finally:
        await database.close()


async def test_two_servers_send_for_a_destination_one_at_a_time(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    await add(house.store, "billing", "webhook", yard.receiver.url)
    other = Exporter(
        house.store.database,
        house.store.secrets_file,
        house.settings,
        yard.exporter._metrics,
        yard.exporter._carriers._catalog,
        now=house.clock,
    )
    for _ in range(10):
        await house.ask("chat", "chat-plain", user)
    await house.rows(user)
    counts = await asyncio.gather(yard.exporter.round(), other.round())
    assert sum(counts) == 10
    assert len(yard.receipts()) == 10


async def test_a_killed_server_loses_nothing_and_what_it_left_open_comes_later(
    engine: Engine, tmp_path: Path
) -> None:
    """Killed with a request that runs, and with a destination that has just been given a batch and has not answered."""
    data = tmp_path / "data"
    trust = {"webhook_ca": str(trusting(tmp_path)["webhook_ca"]), "webhook_addresses": "127.0.0.1"}
    shared = {
        **trust,
        "database_url": engine.url,
        "export_poll": "0.05",
        "export_seconds": "1",
        "journal_hold": "0.01",
    }
    async with receiving() as receiver, furnished(data, lambda _visit: None, engine.url) as (store, _):
        user = await make_user(store, "lab", 1)
        made = await add(store, "billing", "webhook", receiver.url)
        await add(store, "lake", "file")
        receiver.answer = None
        async with serving(data, **shared) as server:
            for _ in range(5):
                body = body_of("chat", "chat-plain")
                assert (await server.http("POST", PATHS["chat"], user.key, body)).status == 200
            hanging = asyncio.create_task(
                server.http("POST", PATHS["chat"], user.key, body_of("chat", "chat-hang"))
            )
            await receiver.messages(1)
            await server.kill()
            await asyncio.gather(hanging, return_exceptions=True)
        receiver.answer = 200
        async with serving(data, **shared) as server:
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with store.database.connect() as conn:
                        found = {it.name: it.delivered for it in await destinations.list_destinations(conn)}
                        behind = await settled.oldest_after(conn, 0)
                    if found == {"billing": 6, "lake": 6} and behind is None:
                        break
                    await asyncio.sleep(0.05)
            await server.stop()
        told = [each for message in receiver.got for each in message.json["data"]]
        assert all(message.is_signed(made.secret) for message in receiver.got)
    outcomes = {each["id"]: each["outcome"] for each in told}
    assert sorted(outcomes.values()) == ["aborted", *["completed"] * 5]
    (file,) = (data / "exports" / "lake").glob("*.jsonl")
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert {each["id"] for each in written} == set(outcomes)
