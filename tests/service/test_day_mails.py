"""Mail about the day: one for each share that is reached, from whichever server sees it first, and none that is not wanted."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from penstock.domain.accounts import accounts
from penstock.domain.accounts.day_mails import due, want, wanted
from penstock.domain.catalog.catalog_store import apply_document, load_document
from penstock.domain.mail import messages
from penstock.operations.day_notices import DayNotices
from penstock.providers.table import KINDS
from penstock.store.sql.schema import day_mails, outbox
from tests.service.running_service import House, User, open_house
from tests.stores import Engine


@pytest.fixture(params=["sqlite", "postgresql"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[House]:
    more: dict[str, str] = {}
    if request.param == "postgresql":
        engine: Engine = request.getfixturevalue("postgresql")
        more["database_url"] = engine.url
    async with open_house(tmp_path / "data", **more) as house:
        yield house


class Postman:
    """Rounds of a house's notices, and what they have queued."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.woken = 0
        self.queued = 0

    async def round(self, user: User, *, servers: int = 1) -> list[int]:
        """The shares that so many servers tell at once, each looking for itself."""
        house = self.house
        await house.rows(user)  # what was recorded is in the database
        each = [
            DayNotices(
                house.store.database,
                house.store.secrets_file,
                brand="Lab",
                url="http://lab.test",
                now=house.clock,
                entropy=secrets.token_bytes,
                queued=self._wake,
            )
            for _ in range(servers)
        ]
        counts = await asyncio.gather(*(one.round() for one in each))
        self.queued += sum(counts)
        async with house.store.database.connect() as conn:
            kept = outbox.c.kind == "day_used", outbox.c.recipient == user.email
            assert await conn.scalar(select(func.count()).select_from(outbox).where(*kept)) == self.queued
            share = await conn.scalar(select(day_mails.c.share).where(day_mails.c.user_id == user.id))
        return [share or 0] * sum(counts)

    def _wake(self) -> None:
        self.woken += 1


async def test_each_share_is_told_once_a_day_however_many_servers_look(stored: House) -> None:
    user, postman = await stored.user("few"), Postman(stored)
    for _ in range(3):
        await stored.ask("chat", "chat-plain", user)
    assert await postman.round(user, servers=3) == []
    await stored.ask("chat", "chat-plain", user)
    assert await postman.round(user, servers=4) == [80]
    assert postman.woken == 1
    assert await postman.round(user, servers=4) == []
    await stored.ask("chat", "chat-plain", user)
    assert await postman.round(user, servers=4) == [100]
    assert await postman.round(user) == []
    stored.clock.now += 86_400
    assert await postman.round(user) == []
    for _ in range(5):
        await stored.ask("chat", "chat-plain", user)
    # Three shares were reached since the last look: one mail says it.
    assert await postman.round(user, servers=2) == [100]


async def test_who_does_not_want_them_gets_none_and_who_wants_them_again_gets_what_is_left(
    stored: House,
) -> None:
    user, postman = await stored.user("few"), Postman(stored)
    async with stored.store.database.transaction() as conn:
        assert await wanted(conn, user.id)
        await want(conn, user.id, False)
        assert not await wanted(conn, user.id)
    for _ in range(4):
        await stored.ask("chat", "chat-plain", user)
    assert await postman.round(user, servers=2) == []
    async with stored.store.database.transaction() as conn:
        await want(conn, user.id, True)
    assert len(await postman.round(user, servers=2)) == 1
    async with stored.store.database.transaction() as conn:
        await want(conn, user.id, True)
    assert await postman.round(user) == []


@pytest.mark.parametrize("larger", ["plan", "catalogue"])
async def test_who_has_more_of_a_day_is_told_of_it_anew(stored: House, larger: str) -> None:
    user, postman = await stored.user("few"), Postman(stored)
    for _ in range(5):
        await stored.ask("chat", "chat-plain", user)
    assert await postman.round(user) == [100]
    database = stored.store.database

    async def limit(requests: int) -> None:
        async with database.transaction() as conn:
            document = await load_document(conn, KINDS)
            rows = tuple(
                replace(plan, daily_requests=requests) if plan.id == "few" else plan
                for plan in document.plans
            )
            assert await apply_document(conn, replace(document, plans=rows), KINDS, 1)

    async def move(plan: str) -> None:
        async with database.transaction() as conn:
            await accounts.change_user(conn, user.id, accounts.Changes(plan_id=plan), now=1)

    await (limit(6) if larger == "catalogue" else move("lab"))
    assert await postman.round(user) == ([80] if larger == "catalogue" else [])
    await (limit(5) if larger == "catalogue" else move("few"))
    assert await postman.round(user) == [100], "of the smaller limit, after the larger one"
    async with database.transaction() as conn:
        await accounts.change_user(conn, user.id, accounts.Changes(plan_id="few", verified=True), now=1)
    assert await postman.round(user) == []


async def test_accounts_that_nobody_can_use_get_none(stored: House) -> None:
    user, postman = await stored.user("few"), Postman(stored)
    for _ in range(4):
        await stored.ask("chat", "chat-plain", user)
    await stored.rows(user)
    for leaves in (1, None):
        async with stored.store.database.transaction() as conn:
            await accounts.set_leaving(conn, user.id, leaves)
        assert len(await postman.round(user)) == (0 if leaves else 1)


async def test_the_mail_says_what_was_used_and_when_it_is_over(stored: House) -> None:
    user = await stored.user("few")
    stored.clock.now = stored.clock.now // 86_400 * 86_400 + 21.4 * 3600
    for _ in range(4):
        await stored.ask("chat", "chat-plain", user)
    await stored.rows(user)
    async with stored.store.database.connect() as conn:
        (notice,) = await due(conn, int(stored.clock.now // 86_400))
    assert (notice.used, notice.limit, notice.share, notice.email) == (4, 5, 80, user.email)
    for share, subject in ((80, "80% of the requests of today are used"), (100, "are used up")):
        mail = messages.day_used(
            "Lab", user.email, "http://lab.test", plan="few", used=share // 20, limit=5, share=share, hours=3
        )
        assert subject in mail.subject
        assert "in about 3 hours" in mail.paragraphs[0]
        assert all("http://lab.test/" in text for text in mail.paragraphs[1:])
