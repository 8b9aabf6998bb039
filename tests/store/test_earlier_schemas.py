"""A database of every earlier schema becomes one of this program's, with all that was in it.

``schemas/`` has each of them as its program made it; the first four are all stamped 0001.
"""

import asyncio
import random
import re
import sqlite3
import time
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select

from penstock.core.limits import day_of
from penstock.domain.ledger import request_log
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.reconciliation import compare, repair
from penstock.store.sql.database import OLDER, Database, SchemaBehind
from penstock.store.sql.migrate import migrate_database
from penstock.store.sql.partitions import partitions
from penstock.store.sql.schema import HEAD, kinds, metadata, models, providers, staff, users
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


def script_of(schema: Path, rows: str = "") -> str:
    """What makes the schema and its rows, as PostgreSQL and SQLite both take it but for the name of bytes."""
    made = schema.read_text()
    profile = (", profile", ", '{}'") if "profile" in made else ("", "")
    kind = (", kind", ", 'chat'") if "kind VARCHAR(16) NOT NULL, CONSTRAINT pk_models" in made else ("", "")
    return made + (rows or ROWS.format(*profile, *kind))


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
        rows = (await conn.execute(select(entries).order_by(entries.c.id))).mappings().all()
        assert [(row["day"], row["state"], row["input_tokens"]) for row in rows] == [
            (day, state, 7) for day in DAYS for state in ("settled", "open")
        ]
        assert (await conn.execute(select(users.c.email, users.c.leaving_at))).all() == [
            ("a@example.com", None)
        ]
        assert (await conn.execute(select(providers.c.profile))).all() == [("{}",)]
        assert (await conn.execute(select(models.c.kind))).all() == [("chat",)]
        listed, _ = await request_log.page(conn, "usr_a", request_log.Filter())
        assert [it.id for it in listed] == ["r5", "r4", "r3", "r2", "r1", "r0"]
        for table in metadata.sorted_tables:
            await conn.execute(select(table).limit(1))
    await repair(database, DAYS[0])  # the first schemas had no sums
    async with database.connect() as conn:
        assert await compare(conn, DAYS[0]) == []
    await database.close()


COLUMNS = (
    "id", "user_id", "key_id", "day", "created_at", "boot", "state", "dialect", "model", "requested_model", "stream", "client",
    "provider", "upstream_model", "upstream_dialect", "attempts", "status", "outcome", "counted", "refund_reason", "error_code",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "estimated",
    "first_byte_ms", "total_ms", "translation",
)  # fmt: skip
"""Of the log up to 0005, which has ``answered_model``, too."""


def old_rows(count: int) -> list[dict[str, object]]:
    """Rows as years of use leave them: every word that varies does, and every value that may be missing is somewhere."""
    chance = random.Random(5)
    one_of, often = chance.choice, chance.random
    rows: list[dict[str, object]] = []
    for number in range(count):
        odd = (
            f"r{number}",
            f"req_{number:07d}",
            f"req_{number:024X}",
            f"req_{number:025x}",
            f"req_é{number}",
        )
        id = f"req_00ff{number % 7:012x}{number:08x}" if number % 10 else odd[number // 10 % 5]
        is_open, day = number % 97 == 0, MAY_1 + number % 70
        model = one_of(("m", "m-2", "it's", "a:b", "1:a", "ü"))
        row: dict[str, object] = {
            "id": id, "user_id": f"usr_{number % 9}", "key_id": f"key_{number % 11}", "day": day,
            "created_at": day * 86_400_000 + number, "boot": f"b{number % 7}", "state": "open" if is_open else "settled",
            "dialect": one_of(("chat", "messages")), "model": model,
            "requested_model": model if often() < 0.8 else f"any-{number}", "stream": often() < 0.5,
            "client": one_of(("curl", "openai-sdk")), "provider": one_of(("p", "q")), "upstream_model": one_of(("um", "")),
            "upstream_dialect": "chat", "attempts": 0 if is_open else one_of((1, 2)),
            "status": one_of((None, 200, 502)), "outcome": None if is_open else one_of(("completed", "upstream_error")),
            "counted": often() < 0.9, "refund_reason": one_of((None, "no_output")), "error_code": one_of((None, "", "-")),
            "estimated": often() < 0.1, "translation": one_of((None, "top_k=dropped")),
        }  # fmt: skip
        row |= {name: one_of((None, 0, 2**40)) for name in COLUMNS if name.endswith("_tokens")}
        rows.append(row | {name: one_of((None, 7)) for name in ("first_byte_ms", "total_ms")})
    return rows


def literal(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


@pytest.mark.parametrize("schema", SCHEMAS[-3:], ids=lambda schema: schema.stem)
async def test_thousands_of_rows_say_afterwards_what_they_said_before(
    schema: Path, empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_rows(5000)
    values = ",\n".join("(" + ", ".join(literal(row[name]) for name in COLUMNS) + ")" for row in old)
    script = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES {values};"
    knows_models = schema.stem == "0005"
    if knows_models:
        script += "UPDATE requests SET answered_model = 'other' WHERE status = 502;"
    await asyncio.to_thread(_run, empty, script_of(schema, script))
    await asyncio.to_thread(migrate_database, empty.url)
    database = await Database.open(empty.url, directory=tmp_path, migrate=False)
    async with database.connect() as conn:
        found = (await conn.execute(select(entries))).mappings().all()
        count = await conn.scalar(select(func.count()).select_from(kinds))
        left = [column for column in entries.c if column.name not in (*COLUMNS, "answered_model", "kind")]
        assert {tuple(row) for row in await conn.execute(select(*left).distinct())} == {(None,) * len(left)}
    told = {row["id"]: {name: row[name] for name in COLUMNS} for row in found}
    for row in old:
        assert told[str(row["id"])] == row | {"boot": row["boot"] if row["state"] == "open" else None}
    for row in found:
        assert row["answered_model"] == ("other" if knows_models and row["status"] == 502 else None)
    assert len(found) == len(told) == len(old)
    assert count == len(
        {tuple(row[column.name] for column in kinds.columns if column.name in COLUMNS[1:]) for row in old}
    )
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


ADMINS = (
    "INSERT INTO users (id, email, email_canonical, plan_id, is_admin, created_at, disabled_at) VALUES"
    " ('usr_1', 'a@example.com', 'a@example.com', 'pro', TRUE, 1, 5),"
    " ('usr_2', 'b@example.com', 'b@example.com', 'pro', TRUE, 3, NULL),"
    " ('usr_3', 'c@example.com', 'c@example.com', 'pro', TRUE, 2, NULL),"
    " ('usr_4', 'd@example.com', 'd@example.com', 'pro', FALSE, 0, NULL);"
)


@pytest.mark.parametrize("schema", SCHEMAS[-1:], ids=lambda schema: schema.stem)
async def test_the_first_admin_who_is_there_becomes_the_owner(
    schema: Path, empty: Engine, tmp_path: Path
) -> None:
    await asyncio.to_thread(_run, empty, script_of(schema, ADMINS))
    await asyncio.to_thread(migrate_database, empty.url)
    database = await Database.open(empty.url, directory=tmp_path, migrate=False)
    async with database.connect() as conn:
        found = await conn.execute(select(staff.c.user_id, staff.c.role).order_by(staff.c.user_id))
        assert [tuple(row) for row in found] == [("usr_1", "admin"), ("usr_2", "admin"), ("usr_3", "owner")]
    await database.close()


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
    # 0002 changes nothing that 0001-4 has not; what follows 0006 is walked through by all before it, with their rows.
    assert {schema.stem.partition("-")[0] for schema in SCHEMAS} | {
        "0002",
        *(revision for revision in OLDER if revision > "0006"),
    } == set(OLDER)
