"""One-time codes and the second factor: how often each may be tried, and that what was used is used up."""

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pyotp.totp import TOTP
from sqlalchemy import func, select, update

from penstock.domain.accounts import credentials, one_time_codes, passwords
from penstock.domain.accounts.accounts import User
from penstock.domain.accounts.attempt_limits import TooOften, attempt_limits_of
from penstock.domain.accounts.one_time_codes import TRIES, Asked, Wish, WrongCode
from penstock.domain.accounts.passwords import PasswordHasher
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.database import Database
from penstock.store.sql.schema import one_time_codes as table
from tests.domain.people import NOW, make_user, make_vault, open_database
from tests.stores import Engine

HERE, THERE = b"h" * 32, b"t" * 32
"""Two browsers."""
STEP = credentials.TOTP_STEP_SECONDS * 1000
MINUTE, DAY = 60_000, 86_400_000
GUARDS = attempt_limits_of(Settings())


class Desk:
    """Codes and second factors of one user, over a real database."""

    def __init__(self, database: Database, secrets_file: SecretsFile, user: User) -> None:
        self.database, self.secrets_file, self.user = database, secrets_file, user

    async def ask(self, visitor: bytes = HERE, *, now: int = NOW) -> str:
        """A new code."""
        wish = Wish("reset", self.user.email, self.user.email, visitor, "192.0.2.0", self.user.id)
        async with self.database.transaction() as conn:
            return await one_time_codes.issue(
                conn, self.secrets_file, wish, GUARDS, now=now, entropy=secrets.token_bytes
            )

    async def use(
        self, digits: str, visitor: bytes = HERE, *, now: int = NOW
    ) -> Asked | WrongCode | TooOften:
        """Try a code."""
        async with self.database.transaction() as conn:
            return await one_time_codes.use(conn, self.secrets_file, visitor, "reset", digits, now=now)

    async def switch_on(self) -> str:
        """The secret of a second factor that counts from now on."""
        async with self.database.transaction() as conn:
            secret = await credentials.begin_second_factor(
                conn, self.secrets_file, self.user.id, entropy=secrets.token_bytes
            )
            await credentials.confirm_second_factor(conn, self.user.id, now=NOW, entropy=secrets.token_bytes)
        return secret

    async def factor(self, digits: str, *, now: int = NOW) -> bool:
        """Try a second factor."""
        async with self.database.transaction() as conn:
            return await credentials.use_second_factor(conn, self.secrets_file, self.user.id, digits, now=now)


@pytest.fixture
async def desk(engine: Engine, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with open_database(engine, tmp_path) as database:
        yield Desk(database, make_vault(tmp_path), await make_user(database))


def other_than(digits: str) -> str:
    return f"{(int(digits) + 1) % 1_000_000:06d}"


# ---- codes


async def test_a_code_is_good_once_in_the_browser_that_has_used_it(desk: Desk) -> None:
    digits = await desk.ask()
    assert isinstance(await desk.use(digits), Asked)
    assert isinstance(await desk.use(digits), WrongCode)


async def test_the_right_code_comes_too_late_after_five_wrong_ones(desk: Desk) -> None:
    digits = await desk.ask()
    for left in range(TRIES - 1, -1, -1):
        refused = await desk.use(other_than(digits))
        assert isinstance(refused, WrongCode)
        assert (f"{left} more" in refused.message) == bool(left)
    late = await desk.use(digits)
    assert isinstance(late, WrongCode)
    assert "too often" in late.message


async def test_a_code_is_good_up_to_its_last_moment(desk: Desk) -> None:
    digits = await desk.ask()
    end = NOW + one_time_codes.LIFETIME_MS
    assert isinstance(await desk.use(digits, now=end), WrongCode)
    assert isinstance(await desk.use(digits, now=end - 1), Asked)


async def test_new_codes_give_an_address_no_more_than_ten_tries_an_hour(desk: Desk) -> None:
    now = NOW
    for turn in range(2):
        digits = await desk.ask(bytes([turn]) * 32, now=now)
        for _ in range(TRIES):
            assert isinstance(await desk.use(other_than(digits), bytes([turn]) * 32, now=now), WrongCode)
        now += MINUTE
    digits = await desk.ask(now=now)
    assert isinstance(await desk.use(digits, now=now), TooOften), "even the right one"


async def test_new_codes_give_an_address_no_more_than_thirty_tries_a_day(desk: Desk) -> None:
    midnight = NOW - NOW % DAY
    for turn in range(6):
        now = midnight + turn * 60 * MINUTE
        digits = await desk.ask(now=now)
        for _ in range(TRIES):
            assert isinstance(await desk.use(other_than(digits), now=now), WrongCode)
    now = midnight + 10 * 60 * MINUTE
    assert isinstance(await desk.use(await desk.ask(now=now), now=now), TooOften)
    now = midnight + DAY
    assert isinstance(await desk.use(await desk.ask(now=now), now=now), Asked)


async def test_what_is_kept_of_one_code_is_of_no_use_for_another(desk: Desk) -> None:
    """Who can write to the database, and has had a code by mail, cannot make it the code of somebody else."""
    digits = await desk.ask(THERE)
    other = await desk.ask(HERE, now=NOW + MINUTE)
    kept, columns = table, table.c
    async with desk.database.transaction() as conn:
        digest = await conn.scalar(select(columns.digest).where(columns.visitor == THERE))
        await conn.execute(update(kept).where(columns.visitor == HERE).values(digest=digest))
    assert digits != other
    assert isinstance(await desk.use(digits, HERE, now=NOW + MINUTE), WrongCode)
    assert isinstance(await desk.use(digits, THERE, now=NOW + MINUTE), Asked)


async def test_a_code_that_was_mailed_to_nobody_is_never_right(desk: Desk) -> None:
    wish = Wish("reset", "who@example.com", "who@example.com", HERE, "192.0.2.0", None)
    async with desk.database.transaction() as conn:
        digits = await one_time_codes.issue(
            conn, desk.secrets_file, wish, GUARDS, now=NOW, entropy=secrets.token_bytes
        )
    refused = await desk.use(digits)
    assert isinstance(refused, WrongCode)
    assert "4 more tries" in refused.message


async def test_codes_that_are_too_old_are_tidied_away_and_no_others(desk: Desk) -> None:
    await desk.ask(THERE)
    digits = await desk.ask(HERE, now=NOW + MINUTE)
    now = NOW + one_time_codes.LIFETIME_MS + 1
    async with desk.database.transaction() as conn:
        assert await one_time_codes.tidy(conn, now=now) == 1
        assert await conn.scalar(select(func.count()).select_from(table)) == 1
    assert isinstance(await desk.use(digits, HERE, now=now), Asked)


# ---- the second factor


async def test_a_code_of_the_authenticator_is_good_once_and_so_are_those_before_it(desk: Desk) -> None:
    totp = TOTP(await desk.switch_on())
    at = NOW // 1000
    assert await desk.factor(totp.at(at))
    assert not await desk.factor(totp.at(at)), "it was used"
    assert not await desk.factor(totp.at(at - 30)), "an older one than was used"
    assert await desk.factor(totp.at(at + 30))
    assert not await desk.factor(totp.at(at + 30), now=NOW + STEP)
    assert await desk.factor(totp.at(at + 60), now=NOW + STEP)


@pytest.mark.parametrize(("off", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
async def test_the_clock_of_an_authenticator_may_be_off_by_one_step(desk: Desk, off: int, good: bool) -> None:
    totp = TOTP(await desk.switch_on())
    assert await desk.factor(totp.at(NOW // 1000 + off * credentials.TOTP_STEP_SECONDS)) is good


# ---- passwords


async def test_an_account_without_a_password_is_opened_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by one that is found for the hash that such accounts are checked against."""
    hasher = PasswordHasher(at_once=1, waiting=1)
    monkeypatch.setattr(passwords, "NOBODY", await hasher.hash("nobody's own password"))
    assert not (await hasher.check("nobody's own password", None)).good
