"""Recognising callers: which key of a request counts, what is asked of the database, and what happens without it."""

import asyncio
import random
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core import api_key
from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import User
from penstock.domain.keys import authentication, management
from penstock.domain.keys.authentication import Keyring, Principal, check, pick_key
from penstock.domain.keys.management import KeyWish, NewKey
from penstock.errors import (
    AccountDisabled,
    AccountLeaving,
    AddressNotAllowed,
    DatabaseUnavailable,
    EmailNotVerified,
    InvalidKey,
    MissingKey,
    PenstockError,
)
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database
from tests.domain.people import NOW, Clock, Queries, make_user, make_vault, open_database
from tests.stores import Engine

PLAIN = KeyWish()
OURS = [api_key.make_key(bytes([n]) * 32) for n in range(3)]
THEIRS = ["sk-ant-api03-x", "sk-proj-1", "x", OURS[0][:-1], OURS[0] + "0"]


class Rig:
    """A key ring over a real database, with one user who has one key."""

    def __init__(
        self, database: Database, secrets_file: SecretsFile, user: User, made: NewKey, clock: Clock
    ) -> None:
        self.database, self.secrets_file, self.user, self.made, self.clock = (
            database,
            secrets_file,
            user,
            made,
            clock,
        )
        self.queries = Queries(database)
        self.ring = Keyring(database, secrets_file, clock=clock.monotonic, now=clock.epoch)

    async def identify(self) -> Principal:
        return await self.ring.identify(self.made.key)


async def make_key(
    database: Database, secrets_file: SecretsFile, user: User, wish: KeyWish = PLAIN
) -> NewKey:
    async with database.transaction() as conn:
        return await management.create_key(
            conn, secrets_file, user.id, wish, now=NOW, entropy=secrets.token_bytes, keep=False
        )


@pytest.fixture
async def rig(engine: Engine, tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_database(engine, tmp_path) as database:
        secrets_file = make_vault(tmp_path)
        user = await make_user(database)
        yield Rig(database, secrets_file, user, await make_key(database, secrets_file, user), Clock())


# ---- pick_key


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"])
@pytest.mark.parametrize("direct", [None, "", "  "])
def test_no_key(direct: str | None, authorization: str | None) -> None:
    with pytest.raises(MissingKey, match="x-api-key: KEY"):
        pick_key(direct, authorization)


@given(
    direct=st.sampled_from([None, *OURS, *THEIRS]),
    bearer=st.sampled_from([None, *OURS, *THEIRS]),
    scheme=st.sampled_from(["Bearer ", "bearer ", "BEARER  "]),
)
def test_which_of_two_keys_counts(direct: str | None, bearer: str | None, scheme: str) -> None:
    sent = [key for key in (direct, bearer) if key is not None]
    ours = [key for key in sent if key in OURS]
    authorization = None if bearer is None else scheme + bearer
    try:
        picked = pick_key(direct, authorization)
    except MissingKey:
        assert not sent
    except InvalidKey:
        assert len(set(ours)) == 2
    else:
        assert len(set(ours)) < 2
        assert picked in sent
        assert not ours or picked == ours[0]


def test_a_bare_key_in_authorization_is_taken_when_it_can_be_ours() -> None:
    assert pick_key(None, OURS[0]) == OURS[0]
    with pytest.raises(MissingKey):
        pick_key(None, "sk-ant-api03-x")


# ---- check


def principal(**changes: object) -> Principal:
    facts: dict[str, object] = {
        "user_id": "u", "key_id": "k", "plan_id": "free", "verified": True, "disabled": False,
        "models": None, "addresses": None, "expires_at": None,
    }  # fmt: skip
    return Principal(**(facts | changes))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (principal(), None),
        (principal(expires_at=NOW + 1), None),
        (principal(expires_at=NOW), InvalidKey),
        (principal(disabled=True), AccountDisabled),
        (principal(verified=False), EmailNotVerified),
        (principal(disabled=True, verified=False), AccountDisabled),
        (principal(leaving=True), AccountLeaving),
        (principal(leaving=True, verified=False), AccountLeaving),
        (principal(leaving=True, disabled=True), AccountDisabled),
        (principal(addresses=("203.0.113.7",)), None),
        (principal(addresses=("10.0.0.0/8", "203.0.113.0/24")), None),
        (principal(addresses=("10.0.0.0/8", "2001:db8::/32")), AddressNotAllowed),
    ],
)
def test_what_a_caller_may(who: Principal, error: type[PenstockError] | None) -> None:
    if error is None:
        check(who, "203.0.113.7", NOW / 1000)
        check(who, "::ffff:203.0.113.7", NOW / 1000)
        return
    with pytest.raises(error):
        check(who, "203.0.113.7", NOW / 1000)


@pytest.mark.parametrize("address", ["", "unix:", "203.0.113.7:80"])
def test_a_caller_without_an_address_is_on_no_list(address: str) -> None:
    with pytest.raises(AddressNotAllowed):
        check(principal(addresses=("0.0.0.0/0", "::/0")), address, 0)


# ---- the ring


async def test_a_key_is_looked_up_once_in_five_seconds(rig: Rig) -> None:
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None
    who = await rig.identify()
    assert (who.user_id, who.key_id, who.plan_id, who.verified) == (rig.user.id, rig.made.id, "free", True)
    before = rig.queries.count
    rig.clock.seconds = 4.9
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is who
    assert await rig.identify() is who
    assert rig.queries.count == before
    rig.clock.seconds = 5.0
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None
    assert await rig.identify() == who
    assert rig.queries.count > before


async def test_an_account_that_leaves_is_gone_in_five_seconds_and_back_at_once(rig: Rig) -> None:
    who = await rig.identify()
    assert not who.leaving
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, NOW + 1)
    rig.clock.seconds = 4.9
    assert await rig.identify() is who
    rig.clock.seconds = 5.0
    assert (await rig.identify()).leaving
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, None)
    assert await rig.identify() == who
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) == who


async def test_an_account_that_leaves_stays_away_while_the_database_does_not_answer(rig: Rig) -> None:
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, NOW + 1)
    assert (await rig.identify()).leaving
    async with rig.database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE api_keys RENAME TO away")
    assert (await rig.identify()).leaving


async def test_a_hundred_thousand_slips_ask_the_database_nothing(rig: Rig) -> None:
    generator = random.Random(3)
    before = rig.queries.count
    key = rig.made.key
    for _ in range(100_000):
        at = generator.randrange(len(key))
        other = generator.choice([c for c in "0123456789ABCxyz-_ " if c != key[at]])
        with pytest.raises(InvalidKey):
            await rig.ring.identify(key[:at] + other + key[at + 1 :])
    assert rig.queries.count == before


async def test_a_well_formed_stranger_is_looked_up_and_refused(rig: Rig) -> None:
    for _ in range(2):
        before = rig.queries.count
        with pytest.raises(InvalidKey, match="does not exist"):
            await rig.ring.identify(api_key.make_key(secrets.token_bytes(32)))
        assert rig.queries.count > before


async def test_a_change_takes_effect_within_five_seconds(rig: Rig) -> None:
    await rig.identify()
    async with rig.database.transaction() as conn:
        await accounts.change_user(conn, rig.user.id, accounts.Changes(plan_id="pro"), now=NOW)
    rig.clock.seconds = 5.0
    assert (await rig.identify()).plan_id == "pro"
    async with rig.database.transaction() as conn:
        await management.revoke_key(conn, rig.user.id, rig.made.id, now=NOW)
    rig.clock.seconds = 10.0
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None


async def test_forgetting_makes_it_take_effect_at_once(rig: Rig) -> None:
    await rig.identify()
    rig.ring.forget("usr_other")
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is not None
    rig.ring.forget(rig.user.id)
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None
    await rig.identify()
    rig.ring.forget()
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None


async def test_a_look_up_under_way_while_forgetting_is_not_remembered(rig: Rig) -> None:
    looking = asyncio.ensure_future(rig.identify())
    await asyncio.sleep(0)
    rig.ring.forget(rig.user.id)
    again = asyncio.ensure_future(rig.identify())
    await looking
    await again
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is again.result()


async def test_what_was_looked_up_before_forgetting_is_looked_up_again(rig: Rig) -> None:
    """A key that is revoked at that moment would otherwise be good for five more seconds."""
    looking = asyncio.ensure_future(rig.identify())
    await asyncio.sleep(0)
    rig.ring.forget(rig.user.id)
    await looking
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None


async def test_a_rolled_key_works_through_its_grace_and_not_after(rig: Rig) -> None:
    async with rig.database.transaction() as conn:
        old = await management.get_key(conn, rig.user.id, rig.made.id)
        new = await management.roll_key(
            conn, rig.secrets_file, old, grace=60, now=NOW, entropy=secrets.token_bytes, keep=False
        )
    assert (await rig.ring.identify(new.key)).key_id == new.id
    rig.clock.seconds = 59.0
    who = await rig.identify()
    check(who, "127.0.0.1", rig.clock.epoch())
    rig.clock.seconds = 60.0
    with pytest.raises(InvalidKey):
        check(who, "127.0.0.1", rig.clock.epoch())
    rig.clock.seconds = 64.0
    with pytest.raises(InvalidKey, match="expired"):
        await rig.identify()
    check(await rig.ring.identify(new.key), "127.0.0.1", rig.clock.epoch())


async def test_many_callers_with_one_key_share_a_look_up(rig: Rig) -> None:
    before = rig.queries.count
    await rig.identify()
    once = rig.queries.count - before
    rig.ring.forget()
    before = rig.queries.count
    callers = [asyncio.ensure_future(rig.identify()) for _ in range(50)]
    await asyncio.sleep(0)
    callers[0].cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, Principal) for outcome in outcomes[1:])
    assert rig.queries.count - before == once


async def test_without_the_database_a_key_is_never_wrong(rig: Rig) -> None:
    who = await rig.identify()
    async with rig.database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE api_keys RENAME TO away")
    rig.clock.seconds = 599.0
    assert await rig.identify() is who
    asked = rig.queries.count
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is who, "not asked again for each request"
    assert rig.queries.count == asked
    rig.clock.seconds = 600.0
    assert rig.ring.cached(rig.ring.mark(rig.made.key)) is None
    with pytest.raises(DatabaseUnavailable) as caught:
        await rig.identify()
    assert (caught.value.status, caught.value.retry_after) == (503, 2)
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.identify(OURS[0])


async def test_a_look_up_is_waited_for_while_our_own_loop_is_stuck(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_PATIENCE", 0.5)
    asking = asyncio.ensure_future(rig.identify())
    await asyncio.sleep(0)
    threading.Event().wait(0.6)
    assert (await asking).user_id == rig.user.id


async def test_a_database_that_is_silent_is_given_up_once_and_its_answer_still_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert authentication._PATIENCE == 2.0, "docs/operations/faults.md says so"
    monkeypatch.setattr(authentication, "_PATIENCE", 0.1)
    speaks = asyncio.Event()
    real = rig.database.connect

    @asynccontextmanager
    async def connect() -> AsyncGenerator[AsyncConnection]:
        await speaks.wait()
        async with real() as conn:
            yield conn

    monkeypatch.setattr(rig.database, "connect", connect)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await rig.identify()
    (loading,) = rig.ring._loading.values()
    speaks.set()
    await loading
    assert (await rig.identify()).user_id == rig.user.id


async def test_the_ring_keeps_its_bounds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_MOST", 3)
    made = [await make_key(rig.database, rig.secrets_file, rig.user) for _ in range(6)]
    for key in made:
        await rig.ring.identify(key.key)
    assert [rig.ring.cached(rig.ring.mark(key.key)) is not None for key in made] == [False] * 3 + [True] * 3
    rig.clock.seconds = 601.0
    await rig.identify()
    await rig.ring.identify(made[0].key)
    assert len(rig.ring._entries) == 2


async def test_a_pepper_newer_than_the_process_is_found(rig: Rig) -> None:
    await rig.identify()
    elsewhere = SecretsFile(rig.secrets_file.path)
    elsewhere.rotate(secrets.token_bytes)
    made = await make_key(rig.database, elsewhere, rig.user)
    assert (await rig.ring.identify(made.key)).key_id == made.id
    rig.ring.forget()
    assert (await rig.identify()).key_id == rig.made.id


async def test_a_secrets_file_that_is_gone_makes_no_key_wrong(rig: Rig) -> None:
    await rig.identify()
    rig.secrets_file.path.unlink()
    rig.clock.seconds = 10.0
    assert (await rig.identify()).key_id == rig.made.id
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.identify(OURS[0])


async def test_the_last_use_is_kept_to_the_minute(rig: Rig) -> None:
    async def last_used() -> int | None:
        async with rig.database.connect() as conn:
            return (await management.get_key(conn, rig.user.id, rig.made.id)).last_used_at

    async def flush() -> None:
        async with rig.database.transaction() as conn:
            await rig.ring.flush(conn)

    await flush()
    assert await last_used() is None
    for _ in range(3):
        rig.ring.touch(rig.made.id)
    assert rig.ring.untold == 1
    await flush()
    assert await last_used() == NOW
    rig.clock.seconds = 59.0
    rig.ring.touch(rig.made.id)
    assert rig.ring.untold == 0, "the same minute is not written twice"
    rig.clock.seconds = 60.0
    rig.ring.touch(rig.made.id)
    async with rig.database.connect() as conn:
        with pytest.raises(Exception, match=r"read-?only"):
            await rig.ring.flush(conn)
    assert rig.ring.untold == 1, "what could not be written is kept"
    await flush()
    assert await last_used() == NOW + 60_000


async def test_a_key_that_was_refused_is_not_taken_again_when_the_database_is_away(rig: Rig) -> None:
    await rig.identify()
    async with rig.database.transaction() as conn:
        await management.revoke_key(conn, rig.user.id, rig.made.id, now=NOW)
    rig.clock.seconds = 6.0
    with pytest.raises(InvalidKey):
        await rig.identify()
    async with rig.database.transaction() as conn:
        await conn.exec_driver_sql("ALTER TABLE api_keys RENAME TO away")
    with pytest.raises(DatabaseUnavailable):
        await rig.identify()


async def test_the_last_use_that_one_server_writes_is_not_set_back_by_another(rig: Rig) -> None:
    slower = Keyring(rig.database, rig.secrets_file, clock=rig.clock.monotonic, now=rig.clock.epoch)
    slower.touch(rig.made.id)
    rig.clock.seconds = 60.0
    rig.ring.touch(rig.made.id)
    for ring in (rig.ring, slower):
        async with rig.database.transaction() as conn:
            await ring.flush(conn)
    async with rig.database.connect() as conn:
        assert (await management.get_key(conn, rig.user.id, rig.made.id)).last_used_at == NOW + 60_000


class Hanging:
    """A database that does not answer."""

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[AsyncConnection]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it does not answer")
        yield


async def test_a_look_up_that_hangs_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ring = Keyring(Hanging(), make_vault(tmp_path), clock=clock.monotonic, now=clock.epoch)
    monkeypatch.setattr(authentication, "_PATIENCE", 0.01)
    with pytest.raises(DatabaseUnavailable):
        await ring.identify(OURS[0])
    monkeypatch.setattr(authentication, "_PATIENCE", 1000.0)
    again = asyncio.ensure_future(ring.identify(OURS[0]))
    for _ in range(10):
        await asyncio.sleep(0)
    at_once = again.done()
    (loading,) = ring._loading.values()
    loading.cancel()
    assert at_once
    assert isinstance(again.exception(), DatabaseUnavailable)


async def test_a_use_while_an_earlier_one_could_not_be_written_is_the_one_that_is_kept(rig: Rig) -> None:
    class Failing:
        async def execute(self, *_arguments: object) -> None:
            rig.clock.seconds = 60.0
            rig.ring.touch(rig.made.id)
            raise OSError("the connection is gone")

    rig.ring.touch(rig.made.id)
    with pytest.raises(OSError, match="gone"):
        await rig.ring.flush(cast("AsyncConnection", Failing()))
    async with rig.database.transaction() as conn:
        await rig.ring.flush(conn)
    async with rig.database.connect() as conn:
        assert (await management.get_key(conn, rig.user.id, rig.made.id)).last_used_at == NOW + 60_000
