"""Whatever changes who a caller is or what it may do raises the revision of the keys, and nothing else does."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import Changes, User
from penstock.domain.keys import authentication, management
from penstock.domain.keys.authentication import Keyring
from penstock.domain.keys.management import KeyWish, NewKey
from penstock.domain.revisions import KeyChange, read_key_changes, read_revisions
from penstock.domain.staff import membership
from penstock.domain.trail.entries import SYSTEM
from penstock.store import sealed
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database
from penstock.store.sql.key_changes import WATCHED, has_triggers
from penstock.store.sql.schema import api_keys, users
from tests.domain.people import NOW, Clock, make_user, make_vault, open_database
from tests.stores import Engine


class Keys:
    """Somebody with a key."""

    def __init__(self, database: Database, secrets_file: SecretsFile, user: User, made: NewKey) -> None:
        self.database, self.secrets_file, self.user, self.made = database, secrets_file, user, made

    async def revision(self) -> int:
        return (await read_revisions(self.database)).keys


@pytest.fixture
async def keys(engine: Engine, tmp_path: Path) -> AsyncIterator[Keys]:
    async with open_database(engine, tmp_path) as database:
        secrets_file = make_vault(tmp_path)
        user = await make_user(database)
        async with database.transaction() as conn:
            made = await management.create_key(
                conn, secrets_file, user.id, KeyWish(), now=NOW, entropy=secrets.token_bytes, keep=True
            )
        yield Keys(database, secrets_file, user, made)


def test_every_column_that_a_key_is_looked_up_by_is_watched() -> None:
    text = authentication._look_up_text(1)
    for short, table in (("k", "api_keys"), ("u", "users")):
        read = set(re.findall(rf"\b{short}\.(\w+)", text))
        assert read <= set(WATCHED[table][1]), table


Write = Callable[[AsyncConnection, Keys], Awaitable[object]]


async def _make(conn: AsyncConnection, it: Keys) -> None:
    wish = KeyWish("other")
    await management.create_key(
        conn, it.secrets_file, it.user.id, wish, now=NOW, entropy=secrets.token_bytes, keep=False
    )


def _roll(grace: int) -> Write:
    async def roll(conn: AsyncConnection, it: Keys) -> None:
        old = await management.get_key(conn, it.user.id, it.made.id)
        await management.roll_key(
            conn, it.secrets_file, old, grace=grace, now=NOW, entropy=secrets.token_bytes, keep=False
        )

    return roll


def _change(changes: Changes) -> Write:
    return lambda conn, it: accounts.change_user(conn, it.user.id, changes, now=NOW)


def _column(table: str, column: str, value: object) -> Write:
    target = users if table == "users" else api_keys
    return lambda conn, _: conn.execute(update(target).values({column: value}))


CHANGES: dict[str, Write] = {
    "a key is made": _make,
    "a key is revoked": lambda conn, it: management.revoke_key(conn, it.user.id, it.made.id, now=NOW),
    "a key is rolled": _roll(0),
    "a key is rolled with grace": _roll(60),
    "a key is deleted": lambda conn, _: conn.execute(delete(api_keys)),
    "the plan": _change(Changes(plan_id="pro")),
    "closed": _change(Changes(disabled=True)),
    "no longer verified": _change(Changes(verified=False)),
    "leaving": lambda conn, it: accounts.set_leaving(conn, it.user.id, NOW + 1),
    **{
        f"{table}.{column}": _column(table, column, value)
        for table, column, value in (
            ("users", "plan_id", "pro"),
            ("users", "verified_at", None),
            ("users", "disabled_at", 1),
            ("users", "leaving_at", 1),
            ("api_keys", "id", "key_other"),
            ("api_keys", "digest", b"x" * 32),
            ("api_keys", "models", "[]"),
            ("api_keys", "addresses", "[]"),
            ("api_keys", "expires_at", 1),
            ("api_keys", "revoked_at", 1),
        )
    },
}


@pytest.mark.parametrize("what", CHANGES)
async def test_what_authentication_rests_on_raises_the_revision(keys: Keys, what: str) -> None:
    before = await keys.revision()
    async with keys.database.transaction() as conn:
        await CHANGES[what](conn, keys)
    noted = await read_key_changes(keys.database, before)
    assert noted
    assert {change.user_id for change in noted} == {keys.user.id}
    assert [change.revision for change in noted] == list(range(before + 1, await keys.revision() + 1))


BACK: dict[str, tuple[Write, Write]] = {
    "open again": (CHANGES["closed"], _change(Changes(disabled=False))),
    "verified": (CHANGES["no longer verified"], _change(Changes(verified=True))),
    "staying": (CHANGES["leaving"], lambda conn, it: accounts.set_leaving(conn, it.user.id, None)),
    "deleted": (CHANGES["leaving"], lambda conn, _: accounts.delete_leavers(conn, now=NOW + 1)),
}


@pytest.mark.parametrize("what", BACK)
async def test_so_does_what_undoes_it(keys: Keys, what: str) -> None:
    first, then = BACK[what]
    async with keys.database.transaction() as conn:
        await first(conn, keys)
    before = await keys.revision()
    async with keys.database.transaction() as conn:
        await then(conn, keys)
    assert {change.user_id for change in await read_key_changes(keys.database, before)} == {keys.user.id}


async def _touch(conn: AsyncConnection, it: Keys) -> None:
    clock = Clock()
    ring = Keyring(it.database, it.secrets_file, clock=clock.monotonic, now=clock.epoch)
    ring.touch(it.made.id)
    await ring.flush(conn)


async def _reseal(conn: AsyncConnection, it: Keys) -> None:
    it.secrets_file.rotate(secrets.token_bytes)
    row = (it.made.id,)
    assert await sealed._reseal_one(conn, management.SEALED_KEYS, row, it.secrets_file, secrets.token_bytes)


async def _role(conn: AsyncConnection, it: Keys) -> None:
    await membership.give(conn, it.user, "owner", SYSTEM, now=NOW, entropy=secrets.token_bytes)


REST: dict[str, Write] = {
    "a use": _touch,
    "another address": lambda conn, it: accounts.change_email(conn, it.user.id, "eve@example.com"),
    "a role": _role,
    "a copy that is sealed anew": _reseal,
    "another name": _column("api_keys", "name", "x"),
    "the same plan": _column("users", "plan_id", "free"),
    "no expiry, as before": _column("api_keys", "expires_at", None),
    "a new account": lambda conn, _: accounts.create_user(
        conn, "bob@example.com", plan="free", admin=False, verified=True, now=NOW, id="usr_bob"
    ),
}


@pytest.mark.parametrize("what", REST)
async def test_nothing_else_does(keys: Keys, what: str) -> None:
    before = await keys.revision()
    async with keys.database.transaction() as conn:
        await REST[what](conn, keys)
    assert await keys.revision() == before


async def test_a_change_that_is_rolled_back_is_none(keys: Keys) -> None:
    before = await keys.revision()

    async def failing() -> None:
        async with keys.database.transaction() as conn:
            await CHANGES["closed"](conn, keys)
            raise LookupError

    with pytest.raises(LookupError):
        await failing()
    assert await keys.revision() == before
    assert await read_key_changes(keys.database, before) == []


async def test_writers_at_once_have_a_revision_each_in_the_order_of_their_commits(keys: Keys) -> None:
    """Also those that do not take turns as ours do, such as an operator's own statements."""
    before = await keys.revision()

    async def writing(number: int) -> None:
        engine = keys.database._backend.writing if keys.database.path else keys.database._backend.reading
        async with engine.connect() as conn:
            if keys.database.path is None:
                await conn.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
                await conn.commit()
                await conn.execution_options(isolation_level="READ COMMITTED")
                await conn.exec_driver_sql("SET TRANSACTION READ WRITE")
            await conn.execute(update(users).values(plan_id=f"plan{number}"))
            await conn.commit()
            await conn.invalidate()

    await asyncio.gather(*(writing(number) for number in range(5)))
    assert await read_key_changes(keys.database, before) == [
        KeyChange(before + number, keys.user.id) for number in range(1, 6)
    ]


async def test_a_database_whose_triggers_are_gone_gets_them_again(
    keys: Keys, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of the tables without them would leave a revoked key good for ever."""
    drop = "DROP TRIGGER tr_api_keys_update" + ("" if keys.database.path else " ON api_keys")
    async with keys.database.transaction() as conn:
        assert await conn.run_sync(has_triggers)
        await conn.exec_driver_sql(drop)
        assert not await conn.run_sync(has_triggers)
    before = await keys.revision()
    other = await engine.open(tmp_path)
    await other.close()
    assert "made again" in caplog.text
    async with keys.database.transaction() as conn:
        await CHANGES["a key is revoked"](conn, keys)
    assert await keys.revision() == before + 1


async def test_ids_that_look_like_statements_are_noted_as_they_are(keys: Keys) -> None:
    async with keys.database.transaction() as conn:
        row = (await conn.execute(select(users))).mappings().one()
        odd = dict(row) | {"id": "usr_'; --$$", "email_canonical": "x"}
        await conn.execute(insert(users).values(odd))
    before = await keys.revision()
    async with keys.database.transaction() as conn:
        await conn.execute(delete(users).where(users.c.id == odd["id"]))
    assert await read_key_changes(keys.database, before) == [KeyChange(before + 1, odd["id"])]
