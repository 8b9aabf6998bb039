"""One-time codes and the second factor: how often each may be tried, and that what was used is used up."""

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pyotp.totp import TOTP
from sqlalchemy import func, select, update

from penstock.domain.accounts import credentials, one_time_codes
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
HOME = "192.0.2.0"
STEP = credentials.TOTP_STEP_SECONDS * 1000
MINUTE, DAY = 60_000, 86_400_000
GUARDS = attempt_limits_of(Settings())


class Desk:
    """Codes and second factors of one user, over a real database."""

    def __init__(self, database: Database, secrets_file: SecretsFile, user: User) -> None:
        self.database, self.secrets_file, self.user = database, secrets_file, user

    async def ask(self, visitor: bytes = HERE, network: str = HOME, *, now: int = NOW) -> str:
        """A new code."""
        wish = Wish("reset", self.user.email, self.user.email, visitor, network, self.user.id)
        async with self.database.transaction() as conn:
            return await one_time_codes.issue(
                conn, self.secrets_file, wish, GUARDS, now=now, entropy=secrets.token_bytes
            )

    async def use(
        self, digits: str, visitor: bytes = HERE, network: str = HOME, *, now: int = NOW
    ) -> Asked | WrongCode | TooOften:
        """Try a code."""
        async with self.database.transaction() as conn:
            return await one_time_codes.use(
                conn, self.secrets_file, visitor, network, "reset", digits, now=now
            )

    async def guess(self, browser: int, network: str, *, now: int) -> int:
        """Ask for a code in a browser, and guess as long as guesses are looked at: how many were."""
        visitor = browser.to_bytes(32)
        try:
            digits = await self.ask(visitor, network, now=now)
        except TooOften:
            return 0
        for looked_at in range(TRIES):
            if isinstance(await self.use(other_than(digits), visitor, network, now=now), TooOften):
                return looked_at
        return TRIES

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


async def test_guesses_from_everywhere_are_no_more_than_thirty_a_day(desk: Desk) -> None:
    """A new browser and a new network for each code, at every minute of some hours, and never the same again."""
    midnight = NOW - NOW % DAY
    guesses = [
        await desk.guess(n, f"198.51.100.{n}", now=midnight + hour * 60 * MINUTE + n % 12 * MINUTE)
        for hour in range(4)
        for n in range(hour * 12, hour * 12 + 12)
    ]
    assert sum(guesses) == 30
    assert sum(1 for looked_at in guesses if looked_at) == 20, "codes"
    assert await desk.guess(99, "203.0.113.1", now=midnight + DAY - 1) == 0
    assert await desk.guess(99, "203.0.113.1", now=midnight + DAY) == 5


async def test_guesses_from_one_network_are_fewer(desk: Desk) -> None:
    midnight = NOW - NOW % DAY
    guesses = [await desk.guess(n, "198.51.100.1", now=midnight + n * 10 * MINUTE) for n in range(100)]
    assert sum(guesses) == 13, "the first of eight codes, and five more"


async def test_guesses_in_one_browser_are_fewer_still(desk: Desk) -> None:
    midnight = NOW - NOW % DAY
    guesses = [await desk.guess(1, f"198.51.100.{n}", now=midnight + n * 30 * MINUTE) for n in range(40)]
    assert sum(1 for looked_at in guesses if looked_at) == 5, "codes"


async def test_the_right_code_is_looked_at_however_much_strangers_guess(desk: Desk) -> None:
    digits = await desk.ask()
    guesses = [await desk.guess(n, f"198.51.100.{n}", now=NOW) for n in range(20)]
    assert sum(guesses) == 21, "the first of eleven codes, and the ten of the day"
    assert isinstance(await desk.use(digits), Asked)


async def test_the_right_code_is_looked_at_beside_a_stranger_in_the_same_network(desk: Desk) -> None:
    digits = await desk.ask()
    await desk.guess(1, HOME, now=NOW)
    await desk.guess(2, HOME, now=NOW + MINUTE)
    assert isinstance(await desk.use(digits), Asked)


async def test_a_stranger_in_one_network_uses_up_no_mails_of_the_owners(desk: Desk) -> None:
    midnight = NOW - NOW % DAY
    for n in range(50):
        await desk.guess(n, "198.51.100.1", now=midnight + n * MINUTE)
    late = midnight + 50 * MINUTE
    assert isinstance(await desk.use(await desk.ask(now=late), now=late), Asked)
    later = midnight + 23 * 60 * MINUTE
    for n in range(50, 60):
        assert await desk.guess(n, "198.51.100.1", now=later) <= 1
    assert isinstance(await desk.use(await desk.ask(now=later), now=later), Asked)


async def test_right_codes_cost_nothing_of_the_days_tries(desk: Desk) -> None:
    midnight = NOW - NOW % DAY
    for n in range(12):
        visitor, network = bytes([n]) * 32, f"203.0.113.{n}"
        now = midnight + n * 30 * MINUTE
        digits = await desk.ask(visitor, network, now=now)
        # the first try of a code costs nothing: it is the right one, after a wrong one, that would
        assert isinstance(await desk.use(other_than(digits), visitor, network, now=now), WrongCode)
        assert isinstance(await desk.use(digits, visitor, network, now=now), Asked)


async def test_after_too_many_guesses_a_new_code_is_what_helps(desk: Desk) -> None:
    for n in range(4):
        await desk.guess(n, f"198.51.100.{n}", now=NOW)
    digits = await desk.ask()
    assert isinstance(await desk.use(other_than(digits)), WrongCode)
    refused = await desk.use(digits)
    assert isinstance(refused, TooOften)
    assert "Ask for a new one" in refused.message
    assert refused.retry_after == 60
    now = NOW + MINUTE
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


async def test_an_account_without_a_password_is_opened_by_none() -> None:
    """Not even by one that is found for the hash that such accounts are checked against."""
    hasher = PasswordHasher(at_once=1, waiting=1)
    hasher._nobody = await hasher.hash("nobody's own password")
    assert not (await hasher.check("nobody's own password", None)).good
