"""Keys as their owner handles them: made, shown, rolled, revoked, and never readable from the database alone."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from penstock.core.api_key import display, is_well_formed
from penstock.domain.accounts.accounts import User
from penstock.domain.keys import management
from penstock.domain.keys.management import BadKeyWish, KeyNotKept, KeyWish, NewKey, NoSuchKey
from penstock.store.sealed import Resealed, reseal
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.database import Database
from penstock.store.sql.schema import api_keys
from tests.domain.people import NOW, make_user, make_vault, open_database
from tests.stores import Engine

PLAIN = KeyWish()


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(engine, tmp_path) as database:
        yield database


@pytest.fixture
def secrets_file(tmp_path: Path) -> SecretsFile:
    return make_vault(tmp_path)


@pytest.fixture
async def user(database: Database) -> User:
    return await make_user(database)


async def make_key(
    database: Database, secrets_file: SecretsFile, user: User, wish: KeyWish = PLAIN, *, keep: bool = True
) -> NewKey:
    async with database.transaction() as conn:
        return await management.create_key(
            conn, secrets_file, user.id, wish, now=NOW, entropy=secrets.token_bytes, keep=keep
        )


async def roll(
    database: Database, secrets_file: SecretsFile, user: User, key_id: str, grace: int, now: int = NOW
) -> NewKey:
    async with database.transaction() as conn:
        old = await management.get_key(conn, user.id, key_id)
        return await management.roll_key(
            conn, secrets_file, old, grace=grace, now=now, entropy=secrets.token_bytes, keep=True
        )


def stored_bytes(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.glob("penstock.db*"))


async def test_a_key_is_listed_but_not_stored(
    database: Database, secrets_file: SecretsFile, user: User, tmp_path: Path
) -> None:
    wish = KeyWish("laptop", ("claude-haiku-4.5",), ("203.0.113.0/24",), NOW + 1)
    made = await make_key(database, secrets_file, user, wish)
    assert is_well_formed(made.key)
    assert made.key not in repr(made)
    async with database.connect() as conn:
        (row,) = await management.list_keys(conn, user.id)
    assert (row.id, row.name, row.shown) == (made.id, "laptop", display(made.key))
    assert (row.models, row.addresses, row.expires_at) == (wish.models, wish.addresses, NOW + 1)
    if database.path is not None:
        assert made.id.encode() in stored_bytes(tmp_path)
    assert row.works(NOW)
    assert not row.works(NOW + 1)
    assert made.key.encode() not in stored_bytes(tmp_path)


async def test_a_kept_key_can_be_shown_again_by_its_owner_alone(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    made = await make_key(database, secrets_file, user)
    other = await make_user(database, "eve@example.com")
    async with database.transaction() as conn:
        assert await management.reveal_key(conn, secrets_file, user.id, made.id) == made.key
        with pytest.raises(NoSuchKey):
            await management.reveal_key(conn, secrets_file, other.id, made.id)
        with pytest.raises(NoSuchKey):
            await management.revoke_key(conn, other.id, made.id, now=NOW)


async def test_a_key_that_is_not_kept_is_shown_once(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    made = await make_key(database, secrets_file, user, keep=False)
    async with database.transaction() as conn:
        with pytest.raises(KeyNotKept):
            await management.reveal_key(conn, secrets_file, user.id, made.id)


async def test_a_sealed_copy_cannot_be_moved_to_another_key(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    one, other = await make_key(database, secrets_file, user), await make_key(database, secrets_file, user)
    async with database.transaction() as conn:
        sealed = await conn.scalar(select(api_keys.c.sealed).where(api_keys.c.id == one.id))
        await conn.execute(update(api_keys).where(api_keys.c.id == other.id).values(sealed=sealed))
        with pytest.raises(SecretsFileError, match="belongs to another row"):
            await management.reveal_key(conn, secrets_file, user.id, other.id)


async def test_revoking_ends_a_key_and_its_copy(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    made = await make_key(database, secrets_file, user)
    async with database.transaction() as conn:
        await management.revoke_key(conn, user.id, made.id, now=NOW)
        with pytest.raises(NoSuchKey):
            await management.revoke_key(conn, user.id, made.id, now=NOW + 1)
        assert await management.working_keys(conn, user.id, now=NOW) == ()
        row = await management.get_key(conn, user.id, made.id)
        assert (row.revoked_at, row.kept) == (NOW, False)


async def test_rolling_gives_a_like_key_and_leaves_the_old_its_grace(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    wish = KeyWish("ci", ("m",), ("10.0.0.0/8",), NOW + 10_000_000)
    old = await make_key(database, secrets_file, user, wish)
    new = await roll(database, secrets_file, user, old.id, 3600)
    assert new.key != old.key
    async with database.connect() as conn:
        was, now = [await management.get_key(conn, user.id, key.id) for key in (old, new)]
    assert was.expires_at == NOW + 3_600_000
    assert was.revoked_at is None
    assert (now.name, now.models, now.addresses, now.expires_at) == (
        "ci", wish.models, wish.addresses, wish.expires_at,
    )  # fmt: skip


async def test_a_grace_never_lengthens_a_key(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    old = await make_key(database, secrets_file, user, KeyWish(expires_at=NOW + 5))
    await roll(database, secrets_file, user, old.id, 3600)
    async with database.connect() as conn:
        assert (await management.get_key(conn, user.id, old.id)).expires_at == NOW + 5


async def test_rolling_without_grace_ends_the_old_key_at_once(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    old = await make_key(database, secrets_file, user)
    await roll(database, secrets_file, user, old.id, 0)
    async with database.connect() as conn:
        assert (await management.get_key(conn, user.id, old.id)).revoked_at == NOW
    with pytest.raises(NoSuchKey, match="no longer works"):
        await roll(database, secrets_file, user, old.id, 0)
    with pytest.raises(BadKeyWish):
        await roll(database, secrets_file, user, old.id, -1)


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        (KeyWish(""), "name"),
        (KeyWish(" "), "name"),
        (KeyWish("a\nb"), "name"),
        (KeyWish("x" * 101), "name"),
        (KeyWish(models=()), "models"),
        (KeyWish(models=("",)), "models"),
        (KeyWish(addresses=()), "addresses"),
        (KeyWish(addresses=("10.0.0.1/8",)), "addresses"),
        (KeyWish(addresses=("everywhere",)), "addresses"),
        (KeyWish(expires_at=NOW), "expires_at"),
        (KeyWish("taken"), "name"),
    ],
)
async def test_what_a_key_cannot_be(
    database: Database, secrets_file: SecretsFile, user: User, wish: KeyWish, param: str
) -> None:
    await make_key(database, secrets_file, user, KeyWish("taken"))
    with pytest.raises(BadKeyWish) as caught:
        await make_key(database, secrets_file, user, wish)
    assert caught.value.param == param


async def test_names_come_by_themselves_and_keys_have_an_end(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    names = [(await make_key(database, secrets_file, user)).name for _ in range(management.MAX_KEYS)]
    assert names[:3] == ["default", "key 2", "key 3"]
    assert len(set(names)) == management.MAX_KEYS
    with pytest.raises(BadKeyWish, match="100 keys already"):
        await make_key(database, secrets_file, user)


async def test_after_a_rotation_old_keys_are_known_and_copies_sealed_anew(
    database: Database, secrets_file: SecretsFile, user: User
) -> None:
    made = await make_key(database, secrets_file, user)
    secrets_file.rotate(secrets.token_bytes)
    async with database.transaction() as conn:
        await management.check_peppers(conn, secrets_file)
        assert await management.reveal_key(conn, secrets_file, user.id, made.id) == made.key
    only = [management.SEALED_KEYS]
    assert await reseal(database, only, secrets_file, secrets.token_bytes) == Resealed(1)
    assert await reseal(database, only, secrets_file, secrets.token_bytes) == Resealed()
    async with database.connect() as conn:
        assert await management.reveal_key(conn, secrets_file, user.id, made.id) == made.key
        digest = await conn.scalar(select(api_keys.c.digest).where(api_keys.c.id == made.id))
    assert digest in secrets_file.digests(made.key)


async def test_another_installations_secrets_are_noticed(
    database: Database, secrets_file: SecretsFile, user: User, tmp_path: Path
) -> None:
    made = await make_key(database, secrets_file, user)
    stranger = SecretsFile.make(tmp_path / "other.json", secrets.token_bytes)
    async with database.connect() as conn:
        with pytest.raises(SecretsFileError, match=r"1 API key was .*other\.json does not hold"):
            await management.check_peppers(conn, stranger)
        with pytest.raises(SecretsFileError, match="sealed with key"):
            await management.reveal_key(conn, stranger, user.id, made.id)
