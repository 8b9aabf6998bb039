"""Who answers at PostgreSQL's address lies under a server: 503 in time, told everywhere, nothing lost, and over by itself."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from penstock.core.limits import day_of
from penstock.domain.ledger.reconciliation import compare
from penstock.operations.doctor import examine_installation
from tests.lying_postgresql import FIRST, LATER, VALUES, LyingPostgresql, Said, lying_postgresql
from tests.samples import sample, sample_of
from tests.service.conversations import Answer, body_of
from tests.service.running_service import House, User, open_house
from tests.service.scripted import PATIENCE
from tests.stores import Engine

SHORT = {"database_connect": 1.5, "database_statement": 1.0, "database_lock": 0.5}
CHOSEN = (
    "says nothing", "hangs up", "bytes", "an unknown type", "ready too early", "2^31", "a column less", "half",
    "an error without fields", "no such table", "an odd state", "bad UTF-8",
)  # fmt: skip
LIES = {name: LATER[name] for name in CHOSEN} | {
    name: VALUES[name] for name in ("columns of text", "short values", "no values")
}
SOME_LIES = sample_of(LIES, 5, turn=2)


class Asking:
    """Users who ask; each request has a number of its own."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.asked = 0
        self.answered: dict[str, list[int]] = {}

    async def ask(self, user: User) -> Answer:
        self.asked += 1
        text = f"nonce of {user.id} in turn {self.asked}"
        body = body_of("chat", "chat-echo", messages=[{"role": "user", "content": text}])
        answer = await self.house.post("chat", body, user)
        self.answered.setdefault(user.id, []).append(answer.status)
        return answer

    async def until_well(self, users: list[User]) -> None:
        """Until the service serves everybody and names no part."""
        async with asyncio.timeout(PATIENCE):
            for user in users:
                while (await self.ask(user)).status != 200:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            while (await self.house.page("/readyz")).body != b"ready\n":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def told(house: House) -> None:
    """Readiness and the metrics say what does not work."""
    async with asyncio.timeout(PATIENCE):
        while b"does not work" not in (ready := await house.page("/readyz")).body:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert b"database does not work" in ready.body or b"ledger does not work" in ready.body
    numbers = (await house.page("/metrics")).body.decode()
    assert (
        'penstock_part_up{part="database"} 0.0' in numbers or 'penstock_part_up{part="ledger"} 0.0' in numbers
    )


async def books(house: House, users: list[User], asking: Asking) -> None:
    """Each request that was answered is in the ledger once, and no other; the counts are the rows."""
    for user in users:
        rows = await house.rows(user)
        got = house.heard(f"nonce of {user.id} in")
        assert len(rows) == len(got) == Counter(asking.answered[user.id])[200]
        assert len({visit.body for visit in got}) == len(got)
        assert await house.used(user) == sum(row["counted"] for row in rows) == len(rows)
    async with asyncio.timeout(PATIENCE), house.store.database.connect() as conn:
        while await compare(conn, day_of(house.clock.now)):  # until the last batch is there as a whole
            await conn.rollback()


async def lied_to(
    house: House, liar: LyingPostgresql, tmp_path: Path, said: Said | None, welcome: bytes | None
) -> None:
    asking = Asking(house)
    known, stranger = await house.user(), await house.user()
    await asking.until_well([known])
    if said is not None:
        liar.said = said
    if welcome is not None:
        liar.welcome = welcome
        await liar.end()
    values = said in VALUES.values()
    for _ in range(3):
        answers = await asyncio.gather(asking.ask(known), asking.ask(stranger), asking.ask(stranger))
        assert {answer.status for answer in answers} <= {200, 503}
        for answer in answers:
            assert answer.status == 200 or "retry-after" in answer.headers
    for path in ("/signin", "/models", "/healthz"):
        assert (await house.page(path)).status in {200, 503}, path
    if not values:  # what is well formed may be right for all that anybody can tell
        await told(house)
        environ = {
            "PENSTOCK_DATA": str(tmp_path / "data"), "PENSTOCK_DATABASE_URL": liar.url,
            "PENSTOCK_DATABASE_CONNECT": "0.5", "PENSTOCK_DATABASE_STATEMENT": "0.5", "PENSTOCK_DATABASE_LOCK": "0.5",
        }  # fmt: skip
        report = await examine_installation(environ, None, {})
        assert [finding.subject for finding in report.findings if finding.level == "fail"] == ["database"]
    liar.be_honest()
    await asking.until_well([known, stranger])
    await books(house, [known, stranger], asking)


@pytest.mark.parametrize("said", SOME_LIES.values(), ids=SOME_LIES)
async def test_a_database_that_lies_to_whoever_is_connected(
    postgresql: Engine, tmp_path: Path, said: Said
) -> None:
    async with (
        asyncio.timeout(2 * PATIENCE),
        lying_postgresql(postgresql.url) as liar,
        open_house(tmp_path / "data", database_url=postgresql.url) as house,
    ):
        await house.restart(database_url=liar.url, **SHORT)
        await lied_to(house, liar, tmp_path, said, None)


@pytest.mark.parametrize(
    "first", sample(["silence", "hangs up", "bytes", "2 GB", "in, ready, and mute", "a refusal"], 3)
)
async def test_a_database_that_lies_to_whoever_connects(
    postgresql: Engine, tmp_path: Path, first: str
) -> None:
    async with (
        asyncio.timeout(2 * PATIENCE),
        lying_postgresql(postgresql.url) as liar,
        open_house(tmp_path / "data", database_url=postgresql.url) as house,
    ):
        await house.restart(database_url=liar.url, **SHORT)
        await lied_to(house, liar, tmp_path, None, FIRST[first])
