"""A whole Penstock in this process, on a loop of its own, with a provider that writes down what it gets.

Real clients are programs that block, or other processes, so the service runs in a thread beside the test. It is reached
over sockets only; the journals of its two ends are what a test may look at besides the client's own result.
"""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec
import uvloop

from penstock.app import Service
from penstock.domain.accounts import accounts
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import parse
from penstock.domain.keys import management
from penstock.errors import PenstockError
from penstock.exchange import Exchange, Handler, HeaderList
from penstock.operations.first_start import Store, open_store
from penstock.providers.secrets import Secrets
from penstock.providers.simulator.handler import SimulatedRequest, simulator
from penstock.providers.table import KINDS
from penstock.server.listen import Application, ServerLimits, listen
from penstock.settings import Settings

T = TypeVar("T")
Lane = Literal["messages", "chat", "responses"]
LANES: tuple[Lane, ...] = ("messages", "chat")
"""What most clients are tried over; ``responses`` is for those that speak it."""
EVERY_LANE: tuple[Lane, ...] = (*LANES, "responses")
UPSTREAM_KEY = "the-operators-own"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel, in base64."""

ON_FREE = ["claude-haiku-4.5", "claude-sonnet-4.6", "deepseek-3.2", "minimax-m2.1"]
ON_PRO = [
    *ON_FREE, "auto-kiro", "claude-3.7-sonnet", "claude-sonnet-4", "claude-sonnet-4.5", "qwen3-coder-next",
    "claude-opus-4.5", "claude-opus-4.6",
]  # fmt: skip
"""The models of the default plans."""

DRILLS = {
    "drill-two-tools": "sim-tools=2",
    "drill-hold": "sim-hang",
    "drill-500": "sim-error-500",
    "drill-refused": "sim-error-400=prompt is too long: 212345 tokens > 200000 maximum",
    "drill-breaks": "sim-error-in-stream=8",
    "drill-thinks": "sim-thinking",
    "drill-namespace": "sim-tool=multi_agent_v1__close_agent",
    "gpt-5.5": "gpt-5.5",
}
"""Models for what does not happen by itself, and the simulator's scenario behind each; and one that Codex knows by name."""

# As an operator would write them: a vendor's own format, and the same models where only the other one is spoken.
_PROVIDER: dict[Lane, str] = {
    "messages": 'kind = "anthropic"\nspeaks = {{ messages = "http://127.0.0.1:{port}/v1" }}\nauth = "x-api-key"',
    "chat": 'kind = "openrouter"\nspeaks = {{ chat = "http://127.0.0.1:{port}/api/v1" }}\nauth = "bearer"',
    "responses": 'kind = "openai"\nspeaks = {{ responses = "http://127.0.0.1:{port}/v1" }}\nauth = "bearer"',
}
CHANGING: dict[Lane, tuple[str, str]] = {
    "messages": ("claude-sonnet-5-5", "claude-sonnet-5-5+sim-thinking"),
    "chat": ("glm-5", "z-ai/glm-5+sim-thinking"),
    "responses": ("gpt-6.1-sol", "gpt-6.1-sol+sim-thinking"),
}
"""For each dialect, whatever the lane of the service, a model behind a provider that speaks it alone, and its name there.
All of them think. Between them people change in the middle of a conversation."""

KNOWN_TO_CODEX: dict[Lane, tuple[str, str]] = {
    "messages": ("gpt-5.6-sol", "claude-opus-5-5+sim-thinking"),
    "chat": ("gpt-6-sol", "z-ai/glm-5+sim-thinking"),
    "responses": ("gpt-6.1-sol", "gpt-6.1-sol+sim-thinking"),
}
"""The same with names that Codex has metadata for: it offers such models other tools in another way."""

ECHOING: dict[Lane, tuple[str, str]] = {
    lane: (f"echo-by-{lane}", f"echo-by-{lane}+sim-echo") for lane in EVERY_LANE
}
"""The same of models that say what they were asked: for clients that read what is to be done in the text."""

CHOICES = (CHANGING, KNOWN_TO_CODEX, ECHOING)
"""What someone on the plan ``changing`` chooses from."""

_EMBEDDER = 'kind = "openai"\nspeaks = {{ embeddings = "http://127.0.0.1:{port}/v1" }}'
_EMBEDDED = 'targets = [{ provider = "embedder", model = "up-embedding" }]'
EMBEDDING = "text-embedding-3-small"
"""A model that the plan ``embeddings`` has, over every lane."""


OTHER_KINDS: dict[str, tuple[str, str]] = {
    "completion": ("codestral", "completions"),
    "image": ("gpt-image-1", "images"),
    "transcription": ("whisper-1", "transcriptions"),
    "speech": ("gpt-4o-mini-tts", "speech"),
    "rerank": ("rerank-v3.5", "rerank"),
    "moderation": ("omni-moderation-latest", "moderations"),
}
"""For each kind of model that is passed through, the one that the plan ``formats`` has, and what its provider speaks."""


def _spoken(port: int) -> str:
    return ", ".join(f'{format_} = "http://127.0.0.1:{port}/v1"' for _, format_ in OTHER_KINDS.values())


def catalogue(lane: Lane, port: int) -> str:
    """The default models, all of them served by one provider that speaks ``lane``'s dialect alone, and the drills."""

    def ours(found: re.Match[str]) -> str:
        name = re.search(r'model = "(.+?)"', found[0])
        assert name is not None
        return _target(name[1], lane)

    changing: dict[str, tuple[str, Lane]] = {
        id: (name, other) for models in CHOICES for other, (id, name) in models.items()
    }
    _, *models = catalog_store.default_catalog().partition("[[model]]")
    defaults = re.sub(r"^targets = \[.*?\]$", ours, "".join(models), flags=re.MULTILINE | re.DOTALL)
    parts = [
        f'[[provider]]\nid = "vendor"\nsecret = "env:VENDOR_KEY"\n{_PROVIDER[lane].format(port=port)}',
        defaults,
        *(f'[[model]]\nid = "{id}"\n{_target(name, lane)}' for id, name in DRILLS.items()),
        *(
            f'[[provider]]\nid = "{other}-vendor"\nsecret = "env:VENDOR_KEY"\n{provider.format(port=port)}'
            for other, provider in _PROVIDER.items()
        ),
        *(
            f'[[model]]\nid = "{id}"\n{_target(name, other, f"{other}-vendor")}'
            for id, (name, other) in changing.items()
        ),
        f'[[provider]]\nid = "embedder"\nsecret = "env:VENDOR_KEY"\n{_EMBEDDER.format(port=port)}',
        f'[[model]]\nid = "{EMBEDDING}"\nkind = "embedding"\n{_EMBEDDED}',
        f'[[provider]]\nid = "formats"\nkind = "openai"\nsecret = "env:VENDOR_KEY"\nspeaks = {{ {_spoken(port)} }}',
        *(
            f'[[model]]\nid = "{id}"\nkind = "{kind}"\ntargets = [{{ provider = "formats", model = "up-{kind}" }}]'
            for kind, (id, _) in OTHER_KINDS.items()
        ),
        _plan("embeddings", 5_000, 10, (EMBEDDING, "claude-haiku-4.5")),
        _plan("formats", 5_000, 10, [id for id, _ in OTHER_KINDS.values()]),
        _plan("changing", 50_000, 20, changing),
        _plan("drills", 50_000, 10, DRILLS),
        _plan("one-a-day", 1, 10, ("claude-haiku-4.5",)),
        _plan("one-at-a-time", 5_000, 1, ("claude-haiku-4.5", "drill-hold")),
    ]
    return "\n\n".join(parts) + "\n"


def _target(name: str, lane: Lane, provider: str = "vendor") -> str:
    return f'targets = [{{ provider = "{provider}", model = "{name}", via = ["{lane}"] }}]'


def _plan(id: str, daily: int, at_once: int, models: Iterable[str]) -> str:
    listed = ", ".join(f'"{model}"' for model in models)
    return f'[[plan]]\nid = "{id}"\ndaily_requests = {daily}\nconcurrent_requests = {at_once}\nmodels = [{listed}]'


class User(msgspec.Struct, frozen=True):
    """Someone with a key, and a name that nobody else has."""

    name: str
    key: str

    @property
    def word(self) -> str:
        """What they say in a request that is to be held up until they have seen a 429."""
        return f"({self.name})"


class Arrival:
    """One request as it came in, and the status that it was answered with (0: not yet)."""

    def __init__(self, method: str, path: str, headers: HeaderList) -> None:
        self.method = method
        self.path = path
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        self.status = 0

    @property
    def key(self) -> str:
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")


class _Noting:
    """An exchange that notes the status on its way."""

    def __init__(self, exchange: Exchange, noted: Callable[[int], None]) -> None:
        self._exchange = exchange
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def start(self, status: int, headers: HeaderList) -> None:
        self._noted(status)
        self._exchange.start(status, headers)

    def start_ready(self, head: bytes) -> None:
        self._noted(200)
        self._exchange.start_ready(head)


class Running:
    """A running service, its two journals, and the people on it."""

    def __init__(self, lane: Lane, loop: asyncio.AbstractEventLoop, store: Store) -> None:
        self.lane = lane
        self.port = 0
        self.arrivals: list[Arrival] = []
        """What callers sent, in order."""
        self.visits: list[SimulatedRequest] = []
        """What the provider got, in order."""
        self._loop = loop
        self._store = store
        self._users: dict[str, User] = {}
        self._free: set[bytes] = set()
        self._news = asyncio.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """The base URL of the documentation."""
        return f"{self.origin}/api/v1"

    @property
    def data(self) -> Path:
        return self._store.settings.data

    def user(self, plan: str, name: str) -> User:
        """A new user with a key, on a plan."""
        return self.do(self._user(plan, name))

    def do(self, work: Awaitable[T]) -> T:
        """Have it done on the service's loop."""

        async def doing() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(doing(), self._loop).result(30)

    def of(self, user: User) -> list[Arrival]:
        """What came in with this user's key."""
        return [arrival for arrival in self.arrivals if arrival.key == user.key]

    def heard(self, text: str) -> list[dict[str, Any]]:
        """The bodies that the provider got with this text in them."""
        return [msgspec.json.decode(visit.body) for visit in self.visits if text.encode() in visit.body]

    def until_heard(self, text: str) -> None:
        """Wait until the provider has got a request with this text in it."""
        self.do(self._hear(text.encode()))

    # ---- on the loop

    async def _hear(self, text: bytes) -> None:
        while not any(text in visit.body for visit in self.visits):
            self._news.clear()
            await self._news.wait()

    async def _user(self, plan: str, name: str) -> User:
        store = self._store
        entropy = iter(range(len(self._users) + 1, 1 << 20))
        async with store.database.transaction() as conn:
            user = await accounts.create_user(
                conn, f"{name}@example.com", plan=plan, admin=False, verified=True, now=1, id=f"usr_{name}"
            )
            made = await management.create_key(
                conn,
                store.secrets_file,
                user.id,
                management.KeyWish(),
                now=1,
                entropy=lambda size: next(entropy).to_bytes(size, "big"),
                keep=True,
            )
        self._users[made.key] = User(name, made.key)
        return self._users[made.key]

    def door(self, handler: Handler) -> Handler:
        """The handler, with a journal of who came in."""

        async def handle(exchange: Exchange) -> None:
            arrival = Arrival(exchange.method, exchange.path, exchange.headers)
            self.arrivals.append(arrival)

            def noted(status: int) -> None:
                arrival.status = status
                if status == 429 and arrival.key in self._users:
                    self._let_go(self._users[arrival.key].word.encode())

            rest = handler(cast("Exchange", _Noting(exchange, noted)))
            if rest is not None:
                await rest

        return handle

    def note(self, visit: SimulatedRequest) -> None:
        """The provider's journal. A drill that holds a request up lets it go once its caller has seen a 429."""
        self.visits.append(visit)
        self._news.set()
        if any(word in visit.body for word in self._free):
            visit.proceed.set()

    def _let_go(self, word: bytes) -> None:
        self._free.add(word)
        for visit in self.visits:
            if word in visit.body:
                visit.proceed.set()


def _refuse(exchange: Exchange, error: PenstockError) -> None:
    exchange.start(error.status, [(b"content-length", b"0")])
    exchange.end()


@asynccontextmanager
async def _serving(lane: Lane, data: Path) -> AsyncGenerator[Running]:
    settings = Settings(data=data)
    async with open_store(settings) as store:
        running = Running(lane, asyncio.get_running_loop(), store)
        provider = await listen(
            Application(simulator(journal=running.note, gap=0), lambda _path: True, None, _refuse),
            "127.0.0.1",
            0,
            ServerLimits(),
        )
        async with store.database.transaction() as conn:
            await catalog_store.apply_document(conn, parse(catalogue(lane, provider.port), KINDS), KINDS, 1)
        service = Service(settings, Secrets({"VENDOR_KEY": UPSTREAM_KEY}))
        async with service.running():
            application = replace(service.application, handler=running.door(service.application.handler))
            listener = await listen(application, "127.0.0.1", 0, ServerLimits())
            running.port = listener.port
            yield running
            await listener.close()
        await provider.close()


@contextmanager
def running(lane: Lane, data: Path) -> Generator[Running]:
    """A service on its own data directory, in a thread of its own, until the end of the block."""
    started = threading.Event()
    stop: list[Callable[[], object]] = []
    held: list[Running] = []

    async def serve() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        async with _serving(lane, data) as service:
            held.append(service)
            started.set()
            await ended.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        finally:
            started.set()

    thread = threading.Thread(target=run, name=f"penstock-{lane}")
    thread.start()
    started.wait()
    try:
        assert held, "the service did not start; its thread's error is above"
        yield held[0]
    finally:
        for end in stop:
            end()
        thread.join()
