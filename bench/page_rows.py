"""Rows for ``bench.pages``, made inside the database by its own statements: as many as are wanted, in the order of time.

Accounts differ as they do in a service: a few have most of the requests, and most have none today. The sums are made from the
rows by the statements of ``penstock reconcile``; those of the last days by hour, as a running server has them.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import msgspec
from msgspec.structs import asdict
from sqlalchemy import Connection, insert
from sqlalchemy.dialects.postgresql import dialect as pg_dialect
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from penstock.core.limits import day_of
from penstock.core.neutral.usage import Usage
from penstock.domain.accounts import accounts
from penstock.domain.accounts.credentials import set_password
from penstock.domain.accounts.passwords import PasswordHasher
from penstock.domain.ledger import latency, rollups
from penstock.domain.ledger.kinds import Kind, KindRow, KnownKind, Settlement
from penstock.domain.ledger.rollups import Kept
from penstock.domain.staff import membership
from penstock.domain.trail.entries import SYSTEM
from penstock.operations.first_start import open_store
from penstock.settings import Settings
from penstock.store.sql.partitions import is_partitioned, make_for
from penstock.store.sql.schema import kinds, usage_times

CUSTOMER = "heavy@example.com"
OWNER = "owner@example.com"
PASSWORD = "a long enough sentence"
"""Who looks, both with this password."""
MODELS = ("claude-haiku-4.5", "claude-sonnet-4.6", "deepseek-3.2", "minimax-m2.1")
RARE = 50_000
"""One request in so many is of a kind that is found nowhere else."""
DAYS = 90
_DAY_MS = 86_400_000


_DAYS_USED = (
    "INSERT INTO usage_days (user_id, day, used, refunded)"
    " SELECT user_id, day, sum(CASE WHEN counted THEN 1 ELSE 0 END), sum(CASE WHEN counted THEN 0 ELSE 1 END)"
    " FROM requests JOIN kinds ON kinds.id = kind GROUP BY user_id, day"
)


class Wanted(msgspec.Struct, frozen=True):
    """How much of everything. One request in ``mine`` is of the account that looks; ``people`` are the others."""

    rows: int
    people: int
    mine: int
    around: int
    """Entries of the trail and of security logs, changes, mails, refused requests, sessions: so many of each."""


def _kinds() -> list[tuple[KindRow, KindRow]]:
    """For each model that of an answer, and that of a failure."""
    found: list[tuple[KindRow, KindRow]] = []
    for model in MODELS:
        known = KnownKind(Kind("chat", model, "m", True, "openai", "p", "m", "chat"))
        failed = Settlement(
            id="", status=502, outcome="upstream_error", counted=False, refund_reason="no_output",
            error_code="provider_timeout", usage=Usage(), estimated=False, provider="p", upstream_model="m",
            upstream_dialect="chat", attempts=1, first_byte_ms=None, total_ms=None, translation=None,
        )  # fmt: skip
        found.append((known.plain, known.ended(failed)))
    return found


KINDS = _kinds()
SELDOM = KnownKind(
    Kind("messages", "rare-model", "m", False, "seldom", "rare-provider", "m", "messages")
).plain


class Rows:
    """Makes them, with the words of one engine."""

    def __init__(self, wanted: Wanted, pepper: str, *, postgresql: bool) -> None:
        self._wanted = wanted
        self._pepper = pepper
        self._postgresql = postgresql
        self._dialect = pg_dialect() if postgresql else sqlite_dialect()
        self._now = int(time.time() * 1000)
        self._today = day_of(time.time())

    def statements(self) -> list[str]:
        """What makes everything in a database that has its schema and those who look."""
        return [self._users(), self._keys(), self._requests(), *self._around(), *self._sums(), "ANALYZE"]

    # ---- who

    def _numbers(self, most: int) -> str:
        if self._postgresql:
            return f"generate_series(1, {most}::bigint) AS numbers(n)"
        return (
            f"(WITH RECURSIVE counting(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < {most})"
            " SELECT n FROM counting)"
        )

    def _padded(self, number: str, width: int) -> str:
        return (
            f"lpad(({number})::text, {width}, '0')" if self._postgresql else f"printf('%0{width}d', {number})"
        )

    def _bytes(self, number: str, width: int) -> str:
        """So many bytes that end in the number."""
        if self._postgresql:
            return f"decode(lpad(to_hex(({number})::bigint), {2 * width}, '0'), 'hex')"
        return f"CAST(printf('%0{width}d', {number}) AS BLOB)"

    def _drawn(self, most: int | str, salt: int) -> str:
        """A number below ``most`` that looks drawn."""
        return f"(((n + {salt}) * 7919 + (n / 13) * 104729 + {salt} * 31) % {most})"

    def _users(self) -> str:
        return (
            "INSERT INTO users (id, email, email_canonical, plan_id, created_at, verified_at, disabled_at, leaving_at)"
            f" SELECT 'usr_' || n, 'person' || {self._padded('n', 7)} || '@example.com', 'person' || {self._padded('n', 7)}"
            " || '@example.com', CASE WHEN n % 20 = 0 THEN 'pro' WHEN n % 50001 = 1 THEN 'starter' ELSE 'free' END,"
            f" {self._now} - ({self._wanted.people} - n) * 60000,"
            f" CASE WHEN n % 10007 = 3 THEN NULL ELSE {self._now} END,"
            f" CASE WHEN n % 20011 = 5 THEN {self._now} END, CASE WHEN n % 30011 = 7 THEN {self._now} + {9 * _DAY_MS} END"
            f" FROM {self._numbers(self._wanted.people)}"
        )

    def _keys(self) -> str:
        return (
            "INSERT INTO api_keys (id, user_id, name, prefix, last4, digest, pepper_id, created_at)"
            f" SELECT 'key_' || n, 'usr_' || n, 'first', 'sk-ps-' || {self._padded('n', 6)}, {self._padded('n % 10000', 4)},"
            f" {self._bytes('n', 32)}, '{self._pepper}', 1"
            f" FROM {self._numbers(self._wanted.people)}"
        )

    # ---- requests

    def _requests(self) -> str:
        wanted = self._wanted
        first, span = (self._today - DAYS + 1) * _DAY_MS, self._now - (self._today - DAYS + 1) * _DAY_MS
        at = f"({first} + CAST(n AS BIGINT) * {span // wanted.rows})"
        share = f"({self._drawn(1000, 3)} * 1.0 / 1000)"
        # The third power of an even share: a tenth of the accounts has nearly half of the requests.
        person = f"1 + CAST({share} * {share} * {share} * {wanted.people - 1} AS BIGINT)"
        answers = " ".join(f"WHEN {at} THEN {pair[0].id}" for at, pair in enumerate(KINDS))
        failures = " ".join(f"WHEN {at} THEN {pair[1].id}" for at, pair in enumerate(KINDS))
        model = self._drawn(len(KINDS), 11)
        kind = (
            f"CASE WHEN n % {RARE} = 0 THEN {SELDOM.id} WHEN {self._drawn(50, 5)} = 0"
            f" THEN CASE {model} {failures} END ELSE CASE {model} {answers} END END"
        )
        time_ = self._drawn(1000, 17)
        id = self._bytes("n", 12)
        return (
            "INSERT INTO requests (day, id, user_id, key_id, created_at, kind, requested_model, input_tokens, output_tokens,"
            " cache_read_tokens, cache_write_tokens, first_byte_ms, total_ms)"
            f" SELECT {at} / {_DAY_MS}, {id}, CASE WHEN n % {wanted.mine} = 0 THEN 'usr_0' ELSE 'usr_' || ({person}) END,"
            f" CASE WHEN n % {wanted.mine} = 0 THEN 'key_' || (n % 3) ELSE 'key_' || ({person}) END, {at}, {kind}, 'm',"
            f" {self._drawn(10_000, 7)}, {self._drawn(1000, 19)}, 0, 0, 1 + {time_} * {time_} / 200,"
            f" 20 + {time_} * {time_} / 20"
            f" FROM {self._numbers(wanted.rows)}"
        )

    def _sums(self) -> list[str]:
        apart = self._today - latency.HOURS_KEPT + 1
        made = [
            self._summed(sums, by_hour=False)
            for sums in rollups.sums_of_rows(0, None)
            if sums.table is not usage_times
        ]
        made += [
            self._summed(rollups.sums_of_rows(first, end)[-1], by_hour=by_hour)
            for first, end, by_hour in ((0, apart, False), (apart, None, True))
        ]
        return [
            _DAYS_USED,
            *made,
        ]

    def _summed(self, sums: Kept, *, by_hour: bool) -> str:
        statement = insert(sums.table).from_select([*sums.key, *sums.columns], sums.made)
        text = str(statement.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))
        if by_hour:
            day = f"(entries.created_at / {_DAY_MS}) * 24"
            assert day in text
            text = text.replace(day, f"(entries.created_at / {rollups.HOUR_MS})")
        return text

    # ---- what is around them

    def _around(self) -> list[str]:
        many, now = self._wanted.around, self._now
        from_ = f" FROM {self._numbers(many)}"
        id = self._padded("n", 20)
        at = f"{now} - ({many} - n) * 60000"
        person = f"'usr_' || (1 + n % {self._wanted.people})"
        return [
            "INSERT INTO trail (id, at, actor_kind, actor_id, actor_name, on_behalf_of, address, agent, action, object_kind,"
            " object_id, object_name, reason, request_id, result, personal, seq, hash)"
            f" SELECT 'trl_' || {id}, {at}, 'user', 'usr_owner', '{OWNER}', '', '203.0.113.7', 'Firefox',"
            f" CASE WHEN n % 20000 = 0 THEN 'user_deleted' ELSE 'user_changed' END, 'user', {person}, 'somebody', 'as asked',"
            f" '', 'done', {self._bytes('n', 32)}, n, {self._bytes('n', 32)}" + from_,
            "INSERT INTO changes (id, at, operation, actor_id, actor_name, object_kind, object_id, before, after)"
            f" SELECT 'chg_' || {id}, {at}, 'opn_' || {id}, 'usr_owner', '{OWNER}', 'user', {person},"
            " '{}', '{}'" + from_,
            "INSERT INTO outbox (id, kind, recipient, created_at, due_at, tries, sent_at, error)"
            f" SELECT 'mail_' || {id}, 'code', 'person@example.com', {at}, NULL, 1,"
            f" CASE WHEN n % 10000 = 0 THEN NULL ELSE {at} END, CASE WHEN n % 10000 = 0 THEN 'refused' END" + from_,
            "INSERT INTO audit (id, at, user_id, action, about, address)"
            f" SELECT 'aud_' || {id}, {at}, CASE WHEN n % 2 = 0 THEN 'usr_0' ELSE {person} END, 'signed_in', '', '203.0.113.7'"
            + from_,
            "INSERT INTO refusals (id, user_id, key_id, created_at, status, code, dialect, model, requested_model, stream,"
            " client, message, plan_id)"
            f" SELECT {self._bytes(f'{self._wanted.rows} + n', 12)}, CASE WHEN n % 10 = 0 THEN 'usr_0' ELSE {person} END,"
            f" 'key_0', {at}, 429, 'daily_limit', 'chat', 'deepseek-3.2', 'deepseek-3.2', {'TRUE' if self._postgresql else 1},"
            " 'openai', 'Daily request limit reached.', 'free'" + from_,
            "INSERT INTO refusal_hours (user_id, hour, code, key_id, requests)"
            f" SELECT CASE WHEN n % 10 = 0 THEN 'usr_0' ELSE {person} END, ({at}) / {rollups.HOUR_MS}, 'daily_limit',"
            f" 'key_' || n, 1" + from_,
            "INSERT INTO sessions (digest, id, user_id, stage, created_at, seen_at, address, agent)"
            f" SELECT {self._bytes('n', 32)}, 'ses_' || {id}, {person}, 'signed_in', {at}, {at}, '203.0.113.7', 'Firefox'"
            + from_,
            f"INSERT INTO plan_wishes SELECT id, 'pro', {now} FROM users WHERE id LIKE 'usr_%00'",
        ]  # fmt: skip


async def fill(settings: Settings, wanted: Wanted) -> None:
    """The database of these settings, with everything."""
    async with open_store(settings) as store:
        postgresql = settings.database_url.startswith("postgresql")
        rows = Rows(wanted, store.secrets_file.pepper_id, postgresql=postgresql)
        hashed = await PasswordHasher(at_once=1, waiting=1).hash(PASSWORD)
        async with store.database.transaction() as conn:
            if await conn.run_sync(is_partitioned):
                await conn.run_sync(_partitions)
            for id, email in (("usr_0", CUSTOMER), ("usr_owner", OWNER)):
                user = await accounts.create_user(
                    conn, email, plan="pro", admin=False, verified=True, now=1, id=id
                )
                await set_password(conn, user.id, hashed, now=1)
            await membership.give(conn, user, "owner", SYSTEM, now=1, entropy=secrets.token_bytes)
            found = [asdict(kind) for kind in (SELDOM, *(one for pair in KINDS for one in pair))]
            await conn.execute(insert(kinds), found)
    if postgresql:
        await _on_postgresql(settings.database_url, rows.statements())
    else:
        await asyncio.to_thread(_on_sqlite, settings.data / "penstock.db", rows.statements())


def _partitions(connection: Connection) -> None:
    today = day_of(time.time())
    make_for(connection, list(range(today - DAYS, today + 2)))


async def _on_postgresql(url: str, statements: list[str]) -> None:
    connection = await asyncpg.connect(url, command_timeout=None)
    await connection.execute("SET synchronous_commit = off; SET work_mem = '512MB'")
    # The triggers of keys tell servers of each, and none runs.
    await connection.execute("SET session_replication_role = replica")
    for statement in statements:
        with _told(statement):
            await connection.execute(statement)
    await connection.close()


def _on_sqlite(path: Path, statements: list[str]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    for statement in statements:
        with _told(statement):
            connection.execute(statement)
    connection.close()


@contextmanager
def _told(statement: str) -> Generator[None]:
    began = time.perf_counter()
    yield
    print(f"  {' '.join(statement.split()[:3]):<32}{time.perf_counter() - began:>8.1f} s", flush=True)
