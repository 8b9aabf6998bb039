"""Rotation of the key ring: everything that is kept sealed is in one table, and opens without the old key afterwards."""

import ast
import asyncio
import base64
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, select
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.cli import main
from penstock.core.catalog import Upstream
from penstock.domain.accounts import accounts, credentials
from penstock.domain.captures import kept
from penstock.domain.captures.kept import CaptureContent, CapturedRequest
from penstock.domain.catalog import kept_keys
from penstock.domain.exports import destinations
from penstock.domain.exports.destinations import DestinationWish
from penstock.domain.keys import management
from penstock.domain.mail import outbox
from penstock.domain.notifications import deliveries, webhooks
from penstock.domain.notifications.deliveries import Custom
from penstock.domain.notifications.letters import Told
from penstock.domain.notifications.rules import RuleWish, add_rule
from penstock.domain.sealed_columns import SEALED_COLUMNS
from penstock.domain.staff import idempotency, membership, tokens
from penstock.domain.staff.idempotency import Claimed, KeptAnswer
from penstock.domain.staff.tokens import TokenWish
from penstock.domain.trail.entries import SYSTEM
from penstock.operations.key_ring import KeyRing
from penstock.store.sealed import Resealed, older_seals, reseal
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.schema import captures, metadata, trail
from penstock.store.sql.schema import outbox as outbox_table
from tests.service.running_service import User
from tests.service.scripted import PATIENCE
from tests.service.test_routing import well
from tests.site.page_reader import Hotel, open_hotel
from tests.stores import Engine, engine

__all__ = ["engine"]

CANARY = "canary-sealed-51d2"
LATER = 4_000_000_000_000
"""When the mails and deliveries of these tests are due: the running service leaves them alone."""
URL = "https://hooks.example.com/canary-sealed-51d2"
NOT_SEALED = {
    "digest", "visitor", "subject", "salt", "personal", "hash", "open_key", "members", "id", "request_id", "behind",
}  # fmt: skip
"""Names of columns of bytes that hold digests, ids and packed numbers."""
SEALS = {
    "domain/catalog/kept_keys.py", "domain/exports/destinations.py", "domain/mail/outbox.py",
    "domain/notifications/deliveries.py", "domain/notifications/signed_address.py", "domain/staff/idempotency.py",
    "domain/keys/management.py", "domain/accounts/credentials.py", "domain/captures/kept.py", "store/sealed.py",
}  # fmt: skip
"""Modules that seal what is kept, each behind columns of the table."""
COOKIES = {"site/oauth/pages.py", "site/first_key.py", "domain/staff/view_as.py"}
"""Modules that seal what a browser keeps for minutes."""
ROW = Upstream("mill", "custom", (("chat", "https://mill.example/v1"),))


@pytest.fixture
async def hotel(tmp_path: Path, engine: Engine) -> AsyncGenerator[Hotel]:
    async with open_hotel(tmp_path, revision_poll=0.02, database_url=engine.url) as found:
        yield found


async def fill(
    conn: AsyncConnection, ring: SecretsFile, user: User
) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Something in every sealed column, by who writes it in the product; and for each how who reads it opens it."""
    entropy = secrets.token_bytes
    id = user.id
    secret = await credentials.begin_second_factor(conn, ring, id, entropy=entropy)
    pvk = await kept_keys.keep_key(conn, ring, ROW, CANARY.encode(), "x", now=1, entropy=entropy)
    await webhooks.add_webhook(conn, ring, "pager", URL, "plain", SYSTEM, now=1, entropy=entropy)
    wish = RuleWish("*", webhook="pager")
    await add_rule(conn, wish, SYSTEM, now=1, entropy=entropy)
    lake = DestinationWish("lake", "webhook", URL)
    await destinations.add_destination(conn, ring, lake, SYSTEM, now=1, entropy=entropy)
    (destination,) = await destinations.list_destinations(conn)
    mail = outbox.Mail("test", "a@example.com", CANARY, (CANARY,))
    await outbox.queue(conn, ring, mail, now=LATER, entropy=entropy)
    told = Told("mail.failing", "opened", "warning", "mail", CANARY, LATER, LATER)
    await deliveries.fan_out(conn, ring, told, Custom(UTC, 20, "Penstock"), now=LATER, entropy=entropy)
    await membership.give(conn, await accounts.get_user(conn, id), "owner", SYSTEM, now=1, entropy=entropy)
    owner = await accounts.get_user(conn, id)
    wanted = TokenWish("a program", "owner", ("all",))
    token = await tokens.make_token(
        conn, ring, owner, wanted, SYSTEM, longest_days=365, now=1, entropy=entropy
    )
    claimed = Claimed(token.id, "key|with|bars", b"d" * 32)
    await idempotency.claim(conn, ring, claimed, now=LATER, keep_ms=1)
    await idempotency.keep_answer(conn, ring, claimed, KeptAnswer(200, CANARY.encode()), entropy)
    content = CaptureContent(CANARY.encode(), b"", cut=False)
    made = CapturedRequest("req_sealed", "cap_1", id, "", LATER, 200, content)
    await conn.execute(captures.insert().values(kept.seal_capture(made, ring, entropy)))
    (key,) = await management.list_keys(conn, id)

    async def second_factor(conn: AsyncConnection, ring: SecretsFile) -> bool:
        return credentials.secret_of(ring, id, await credentials.credentials_of(conn, id)) == secret

    async def provider_key(conn: AsyncConnection, ring: SecretsFile) -> bool:
        row = Upstream("mill", "custom", ROW.speaks, secret=f"kept:mill/{pvk.id}")
        return [it.value for it in await kept_keys.open_keys(conn, ring, [row])] == [CANARY.encode()]

    async def webhook(conn: AsyncConnection, ring: SecretsFile) -> bool:
        _, address = await webhooks.opened_webhook(conn, ring, "pager")
        return CANARY.encode() in address.place.path

    async def export(conn: AsyncConnection, ring: SecretsFile) -> bool:
        address = await destinations.address_of_destination(conn, ring, destination.id)
        return CANARY.encode() in address.place.path

    async def mails(conn: AsyncConnection, ring: SecretsFile) -> bool:
        due = await outbox.take(conn, ring, now=LATER, hold_ms=1)
        return due is not None and due.mail.subject == CANARY

    async def letters(conn: AsyncConnection, ring: SecretsFile) -> bool:
        (to,) = await deliveries.due_targets(conn, now=LATER)
        due = await deliveries.take_due(conn, ring, to, now=LATER, hold_ms=1)
        return due is not None and due.letter.told[0].text == CANARY

    async def answers(conn: AsyncConnection, ring: SecretsFile) -> bool:
        again = await idempotency.claim(conn, ring, claimed, now=LATER, keep_ms=1)
        return again == KeptAnswer(200, CANARY.encode())

    async def content_kept(conn: AsyncConnection, ring: SecretsFile) -> bool:
        read = await kept.read_capture(conn, ring, "req_sealed", "why", SYSTEM, now=1, entropy=entropy)
        return read.asked == CANARY

    async def own_key(conn: AsyncConnection, ring: SecretsFile) -> bool:
        return await management.reveal_key(conn, ring, id, key.id) == user.key

    return {
        "credentials.totp_sealed": second_factor,
        "provider_keys.sealed": provider_key,
        "webhooks.sealed": webhook,
        "destinations.sealed": export,
        "outbox.sealed": mails,
        "deliveries.sealed": letters,
        "idempotency.sealed": answers,
        "captures.sealed": content_kept,
        "api_keys.sealed": own_key,
    }


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110 - a round of maintenance that tells nobody
            await asyncio.sleep(0.01)


def take_out_older(path: Path) -> None:
    """Leave the newest key of the ring alone in the file, as an operator would."""
    contents = json.loads(path.read_text())
    contents["seals"] = contents["seals"][:1]
    path.write_text(json.dumps(contents))


async def test_after_a_rotation_under_load_everything_opens_without_the_old_ring(
    hotel: Hotel, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house, store = hotel.house, hotel.house.store
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", engine.url)
    well(house, "chat", "wire")
    user = await house.user()
    async with store.database.transaction() as conn:
        readers = await fill(conn, store.secrets_file, user)
    assert set(readers) == {it.name for it in SEALED_COLUMNS}
    old, path = store.secrets_file.seal_id, store.secrets_file.path
    statuses, over = list[int](), asyncio.Event()

    async def ask_on() -> None:
        while not over.is_set():
            statuses.append((await house.ask("chat", "wire-chat", user)).status)

    async def asked(more: int) -> None:
        wanted = len(statuses) + more
        await until(lambda: len(statuses) >= wanted)

    asking = [asyncio.create_task(ask_on()) for _ in range(8)]
    async with asyncio.timeout(60):
        await asked(8)
        command = ["secrets", "rotate", "--json", "--data", str(store.settings.data)]
        capsys.readouterr()
        assert await asyncio.to_thread(main, command) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["resealed"] >= 9, told["shut"], told["unused"]) == (True, 0, [old])
        assert house.service is not None
        assert house.service.notifier is not None
        ring_there = house.service.notifier._secrets_file
        await until(lambda: ring_there.seal_id != old)  # the running service seals with the new one, too
        await asked(16)
    take_out_older(path)
    ring = SecretsFile(path)
    assert ring.seal_ids == (told["seal"],)
    async with store.database.transaction() as conn:
        assert await older_seals(conn, SEALED_COLUMNS, ring) == {}
        for name, opens in readers.items():
            assert await opens(conn, ring), name
        actions = list(await conn.scalars(select(trail.c.action)))
    assert "secrets_rotated" in actions
    await asked(16)
    over.set()
    await asyncio.gather(*asking)
    assert set(statuses) == {200}


def test_every_column_of_bytes_is_in_the_table_or_known_to_hold_no_seal() -> None:
    table = {it.name for it in SEALED_COLUMNS}
    assert len(table) == len(SEALED_COLUMNS)
    for made in metadata.sorted_tables:
        for column in made.columns:
            name = f"{made.name}.{column.name}"
            impl = getattr(column.type, "impl", column.type)
            if isinstance(impl, LargeBinary):
                assert (name in table) != (column.name in NOT_SEALED), name
            assert not ("sealed" in column.name and name not in table), name


def test_nothing_seals_that_is_not_behind_the_table() -> None:
    root = Path(__file__).parents[2] / "src" / "penstock"
    found = set[str]()
    for file in root.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        for call in calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr == "seal" and len(call.args) == 3:
                found.add(file.relative_to(root).as_posix())
    assert found == SEALS | COOKIES


async def test_no_value_of_the_database_begins_as_a_seal_outside_the_table(hotel: Hotel) -> None:
    """In a column of text, too, whichever way it is written there."""
    store = hotel.house.store
    user = await hotel.house.user()
    async with store.database.transaction() as conn:
        await fill(conn, store.secrets_file, user)
    head = SecretsFile.seal_head(store.secrets_file.seal_id)
    forms = (head, base64.b64encode(head), head.hex().encode())
    table, seen = {it.name for it in SEALED_COLUMNS}, set[str]()
    async with store.database.connect() as conn:
        for made in metadata.sorted_tables:
            for row in await conn.execute(select(made)):
                for name, value in row._mapping.items():
                    raw = value.encode() if isinstance(value, str) else value
                    if isinstance(raw, bytes) and any(form in raw for form in forms):
                        seen.add(f"{made.name}.{name}")
    assert seen == table


async def test_what_does_not_open_is_left_as_it_is_and_counted(hotel: Hotel, tmp_path: Path) -> None:
    database = hotel.house.store.database
    entropy = secrets.token_bytes
    ring = SecretsFile.make(tmp_path / "ring.json", entropy)
    other = SecretsFile.make(tmp_path / "other.json", entropy)
    async with database.transaction() as conn:
        await conn.execute(outbox_table.delete())
        for number in range(1203):
            sealer = other if number % 400 == 7 else ring
            mail = outbox.Mail("test", "a@example.com", f"mail {number}", ())
            await outbox.queue(conn, sealer, mail, now=LATER + number, entropy=entropy)
    only = [it for it in SEALED_COLUMNS if it.name == "outbox.sealed"]
    assert await reseal(database, only, ring, entropy) == Resealed(0, 3)
    ring.rotate(entropy)
    assert await reseal(database, only, ring, entropy) == Resealed(1200, 3)
    assert await reseal(database, only, ring, entropy) == Resealed(0, 3)
    async with database.transaction() as conn:
        assert await older_seals(conn, only, ring) == {other.seal_id: 3}


async def test_what_does_not_open_is_told_once_and_sealed_anew_when_its_key_is_put_back(
    hotel: Hotel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an older secrets file was put back, and then the right one."""
    database = hotel.house.store.database
    entropy = secrets.token_bytes
    ring = SecretsFile.make(tmp_path / "ring.json", entropy)
    other = SecretsFile.make(tmp_path / "other.json", entropy)
    async with database.transaction() as conn:
        await conn.execute(outbox_table.delete())
        for sealer in (ring, other):
            mail = outbox.Mail("test", "a@example.com", CANARY, ())
            await outbox.queue(conn, sealer, mail, now=LATER, entropy=entropy)
    ours = KeyRing(database, ring)
    for _ in range(3):
        ours.follow()
        await ours.reseal()
    told = [record for record in caplog.records if "do not open" in record.message]
    assert [record.__dict__["rows"] for record in told] == [1]
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("ring.json", "other.json"))
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(one | {"seals": one["seals"] + two["seals"]}))
    whole.chmod(0o600)
    whole.replace(tmp_path / "ring.json")
    ours.follow()
    await ours.reseal()
    async with database.transaction() as conn:
        only = [it for it in SEALED_COLUMNS if it.name == "outbox.sealed"]
        assert await older_seals(conn, only, ring) == {}
        for _ in range(2):
            assert await outbox.take(conn, ring, now=LATER, hold_ms=1) is not None
        assert await outbox.take(conn, ring, now=LATER, hold_ms=1) is None
