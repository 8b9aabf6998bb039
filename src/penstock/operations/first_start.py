"""First start: opens and fills the store of an installation, and composes what the operator reads at the start."""

import ipaddress
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock import __version__
from penstock.core.amounts import amount
from penstock.core.body import scanner
from penstock.core.quoting import json_string, shell_word
from penstock.domain.accounts import accounts
from penstock.domain.accounts.accounts import DEMO_EMAIL, User
from penstock.domain.catalog.catalog_store import (
    CatalogSource,
    apply_document,
    default_catalog,
    offer_local,
    revision,
)
from penstock.domain.catalog.kept_keys import any_kept_key, check_seals
from penstock.domain.catalog.toml_document import parse
from penstock.domain.keys import management
from penstock.domain.ledger.ledger import DIRECTORY
from penstock.domain.ledger.recovery import check_journals
from penstock.domain.staff import setup_link
from penstock.domain.trail.entries import SYSTEM
from penstock.operations.kept_keys import KeptKeys
from penstock.operations.model_catalog import VendorOffer, offer_vendors
from penstock.operations.model_endings import endings
from penstock.providers.local_servers import find_local
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS, PROVIDERS
from penstock.settings import Settings
from penstock.store.secrets_file import SecretsFile, SecretsFileError
from penstock.store.sql.backend import StoreError
from penstock.store.sql.database import Database, SchemaBehind, open_database
from penstock.store.starts import count_start

DEMO_PLAN = "pro"
_SIMULATOR = "simulator"


class NoOwner(StoreError):
    """The server would be open to others, and nobody could administer it."""


class Store(msgspec.Struct, frozen=True):
    """An installation that is ready for use."""

    settings: Settings
    database: Database
    secrets_file: SecretsFile


class Greeting(msgspec.Struct, frozen=True):
    """The greeting: what the operator reads at the start."""

    brand: str
    data: str
    demo_key: str | None
    """The demo user's key, when there is such a user and its key can be shown."""
    demo_plan: str
    """The plan that the demo user is on."""
    demo_hidden: bool
    """There is a demo user, but its key can no longer be shown."""
    model: str
    """A model to try first."""
    served: tuple[str, ...]
    simulated: bool
    missing: tuple[str, ...]
    """Variables of which each would have more models served."""
    unserved: tuple[str, ...]
    local: tuple[str, ...]
    """Model servers on this machine that were found just now."""
    offers: tuple[VendorOffer, ...] = ()
    """What vendors have whose key is there and of whom nothing was served."""
    trouble: str | None = None
    """Why whoever signs up can do nothing."""
    endings: tuple[str, ...] = ()
    """Models that their vendors end, of those that nothing else serves."""
    setup_token: str | None = None
    """Of a link by which the operator becomes the first owner, where there is none."""

    def __repr__(self) -> str:
        return f"Greeting({self.brand})"


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncGenerator[Store]:
    """Open the database and the secrets file, both made when they are new, with the default catalogue in a new one.

    Raises ``StoreError`` (``SecretsFileError`` when the secrets file is not the one that the database belongs to).
    """
    try:
        database = await open_database(settings, migrate=False)
    except SchemaBehind:
        check_journals(settings.data / DIRECTORY)
        database = await open_database(settings)
    try:
        async with database.connect() as conn:
            new = await revision(conn) == 0
        if new:
            async with database.transaction() as conn:
                if await revision(conn) == 0:  # of several processes that start at once, one fills it
                    await apply_document(conn, parse(default_catalog(), KINDS), KINDS, _now())
        yield Store(settings, database, await _secrets_file(database, settings))
    finally:
        await database.close()


async def _secrets_file(database: Database, settings: Settings) -> SecretsFile:
    path = settings.secret_path
    async with database.connect() as conn:
        if not path.exists() and (await management.any_key(conn) or await any_kept_key(conn)):
            raise SecretsFileError(
                f"there is no secrets file {path}, but the database holds keys that were made with one: put it back"
            )
        secrets_file = SecretsFile.make(path, secrets.token_bytes)
        await management.check_peppers(conn, secrets_file)
        await check_seals(conn, secrets_file)
    return secrets_file


async def first_start(store: Store, secrets_of: Secrets) -> Greeting:
    """What is done once, before the first request: a demo user on loopback, elsewhere an owner or a set-up link demanded.

    At the very first start, model servers found on this machine are added to the catalogue. Where this is a machine of
    one's own, so are models of vendors whose key is there and of whom nothing is served. Raises ``NoOwner``.
    """
    settings, database = store.settings, store.database
    async with database.transaction() as conn:
        owned = await accounts.any_owner(conn)
        linked = owned or await setup_link.any_link(conn, now=_now())
        if not is_loopback(settings.host) and not linked:
            raise NoOwner(
                f"{settings.host} can be reached by others, and there is no owner yet; make the link to become one, "
                "and start within 30 minutes: penstock setup-link"
            )
        setup_token = None
        if not linked:
            setup_token = await setup_link.new_link(conn, SYSTEM, now=_now(), entropy=secrets.token_bytes)
        first = await count_start(conn)
        demo = await _demo(conn, store) if is_own_machine(settings) else None
    local = await _offer_local(database) if first else ()
    kept = KeptKeys(store.secrets_file, secrets_of)
    source = CatalogSource(database, KINDS, secrets_of.has, opened=kept.open)
    await source.refresh()
    offers: tuple[VendorOffer, ...] = ()
    if settings.discovery_seconds:
        publish = is_own_machine(settings) and (first or source.current.simulated)
        offers = await offer_vendors(
            database, secrets_of, publish=publish, seconds=settings.discovery_seconds
        )
        await source.refresh()
    catalog = source.current
    models = tuple(catalog.models.values())
    served = tuple(model.id for model in models if catalog.served(model))
    unserved = [model for model in models if not catalog.served(model)]
    lacking = models if catalog.simulated else unserved
    today = datetime.now(UTC).date()
    offered = catalog.offered(demo.user.plan_id, kind="chat") if demo else ()
    tried = offered or tuple(model for model in models if model.chats and catalog.served(model))
    return Greeting(
        brand=settings.brand,
        data=str(settings.data),
        demo_key=demo.key if demo else None,
        demo_plan=demo.user.plan_id if demo else "",
        demo_hidden=demo is not None and demo.key is None,
        model=_cheap(tuple(model.id for model in tried)),
        served=served,
        simulated=catalog.simulated,
        missing=tuple(dict.fromkeys(name for model in lacking for name in catalog.needs(model))),
        unserved=tuple(model.id for model in unserved),
        local=local,
        offers=offers,
        trouble=catalog.plan_trouble(settings.signup_plan) if settings.signup == "open" else None,
        endings=tuple(each.told(today) for each in endings(catalog, today) if not each.others),
        setup_token=setup_token,
    )


def render_greeting(greeting: Greeting, url: str) -> str:
    """The greeting as text for the console; ``url`` is what callers put before ``/api/v1``."""
    program = f"Penstock {__version__}"
    name = program if greeting.brand == "Penstock" else f"{greeting.brand} ({program})"
    lines = [f"{name} is serving on {url}", ""]

    def say(head: str, *rest: str) -> None:
        lines.extend(
            f"  {label:<12}{text}" for label, text in zip((head, *[""] * len(rest)), rest, strict=False)
        )

    key = greeting.demo_key or "sk-ps-..."
    if greeting.demo_key:
        say(
            "Demo key",
            greeting.demo_key,
            f"of {DEMO_EMAIL}, on the {greeting.demo_plan} plan; for trying things on this machine",
        )
    elif greeting.demo_hidden:
        say("Demo key", f"cannot be shown again; for a new one: penstock key create --email {DEMO_EMAIL}")
    else:
        say(
            "Keys",
            "penstock user create --email YOU@EXAMPLE.COM --verified",
            "penstock key create --email ...",
        )
    if greeting.model:
        body = f'{{"model": {json_string(greeting.model)}, "messages": [{{"role": "user", "content": "Hello"}}]}}'
        say(
            "Try it",
            f"curl {shell_word(f'{url}/api/v1/chat/completions')} \\",
            f"  -H {shell_word(f'Authorization: Bearer {key}')} -H 'Content-Type: application/json' \\",
            f"  -d {shell_word(body)}",
        )
    say("Claude Code", f"ANTHROPIC_BASE_URL={shell_word(f'{url}/api/v1')} ANTHROPIC_AUTH_TOKEN={key} claude")
    say("OpenAI SDK", f"OPENAI_BASE_URL={shell_word(f'{url}/api/v1')} OPENAI_API_KEY={key}")
    say("Models", *_models(greeting), *_offers(greeting))
    if greeting.endings:
        say("Ending", *greeting.endings)
    if greeting.trouble:
        say("Sign-up", f"{greeting.trouble}: set PENSTOCK_SIGNUP_PLAN, or connect a provider of its models")
    say("Scanner", scanner.KIND)
    if greeting.setup_token:
        say(
            "Set up",
            setup_link.address(url, greeting.setup_token),
            "within 30 minutes, to become the owner with a password of your own; later: penstock setup-link",
        )
    else:
        say("Admin", f"{url}/admin")
    say("Data", greeting.data)
    return "\n".join(lines) + "\n"


def _models(greeting: Greeting) -> tuple[str, ...]:
    """What is served, by whom, and what would change that."""
    said: list[str] = []
    if greeting.local:
        said.append(f"found on this machine: {', '.join(greeting.local)}")
    if not greeting.served:
        said.append("none: apply a catalogue with `penstock catalog apply FILE`")
    elif greeting.simulated:
        said.append(
            f"all {len(greeting.served)} are answered by the built-in simulator: no model is behind them yet"
        )
    else:
        said.append(f"served: {', '.join(greeting.served)}")
        if greeting.unserved:
            said.append(f"not set up: {', '.join(greeting.unserved)}")
    if greeting.missing:
        said.append("for real ones start with a provider's key in the environment, such as")
        said.append(", ".join(greeting.missing))
    return tuple(said)


def _offers(greeting: Greeting) -> tuple[str, ...]:
    """What vendors have whose key is there, and how it is published or taken back."""
    said: list[str] = []
    for offer in greeting.offers:
        if offer.outcome != "works":
            said.append(f"{offer.provider}: its key is there, but {offer.text}")
        elif offer.published:
            said.append(
                f"{offer.provider}: {len(offer.published)} of its models are on every plan now, as its key is there and "
                f"this machine is your own; to take them back: penstock models remove '{offer.provider}/*'"
            )
            rest = offer.found - len(offer.published)
            if rest:
                said.append(f"{rest} more: penstock models '{offer.provider}/*'")
        else:
            found = amount(offer.found, "model")
            said.append(
                f"{offer.provider}: {found} found, none published: penstock models add '{offer.provider}/*'"
            )
    return tuple(said)


def is_own_machine(settings: Settings) -> bool:
    """Whether the service is for trying things: nobody else can reach it, and it has no public address."""
    return is_loopback(settings.host) and not settings.public_url


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Demo(msgspec.Struct, frozen=True):
    user: User
    key: str | None


async def _demo(conn: AsyncConnection, store: Store) -> _Demo | None:
    """The demo user, made with a key when there is no user at all, and the key as far as it may be shown."""
    keep = store.settings.keys_reveal
    found = await accounts.find_user(conn, DEMO_EMAIL)
    if found is not None:
        return _Demo(found, await _shown_again(conn, store, found) if keep else None)
    if await accounts.any_user(conn) or not await accounts.plan_exists(conn, DEMO_PLAN):
        return None  # there are people, or plans of the operator's own
    now = _now()
    id = accounts.new_user_id(secrets.token_bytes(16))
    user = await accounts.create_user(
        conn, DEMO_EMAIL, plan=DEMO_PLAN, admin=False, verified=True, now=now, id=id
    )
    wish = management.KeyWish("demo")
    made = await management.create_key(
        conn, store.secrets_file, user.id, wish, now=now, entropy=secrets.token_bytes, keep=keep
    )
    return _Demo(user, made.key)


async def _shown_again(conn: AsyncConnection, store: Store, demo: User) -> str | None:
    """The newest working key that was kept."""
    for row in await management.working_keys(conn, demo.id, now=_now()):
        if row.kept:
            return await management.reveal_key(conn, store.secrets_file, demo.id, row.id)
    return None


def local_servers() -> tuple[tuple[str, str], ...]:
    """Where model servers may be found on this machine: provider ids with their usual URLs.

    Our own simulator is none, though it may be running: it would be offered as models that it is not.
    """
    return tuple(
        (row.id, next(iter(row.speaks.values())))
        for row in PROVIDERS.values()
        if row.local and row.speaks and row.id != _SIMULATOR
    )


async def _offer_local(database: Database) -> tuple[str, ...]:
    found = {server.provider: server.models for server in await find_local(local_servers())}
    if not found:
        return ()
    async with database.transaction() as conn:
        await offer_local(conn, found, KINDS, _now())
    return tuple(found)


def _cheap(models: tuple[str, ...]) -> str:
    """A small model to try first."""
    return next((model for model in models if "haiku" in model), models[0] if models else "")


def _now() -> int:
    return time.time_ns() // 1_000_000
