"""Recognising callers: which key of a request counts, what is asked of the database, and what happens without it."""

import asyncio
import contextlib
import random
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update
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
from penstock.store.sql.backend import Cell, PointRow
from penstock.store.sql.database import Database
from penstock.store.sql.key_changes import KEPT
from penstock.store.sql.schema import key_changes, revisions
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

    def remembered(self, key: str | None = None) -> Principal | None:
        return self.ring.remembered(self.ring.mark(key or self.made.key))

    async def change(self, changes: accounts.Changes) -> None:
        async with self.database.transaction() as conn:
            await accounts.change_user(conn, self.user.id, changes, now=NOW)

    async def revoke(self, made: NewKey | None = None) -> None:
        async with self.database.transaction() as conn:
            await management.revoke_key(conn, self.user.id, (made or self.made).id, now=NOW)

    async def go_away(self) -> None:
        """From now on the database cannot be asked for keys."""
        async with self.database.transaction() as conn:
            await conn.exec_driver_sql("ALTER TABLE api_keys RENAME TO away")
            await conn.exec_driver_sql("ALTER TABLE revisions RENAME TO gone")

    async def come_back(self) -> None:
        async with self.database.transaction() as conn:
            await conn.exec_driver_sql("ALTER TABLE away RENAME TO api_keys")
            await conn.exec_driver_sql("ALTER TABLE gone RENAME TO revisions")


class Held:
    """Reads that have been made, and whose answers come when they are told to."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = asyncio.Event()
        self.speaks = asyncio.Event()
        self._real = database._backend.read
        self._patch = monkeypatch.context()
        patch = self._patch.__enter__()
        patch.setattr(database, "read_now", lambda *_arguments: None)
        patch.setattr(database, "read", self._later)

    async def _later(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow]:
        rows = await self._real(text, values)
        self.read.set()
        await self.speaks.wait()
        return rows

    def others_pass(self) -> None:
        """Reads that begin from now on are answered as ever."""
        self._patch.__exit__(None, None, None)


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
        "user_id": "u", "account_id": "u", "key_id": "k", "plan_id": "free", "verified": True, "disabled": False,
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


async def test_a_key_is_looked_up_once_for_as_long_as_polls_find_nothing(rig: Rig) -> None:
    assert rig.remembered() is None
    who = await rig.identify()
    assert (who.user_id, who.key_id, who.plan_id, who.verified) == (rig.user.id, rig.made.id, "free", True)
    at = rig.ring.revision
    for _ in range(500):
        rig.clock.seconds += 4.9
        before = rig.queries.count
        assert await rig.identify() is who
        assert rig.remembered() is who
        assert rig.queries.count == before
        await rig.ring.follow()
        assert rig.queries.count == before + 1, "one read for all keys"
        assert rig.ring.trusted_until == rig.clock.seconds + 5.0
    assert rig.ring.revision == at


async def test_a_key_is_looked_up_again_when_no_poll_came_for_five_seconds(rig: Rig) -> None:
    who = await rig.identify()
    rig.clock.seconds = 5.0
    before = rig.queries.count
    assert rig.remembered() is None
    assert await rig.identify() == who
    assert rig.queries.count == before + 1
    await rig.ring.follow()
    rig.clock.seconds = 10.0
    assert rig.remembered() is None


async def test_an_account_that_leaves_is_gone_and_back_at_once(rig: Rig) -> None:
    who = await rig.identify()
    assert not who.leaving
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, NOW + 1)
    rig.clock.seconds = 4.9
    assert await rig.identify() is who
    await rig.ring.follow()
    assert (await rig.identify()).leaving
    assert rig.remembered() is None, "it is looked up each time"
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, None)
    assert await rig.identify() == who
    assert rig.remembered() == who


async def test_an_account_that_leaves_stays_away_while_the_database_does_not_answer(rig: Rig) -> None:
    async with rig.database.transaction() as conn:
        await accounts.set_leaving(conn, rig.user.id, NOW + 1)
    assert (await rig.identify()).leaving
    await rig.go_away()
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
    """Without a single poll."""
    await rig.identify()
    await rig.change(accounts.Changes(plan_id="pro"))
    rig.clock.seconds = 5.0
    assert (await rig.identify()).plan_id == "pro"
    await rig.revoke()
    rig.clock.seconds = 10.0
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()
    assert rig.remembered() is None


async def test_a_change_takes_effect_with_the_next_poll_and_others_stay_remembered(rig: Rig) -> None:
    other = await make_user(rig.database, "bob@example.com")
    theirs = await make_key(rig.database, rig.secrets_file, other)
    second = await make_key(rig.database, rig.secrets_file, rig.user)
    for key in (rig.made, second, theirs):
        await rig.ring.identify(key.key)
    await rig.ring.follow()
    at = rig.ring.revision
    await rig.change(accounts.Changes(plan_id="pro"))
    await rig.ring.follow()
    assert [rig.remembered(key.key) is not None for key in (rig.made, second, theirs)] == [False, False, True]
    assert rig.ring.revision != at
    assert (await rig.identify()).plan_id == "pro"
    at = rig.ring.revision
    await rig.ring.follow()
    assert rig.remembered() is not None, "it was read after the change"
    assert rig.ring.revision == at
    await rig.revoke()
    await rig.ring.follow()
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()


async def test_what_changes_for_those_who_are_not_remembered_leaves_the_revision(rig: Rig) -> None:
    await rig.identify()
    await rig.ring.follow()
    at = rig.ring.revision
    other = await make_user(rig.database, "bob@example.com")
    made = await make_key(rig.database, rig.secrets_file, other)
    async with rig.database.transaction() as conn:
        await management.revoke_key(conn, other.id, made.id, now=NOW)
    await rig.ring.follow()
    assert rig.ring.revision == at
    assert rig.remembered() is not None


async def test_a_change_to_a_key_that_made_room_moves_the_revision_all_the_same(rig: Rig) -> None:
    """Somebody may still hold what ``remembered`` gave."""
    ring = Keyring(rig.database, rig.secrets_file, most=1, clock=rig.clock.monotonic, now=rig.clock.epoch)
    other = await make_user(rig.database, "bob@example.com")
    theirs = await make_key(rig.database, rig.secrets_file, other)
    await ring.identify(rig.made.key)
    await ring.identify(theirs.key)
    await ring.follow()
    at = ring.revision
    await rig.revoke()
    await ring.follow()
    assert ring.revision != at


async def test_more_changes_than_are_noted_make_every_key_doubtful(rig: Rig) -> None:
    """The one that is about this key is noted no more."""
    who = await rig.identify()
    await rig.ring.follow()
    at = rig.ring.revision
    other = await make_user(rig.database, "bob@example.com")
    async with rig.database.transaction() as conn:
        await accounts.change_user(conn, rig.user.id, accounts.Changes(plan_id="pro"), now=NOW)
        for plan in ("pro", "free") * (KEPT // 2):
            await accounts.change_user(conn, other.id, accounts.Changes(plan_id=plan), now=NOW)
        noted = await conn.exec_driver_sql("SELECT count(*) FROM key_changes")
        assert noted.scalar_one() == KEPT
    await rig.ring.follow()
    assert rig.remembered() is None
    assert rig.ring.revision != at
    assert (await rig.identify()).plan_id == "pro" != who.plan_id
    await rig.ring.follow()
    assert rig.remembered() is not None


async def test_as_many_changes_as_are_noted_are_followed(rig: Rig) -> None:
    other = await make_user(rig.database, "bob@example.com")
    theirs = await make_key(rig.database, rig.secrets_file, other)
    await rig.ring.identify(theirs.key)
    await rig.ring.follow()
    async with rig.database.transaction() as conn:
        for plan in ("pro", "free") * (KEPT // 2):
            await accounts.change_user(conn, rig.user.id, accounts.Changes(plan_id=plan), now=NOW)
    await rig.ring.follow()
    assert rig.remembered(theirs.key) is not None


@pytest.mark.parametrize("back", [0, 1, 2])
async def test_a_revision_that_goes_back_makes_every_key_doubtful(rig: Rig, back: int) -> None:
    """A backup was put in place: what has changed since it was made is not to be told."""
    for plan in ("pro", "free", "pro"):
        await rig.change(accounts.Changes(plan_id=plan))
    assert (await rig.identify()).plan_id == "pro"
    await rig.ring.follow()
    async with rig.database.transaction() as conn:
        if back:
            await conn.execute(update(revisions).where(revisions.c.subject == "keys").values(value=back))
        else:
            await conn.execute(delete(revisions).where(revisions.c.subject == "keys"))
        await conn.execute(delete(key_changes).where(key_changes.c.revision > back))
        # Noted as well, as the first change since the backup.
        await conn.exec_driver_sql("UPDATE users SET plan_id = 'free'")
        await conn.execute(delete(key_changes))
    await rig.ring.follow()
    assert rig.remembered() is None
    assert (await rig.identify()).plan_id == "free"
    await rig.ring.follow()
    assert rig.remembered() is not None
    await rig.change(accounts.Changes(plan_id="pro"))
    await rig.ring.follow()
    assert (await rig.identify()).plan_id == "pro"


async def test_a_key_read_before_a_revision_that_is_known_is_not_remembered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up that began before the key was revoked would otherwise keep it good until the next change."""
    await rig.ring.follow()
    held = Held(rig.database, monkeypatch)
    looking = asyncio.ensure_future(rig.identify())
    await held.read.wait()
    held.others_pass()
    await rig.revoke()
    await rig.ring.follow()
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()  # does not wait for the look-up that began before
    held.speaks.set()
    await looking
    assert rig.remembered() is None


async def test_a_key_read_before_a_change_that_is_not_known_yet_is_forgotten_when_it_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.ring.follow()
    held = Held(rig.database, monkeypatch)
    looking = asyncio.ensure_future(rig.identify())
    await held.read.wait()
    held.others_pass()
    await rig.revoke()
    held.speaks.set()
    await looking
    assert rig.remembered() is not None
    await rig.ring.follow()
    assert rig.remembered() is None


async def test_a_key_read_before_a_backup_was_put_in_place_is_not_remembered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plan in ("pro", "free"):
        await rig.change(accounts.Changes(plan_id=plan))
    await rig.ring.follow()
    held = Held(rig.database, monkeypatch)
    looking = asyncio.ensure_future(rig.identify())
    await held.read.wait()
    held.others_pass()
    async with rig.database.transaction() as conn:
        await conn.execute(update(revisions).where(revisions.c.subject == "keys").values(value=1))
    await rig.ring.follow()
    held.speaks.set()
    await looking
    assert rig.remembered() is None


async def test_a_poll_while_many_keys_are_looked_up_and_revoked_leaves_none_good(rig: Rig) -> None:
    """Whatever the order in which look-ups, polls and changes meet."""
    generator = random.Random(5)
    made = [await make_key(rig.database, rig.secrets_file, rig.user) for _ in range(30)]
    revoked: set[str] = set()

    async def looking() -> None:
        for _ in range(60):
            with contextlib.suppress(InvalidKey):
                await rig.ring.identify(generator.choice(made).key)
            await asyncio.sleep(0)

    async def revoking() -> None:
        for key in generator.sample(made, 20):
            await rig.revoke(key)
            revoked.add(key.id)

    async def polling() -> None:
        for _ in range(40):
            await rig.ring.follow()
            await asyncio.sleep(0)

    await asyncio.gather(looking(), looking(), revoking(), polling(), polling())
    await rig.ring.follow()
    for key in made:
        assert rig.remembered(key.key) is None or key.id not in revoked
    found = [await asyncio.gather(rig.ring.identify(key.key), return_exceptions=True) for key in made]
    assert [isinstance(it, InvalidKey) for (it,) in found] == [key.id in revoked for key in made]


async def test_what_this_process_commits_is_known_to_it_at_once(rig: Rig) -> None:
    await rig.identify()
    rig.database.after_commit = rig.ring.follow_commit
    await rig.revoke()
    assert rig.remembered() is None
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()


async def test_a_commit_that_cannot_be_followed_leaves_no_key_remembered(rig: Rig) -> None:
    who = await rig.identify()
    rig.database.after_commit = rig.ring.follow_commit
    await rig.go_away()
    assert rig.remembered() is None
    assert await rig.identify() is who, "the database does not answer, and it was good a moment ago"


async def test_a_poll_that_is_slow_counts_from_its_question(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(rig.database, monkeypatch)
    polling = asyncio.ensure_future(rig.ring.follow())
    await held.read.wait()
    rig.clock.seconds = 3.0
    held.speaks.set()
    await polling
    assert rig.ring.trusted_until == 5.0


async def test_a_poll_that_hangs_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.identify()
    await rig.ring.follow()
    monkeypatch.setattr(authentication, "_PATIENCE", 0.1)
    held = Held(rig.database, monkeypatch)
    rig.clock.seconds = 2.0
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.follow()
    assert rig.remembered() is not None
    assert rig.ring.trusted_until == 5.0
    held.others_pass()
    await rig.ring.follow()
    assert rig.ring.trusted_until == 7.0


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
    rig.clock.seconds = 65.0
    with pytest.raises(InvalidKey, match="expired"):
        await rig.identify()
    check(await rig.ring.identify(new.key), "127.0.0.1", rig.clock.epoch())


async def test_many_callers_with_one_key_share_a_look_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(rig.database, monkeypatch)
    before = rig.queries.count
    callers = [asyncio.ensure_future(rig.identify()) for _ in range(50)]
    await asyncio.sleep(0)
    callers[0].cancel()
    held.speaks.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, Principal) for outcome in outcomes[1:])
    assert rig.queries.count == before + (2 if rig.database.path else 1), "a BEGIN on SQLite"


async def test_without_the_database_a_key_is_never_wrong(rig: Rig) -> None:
    who = await rig.identify()
    await rig.go_away()
    rig.clock.seconds = 599.0
    assert await rig.identify() is who
    asked = rig.queries.count
    assert rig.remembered() is who, "not asked again for each request"
    assert rig.queries.count == asked
    rig.clock.seconds = 600.0
    assert rig.remembered() is None
    with pytest.raises(DatabaseUnavailable) as caught:
        await rig.identify()
    assert (caught.value.status, caught.value.retry_after) == (503, 2)
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.identify(OURS[0])
    await rig.come_back()
    await rig.ring.follow()
    assert await rig.identify() == who


async def test_the_ten_minutes_begin_with_the_last_poll(rig: Rig) -> None:
    who = await rig.identify()
    rig.clock.seconds = 1000.0
    await rig.ring.follow()
    await rig.go_away()
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.follow()
    rig.clock.seconds = 1599.0
    assert await rig.identify() is who
    rig.clock.seconds = 1600.0
    with pytest.raises(DatabaseUnavailable):
        await rig.identify()


async def test_the_ten_minutes_of_a_doubtful_key_begin_with_the_last_poll_before(rig: Rig) -> None:
    for plan in ("pro", "free"):
        await rig.change(accounts.Changes(plan_id=plan))
    who = await rig.identify()
    rig.clock.seconds = 1000.0
    await rig.ring.follow()
    async with rig.database.transaction() as conn:
        await conn.execute(update(revisions).where(revisions.c.subject == "keys").values(value=1))
    rig.clock.seconds = 1002.0
    await rig.ring.follow()
    await rig.go_away()
    rig.clock.seconds = 1599.0
    assert await rig.identify() is who
    rig.clock.seconds = 1600.0
    with pytest.raises(DatabaseUnavailable):
        await rig.identify()


async def test_a_key_whose_account_changed_is_not_taken_when_the_database_is_away(rig: Rig) -> None:
    await rig.identify()
    await rig.revoke()
    await rig.ring.follow()
    await rig.go_away()
    with pytest.raises(DatabaseUnavailable):
        await rig.identify()


async def test_what_changed_while_the_database_was_away_is_known_when_it_is_back(rig: Rig) -> None:
    await rig.identify()
    await rig.go_away()
    with pytest.raises(DatabaseUnavailable):
        await rig.ring.follow()
    rig.clock.seconds = 60.0
    await rig.identify()
    await rig.come_back()
    await rig.revoke()
    await rig.ring.follow()
    with pytest.raises(InvalidKey, match="revoked"):
        await rig.identify()


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
    held = Held(rig.database, monkeypatch)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await rig.identify()
    (loading,) = rig.ring._loading.values()
    held.speaks.set()
    await loading
    assert (await rig.identify()).user_id == rig.user.id


async def test_the_key_used_longest_ago_makes_room(rig: Rig) -> None:
    ring = Keyring(rig.database, rig.secrets_file, most=3, clock=rig.clock.monotonic, now=rig.clock.epoch)
    made = [await make_key(rig.database, rig.secrets_file, rig.user) for _ in range(5)]
    for key in (*made[:3], made[0], made[3], made[4]):
        await ring.identify(key.key)
    kept = [ring.remembered(ring.mark(key.key)) is not None for key in made]
    assert kept == [True, False, False, True, True]
    assert len(ring._entries) == 3
    assert {mark for marks in ring._marks_of.values() for mark in marks} == set(ring._entries)


async def test_nothing_is_kept_of_an_account_whose_keys_are_forgotten(rig: Rig) -> None:
    second = await make_key(rig.database, rig.secrets_file, rig.user)
    await rig.ring.identify(second.key)
    await rig.identify()
    await rig.ring.follow()
    await rig.revoke()
    await rig.ring.follow()
    assert (len(rig.ring._entries), rig.ring._marks_of) == (0, {})


async def test_a_pepper_newer_than_the_process_is_found(rig: Rig) -> None:
    await rig.identify()
    elsewhere = SecretsFile(rig.secrets_file.path)
    elsewhere.rotate(secrets.token_bytes)
    made = await make_key(rig.database, elsewhere, rig.user)
    assert (await rig.ring.identify(made.key)).key_id == made.id
    rig.clock.seconds = 5.0
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
    at = rig.ring.revision
    await rig.revoke()
    rig.clock.seconds = 6.0
    with pytest.raises(InvalidKey):
        await rig.identify()
    assert rig.ring.revision != at
    await rig.go_away()
    with pytest.raises(DatabaseUnavailable):
        await rig.identify()


async def test_a_key_that_is_found_changed_before_a_poll_moves_the_revision(rig: Rig) -> None:
    await rig.identify()
    at = rig.ring.revision
    rig.clock.seconds = 5.0
    await rig.identify()
    assert rig.ring.revision == at
    await rig.change(accounts.Changes(plan_id="pro"))
    rig.clock.seconds = 10.0
    await rig.identify()
    assert rig.ring.revision != at


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

    def read_now(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow] | None:
        return None

    async def read(self, text: str, values: Sequence[Cell] = ()) -> list[PointRow]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it does not answer")


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
