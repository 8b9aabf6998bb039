"""The whole service in this process, with people, keys and a catalogue, between a simulator and scripted upstreams."""

import asyncio
import atexit
import itertools
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Text, func, select, type_coerce, update

from penstock.app import Service
from penstock.commands.run_server import limits_of
from penstock.core.catalog import Capabilities, DialectName, Model, ModelKind, Target, Upstream
from penstock.core.limits import day_of
from penstock.domain.accounts import accounts
from penstock.domain.accounts.passwords import Cost
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.domain.keys import management
from penstock.domain.ledger.entries import entries
from penstock.domain.ledger.usage import DayReport, day_report
from penstock.errors import PenstockError
from penstock.exchange import Exchange
from penstock.operations.first_start import Store, open_store
from penstock.providers.secrets import Secrets
from penstock.providers.simulator.handler import SimulatedRequest, simulator
from penstock.providers.table import KINDS
from penstock.server.listen import Application, Listener, ServerLimits, listen
from penstock.settings import Settings
from penstock.store.sql.schema import providers, usage_days
from tests.service.conversations import DIALECTS, PATHS, Answer, Caller, body_of, check_api_head, request
from tests.service.scripted import PATIENCE, Scripted, scripted

Headers = Mapping[str, str]
_NONE: Headers = {}
MORNING = 1_800_000_000.0
"""When it is in the house: 2027-01-15 08:00:00 UTC."""
VENDOR_KEY = "vendor-key-0123456789"
_LOOKED = 0.002
"""Seconds between two looks into the books: without them, whoever waits takes the processor from what is waited for."""
CHEAP = Cost(passes=1, kibibytes=8)
"""What a password's hash costs in the house; what it costs elsewhere is tested in tests/site/test_sign_in.py."""
WIRES = (
    "wire-chat", "wire-messages", "wire-responses", "wire-embeddings", "spare-chat", "spare-messages", "spare-responses",
    "spare-embeddings",
)  # fmt: skip

FREE = ("claude-haiku-4.5", "claude-sonnet-4.6", "deepseek-3.2", "minimax-m2.1")
STARTER = (
    *FREE,
    "auto-kiro",
    "claude-3.7-sonnet",
    "claude-sonnet-4",
    "claude-sonnet-4.5",
    "qwen3-coder-next",
)
PRO = (*STARTER, "claude-opus-4.5", "claude-opus-4.6")
_CHAT_BEHIND = {"deepseek-3.2", "qwen3-coder-next"}

SCENARIOS = {
    "plain": "sim-ok",
    "echo": "sim-echo",
    "long": "sim-words=200+sim-slow=20",
    "hang": "sim-hang",
    "hang-mid": "sim-hang-mid=5",
    "cut": "sim-cut=5",
    "cut-at-once": "sim-cut=0",
    "unfinished": "sim-unfinished",
    "garbage": "sim-garbage",
    "html": "sim-html",
    "empty": "sim-empty",
    "error-200": "sim-error-200",
    "error-in-stream": "sim-error-in-stream=5",
    "error-first": "sim-error-in-stream=0",
    "whole": "sim-whole",
    "huge": "sim-huge=8192",
    "badutf8": "sim-badutf8",
    "no-usage": "sim-no-usage",
    "pings": "sim-pings",
    "drip": "sim-drip=7",
    "thinking": "sim-thinking",
    "refusal": "sim-refusal",
    "tools": "sim-tools=2",
    "tool": "sim-tools=1",
    "overflow": "sim-overflow",
    **{
        f"error-{status}": f"sim-error-{status}"
        for status in (400, 401, 403, 404, 413, 422, 429, 500, 503, 529)
    },
}
"""Models of the lab plan: ``chat-cut`` is the simulator's scenario behind a Chat upstream, ``messages-cut`` another."""

FORMAT_KINDS: dict[str, ModelKind] = {
    "completions": "completion",
    "images": "image",
    "transcriptions": "transcription",
    "speech": "speech",
    "rerank": "rerank",
    "moderations": "moderation",
}
"""The formats that are passed through, by the word of ``speaks``, with the kind of their models."""
IN_THE_CONTRACT: tuple[tuple[str, ModelKind], ...] = (
    ("codestral", "completion"),
    ("gpt-image-1", "image"),
    ("whisper-1", "transcription"),
    ("gpt-4o-mini-tts", "speech"),
    ("rerank-v3.5", "rerank"),
    ("omni-moderation-latest", "moderation"),
)
"""The models that the examples of the API's description name."""
FORMAT_FEW = ("plain", "error-400", "error-401", "error-500", "html", "empty", "garbage", "error-200", "cut")
EMBEDDING_FEW = (
    "plain",
    "hang",
    "no-usage",
    "garbage",
    "overflow",
    "error-400",
    "error-401",
    "error-500",
    "error-503",
)


def catalogue(simulated: int, wires: Mapping[str, int]) -> CatalogDocument:
    """The default catalogue with its models served by the simulator, and what the lab has beside it."""
    providers = [_provider("absent", "custom", "chat", 1, "env:ABSENT_KEY")]
    models = [_model("absent-model", ("absent", "x"))]
    for model in parse(default_catalog(), KINDS).models:
        behind = "sim-chat" if model.id in _CHAT_BEHIND else "sim-messages"
        models.append(model if model.auto else replace(model, targets=(Target(behind, model.id),)))
    for dialect in DIALECTS:
        providers.append(_provider(f"sim-{dialect}", "simulator", dialect, simulated, ""))
        for place in ("wire", "spare"):
            kind, name = "anthropic" if dialect == "messages" else "custom", f"{place}-{dialect}"
            providers.append(_provider(name, kind, dialect, wires[name], "env:VENDOR_KEY"))
        for name, scenario in SCENARIOS.items():
            models.append(_model(f"{dialect}-{name}", (f"sim-{dialect}", scenario)))
        wire, spare = (f"wire-{dialect}", f"up-{dialect}"), (f"spare-{dialect}", f"up-{dialect}")
        models.append(_model(wire[0], wire))
        models.append(_model(f"pair-{dialect}", wire, spare))
    providers.append(_provider("sim-responses", "simulator", "responses", simulated, ""))
    providers += (
        _provider(name, "custom", "responses", wires[name], "env:VENDOR_KEY")
        for name in ("wire-responses", "spare-responses")
    )
    wire, spare = (("wire-responses", "up-responses"), ("spare-responses", "up-responses"))
    models += (_model("wire-responses", wire), _model("pair-responses", wire, spare))
    searching = _provider(
        "search-messages", "anthropic", "messages", wires["wire-messages"], "env:VENDOR_KEY"
    )
    providers.append(replace(searching, habits=(("web_search", "mapped"),)))
    models.append(_model("search-messages", ("search-messages", "up-messages")))
    providers.append(_provider("deep-chat", "deepseek", "chat", wires["wire-chat"], "env:VENDOR_KEY"))
    models.append(_model("deep-chat", ("deep-chat", "up-chat")))
    # another vendor's models behind Messages, and Google's and another account's behind what they speak
    for name, kind, wire in (
        ("mini-messages", "minimax", "spare-messages"),
        ("google-chat", "gemini", "spare-chat"),
        ("groq-chat", "groq", "wire-chat"),
    ):
        dialect: DialectName = "messages" if wire.endswith("messages") else "chat"
        providers.append(_provider(name, kind, dialect, wires[wire], "env:VENDOR_KEY"))
        models.append(_model(name, (name, f"up-{dialect}")))
    few = ("plain", "tools", "cut", "error-400", "error-500")
    models += (_model(f"responses-{name}", ("sim-responses", SCENARIOS[name])) for name in few)
    for place in ("wire", "spare"):
        name = f"{place}-embeddings"
        providers.append(_provider(name, "custom", "embeddings", wires[name], "env:VENDOR_KEY"))
    providers.append(_provider("sim-embeddings", "simulator", "embeddings", simulated, ""))
    both = (("wire-embeddings", "up-embed"), ("spare-embeddings", "vendor/UP-Embed"))
    models += (_embedding("wire-embeddings", both[0]), _embedding("pair-embeddings", *both))
    models += (
        _embedding(f"embeddings-{name}", ("sim-embeddings", SCENARIOS[name])) for name in EMBEDDING_FEW
    )
    models.append(_embedding("text-embedding-3-small", ("sim-embeddings", "plain")))
    for name, kind, port, path in (
        ("sim-formats", "simulator", simulated, "/v1"),
        ("wire-formats", "custom", wires["wire-embeddings"], "/base/v1"),
        ("spare-formats", "custom", wires["spare-embeddings"], "/base/v1"),
    ):
        row = replace(KINDS[kind], id=name, kind=kind, secret="env:VENDOR_KEY" if kind == "custom" else "")
        speaks = tuple((format_, f"http://127.0.0.1:{port}{path}") for format_ in FORMAT_KINDS)
        providers.append(replace(row, speaks=speaks))
    models += (_embedding(id, ("sim-formats", "plain"), kind=of_kind) for id, of_kind in IN_THE_CONTRACT)
    for format_, of_kind in FORMAT_KINDS.items():
        wire, spare = ("wire-formats", f"up-{of_kind}"), ("spare-formats", f"vendor/up-{of_kind}")
        models += (
            _embedding(f"wire-{of_kind}", wire, kind=of_kind),
            _embedding(f"pair-{of_kind}", wire, spare, kind=of_kind),
        )
        models += (
            _embedding(f"{format_}-{name}", ("sim-formats", SCENARIOS[name]), kind=of_kind)
            for name in FORMAT_FEW
        )
    names = tuple(model.id for model in models)
    plans = [
        Plan(id, id, daily_requests=daily, concurrent_requests=at_once, models=names, queue_seconds=wait)
        for id, daily, at_once, wait in _PLANS
    ]
    return CatalogDocument(tuple(providers), tuple(models), tuple(plans))


_PLANS = (
    ("lab", 50_000, 64, 0),
    ("one", 1_000, 1, 0),
    ("ten", 50_000, 10, 0),
    ("few", 5, 64, 0),
    ("patient", 1_000, 1, 30),
)
"""The lab's plans: requests a day, at once, and seconds to wait for a turn."""


def _provider(id: str, kind: str, dialect: DialectName, port: int, secret: str) -> Upstream:
    path = "/v1" if kind == "simulator" else "/base/v1"
    row = replace(KINDS[kind], id=id, kind=kind, secret=secret)
    return replace(row, speaks=((dialect, f"http://127.0.0.1:{port}{path}"),))


def _model(id: str, *targets: tuple[str, str]) -> Model:
    """One that is served at these providers under these names, in this order."""
    found = tuple(Target(provider, name, priority=at) for at, (provider, name) in enumerate(targets))
    everything = Capabilities(vision=True, documents=True, thinking="budget", structured_output=True)
    return Model(id, id, targets=found, max_output_tokens=4096, capabilities=everything)


def _embedding(id: str, *targets: tuple[str, str], kind: ModelKind = "embedding") -> Model:
    found = tuple(Target(provider, name, priority=at) for at, (provider, name) in enumerate(targets))
    return Model(id, id, targets=found, kind=kind)


class User(msgspec.Struct, frozen=True):
    """Someone with a key."""

    id: str
    email: str
    key: str


class Clock:
    """The wall clock of the house."""

    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> float:
        return self.now


def evenly() -> Iterator[float]:
    """Numbers in [0, 1) that are spread like random ones, but evenly: of thirty choices by weight each has its share."""
    at = 0.0
    while True:
        at = (at + GOLDEN) % 1.0
        yield at


GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, without their whole parts, leave no gap."""


class House:
    """A running service and all that is round it."""

    def __init__(self, settings: Settings, store: Store, wires: dict[str, Scripted]) -> None:
        self.settings = settings
        self.store = store
        self.wires = wires
        self.visits: list[SimulatedRequest] = []
        """The simulator's journal."""
        self.clock = Clock()
        self.callers: list[Caller] = []
        self.service: Service | None = None
        self.listener: Listener | None = None
        self._stack = AsyncExitStack()
        self._people = itertools.count(1)
        self._stopped = True
        self.beside: list[Service] = []
        """Other servers on the same database."""

    # ---- the service

    async def start(self, **changes: Any) -> None:
        """Open the service, with these settings changed."""
        self.settings = replace(self.settings, **changes)
        self.service = Service(
            self.settings,
            Secrets({"VENDOR_KEY": VENDOR_KEY}),
            now=self.clock,
            hashing=CHEAP,
            draw=evenly().__next__,
        )
        await self._stack.enter_async_context(self.service.running())
        self.listener = await listen(self.service.application, "127.0.0.1", 0, limits_of(self.settings))
        self._stack.push_async_callback(self.listener.close)
        self._stopped = False

    async def stop(self) -> None:
        """Close it; then the ledger is complete."""
        await self._stack.aclose()
        self._stopped = True

    async def restart(self, **changes: Any) -> None:
        """Close it and open it again on the same data."""
        await self.stop()
        await self.start(**changes)

    # ---- people

    async def user(self, plan: str = "lab", *, verified: bool = True, disabled: bool = False) -> User:
        """A new account with a key."""
        return await make_user(self.store, plan, next(self._people), verified=verified, disabled=disabled)

    async def key(self, user_id: str, wish: management.KeyWish | None = None) -> str:
        """Another key of an account."""
        return await _make_key(self.store, user_id, wish or management.KeyWish())

    # ---- conversations

    async def call(self) -> Caller:
        """A connection. What every answer of the data plane has is checked on each of them."""
        assert self.listener is not None
        ends = await asyncio.open_connection("127.0.0.1", self.listener.port, limit=1 << 20)
        caller = Caller(*ends, lambda answer: check_api_head(answer, self.clock.now))
        self.callers.append(caller)
        return caller

    async def send(self, raw: bytes) -> Caller:
        """A connection on which this was sent."""
        caller = await self.call()
        await caller.send(raw)
        return caller

    async def http(
        self, method: str, path: str, key: str | None = None, *, body: bytes = b"", headers: Headers = _NONE
    ) -> Answer:
        """One request on a connection of its own."""
        caller = await self.send(raw(method, path, key, body, headers))
        try:
            return await caller.answer(bodiless=method == "HEAD")
        finally:
            caller.leave()

    async def page(
        self, path: str, *, method: str = "GET", host: str = "penstock.test", headers: Headers = _NONE
    ) -> Answer:
        """One request for what is not of the data plane."""
        caller = await self.call()
        await caller.send(request(method, path, dict(headers), host=host))
        try:
            return await caller.answer(checked=False)
        finally:
            caller.leave()

    async def post(self, dialect: str, body: bytes, user: User | None, headers: Headers = _NONE) -> Answer:
        """One request to the dialect's route."""
        return await self.http("POST", PATHS[dialect], user and user.key, body=body, headers=headers)

    async def ask(
        self, dialect: str, model: str, user: User, *, headers: Headers = _NONE, **fields: Any
    ) -> Answer:
        """One small request."""
        return await self.post(dialect, body_of(dialect, model, **fields), user, headers)

    async def begin(
        self, dialect: str, model: str, user: User, *, headers: Headers = _NONE, **fields: Any
    ) -> Caller:
        """A connection on which one small request was sent."""
        body = body_of(dialect, model, **fields)
        return await self.send(raw("POST", PATHS[dialect], user.key, body, headers))

    # ---- the books

    async def _heard(self) -> None:
        """The service knows of every caller who has left, and has ended what they asked for."""
        if self.listener is None or self._stopped:
            return
        gone = {it.port for it in self.callers if it.has_left} - {
            it.port for it in self.callers if not it.has_left
        }
        wire = self.listener._wire

        def ended() -> bool:
            left = any(_port_of(it) in gone for it in wire.connections)
            return not left and not any(it.lost for it in wire.exchanges)

        async with asyncio.timeout(PATIENCE):
            while not ended():  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.001)

    async def _booked(self) -> None:
        """The database has all that was recorded, by this service and by those beside it."""
        await self._heard()
        services = [] if self.service is None or self._stopped else [self.service]
        for service in (*services, *self.beside):
            while _is_behind(service):  # noqa: ASYNC110 - a thread that tells nobody
                await asyncio.sleep(0.001)

    async def report(self, user: User) -> DayReport:
        """The user's day, once nothing of it is open any more."""
        await self._booked()
        async with asyncio.timeout(PATIENCE), self.store.database.connect() as conn:
            found = await accounts.user_by_email(conn, user.email)
            while True:
                report = await day_report(conn, found, day_of(self.clock.now))
                await conn.rollback()
                if all(line.state == "settled" for line in report.requests):
                    return report
                await asyncio.sleep(_LOOKED)

    async def rows(self, user: User) -> list[dict[str, Any]]:
        """The user's rows of the ledger in the order of arrival, once none is open any more."""
        mine = select(entries).where(entries.c.user_id == user.id).order_by(entries.c.id)
        await self._booked()
        async with asyncio.timeout(PATIENCE), self.store.database.connect() as conn:
            while True:
                rows = [dict(row) for row in (await conn.execute(mine)).mappings()]
                await conn.rollback()
                if all(row["state"] == "settled" for row in rows):
                    return rows
                await asyncio.sleep(_LOOKED)

    async def row(self, user: User, of: int = 1) -> dict[str, Any]:
        """The last of so many rows of the user, once they are there: that a caller has left is heard a little later."""
        async with asyncio.timeout(PATIENCE):
            while len(rows := await self.rows(user)) < of:  # noqa: ASYNC110 - a thread that tells nobody
                await asyncio.sleep(_LOOKED)
        assert len(rows) == of
        return rows[-1]

    async def used(self, user: User) -> int:
        """What is counted of today in the database, once no row of the user is open any more."""
        await self.rows(user)
        async with self.store.database.connect() as conn:
            used = await conn.scalar(
                select(usage_days.c.used).where(
                    usage_days.c.user_id == user.id, usage_days.c.day == day_of(self.clock.now)
                )
            )
        return used or 0

    def held(self, user: User) -> int:
        """How many slots of the user are taken."""
        assert self.service is not None
        assert self.service._api is not None
        return self.service._api._gate.state(user.id, Plan("", "", 1, 1, ()), self.clock.now).in_use

    @property
    def taken(self) -> int:
        """How much memory request bodies take, in bytes."""
        assert self.service is not None
        assert self.service._api is not None
        return self.service._api._body_memory.taken

    @property
    def answers_taken(self) -> int:
        """What whole answers take in memory."""
        assert self.service is not None
        assert self.service._api is not None
        return self.service._api._relay.answers.taken

    @property
    def asked(self) -> int:
        """How many requests have reached any upstream."""
        return len(self.visits) + sum(len(wire.asked) for wire in self.wires.values())

    def heard(self, text: str) -> list[SimulatedRequest]:
        """What the simulator got with this text in it."""
        return [visit for visit in self.visits if text.encode() in visit.body]


def _is_behind(service: Service) -> bool:
    """Whether rows are to be written, be it those of calls that have only just begun, which are held for a moment."""
    if service._api is None:
        return False
    ledger = service._api._relay.ledger
    return bool(ledger.owed or ledger._held)


def _port_of(connection: Any) -> int:
    """The caller's; of one that was gone before it was there, none."""
    peer = connection.transport.get_extra_info("peername")
    return peer[1] if peer else 0


def raw(method: str, path: str, key: str | None, body: bytes, headers: Headers) -> bytes:
    named = dict(headers)
    if key is not None:
        named["authorization"] = f"Bearer {key}"
    return request(method, path, named, body)


def _refuse(exchange: Exchange, error: PenstockError) -> None:
    exchange.start(error.status, [(b"content-length", b"0")])
    exchange.end()


async def make_user(
    store: Store, plan: str, number: int, *, verified: bool = True, disabled: bool = False
) -> User:
    """A new account with a key; ``number`` makes its address."""
    id = accounts.new_user_id(secrets.token_bytes(16))
    email = f"user{number}@example.com"
    async with store.database.transaction() as conn:
        await accounts.create_user(conn, email, plan=plan, admin=False, verified=verified, now=1, id=id)
        if disabled:
            await accounts.change_user(conn, id, accounts.Changes(disabled=True), now=1)
    return User(id, email, await _make_key(store, id, management.KeyWish()))


async def _make_key(store: Store, user_id: str, wish: management.KeyWish) -> str:
    async with store.database.transaction() as conn:
        made = await management.create_key(
            conn, store.secrets_file, user_id, wish, now=1, entropy=secrets.token_bytes, keep=True
        )
    return made.key


@asynccontextmanager
async def furnished(
    data: Path, journal: Callable[[SimulatedRequest], None], database_url: str = ""
) -> AsyncGenerator[tuple[Store, dict[str, Scripted]]]:
    """The house without its service: a data directory with the catalogue, and the running upstreams by name."""
    async with AsyncExitStack() as stack:
        wires = {name: await stack.enter_async_context(scripted()) for name in WIRES}
        application = Application(simulator(journal=journal, gap=0), lambda _path: True, None, _refuse)
        simulated = await listen(application, "127.0.0.1", 0, ServerLimits())
        stack.push_async_callback(simulated.close)
        ports = {name: wire.port for name, wire in wires.items()}
        copied = _usual(data, database_url)
        if copied:
            shutil.copytree(await _model_home(), data)
        store = await stack.enter_async_context(open_store(Settings(data=data, database_url=database_url)))
        async with store.database.transaction() as conn:
            if copied:
                await conn.execute(update(providers).values(speaks=_moved(simulated.port, ports)))
            else:
                await catalog_store.apply_document(conn, catalogue(simulated.port, ports), KINDS, 1)
        yield store, wires


_SIMULATED, _WIRED = 60_000, {name: 60_001 + number for number, name in enumerate(WIRES)}
"""The ports in the model home, which is copied because to make tables and a catalogue takes longer than most tests."""
_homes: list[Path] = []
"""This process's model home, once it is made."""


def _usual(data: Path, database_url: str) -> bool:
    """Whether it is a new directory, with the database in it."""
    return not data.exists() and database_url in ("", Settings(data=data).database_url)


async def _model_home() -> Path:
    """A data directory as a house has it, but for the ports."""
    if not _homes:
        folder = tempfile.mkdtemp(prefix="penstock-house-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        home = Path(folder) / "data"
        async with open_store(Settings(data=home)) as store, store.database.transaction() as conn:
            await catalog_store.apply_document(conn, catalogue(_SIMULATED, _WIRED), KINDS, 1)
        _homes.append(home)
    return _homes[0]


def _moved(simulated: int, wires: Mapping[str, int]) -> ColumnElement[str]:
    """What providers speak, with the ports of the model home replaced."""
    speaks: ColumnElement[str] = type_coerce(providers.c.speaks, Text)
    for old, new in ((_SIMULATED, simulated), *((_WIRED[name], wires[name]) for name in WIRES)):
        speaks = func.replace(speaks, f":{old}/", f":{new}/")
    return speaks


@asynccontextmanager
async def open_house(data: Path, **settings: Any) -> AsyncGenerator[House]:
    """A house on a data directory of its own. Refusals are not limited and nobody is asked twice unless the settings say so;
    what goes out goes when a test says so."""
    given = replace(
        Settings(
            data=data,
            errors_per_minute=0,
            cache_seconds=0.0,
            journal_pace=0.001,
            journal_hold=0.001,
            upstream_again=False,
            notify_poll=86_400.0,
            export_poll=86_400.0,
        ),
        **settings,
    )
    visits: list[SimulatedRequest] = []
    async with furnished(data, visits.append, given.database_url) as (store, wires):
        house = House(given, store, wires)
        house.visits = visits
        await house.start()
        try:
            yield house
        finally:
            for caller in house.callers:
                caller.leave()
            await house.stop()
