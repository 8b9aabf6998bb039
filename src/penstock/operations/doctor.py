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

from penstock.core.amounts import amount
from penstock.core.body import scanner
from penstock.core.catalog import Credential, Upstream
from penstock.core.dialects.interface import NO_VERSION
from penstock.core.endpoints import FORMATS
from penstock.core.limits import day_of
from penstock.domain.accounts import accounts
from penstock.domain.catalog.catalog_store import CatalogSource, OpenKeys
from penstock.domain.catalog.kept_keys import check_seals
from penstock.domain.keys import management
from penstock.domain.ledger import history
from penstock.domain.ledger.reconciliation import compare
from penstock.errors import ProviderCredentials, Unavailable
from penstock.operations.control import ServerListings, ServerState, ask_server
from penstock.operations.drill import read_drill
from penstock.operations.first_start import DEMO_EMAIL, is_loopback
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.mail_sender import MailUrlError, NotSent, Smtp, mail_transport
from penstock.operations.model_discovery import LIST_SECONDS, Listing
from penstock.operations.model_endings import endings
from penstock.operations.provider_access import place_of, signing_secret
from penstock.operations.reach import query_suffix
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
from penstock.upstream import Deadlines, UpstreamClient, UpstreamFailure

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
    findings += _drill(settings.data, time.time())
    findings += await _redis(settings)
    findings += await _mail(settings)
    try:
        async with _opened(settings) as database:
            if database is None:
                text = "there is no database yet"
                findings.append(Finding("warn", "database", text, "the first start makes it"))
            else:
                findings += await _database(database, settings)
                state = await ask_server(settings.data, "state", ServerState)
                findings += _server(state)
                secrets = Secrets(environ)
                findings += await _providers(database, secrets, settings, state)
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


def _drill(data: Path, now: float) -> Findings:
    drill = read_drill(data, now)
    if drill is not None:
        text = f"a drill runs for {drill.until - now:.0f} s more: {drill.provider} fails ({drill.fault}) for key {drill.key_id}"
        yield Finding("warn", "drill", text, "penstock drill --stop ends it")


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
            Finding(
                "ok",
                "database",
                f"{database.name}, schema as this program needs it, {amount(people, 'account')}",
            )
        )
        findings += await _keys(conn, settings)
        if not await accounts.any_owner(conn):
            level: Level = "warn" if is_loopback(settings.host) else "fail"
            findings.append(Finding(level, "accounts", "there is no owner", "penstock setup-link"))
        if settings.public_url and await accounts.find_user(conn, DEMO_EMAIL) is not None:
            mend = f"penstock user set --email {DEMO_EMAIL} --disabled"
            findings.append(
                Finding("warn", "accounts", "the demo user of the first trials is still there", mend)
            )
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


async def _mail(settings: Settings) -> list[Finding]:
    """Whether the mail server takes a connection, and our sign-in."""
    try:
        transport = mail_transport(settings.mail_url)
    except MailUrlError:
        return []  # said already
    if not isinstance(transport, Smtp):
        if settings.public_url and settings.mail_url == "console:":
            text = "mails are printed on the console: nobody who signs up gets a code"
            return [Finding("warn", "mail", text, "set PENSTOCK_MAIL_URL")]
        return []
    try:
        await transport.look()
    except NotSent as error:
        mend = "see PENSTOCK_MAIL_URL and that the server runs; then: penstock mail test --to YOU@EXAMPLE.COM"
        return [Finding("fail", "mail", f"the mail server does not take mails: {error}", mend)]
    return [Finding("ok", "mail", "the mail server answers")]


async def _ledger(conn: AsyncConnection) -> Finding:
    """Whether today's and yesterday's counts and sums are the rows behind them."""
    today = day_of(time.time())
    wrong = [found for day in (today - 1, today) for found in await compare(conn, day)]
    if not wrong:
        return Finding("ok", "ledger", "the counts of today and yesterday are the rows behind them")
    first = wrong[0]
    text = (
        f"{amount(len(wrong), 'number differs', 'numbers differ')} from the rows; {first.table}.{first.column} of "
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
        await check_seals(conn, secrets_file)
    except SecretsFileError as error:
        return [Finding("fail", "secrets", str(error), "the backup has it")]
    return [
        Finding("ok", "secrets", f"{path}, {amount(len(secrets_file.pepper_ids), 'pepper')}"),
        Finding("ok", "keys", f"{count} not revoked, all made with peppers of the file"),
    ]


def _server(state: ServerState | None) -> Findings:
    """What the running server knows: which providers have refused it lately, and which of its parts do not work."""
    if state is None:
        text = "none runs on this data directory: what follows is as this shell has it"
        yield Finding("ok", "server", text)
        return
    yield Finding("ok", "server", f"process {state.pid} serves, version {state.version}")
    for line in state.failing:
        yield Finding("fail", "server", f"does not work: {line}", "see its log")
    for refusal in state.refusals:
        status = "no status" if refusal.status is None else f"{refusal.status}"
        text = (
            f"{refusal.provider} has refused {refusal.count} requests for {refusal.model} ({refusal.failure_class}), "
            f"the last with {status}: {refusal.text or 'no text'}"
        )
        yield Finding("warn", "providers", text, "see its account and its key")


async def _providers(
    database: Database, secrets: Secrets, settings: Settings, state: ServerState | None
) -> list[Finding]:
    """Ask each provider that is set up for its models; that costs nothing and shows whether the key is taken.

    Where a server runs here, it is asked to: it alone has the keys.
    """

    def has(reference: str) -> bool:
        return secrets.has(reference) if state is None else state.secrets.get(reference, not reference)

    source = CatalogSource(database, KINDS, has, opened=_kept(settings, secrets))
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
    today = datetime.now(UTC).date()
    for ending in endings(catalog, today):
        over = not ending.day or ending.day <= f"{today}"
        level: Level = "fail" if over and ending.provider and not ending.others else "warn"
        mend = f"give it another target, or take it out: penstock models remove {ending.model}"
        findings.append(Finding(level, "models", ending.told(today), mend))
    used = {target.provider for model in catalog.models.values() for target in model.targets}
    asked = [it for it in catalog.upstreams.values() if it.kind != "simulator" and it.id in used]
    if state is not None:
        told = await ask_server(settings.data, "listings", ServerListings, seconds=2 * LIST_SECONDS)
        listed = {} if told is None else {each.provider: each for each in told.listings}
        findings += [_listed(row, listed[row.id]) for row in asked if row.id in listed]
        return findings
    client = UpstreamClient()
    try:
        findings += await asyncio.gather(
            *(
                _ask(client, upstream, credential, secrets)
                for upstream in asked
                for credential in upstream.credentials or (None,)
            )
        )
    finally:
        await client.close()
    return findings


def _kept(settings: Settings, secrets: Secrets) -> OpenKeys | None:
    """What opens the keys that were entered here; None without a secrets file, which another finding tells."""
    try:
        return KeptKeys(SecretsFile(settings.secret_path), secrets).open
    except SecretsFileError:
        return None


def _listed(upstream: Upstream, listing: Listing) -> Finding:
    """What the running server was told by a provider."""
    if listing.outcome == "refused":
        return Finding("fail", "providers", f"{upstream.id}: {listing.text}", "put a valid one there")
    if listing.outcome in ("unreachable", "no money"):
        level: Level = "warn" if listing.status is not None else "fail"
        mend = "check the network, the address and its certificate" if level == "fail" else ""
        return Finding(level, "providers", f"{upstream.id}: {listing.text}", mend)
    return Finding("ok", "providers", f"{upstream.id} answers the running server")


async def _ask(
    client: UpstreamClient, upstream: Upstream, credential: Credential | None, secrets: Secrets
) -> Finding:
    if not upstream.speaks:
        return Finding(
            "fail", "providers", f"{upstream.id} has no address", "give it `speaks` in the catalogue"
        )
    reference = upstream.secret if credential is None else credential.secret
    dialect, url = upstream.speaks[0]
    try:
        origin, base = place_of(upstream, url, secrets)
    except ProviderCredentials as error:
        return Finding(
            "fail", "providers", f"{upstream.id}: {error.message}", "set what proxy_secret refers to"
        )
    except ValueError as error:
        return Finding("fail", "providers", f"{upstream.id}: {error}", "mend it in the catalogue")
    version = FORMATS[dialect].version_headers
    versions = () if version is None else version(NO_VERSION, upstream.profile)
    about = (*extra_headers(upstream.kind), *versions)
    request = ToSign(b"GET", f"{url.rstrip('/')}/models".encode(), about, b"", time.time())
    try:
        secret = await signing_secret(client, upstream, secrets.get(reference), secrets)
    except ProviderCredentials:
        text = f"{upstream.id} gives no token: auth is {upstream.auth}; the line above in the log says why"
        return Finding("fail", "providers", text, "see what sign_in says in the catalogue")
    headers = sign(upstream, secret, request)
    try:
        path = base + b"/models" + query_suffix(upstream.reach)
        response = await client.send(origin, b"GET", path, headers, b"", _WAIT)
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
        whose = f"refuses the credential of {reference}" if reference else "wants a credential, and has none"
        return Finding(
            "fail", "providers", f"{upstream.id} at {origin.host} {whose}", "put a valid one there"
        )
    if response.status >= 500:
        return Finding("warn", "providers", f"{upstream.id} at {origin.host} answers {response.status}")
    return Finding("ok", "providers", f"{upstream.id} at {origin.host} answers")
