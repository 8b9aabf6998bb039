"""The doctor: what it sees, and that it changes nothing."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from penstock.domain.accounts.accounts import create_user, new_user_id
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import parse
from penstock.domain.keys import management
from penstock.operations.doctor import Finding, Report, examine_installation
from penstock.operations.first_start import DEMO_EMAIL, Store, open_store
from penstock.providers.table import KINDS
from penstock.settings import load
from penstock.store.sql.database import Database
from penstock.store.sql.schema import api_keys, requests, usage_days
from tests.commands.conftest import Call
from tests.lying_redis import is_load, lying_redis
from tests.redis import RedisServer, order, own_server


def find(report: Report, subject: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.subject == subject]


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"PENSTOCK_DATA": str(tmp_path / "data")}


@asynccontextmanager
async def installation(environ: dict[str, str]) -> AsyncGenerator[Store]:
    """With an admin who has a key."""
    async with open_store(load(environ).settings) as store:
        async with store.database.transaction() as conn:
            now = time.time_ns() // 1_000_000
            id = new_user_id(secrets.token_bytes(16))
            await create_user(conn, "root@example.com", plan="pro", admin=True, verified=True, now=now, id=id)
            wish = management.KeyWish()
            await management.create_key(
                conn, store.secrets_file, id, wish, now=now, entropy=secrets.token_bytes, keep=True
            )
        yield store


async def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(environ: dict[str, str]) -> None:
    report = await examine_installation(environ, None, {})
    assert report.ok
    assert [finding.text for finding in find(report, "database")] == ["there is no database yet"]
    assert os.listdir() == []  # noqa: PTH208 - the names are what is compared


async def test_a_sound_installation(environ: dict[str, str]) -> None:
    async with installation(environ):
        report = await examine_installation(environ, None, {})
    assert report.ok
    levels = {finding.subject: finding.level for finding in report.findings}
    del levels["data"]  # how much room the disk has is the machine's
    assert levels == {
        "settings": "ok", "clock": "ok", "scanner": "ok", "database": "ok", "secrets": "ok", "keys": "ok", "ledger": "ok",
        "server": "ok", "providers": "warn",
    }  # fmt: skip
    assert "every model is answered by the simulator" in find(report, "providers")[0].text


async def test_bad_settings_are_all_that_is_said(environ: dict[str, str]) -> None:
    report = await examine_installation(environ | {"PENSTOCK_PORT": "x"}, None, {"drain": "y"})
    assert not report.ok
    assert [finding.subject for finding in report.findings] == ["settings", "settings"]


@pytest.mark.parametrize(
    ("variable", "url", "subject"),
    [
        ("PENSTOCK_DATABASE_URL", "postgresql://u:tiger@h/p?sslmode=must", "database"),
        ("PENSTOCK_DATABASE_URL", "postgresql://u:ti#ger@h/p", "settings"),
        ("PENSTOCK_REDIS_URL", "redis://u:tiger@h?tls=yes", "redis"),
        ("PENSTOCK_MAIL_URL", "smtp://u:tiger@h?tls=yes", "mail"),
        ("PENSTOCK_MAIL_URL", "smtp://u:tiger@h:x", "settings"),
    ],
)
async def test_an_address_that_cannot_be_used_is_a_finding_without_its_secret(
    environ: dict[str, str], variable: str, url: str, subject: str
) -> None:
    report = await examine_installation(environ | {variable: url}, None, {})
    (finding,) = [one for one in report.findings if one.level == "fail"]
    assert finding.subject == subject
    assert "ger" not in repr(report.findings).replace("larger", "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ()),
        ({"PENSTOCK_TRUSTED_PROXIES": "127.0.0.1"}, ("set PENSTOCK_PUBLIC_URL",)),
        ({"PENSTOCK_PUBLIC_URL": "http://llm.example.com:18041"}, ()),
        ({"PENSTOCK_PUBLIC_URL": "https://llm.example.com"}, ("set PENSTOCK_TRUSTED_PROXIES to",)),
        ({"PENSTOCK_OIDC_TRUSTS_EMAIL": "yes"}, ()),
        (
            {"PENSTOCK_OIDC_TRUSTS_EMAIL": "yes", "PENSTOCK_OIDC_CLIENT": "c"},
            ("unset it where the provider",),
        ),
    ],
)
async def test_what_is_believed_of_proxies_and_providers_is_said(
    environ: dict[str, str], given: dict[str, str], said: tuple[str, ...]
) -> None:
    report = await examine_installation(environ | given, None, {})
    found = [
        one.mend for one in report.findings if one.level == "warn" and one.subject in ("settings", "sign-in")
    ]
    assert len(found) == len(said)
    assert all(mend.startswith(words) for mend, words in zip(found, said, strict=True))


async def test_a_secrets_file_open_to_others_fails(environ: dict[str, str]) -> None:
    async with installation(environ) as store:
        store.settings.secret_path.chmod(0o644)
        store.settings.data.chmod(0o755)
        report = await examine_installation(environ, None, {})
    assert not report.ok
    assert find(report, "secrets")[0].level == "fail"
    assert "chmod 600" in find(report, "secrets")[0].text
    assert find(report, "data")[0].mend == f"chmod 700 {store.settings.data}"


async def test_a_key_of_an_unknown_pepper_fails(environ: dict[str, str]) -> None:
    async with installation(environ) as store:
        async with store.database.transaction() as conn:
            await conn.execute(update(api_keys).values(pepper_id="00000000"))
        report = await examine_installation(environ, None, {})
    assert not report.ok
    assert "made with pepper 00000000" in find(report, "secrets")[0].text


async def test_a_missing_admin_fails_where_others_can_reach(environ: dict[str, str]) -> None:
    async with open_store(load(environ).settings):
        on_loopback = await examine_installation(environ, None, {})
        elsewhere = await examine_installation(environ | {"PENSTOCK_HOST": "0.0.0.0"}, None, {})
    assert find(on_loopback, "accounts")[0].level == "warn"
    assert find(elsewhere, "accounts")[0].level == "fail"
    assert any("PENSTOCK_PUBLIC_URL" in finding.mend for finding in find(elsewhere, "settings"))


async def test_the_demo_user_of_a_service_with_an_address_is_said(environ: dict[str, str]) -> None:
    async with installation(environ) as store:
        async with store.database.transaction() as conn:
            await create_user(conn, DEMO_EMAIL, plan="pro", admin=False, verified=True, now=1, id="usr_demo")
        alone = await examine_installation(environ, None, {})
        public = await examine_installation(
            environ | {"PENSTOCK_PUBLIC_URL": "http://llm.example.com"}, None, {}
        )
    assert not find(alone, "accounts")
    (finding,) = find(public, "accounts")
    assert (finding.level, finding.mend) == ("warn", f"penstock user set --email {DEMO_EMAIL} --disabled")


async def test_a_clock_that_was_set_back_fails(environ: dict[str, str]) -> None:
    ahead = time.time_ns() // 1_000_000 + 3_600_000
    async with installation(environ) as store:
        async with store.database.transaction() as conn:
            values = {"id": "req_1", "user_id": "u", "key_id": "k", "kind": 1}
            await conn.execute(insert(requests).values(day=ahead // 86_400_000, created_at=ahead, **values))
        report = await examine_installation(environ, None, {})
    assert not report.ok
    assert "in the future" in find(report, "clock")[1].text


async def test_a_count_that_is_not_the_rows_behind_it_fails(environ: dict[str, str]) -> None:
    async with installation(environ) as store:
        (sound,) = find(await examine_installation(environ, None, {}), "ledger")
        assert sound.level == "ok"
        async with store.database.transaction() as conn:
            day = int(time.time() // 86_400)
            await conn.execute(insert(usage_days).values(user_id="usr_a", day=day, used=3, refunded=0))
        report = await examine_installation(environ, None, {})
        (finding,) = find(report, "ledger")
        assert not report.ok
        assert (finding.level, "usage_days.used of usr_a" in finding.text) == ("fail", True)
        assert "is 3 for 0" in finding.text


async def test_a_database_that_is_none_fails(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(0o700)
    (tmp_path / "data" / "penstock.db").write_text("This is no database. " * 100)
    report = await examine_installation(environ, None, {})
    assert not report.ok
    assert "is not a SQLite database" in find(report, "database")[0].text


async def test_a_damaged_database_fails(environ: dict[str, str], tmp_path: Path) -> None:
    async with installation(environ):
        pass
    spoil(tmp_path / "data" / "penstock.db")
    report = await examine_installation(environ, None, {})
    assert not report.ok
    assert find(report, "database")[0].level == "fail"


def spoil(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096 * 2 :: 7] = b"x" * len(content[4096 * 2 :: 7])
    file.write_bytes(content)


# ---- providers


@asynccontextmanager
async def provider(status: str) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server on loopback that answers everything with ``status``; its URL, and the requests it got."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", seen


async def set_up(database: Database, url: str) -> None:
    text = f"""
[[provider]]
id = "acme"
kind = "custom"
speaks = {{ chat = "{url}" }}
secret = "env:ACME_API_KEY"
[[model]]
id = "acme-1"
targets = [{{ provider = "acme", model = "one" }}]
"""
    async with database.transaction() as conn:
        await catalog_store.apply_document(conn, parse(text, KINDS), KINDS, 0)


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        ("200 OK", "ok", "acme at 127.0.0.1 answers"),
        ("404 Not Found", "ok", "acme at 127.0.0.1 answers"),
        ("401 Unauthorized", "fail", "acme at 127.0.0.1 refuses the credential of env:ACME_API_KEY"),
        ("500 Oops", "warn", "acme at 127.0.0.1 answers 500"),
    ],
)
async def test_a_provider_is_asked(environ: dict[str, str], status: str, level: str, text: str) -> None:
    async with installation(environ) as store, provider(status) as (url, seen):
        await set_up(store.database, url)
        report = await examine_installation(environ | {"ACME_API_KEY": "hunter2"}, None, {})
    (finding,) = find(report, "providers")
    assert (finding.level, finding.text) == (level, text)
    (request,) = seen
    assert request.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"Bearer hunter2" in request
    assert "hunter2" not in str(report)


async def test_a_provider_that_is_away_fails(environ: dict[str, str]) -> None:
    async with installation(environ) as store:
        async with provider("200 OK") as (url, _):
            await set_up(store.database, url)
        report = await examine_installation(environ | {"ACME_API_KEY": "hunter2"}, None, {})
    (finding,) = find(report, "providers")
    assert finding.level == "fail"
    assert "acme at 127.0.0.1 does not answer" in finding.text


def test_the_command_says_it_in_lines_and_by_its_code(call: Call, data: Path) -> None:
    assert call("doctor").code == 0
    call("user", "create", "--email=ann@example.com")
    (data / "secrets.json").chmod(0o644)
    failed = call("doctor")
    assert failed.code == 1
    assert "fail  secrets   others can read the secrets file" in failed.out
    assert call("doctor", "--json").json["ok"] is False


@pytest.fixture
def redis() -> Generator[RedisServer]:
    server = own_server()
    yield server
    server.stop()


async def test_redis_is_asked_where_it_is_used(environ: dict[str, str], redis: RedisServer) -> None:
    async with installation(environ):
        given = environ | {"PENSTOCK_REDIS_URL": redis.url, "PENSTOCK_REDIS_TIMEOUT": "60"}
        assert [finding.level for finding in find(await examine_installation(given, None, {}), "redis")] == [
            "ok"
        ]
        await order(redis.url, "CONFIG SET maxmemory-policy allkeys-lru")
        (forgetful,) = find(await examine_installation(given, None, {}), "redis")
        assert (forgetful.level, "drops any key" in forgetful.text) == ("warn", True)
        redis.stop()
        report = await examine_installation(given, None, {})
    assert not report.ok
    (away,) = find(report, "redis")
    assert (away.level, "does not answer" in away.text) == ("fail", True)


@pytest.mark.parametrize(
    ("greeting", "later"),
    [(b"+OK\r\n+OK\r\n", None), (None, b":1\r\n+OK\r\n"), (None, b":1\r\n"), (None, b"*2147483648\r\n")],
    ids=["too much at the greeting", "too much", "wrong type", "endless"],
)
async def test_who_is_taken_for_redis_and_is_none_is_told(
    environ: dict[str, str], greeting: bytes | None, later: bytes | None
) -> None:
    async with installation(environ), lying_redis() as liar:
        liar.said = lambda command: greeting if is_load(command) else later
        given = environ | {"PENSTOCK_REDIS_URL": liar.url}
        (found,) = find(await examine_installation(given, None, {}), "redis")
    assert (found.level, "as Redis does" in found.text) == ("fail", True)


async def test_a_postgresql_that_is_away_fails(environ: dict[str, str]) -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        away = f"postgresql://penstock@127.0.0.1:{plug.getsockname()[1]}/penstock"
        report = await examine_installation(environ | {"PENSTOCK_DATABASE_URL": away}, None, {})
    assert not report.ok
    (finding,) = find(report, "database")
    assert (finding.level, "cannot be reached" in finding.text) == ("fail", True)


async def test_a_plan_for_new_people_that_serves_nothing_is_a_warning(environ: dict[str, str]) -> None:
    async with installation(environ) as store, store.database.transaction() as conn:
        bare = (
            '[[plan]]\nid = "bare"\nname = "Bare"\ndaily_requests = 1\nconcurrent_requests = 1\nmodels = []\n'
        )
        await catalog_store.apply_document(conn, parse(bare, KINDS), KINDS, 1)
    assert find(await examine_installation(environ, None, {}), "plans") == []
    told = find(await examine_installation(environ | {"PENSTOCK_SIGNUP_PLAN": "bare"}, None, {}), "plans")
    assert [(one.level, "none of whose chat models is served" in one.text) for one in told] == [
        ("warn", True)
    ]
    assert not find(
        await examine_installation(
            environ | {"PENSTOCK_SIGNUP_PLAN": "bare", "PENSTOCK_SIGNUP": "closed"}, None, {}
        ),
        "plans",
    )
