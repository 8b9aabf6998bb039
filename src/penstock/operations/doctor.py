"""The doctor: checks an installation. Each finding is ok, warn or fail, and says what would mend it.

Nothing is made or changed, and only the hosts that the operator's own catalogue names are asked.
"""

import asyncio
import os
import shutil
import stat
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.body import scanner
from penstock.core.catalog import Upstream
from penstock.core.dialects.interface import NO_VERSION
from penstock.core.endpoints import FORMATS
from penstock.core.limits import day_of
from penstock.domain.accounts import accounts
from penstock.domain.catalog.catalog_store import CatalogSource
from penstock.domain.keys import management
from penstock.domain.ledger import history
from penstock.domain.ledger.reconciliation import compare
from penstock.errors import Unavailable
from penstock.operations.first_start import is_loopback
from penstock.operations.mail_sender import MailUrlError, mail_transport
from penstock.operations.vouched import vouched_for
from penstock.providers.auth import ToSign, sign
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS, extra_headers
from penstock.settings import Loaded, Settings, SettingsError, load
from penstock.store.redis.answers import is_pong, is_text
from penstock.store.redis.link import RedisAway, RedisLink, RedisRefused
from penstock.store.redis.scripts import LOOK, SCRIPTS
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.backend import StoreError
from penstock.store.sql.database import Database, open_database
from penstock.store.sql.sqlite import quick_check
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure, parse_base_url

Level = Literal["ok", "warn", "fail"]

_SPACE_WARN = 1 << 30
_SPACE_FAIL = 64 << 20
_WAIT = Deadlines(connect=5.0, first_byte=5.0, idle=5.0, total=8.0)
_LIST_MOST = 4 << 20
_YEARS = range(2026, 2100)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``mend`` is what to do, '' where there is nothing to do."""

    level: Level
    subject: str
    text: str
    mend: str = ""


class Report(msgspec.Struct, frozen=True):
    """All findings; ``ok`` when none of them is a failure."""

    ok: bool
    findings: tuple[Finding, ...]


Findings = Generator[Finding]


async def examine_installation(
    environ: Mapping[str, str], file: Path | None, flags: Mapping[str, str]
) -> Report:
    """Look at everything that can be looked at; what depends on something broken is left out."""
    findings: list[Finding] = []
    try:
        loaded = load(environ, file=file, flags=flags)
    except SettingsError as error:
        findings += [
            Finding("fail", "settings", problem, "see docs/configuration.md") for problem in error.problems
        ]
        return _report(findings)
    settings = loaded.settings
    findings += _settings(loaded)
    findings += _directory(settings.data)
    findings += _clock(time.time())
    findings.append(Finding("ok", "scanner", f"{scanner.KIND} scanner"))
    findings += await _redis(settings)
    try:
        async with _opened(settings) as database:
            if database is None:
                text = "there is no database yet"
                findings.append(Finding("warn", "database", text, "the first start makes it"))
            else:
                findings += await _database(database, settings)
                findings += await _providers(database, Secrets(environ), settings)
    except (StoreError, Unavailable) as error:
        findings.append(Finding("fail", "database", str(error), "penstock migrate, or the backup"))
    return _report(findings)


def _report(findings: list[Finding]) -> Report:
    return Report(all(finding.level != "fail" for finding in findings), tuple(findings))


def _settings(loaded: Loaded) -> Findings:
    where = f"from {loaded.file}" if loaded.file else "without a file"
    yield Finding("ok", "settings", f"{len(loaded.origins)} set, {where}")
    for warning in loaded.warnings:
        yield Finding("warn", "settings", warning, "rename or unset it")
    settings = loaded.settings
    try:
        mail_transport(settings.mail_url)
    except MailUrlError as error:
        yield Finding("fail", "mail", str(error), "set PENSTOCK_MAIL_URL")
    for sentence in vouched_for(settings):
        yield Finding("warn", "sign-in", sentence, "unset it where the provider does say so")
    yield from _address(settings)


def _address(settings: Settings) -> Findings:
    """Whether pages, forms and cookies can know where browsers find them."""
    if not settings.public_url and (settings.trusted_proxies or not is_loopback(settings.host)):
        text = "the address that callers use is not known: pages show, and forms are compared with, what a proxy sends as Host"
        yield Finding("warn", "settings", text, "set PENSTOCK_PUBLIC_URL")
    if settings.public_url.startswith("https:") and not settings.trusted_proxies:
        text = "no proxy is believed, so all callers seem to come from it by http, and cookies are not kept to https"
        yield Finding(
            "warn", "settings", text, "set PENSTOCK_TRUSTED_PROXIES to the address of what serves TLS"
        )


def _directory(data: Path) -> Findings:
    """The data directory: there, ours, closed to others, with room."""
    if not data.is_dir():
        parent = next((path for path in data.parents if path.exists()), Path("/"))
        if os.access(parent, os.W_OK):
            yield Finding("warn", "data", f"{data} is not there yet", "the first start makes it")
        else:
            yield Finding(
                "fail", "data", f"{data} cannot be made", f"make it, or let this user write {parent}"
            )
        return
    if not os.access(data, os.W_OK | os.X_OK):
        yield Finding("fail", "data", f"{data} cannot be written by this user", f"chown {os.getuid()} {data}")
        return
    if stat.S_IMODE(data.stat().st_mode) & 0o077:
        yield Finding("warn", "data", f"{data} can be looked into by others", f"chmod 700 {data}")
    free = shutil.disk_usage(data).free
    level: Level = "fail" if free < _SPACE_FAIL else "warn" if free < _SPACE_WARN else "ok"
    yield Finding(level, "data", f"{data}, {free >> 20:,} MiB free", "" if level == "ok" else "make room")


def _clock(now: float) -> Findings:
    at = datetime.fromtimestamp(now, UTC)
    if at.year in _YEARS:
        yield Finding("ok", "clock", f"{at:%Y-%m-%d %H:%M:%S} UTC")
    else:
        yield Finding("fail", "clock", f"the clock says {at:%Y-%m-%d}", "set it; days of plans begin by it")


def _is_new(url: str) -> bool:
    path = url.removeprefix("sqlite:///")
    return path != url and not Path(path).exists()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Database | None]:
    """The database, neither made nor migrated."""
    if _is_new(settings.database_url):
        yield None
        return
    database = await open_database(settings, migrate=False)
    try:
        yield database
    finally:
        await database.close()


async def _database(database: Database, settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    async with database.connect() as conn:
        damage = "ok"
        if database.path is not None:
            damage = await quick_check(conn)
        if damage != "ok":
            text = f"{database.name} is damaged: {damage}"
            return [Finding("fail", "database", text, "stop the server and restore the backup")]
        people = await accounts.count_users(conn)
        findings.append(
            Finding("ok", "database", f"{database.name}, schema as this program needs it, {people} accounts")
        )
        findings += await _keys(conn, settings)
        if not await accounts.any_owner(conn):
            level: Level = "warn" if is_loopback(settings.host) else "fail"
            findings.append(Finding(level, "accounts", "there is no owner", "penstock setup-link"))
        newest = await history.newest_at(conn)
        ahead = 0.0 if newest is None else newest / 1000 - time.time()
        if ahead > 60:
            text = f"the newest request is {ahead:,.0f} s in the future"
            findings.append(Finding("fail", "clock", text, "the clock was set back; set it right"))
        findings.append(await _ledger(conn))
    return findings


async def _redis(settings: Settings) -> list[Finding]:
    """Whether Redis answers, where it is used, in what time, and whether it forgets by itself."""
    if not settings.redis_url:
        return []
    try:
        link = RedisLink(settings.redis_url, timeout=max(2.0, settings.redis_timeout), scripts=SCRIPTS)
    except StoreError as error:
        return [Finding("fail", "redis", str(error), "set PENSTOCK_REDIS_URL")]
    try:
        await link.call(LOOK, (f"{settings.redis_prefix}doctor",))
        asked_at = time.perf_counter()
        await link.submit("PING", shape=is_pong)
        seconds = time.perf_counter() - asked_at
        memory = cast("bytes", await link.submit("INFO", "memory", shape=is_text))
    except RedisRefused as error:
        return [Finding("fail", "redis", f"it refuses: {error}", "see the user's rights in Redis")]
    except RedisAway as error:
        mend = "see PENSTOCK_REDIS_URL, and that it runs; until then each server goes on with its share"
        return [Finding("fail", "redis", f"it does not answer as Redis does: {error}", mend)]
    finally:
        await link.close()
    findings: list[Finding] = []
    if seconds > settings.redis_timeout / 2:
        text = f"it takes {seconds * 1000:,.0f} ms to answer, of {settings.redis_timeout * 1000:,.0f} that it may"
        findings.append(Finding("warn", "redis", text, "bring it nearer, or raise redis_timeout"))
    if b"maxmemory_policy:allkeys" in memory:
        text = "it drops any key when its memory is full, slots that are taken among them"
        findings.append(Finding("warn", "redis", text, "maxmemory-policy noeviction or volatile-ttl"))
    return findings or [Finding("ok", "redis", f"it answers within {seconds * 1000:,.1f} ms")]


async def _ledger(conn: AsyncConnection) -> Finding:
    """Whether today's and yesterday's counts and sums are the rows behind them."""
    today = day_of(time.time())
    wrong = [found for day in (today - 1, today) for found in await compare(conn, day)]
    if not wrong:
        return Finding("ok", "ledger", "the counts of today and yesterday are the rows behind them")
    first = wrong[0]
    text = (
        f"{len(wrong)} numbers differ from their rows; {first.table}.{first.column} of "
        f"{' '.join(map(str, first.of))} is {first.kept} for {first.rows}"
    )
    return Finding(
        "fail", "ledger", text, "report it; penstock reconcile --repair makes them those of the rows"
    )


async def _keys(conn: AsyncConnection, settings: Settings) -> list[Finding]:
    """The secrets file, and whether the keys of the database were made with it."""
    count = await management.count_working_keys(conn)
    path = settings.secret_path
    if not path.exists() and not count:
        return [Finding("warn", "secrets", f"{path} is not there yet", "the first start makes it")]
    try:
        secrets_file = SecretsFile(path)
        await management.check_peppers(conn, secrets_file)
    except SecretsFileError as error:
        return [Finding("fail", "secrets", str(error), "the backup has it")]
    return [
        Finding("ok", "secrets", f"{path}, {len(secrets_file.pepper_ids)} peppers"),
        Finding("ok", "keys", f"{count} not revoked, all made with peppers of the file"),
    ]


async def _providers(database: Database, secrets: Secrets, settings: Settings) -> list[Finding]:
    """Ask each provider that is set up for its models; that costs nothing and shows whether the key is taken."""
    source = CatalogSource(database, KINDS, secrets.has)
    await source.refresh()
    catalog = source.current
    findings: list[Finding] = []
    if not catalog.models:
        findings.append(Finding("warn", "catalogue", "there are no models", "penstock catalog apply FILE"))
    trouble = catalog.plan_trouble(settings.signup_plan) if settings.signup == "open" else None
    if catalog.models and trouble:
        mend = "set PENSTOCK_SIGNUP_PLAN, or connect a provider of its models (penstock catalog show)"
        findings.append(Finding("warn", "plans", trouble, mend))
    if catalog.simulated:
        text = "no provider is set up: every model is answered by the simulator"
        findings.append(Finding("warn", "providers", text, "set a provider's key, see penstock catalog show"))
    used = {target.provider for model in catalog.models.values() for target in model.targets}
    asked = [it for it in catalog.upstreams.values() if it.kind != "simulator" and it.id in used]
    client = UpstreamClient()
    try:
        findings += await asyncio.gather(*(_ask(client, upstream, secrets) for upstream in asked))
    finally:
        await client.close()
    return findings


async def _ask(client: UpstreamClient, upstream: Upstream, secrets: Secrets) -> Finding:
    if not upstream.speaks:
        return Finding(
            "fail", "providers", f"{upstream.id} has no address", "give it `speaks` in the catalogue"
        )
    dialect, url = upstream.speaks[0]
    try:
        origin, base = parse_base_url(url)
    except ValueError as error:
        return Finding("fail", "providers", f"{upstream.id}: {error}", "mend it in the catalogue")
    version = FORMATS[dialect].version_headers
    versions = () if version is None else version(NO_VERSION, upstream.profile)
    about = (*extra_headers(upstream.kind), *versions)
    request = ToSign(b"GET", f"{url.rstrip('/')}/models".encode(), about, b"", time.time())
    headers = sign(upstream, secrets.get(upstream.secret), request)
    try:
        response = await client.send(origin, b"GET", base + b"/models", headers, b"", _WAIT)
    except UpstreamFailure as failure:
        text = f"{upstream.id} at {origin.host} does not answer: {failure}"
        return Finding("fail", "providers", text, "check the network, the address and its certificate")
    try:
        await response.read(_LIST_MOST)
    except UpstreamFailure as failure:
        return Finding("warn", "providers", f"{upstream.id} at {origin.host} broke off: {failure}")
    finally:
        response.close()
    if response.status in (401, 403):
        text = f"{upstream.id} at {origin.host} refuses the credential of {upstream.secret or 'nobody'}"
        return Finding("fail", "providers", text, "put a valid one there")
    if response.status >= 500:
        return Finding("warn", "providers", f"{upstream.id} at {origin.host} answers {response.status}")
    return Finding("ok", "providers", f"{upstream.id} at {origin.host} answers")
