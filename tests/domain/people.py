"""A database with a plan in it, a secrets file, and a clock that tests set: what tests of people and keys need."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import event, insert
from sqlalchemy.engine import Connection

from penstock.domain.accounts.accounts import User, create_user, new_user_id
from penstock.store.secrets_file import SecretsFile
from penstock.store.sql.backend import Cell, PointRow
from penstock.store.sql.database import Database
from penstock.store.sql.schema import plans
from tests.stores import Engine

NOW = 1_800_000_000_000
"""Epoch milliseconds."""


class Clock:
    """Both of the key ring's clocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def epoch(self) -> float:
        return NOW / 1000 + self.seconds


class Queries:
    """Counts the statements that a database is sent."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        for engine in (database._reading, database._writing):
            event.listen(engine.sync_engine, "before_cursor_execute", self._seen)
        self._backend = database._backend
        self._read_now, self._read = self._backend.read_now, self._backend.read
        self._backend.read_now, self._backend.read = self._now, self._later

    def _seen(self, conn: Connection, *rest: object) -> None:
        self.count += 1

    def _now(self, text: str, values: Sequence[Cell]) -> list[PointRow] | None:
        rows = self._read_now(text, values)
        self.count += rows is not None
        return rows

    async def _later(self, text: str, values: Sequence[Cell]) -> list[PointRow]:
        self.count += self._backend.path is None  # SQLite's goes through an engine
        return await self._read(text, values)


@asynccontextmanager
async def open_database(engine: Engine, directory: Path) -> AsyncGenerator[Database]:
    database = await engine.open(directory)
    try:
        async with database.transaction() as conn:
            for position, plan in enumerate(("free", "pro")):
                await conn.execute(
                    insert(plans).values(
                        id=plan,
                        name=plan,
                        daily_requests=10,
                        concurrent_requests=1,
                        queue_seconds=0,
                        models="[]",
                        position=position,
                    )
                )
        yield database
    finally:
        await database.close()


def make_vault(directory: Path) -> SecretsFile:
    return SecretsFile.make(directory / "secrets.json", secrets.token_bytes)


async def make_user(database: Database, email: str = "ann@example.com", *, verified: bool = True) -> User:
    async with database.transaction() as conn:
        return await create_user(
            conn,
            email,
            plan="free",
            admin=False,
            verified=verified,
            now=NOW,
            id=new_user_id(secrets.token_bytes(16)),
        )
