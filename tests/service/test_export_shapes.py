"""Receipts reach collectors as spans, finance teams as FOCUS, and a destination all that was settled before it was there."""

import asyncio
import csv
import io
import json
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from penstock.domain.exports import backfills, destinations
from penstock.domain.exports.backfills import Backfill
from penstock.domain.exports.focus import FOCUS_HEAD, focus_rows
from penstock.domain.exports.places import DestinationWish
from penstock.domain.exports.receipt import ExportedReceipt
from penstock.domain.exports.settled import BATCH
from penstock.domain.trail.entries import SYSTEM
from penstock.errors import InvalidRequest
from penstock.operations import export_spans, exporter
from penstock.operations.export_spans import span_of_receipt
from penstock.operations.tracing.records import span_id_of, trace_id_of
from penstock.store.sql.schema import requests
from tests.service.collector import Collector, collecting
from tests.service.conversations import REPLIES
from tests.service.receivers import receiving, trusting
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE
from tests.service.test_exports import Yard
from tests.service.test_routing import refusing, well
from tests.stores import Engine, engine

__all__ = ["engine"]

HEADERS = "Authorization=Basic%20Y2FuYXJ5,x-extra = canary-extra "
RECEIPT = ExportedReceipt(
    version=1,
    id="req_1",
    account="usr_1",
    actor=None,
    key="key_1",
    created_at=1_799_999_999_500,
    first_byte_ms=250,
    total_ms=1_250,
    dialect="chat",
    model="wire-chat",
    requested_model="wire-chat",
    answered_model=None,
    stream=True,
    client="curl",
    provider="wire",
    credential="spare",
    upstream_model="up-chat",
    upstream_dialect="chat",
    upstream_request_id=None,
    reason="only",
    attempts=1,
    status=200,
    outcome="completed",
    counted=True,
    refund_reason=None,
    error_code=None,
    estimated=False,
    input_tokens=3,
    output_tokens=5,
    cache_read_tokens=7,
    cache_write_tokens=None,
    reasoning_tokens=2,
    service_tier=None,
    cost=None,
    charge=None,
    special={"web_searches": 2, "audio_input_tokens": 1},
)


@pytest.fixture
async def yard(engine: Engine, tmp_path: Path) -> AsyncGenerator[Yard]:
    async with receiving() as receiver:
        more = trusting(tmp_path)
        async with open_house(tmp_path / "data", database_url=engine.url, **more) as house:
            yield Yard(house, receiver)


async def add(house: House, wish: DestinationWish) -> None:
    async with house.store.database.transaction() as conn:
        await destinations.add_destination(
            conn, house.store.secrets_file, wish, SYSTEM, now=1, entropy=secrets.token_bytes
        )


async def begin(house: House, name: str, begins: str, until: str = "") -> Backfill:
    house.clock.now += 1
    async with house.store.database.transaction() as conn:
        return await backfills.start_backfill(
            conn,
            await destinations.destination_named(conn, name),
            begins,
            until,
            SYSTEM,
            now=int(house.clock.now * 1000),
            entropy=secrets.token_bytes,
        )


async def of_past(house: House, name: str) -> list[Backfill]:
    async with house.store.database.connect() as conn:
        found = await destinations.destination_named(conn, name)
        return await backfills.list_backfills(conn, found.id)


async def asked(house: House, user: User, count: int) -> list[str]:
    for _ in range(count):
        await house.ask("chat", "chat-plain", user)
    return [row["id"] for row in (await house.rows(user))[-count:]]


# ---- spans


async def test_a_collector_of_ones_own_gets_a_span_for_each_receipt(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    async with collecting() as collector:
        await add(house, DestinationWish("spans", "otlp", collector.url, secret=HEADERS))
        well(house, "messages", "wire")
        await house.ask(
            "messages", "wire-messages", user, messages=[{"role": "user", "content": "canary-3f"}]
        )
        house.wires["wire-chat"].script = refusing(503, "no")
        await house.ask("chat", "wire-chat", user)
        good, bad = await house.rows(user)
        collector.status = 500
        assert await yard.exporter.round() == 0
        assert (await yard.named("spans")).error == "answered 500"
        house.clock.now += 60
        collector.status = 200
        assert await yard.exporter.round() == 2
        first, second = sorted(collector.spans, key=lambda it: it.failed)
    assert b"authorization: basic y2fuyxj5" in collector.heads[-1]
    assert b"x-extra: canary-extra" in collector.heads[-1]
    assert b"canary-3f" not in collector.raw
    said = first.said
    assert (first.name, first.server, first.failed, first.parent) == ("chat up-messages", False, False, "")
    assert first.trace == f"{trace_id_of(good['id']):032x}"
    assert first.id == f"{span_id_of(good['id'], -1):016x}"
    assert first.began == good["created_at"] * 1_000_000
    assert first.ended - first.began == good["total_ms"] * 1_000_000
    assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "anthropic")
    assert said["gen_ai.request.model"] == said["gen_ai.response.model"] == "up-messages"
    assert said["gen_ai.usage.output_tokens"] == good["output_tokens"]
    assert said["gen_ai.usage.input_tokens"] == sum(
        good[name] or 0 for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    assert (said["penstock.request_id"], said["penstock.account_id"]) == (good["id"], user.id)
    assert first.resource["service.name"] == "Penstock"
    assert second.failed
    assert second.said["penstock.request_id"] == bad["id"]
    assert (second.said["error.type"], second.said["http.response.status_code"]) == (bad["error_code"], 502)
    dump = b"".join(file.read_bytes() for file in house.settings.data.glob("penstock.db*"))
    assert b"canary-extra" not in dump
    assert b"Y2FuYXJ5" not in dump


async def test_a_collector_of_the_world_is_asked_by_tls_alone(yard: Yard, tmp_path: Path) -> None:
    house = yard.house
    user = await house.user()
    url = f"https://localhost:{yard.receiver.port}/api/public/otel/v1/traces"
    await add(house, DestinationWish("world", "otlp", url))
    await asked(house, user, 1)
    assert await yard.exporter.round() == 1
    (message,) = yard.receiver.got
    assert message.first == "POST /api/public/otel/v1/traces HTTP/1.1"
    assert message.headers["content-type"] == "application/x-protobuf"
    collector = Collector()
    collector._take(message.body)
    assert len(collector.spans) == 1
    async with collecting() as plain, open_house(tmp_path / "other") as other:
        user = await other.user()
        await add(other, DestinationWish("plain", "otlp", plain.url))
        await asked(other, user, 1)
        assert other.service is not None
        assert other.service.exporter is not None
        assert await other.service.exporter.round() == 0
        async with other.store.database.connect() as conn:
            found = await destinations.destination_named(conn, "plain")
        assert found.error is not None
        assert "without TLS" in found.error
        assert not plain.heads, "nothing is sent in the clear to where nobody has said it may"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "https://otlp.example.com"},
        {"url": "ftp://otlp.example.com/v1/traces"},
        {"url": f"https://otlp.example.com/{'x' * 2000}"},
        {"url": "https://canary-user@otlp.example.com/v1/traces"},
        {"secret": "canary-no-value"},
        {"secret": "content-length=5"},
        {"secret": "Authorization=a%0d%0acanary: b"},
        {"secret": ",".join(f"x-{number}=1" for number in range(9))},
        {"shape": "focus"},
        {"shape": "none"},
    ],
)
async def test_what_is_no_collector_is_refused_without_its_secret(yard: Yard, wrong: dict[str, str]) -> None:
    wish = DestinationWish("spans", "otlp", "https://otlp.example.com/v1/traces")
    with pytest.raises(InvalidRequest) as refused:
        await add(yard.house, replace(wish, **wrong))
    assert "canary" not in refused.value.message


def test_a_span_has_its_cost_where_that_is_known_and_older_names_on_wish() -> None:
    said = span_of_receipt(replace(RECEIPT, cost=1_500_000_000), "xai", older_names=True).attributes
    assert (said["gen_ai.usage.cost"], said["penstock.cost"]) == (1.5, 1.5)
    assert said["gen_ai.system"] == said["gen_ai.provider.name"] == "x_ai"
    assert said["gen_ai.usage.input_tokens"] == 10
    assert said["gen_ai.response.time_to_first_chunk"] == 0.25
    unknown = replace(RECEIPT, dialect="embeddings", input_tokens=None, cache_read_tokens=None)
    span = span_of_receipt(unknown, "x", older_names=False)
    assert span.name == "embeddings up-chat"
    assert not {"gen_ai.usage.cost", "gen_ai.usage.input_tokens", "gen_ai.system"} & set(span.attributes)


async def test_without_the_extra_it_says_what_is_missing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "penstock.operations.tracing.otlp", None)
    await add(yard.house, DestinationWish("spans", "otlp", "https://otlp.example.com/v1/traces"))
    await asked(yard.house, await yard.house.user(), 1)
    assert await yard.exporter.round() == 0
    assert "penstock[otel]" in str((await yard.named("spans")).error)
    assert export_spans.__doc__


# ---- FOCUS


async def test_focus_is_a_file_with_one_head_and_a_row_for_each_class_of_tokens(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    await add(house, DestinationWish("finance", "file", shape="focus"))
    url = f"https://localhost:{yard.receiver.port}/bucket"
    await add(
        house, DestinationWish("lake", "s3", url, "eu-central-1", "AKIAEXAMPLE", "s3cret/of+it", "focus")
    )
    for _ in range(2):
        await asked(house, user, 1)
        house.clock.now += house.settings.export_collect + 1
        assert await yard.exporter.round() == 2
    rows = await house.rows(user)
    (file,) = (house.settings.data / "exports" / "finance").glob("*.csv")
    found = list(csv.DictReader(io.StringIO(file.read_text())))
    assert file.read_bytes().count(b"BilledCost") == 1
    assert all(len(each) == len(FOCUS_HEAD.split(b",")) for each in found)
    used = {(each["x_PenstockRequestId"], each["SkuMeter"]): int(each["ConsumedQuantity"]) for each in found}
    for row in rows:
        assert used[row["id"], "Input Tokens"] == row["input_tokens"]
        assert used[row["id"], "Output Tokens"] == row["output_tokens"]
    assert {each["ListCost"] + each["BilledCost"] + each["BillingCurrency"] for each in found} == {""}
    for message in yard.receiver.got:
        assert message.first.partition("?")[0].endswith(".csv")
        assert message.headers["content-type"].startswith("text/csv")
        assert message.body.startswith(FOCUS_HEAD)


def test_a_row_of_focus_says_what_is_known_and_nothing_else() -> None:
    rows = list(csv.DictReader(io.StringIO((FOCUS_HEAD + focus_rows([RECEIPT])).decode())))
    assert [(each["SkuMeter"], each["ConsumedQuantity"], each["ConsumedUnit"]) for each in rows] == [
        ("Input Tokens", "3", "Tokens"),
        ("Output Tokens", "5", "Tokens"),
        ("Cache Read Tokens", "7", "Tokens"),
        ("Web Searches", "2", "Runs"),
    ]
    first = rows[0]
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == (
        "2027-01-15T07:59:59Z",
        "2027-01-15T08:00:01Z",
    )
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == (
        "2027-01-01T00:00:00Z",
        "2027-02-01T00:00:00Z",
    )
    assert (first["BillingAccountId"], first["SubAccountId"], first["SkuId"]) == (
        "wire/spare",
        "usr_1",
        "wire/up-chat/Input Tokens",
    )
    december = replace(
        RECEIPT, created_at=1_798_700_000_000, total_ms=None, credential=None, upstream_model="=1+1"
    )
    (last, *_) = csv.DictReader(io.StringIO((FOCUS_HEAD + focus_rows([december])).decode()))
    assert (last["BillingPeriodStart"], last["BillingPeriodEnd"]) == (
        "2026-12-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    )
    assert last["BillingAccountId"] == "wire"
    assert not any(cell.startswith("=") for cell in last.values())
    assert (
        focus_rows([replace(RECEIPT, input_tokens=0, output_tokens=None, cache_read_tokens=None, special={})])
        == b""
    )


# ---- backfills


async def test_what_was_settled_before_is_sent_and_the_cursor_stays(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    before = await asked(house, user, 3)
    house.clock.now += 3 * 86_400
    later = await asked(house, user, 2)
    house.clock.now += 86_400
    await add(house, DestinationWish("lake", "file"))
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    assert await yard.exporter.round() == 0
    live = await asked(house, user, 2)
    await begin(house, "lake", "2027-01-15")
    await begin(house, "billing", "2027-01-16T00:00:00+00:00", "2027-01-19")
    with pytest.raises(InvalidRequest):
        await begin(house, "lake", "2027-01-15")
    cursor = (await yard.named("lake")).cursor
    while await yard.exporter.round():
        pass
    (file,) = (house.settings.data / "exports" / "lake").glob("*.jsonl")
    written = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert sorted(written) == sorted([*live, *before, *later, *live]), (
        "what is settled now comes beside it, and twice"
    )
    assert sorted(written[:2]) == sorted(live), "and is not kept waiting"
    assert (await yard.named("lake")).cursor > cursor
    assert sorted(it["id"] for it in yard.receipts()) == sorted([*live, *later])
    (done,) = await of_past(house, "lake")
    assert (done.delivered, done.stopped) == (7, False)
    assert done.done_at is not None
    assert (await yard.named("lake")).delivered == 9
    after = await asked(house, user, 1)
    assert await yard.exporter.round() == 2
    assert file.read_text().splitlines()[-1].find(after[0]) > 0


async def test_a_backfill_goes_on_where_it_was_and_its_parcels_have_the_same_names(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "BATCH", 2)
    monkeypatch.setattr(exporter, "_BACKFILLED", 2)
    assert BATCH == 500
    house = yard.house
    user = await house.user()
    ids = sorted(await asked(house, user, 5))
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    await begin(house, "billing", "1995-01-01")
    assert await yard.exporter.round() == 4
    yard.receiver.answer = 503
    assert await yard.exporter.round() == 0
    assert (await yard.named("billing")).error == "answered 503"
    yard.receiver.answer = 204
    assert await yard.exporter.round() == 0, "it is left alone for a while"
    house.clock.now += 60
    assert await yard.exporter.round() == 1
    first, second, third, again = yard.receiver.got
    assert [it["id"] for message in (first, second, again) for it in message.json["data"]] == ids
    assert third.id == again.id
    assert len({message.id for message in yard.receiver.got}) == 3
    (done,) = await of_past(house, "billing")
    assert done.delivered == 5
    assert await yard.exporter.round() == 0


async def test_parts_of_the_past_have_names_in_a_bucket_by_their_day(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    first = await asked(house, user, 2)
    house.clock.now += 2 * 86_400
    await asked(house, user, 1)
    url = f"https://localhost:{yard.receiver.port}/bucket"
    await add(house, DestinationWish("lake", "s3", url, "eu-central-1", "AKIAEXAMPLE", "s3cret/of+it"))
    made = await begin(house, "lake", "2026-01-01")
    assert await yard.exporter.round() == 3
    paths = [message.first.split(" ")[1].partition("?")[0] for message in yard.receiver.got]
    place = (await yard.named("lake")).id
    assert paths[0] == f"/bucket/2027/01/15/{place}-{made.id}-{min(first)}.jsonl"
    assert paths[1].startswith(f"/bucket/2027/01/17/{place}-{made.id}-req_")
    (done,) = await of_past(house, "lake")
    assert done.done_at is not None


async def test_one_that_is_stopped_or_whose_destination_goes_sends_no_more(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfills, "BATCH", 1)
    monkeypatch.setattr(exporter, "_BACKFILLED", 1)
    house = yard.house
    user = await house.user()
    await asked(house, user, 3)
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    await begin(house, "billing", "2027-01-15")
    assert await yard.exporter.round() == 1

    async def stop() -> Backfill:
        async with house.store.database.transaction() as conn:
            found = await destinations.destination_named(conn, "billing")
            return await backfills.stop_backfill(conn, found, SYSTEM, now=2, entropy=secrets.token_bytes)

    assert (await stop()).stopped
    with pytest.raises(InvalidRequest):
        await stop()
    assert await yard.exporter.round() == 0
    await begin(house, "billing", "2027-01-15")
    async with house.store.database.transaction() as conn:
        found = await destinations.destination_named(conn, "billing")
        await destinations.remove_destination(conn, found, SYSTEM, now=3, entropy=secrets.token_bytes)
    assert await yard.exporter.round() == 0
    assert len(yard.receiver.got) == 1
    async with house.store.database.transaction() as conn:
        assert await backfills.list_backfills(conn) == []


async def test_an_instant_cuts_a_day_and_what_is_open_comes_by_the_cursor(yard: Yard) -> None:
    """It is 08:00 UTC in the house."""
    house = yard.house
    user = await house.user()
    first = await asked(house, user, 1)
    house.clock.now += 3600
    second = await asked(house, user, 1)
    caller = await house.begin("chat", "wire-chat", user)
    running = await house.wires["wire-chat"].next()
    async with house.store.database.connect() as conn, asyncio.timeout(PATIENCE):
        while await conn.scalar(select(func.count()).where(requests.c.boot.is_not(None))) != 1:
            await conn.rollback()
            await asyncio.sleep(0.002)
    house.clock.now += 3600
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    await begin(house, "billing", "2027-01-15T09:00:00Z", "2027-01-15T10:00:00Z")
    await sent_all(yard)
    assert [it["id"] for it in yard.receipts()] == second
    (done,) = await of_past(house, "billing")
    assert (done.delivered, done.stopped) == (1, False)
    running.answer(REPLIES["chat"])
    await caller.answer(checked=False)
    third = (await house.rows(user))[-1]["id"]
    await sent_all(yard)
    assert [it["id"] for it in yard.receipts()] == [*second, third]
    await begin(house, "billing", "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z")
    await sent_all(yard)
    assert [it["id"] for it in yard.receipts()] == [*second, third, *first]


async def sent_all(yard: Yard) -> None:
    """All that there is has been sent."""
    while await yard.exporter.round():
        pass


async def test_what_arrives_after_the_stop_is_not_counted(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    await asked(house, user, 2)
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    running = await begin(house, "billing", "2027-01-15")
    async with house.store.database.transaction() as conn:
        portion = await backfills.read_portion(conn, running)
        found = await destinations.destination_named(conn, "billing")
        await backfills.stop_backfill(conn, found, SYSTEM, now=2, entropy=secrets.token_bytes)
        assert not await backfills.advance_backfill(conn, running, portion, 2, now=3)
    (stopped,) = await of_past(house, "billing")
    assert (stopped.delivered, stopped.done_at, stopped.stopped) == (0, 2, True)


async def test_one_that_is_over_is_told_of_for_its_days(yard: Yard) -> None:
    house = yard.house
    await add(house, DestinationWish("lake", "file"))
    await begin(house, "lake", "2027-01-15")
    await yard.exporter.round()
    (done,) = await of_past(house, "lake")
    assert done.done_at is not None
    last = done.done_at + 30 * 86_400_000
    for now, left in ((last, [done]), (last + 1, [])):
        async with house.store.database.transaction() as conn:
            await backfills.tidy_backfills(conn, now=now)
        assert await of_past(house, "lake") == left


async def test_two_servers_send_each_part_of_the_past_once(yard: Yard) -> None:
    house = yard.house
    user = await house.user()
    ids = await asked(house, user, 6)
    await add(house, DestinationWish("billing", "webhook", yard.receiver.url))
    await begin(house, "billing", "2027-01-15")
    other = exporter.Exporter(
        house.store.database,
        house.store.secrets_file,
        house.settings,
        yard.exporter._metrics,
        yard.exporter._carriers._catalog,
        now=house.clock,
    )
    counts = await asyncio.gather(yard.exporter.round(), other.round())
    assert sum(counts) == 6
    assert sorted(it["id"] for it in yard.receipts()) == sorted(ids)


@pytest.mark.parametrize(
    ("begins", "until"),
    [
        ("yesterday", ""),
        ("2027-01-15", "soon"),
        ("2027-01-15", "2027-01-14"),
        ("2030-01-01", ""),
        ("1960-01-01", ""),
        ("", ""),
    ],
)
async def test_a_time_that_is_none_is_refused(yard: Yard, begins: str, until: str) -> None:
    await add(yard.house, DestinationWish("lake", "file"))
    with pytest.raises(InvalidRequest):
        await begin(yard.house, "lake", begins, until)


def test_the_record_of_a_receipt_is_as_it_was() -> None:
    fields: list[Any] = [field.name for field in msgspec.structs.fields(ExportedReceipt)]
    assert len(fields) == len(set(fields)) == 36
