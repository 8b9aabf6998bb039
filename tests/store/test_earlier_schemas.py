"""A database of every earlier schema becomes one of this program's, with all that was in it.

``schemas/`` has each of them as its program made it; the first four are all stamped 0001.
"""

import asyncio
import re
import sqlite3
import time
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import select

from penstock.core.limits import day_of
from penstock.domain.ledger import history
from penstock.domain.ledger.reconciliation import compare, repair
from penstock.store.sql.database import OLDER, Database, SchemaBehind
from penstock.store.sql.migrate import migrate_database
from penstock.store.sql.partitions import partitions
from penstock.store.sql.schema import HEAD, metadata, models, providers, requests, users
from tests.stores import Engine, remake

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.sql"))
MAY_1 = 19_844
DAYS = (MAY_1 - 1, MAY_1, MAY_1 + 200)

ROWS = (
    "INSERT INTO users (id, email, email_canonical, plan_id, is_admin, created_at) VALUES"
    " ('usr_a', 'a@example.com', 'a@example.com', 'pro', FALSE, 1);"
    "INSERT INTO providers (id, speaks, secret, auth, kind, position{0}) VALUES ('p', '{{}}', '', 'bearer', 'p', 0{1});"
    "INSERT INTO models (id, name, aliases, targets, capabilities, position, created_at{2}) VALUES"
    " ('m', 'M', '[]', '{{}}', '{{}}', 0, 1{3});"
    + "".join(
        "INSERT INTO requests (id, user_id, key_id, day, created_at, boot, state, dialect, model, requested_model, stream,"
        " client, provider, upstream_model, upstream_dialect, attempts, status, outcome, counted, input_tokens, estimated)"
        f" VALUES ('r{number}', 'usr_a', 'key_a', {day}, {day * 86_400_000 + 5}, 'b0', '{state}', 'chat', 'm', 'm', FALSE,"
        f" 'curl', 'p', 'um', 'chat', 1, 200, {outcome}, TRUE, 7, FALSE);"
        for number, (day, state, outcome) in enumerate(
            (day, state, outcome)
            for day in DAYS
            for state, outcome in (("settled", "'completed'"), ("open", "NULL"))
        )
    )
    + "".join(f"INSERT INTO usage_days VALUES ('usr_a', {day}, 2, 0);" for day in DAYS)
)

BY_DAY = "CONSTRAINT pk_requests PRIMARY KEY (id, day) );"
PARTITIONED = (
    BY_DAY[:-1] + " PARTITION BY RANGE (day); CREATE TABLE requests_other PARTITION OF requests DEFAULT;"
)
"""How the requests of later schemas are kept on PostgreSQL."""


def script_of(schema: Path) -> str:
    """What makes the schema and its rows, as PostgreSQL and SQLite both take it but for the name of bytes."""
    made = schema.read_text()
    has_profile, has_kind = "profile" in made, "created_at BIGINT NOT NULL, kind VARCHAR" in made
    return made + ROWS.format(
        ", profile" if has_profile else "",
        ", '{}'" if has_profile else "",
        ", kind" if has_kind else "",
        ", 'chat'" if has_kind else "",
    )


def _run(engine: Engine, script: str) -> None:
    if engine.name == "sqlite":
        conn = sqlite3.connect(engine.url.removeprefix("sqlite:///"))
        conn.executescript(script)
        conn.close()
        return

    async def running() -> None:
        conn = await asyncpg.connect(engine.url)
        await conn.execute(script.replace(" BLOB", " BYTEA").replace(BY_DAY, PARTITIONED))
        await conn.close()

    asyncio.run(running())


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """A database without tables on each engine."""
    if request.param == "sqlite":
        return Engine("sqlite", f"sqlite:///{tmp_path}/penstock.db")
    return request.getfixturevalue("empty_postgresql")


async def shape(database: Database) -> dict[str, object]:
    """What the tables are made of."""
    columns = (
        "SELECT table_name || '.' || column_name, data_type, character_maximum_length, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'"
    )
    constraints = (
        "SELECT conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    )
    triggers = (
        "SELECT tgrelid::regclass::text || '.' || tgname, pg_get_triggerdef(t.oid), pg_get_functiondef(tgfoid)"
        " FROM pg_trigger t WHERE NOT tgisinternal"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    master = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    found: dict[str, object] = {}
    async with database.connect() as conn:
        for query in (master,) if database.path else (columns, constraints, indexes, triggers):
            for name, *what in await conn.exec_driver_sql(query):
                # Those of the months are as many as there are months.
                if "requests_2" not in name:
                    found[name] = _parts(str(what[0])) if database.path else what
    return found


def _parts(statement: str) -> list[str]:
    """In any order of columns and constraints, and without the quotes round the name of a table that was remade."""
    text = " ".join(statement.replace('"', "").split())
    head, _, rest = text.partition("(")
    return [head.strip(), *sorted(part.strip() for part in re.split(r",(?![^(]*\))", rest.removesuffix(")")))]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.stem)
async def test_what_an_earlier_program_made_is_migrated_whole(
    schema: Path, empty: Engine, tmp_path: Path
) -> None:
    await asyncio.to_thread(_run, empty, script_of(schema))
    with pytest.raises(SchemaBehind):
        await Database.open(empty.url, directory=tmp_path, migrate=False)
    assert await asyncio.to_thread(migrate_database, empty.url) == (schema.stem.partition("-")[0], HEAD)
    database = await Database.open(empty.url, directory=tmp_path, migrate=False)
    async with database.connect() as conn:
        rows = (await conn.execute(select(requests).order_by(requests.c.id))).mappings().all()
        assert [(row["day"], row["state"], row["input_tokens"]) for row in rows] == [
            (day, state, 7) for day in DAYS for state in ("settled", "open")
        ]
        assert (await conn.execute(select(users.c.email, users.c.leaving_at))).all() == [
            ("a@example.com", None)
        ]
        assert (await conn.execute(select(providers.c.profile))).all() == [("{}",)]
        assert (await conn.execute(select(models.c.kind))).all() == [("chat",)]
        listed, _ = await history.page(conn, "usr_a", history.Filter())
        assert [it.id for it in listed] == ["r5", "r4", "r3", "r2", "r1", "r0"]
        for table in metadata.sorted_tables:
            await conn.execute(select(table).limit(1))
    await repair(database, DAYS[0])  # the first schemas had no sums
    async with database.connect() as conn:
        assert await compare(conn, DAYS[0]) == []
    await database.close()


@pytest.mark.parametrize("schema", [None, *SCHEMAS], ids=lambda schema: schema.stem if schema else "none")
async def test_the_migrations_make_what_the_schema_says(
    schema: Path | None, empty: Engine, tmp_path: Path
) -> None:
    if schema is not None:
        await asyncio.to_thread(_run, empty, script_of(schema))
    await asyncio.to_thread(migrate_database, empty.url)
    shapes: list[dict[str, object]] = []
    for url in (empty.url, f"sqlite:///{tmp_path}/new.db" if empty.name == "sqlite" else empty.url):
        database = await Database.open(url, directory=tmp_path)
        shapes.append(await shape(database))
        await database.close()
        if empty.name == "postgresql":
            remake(empty)
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 20


async def test_months_that_have_rows_and_those_to_come_have_partitions(
    empty_postgresql: Engine, tmp_path: Path
) -> None:
    await asyncio.to_thread(_run, empty_postgresql, script_of(SCHEMAS[0]))
    await asyncio.to_thread(migrate_database, empty_postgresql.url)
    database = await Database.open(empty_postgresql.url, directory=tmp_path, migrate=False)
    async with database.connect() as conn:
        have = await conn.run_sync(partitions)
        names = {part.name for part in have}
        assert {"requests_2024_04", "requests_2024_05", "requests_2024_11"} <= names
        today = day_of(time.time())
        for day in (today, today + 31):
            assert any(part.first <= day < part.end for part in have)
        left = await conn.exec_driver_sql("SELECT count(*) FROM requests_other")
        assert left.scalar_one() == 0
    await database.close()


def test_every_earlier_schema_is_among_them() -> None:
    assert {schema.stem.partition("-")[0] for schema in SCHEMAS} | {"0002"} == set(OLDER)
