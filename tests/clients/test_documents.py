"""The front documents: every block is run as it is printed, or is listed here with the reason why not."""

import json
import os
import re
import time
import tomllib
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from penstock.domain.catalog.catalog_store import default_catalog
from penstock.site.document_pages import ENTRIES
from tests.clients.claude_code import environment
from tests.clients.documents import KEY, LAB, ORIGIN, ROOT, Block, Reader, Server, blocks
from tests.clients.running import OTHER_KINDS

pytestmark = pytest.mark.xdist_group("documents")

SITE = tuple(f"src/penstock/site/docs/{entry.slug}.md" for entry in ENTRIES)
PAGES = ("README.md", "docs/quickstart.md", *SITE)

# Blocks that are not run on their page: the page, how the block begins, and what holds it instead.
NOT_RUN = {
    ("README.md", "make serve"): "test_a_newcomer runs `make serve`; `make test` is what runs this",
    ("README.md", "ANTHROPIC_API_KEY=sk-ant-YOUR-KEY make serve"): (
        "test_a_newcomer runs `make serve`, and the quickstart's block starts with this key"
    ),
    ("README.md", "Penstock 0.1.0"): "output: test_a_newcomer compares it with what `make serve` prints",
    ("src/penstock/site/docs/aider.md", "export OPENAI_API_BASE"): "a session; test_conversations.py has one",
    ("docs/quickstart.md", "make serve"): "test_a_newcomer runs it",
    ("docs/quickstart.md", "penstock serve --host 0.0.0.0"): "it would open this machine to others",
}

INSTALLS = ("pip install ", "npm install ")
"""How a block begins that installs a client: it asks a registry, so it is held to the pinned packages instead."""

OURS = re.compile(r"^(?:\w+=\S+ )*penstock ", re.MULTILINE)
"""A command of ours, which may change what the server has."""

SERVES = "ANTHROPIC_API_KEY=sk-ant-YOUR-KEY penstock serve"

# What a block prints, where that is not an answer of the simulator.
PRINTS = {
    "/api/v1/usage": '"object":"usage"',
    "/api/v1/doctor": "key_header",
    "curl -i": "x-ratelimit-remaining: ",
    '-d \'{"model": "no-such-model"': '"code":"model_not_found"',
    "no-such-model": "model_not_found Error code: 404 - There is no model",
    "python -c 'import openai": "'claude-haiku-4.5'",
    "v1/doctor -H": '"key_header":"authorization"',
    "v1/doctor?stream=true": '"event":4',
    "api/v1/models -H": '"claude-haiku-4.5"',
    "count_tokens": '"input_tokens":',
    '"name": "weather"': "weather",
    "penstock setup-link": "/setup#",
    "penstock user create --email ann": "Made ann@example.com on the starter plan",
    "penstock user set --email ann": "ann@example.com: verified, on the pro plan.",
    "penstock catalog apply": "added model llama-3.3-70b",
    "penstock doctor": "answers",
    "penstock user create --email you": "as an admin",
    "/api/v1/embeddings": '"embedding":[',
    "/api/v1/rerank": '"relevance_score":',
    "transcriptions.create(": "bytes of sound",
    "moderations.create(": "verdicts: 2",
    "embeddings.create(": "2 vectors of 256",
    "embedMany(": "2 vectors of 256",
    "OpenAIEmbeddings(": "numbers: 256",
    "# lab.toml": "",  # a file, for the commands that follow it
    "# .codex/config.toml": "",
    "- model_id: penstock": "",
    "https://opencode.ai/config.json": "",
}


def settings(data: Path, *, followed: bool = True) -> dict[str, str]:
    """A server of this test's own; the page's commands work on the same data, and where it is ``followed`` it hears at once."""
    usual = {"PENSTOCK_DATA": str(data), "PENSTOCK_PORT": "0", "PENSTOCK_DRAIN_DELAY": "0"}
    soon = {"PENSTOCK_CACHE_SECONDS": "0", "PENSTOCK_REVISION_POLL": "0.05"}
    return usual | soon if followed else usual


@contextmanager
def running(home: Path, command: str, *options: str, followed: bool = True) -> Generator[Server]:
    """A command of ours that serves, with its data in this home."""
    program = str(ROOT / ".venv" / "bin" / "penstock")
    server = Server(
        [program, command, *options], environment(home, settings(home / "data", followed=followed))
    )
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The server of all pages that only ask: each start of one costs as much as a page."""
    # nobody changes anything beside it, and to ask twenty times a second costs more than all pages
    with running(tmp_path_factory.mktemp("left-alone"), "serve", followed=False) as server:
        yield server


@contextmanager
def following(home: Path, page: str, left_alone: Server) -> Generator[Reader]:
    """A reader with a running server: one of their own, where the page has commands that change something.

    Where the page names another server that speaks the OpenAI format, there is one (a simulator).
    """
    texts = [block.text for block in blocks(page)]
    with ExitStack() as stack:
        put_in: dict[str, str] = {}
        server = left_alone
        if any(map(OURS.search, texts)) or any(map(page.endswith, MORE_MODELS)):
            server = stack.enter_context(running(home, "serve"))
        if any(LAB in text for text in texts):
            lab = stack.enter_context(running(home, "simulate", "--port", "0"))
            put_in[LAB] = f"{lab.origin}/v1"
        yield Reader(home, settings(home / "data"), {ORIGIN: server.origin, KEY: server.key, **put_in})


def expected(block: Block) -> str:
    return next((words for mark, words in PRINTS.items() if mark in block.text), "simulated")


def installs(block: Block) -> bool:
    return block.language == "sh" and block.text.startswith(INSTALLS)


def is_listed(block: Block) -> bool:
    return any(block.page == page and block.text.startswith(head) for page, head in NOT_RUN)


def until_listed(reader: Reader, model: str) -> None:
    """The server follows the catalogue within moments; wait until it lists the model."""
    request = urllib.request.Request(
        reader.own(f"{ORIGIN}/api/v1/models"), headers={"x-api-key": reader.own(KEY)}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with opener.open(request, timeout=60) as answer:
            if model in [entry["id"] for entry in json.load(answer)["data"]]:
                return
        time.sleep(0.02)


@pytest.mark.timeout(600)  # a dozen programs one after the other
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_does_what_it_says(page: str, tmp_path: Path, left_alone: Server) -> None:
    with following(tmp_path, page, left_alone) as reader:
        for name, kinds in MORE_MODELS.items():
            if page.endswith(name):
                have_models(reader, kinds)
        for block in blocks(page):
            if is_listed(block) or installs(block):
                continue
            if block.text.strip() == SERVES:
                serve_with_a_providers_key(block, tmp_path)
                continue
            try:
                printed = reader.run(block)
            except AssertionError as error:
                raise AssertionError(f"{block}: {error}") from error
            assert expected(block) in printed, f"{block} printed:\n{printed}"
            if "catalog apply" in block.text:
                until_listed(reader, "llama-3.3-70b")


MORE_MODELS: dict[str, dict[str, str]] = {
    "/embeddings.md": {"text-embedding-3-small": "embedding"},
    "/formats.md": {id: kind for kind, (id, _) in OTHER_KINDS.items()},
}
"""The models that a page takes for granted, with their kinds."""


def have_models(reader: Reader, kinds: dict[str, str]) -> None:
    """What an operator has done before such a page is of use: the default catalogue has none of these."""
    own = '[[provider]]\nid = "own"\nsecret = "env:ABSENT"\nspeaks = { rerank = "https://own.invalid/v1" }\n'
    everything = default_catalog() + own
    for id, kind in kinds.items():
        provider = "own" if kind == "rerank" else "openai"
        target = f'{{ provider = "{provider}", model = "{id}" }}'
        everything += f'[[model]]\nid = "{id}"\nkind = "{kind}"\ntargets = [{target}]\n'
    before, plan, after = everything.partition('[[plan]]\nid = "pro"')
    names = "".join(f'\n    "{id}",' for id in kinds)
    after = after.replace("models = [", f"models = [{names}", 1)
    (reader.home / "with-more.toml").write_text(before + plan + after, "utf-8")
    reader.shell("penstock catalog apply with-more.toml")
    for id in kinds:
        until_listed(reader, id)


def serve_with_a_providers_key(block: Block, home: Path) -> None:
    """The provider is not called; the start says what is routed to it and what is not."""
    apart = home / "with-a-key"
    apart.mkdir(exist_ok=True)
    with Reader(apart, settings(apart / "data"), {}).serving(block.text) as server:
        assert "served: claude-opus-4.6, " in server.greeting
        assert "not set up: deepseek-3.2, qwen3-coder-next, minimax-m2.1" in server.greeting


def test_what_a_page_installs_is_what_the_tests_install() -> None:
    pinned = json.loads((ROOT / "tests" / "clients" / "package.json").read_bytes())
    known = {*pinned["dependencies"], *pinned["optionalDependencies"]}
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        known |= set(re.findall(r"^([\w-]+)(?:\[[^]]*\])?==", lock.read_text("utf-8"), re.MULTILINE))
    # What people install, where the tests install the part of it that they run.
    known |= {"opencode-ai", "pydantic-ai"}
    asked = [
        (block, name)
        for page in SITE
        for block in blocks(page)
        if installs(block)
        for name in block.text.split()[2:]
        if name != "-g"
    ]
    assert len({block.page for block, _ in asked}) >= 10, "each client has a line that installs it"
    assert [(str(block), name) for block, name in asked if name not in known] == []


def test_what_is_not_run_is_still_there() -> None:
    found = [block for page in PAGES for block in blocks(page) if is_listed(block)]
    assert len(found) == len(NOT_RUN)
    shown = [block for page in PAGES for block in blocks(page) if block.language in ("console", "text", "")]
    others = [block for block in found if block not in shown]
    assert [block for block in found if block in shown] == shown, "without a language that is run: listed"
    assert [block.text.split()[-2] for block in others] == ["make", "--model"], (
        "and of the others a start with a provider's key, and the session with aider"
    )


def test_a_newcomer(tmp_path: Path) -> None:
    """`make serve` on a machine with nothing set, and then what it prints, as it prints it."""
    environ = environment(tmp_path, settings(tmp_path / "data")) | {
        name: text for name, text in os.environ.items() if name.startswith(("PIP_", "SSL_", "UV_"))
    }
    server = Server(["make", "serve"], environ, cwd=ROOT)
    try:
        greeting = server.greeting[server.greeting.index("Penstock 0.1.0") :]
        (sample,) = (block for block in blocks("README.md") if block.text.startswith("Penstock 0.1.0"))
        general = greeting.replace(server.origin, ORIGIN).replace(server.key, KEY)
        general = re.sub(r"/setup#\S+", "/setup#YOUR-TOKEN", general)
        assert general.replace(str(tmp_path / "data"), "/path/to/data") == sample.text
        reader = Reader(tmp_path, {}, {})
        curl = re.search(r"^  Try it +(curl .*?'\n)  Claude", greeting, re.MULTILINE | re.DOTALL)
        assert curl is not None
        assert "This answer is simulated by Penstock" in reader.shell(curl[1])
        started = re.search(r"^  Claude Code (.*)$", greeting, re.MULTILINE)
        assert started is not None
        assert "This answer is simulated by Penstock" in reader.shell(f"{started[1]} -p 'Say hello'")
    finally:
        server.stop()


# ---- what the pages say beside their blocks


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", here.read_text("utf-8"))
    inside = [target for target in targets if not target.startswith(("http://", "https://"))]
    if page in SITE:  # a page of the service: tests/site follows all links of those
        slugs = {entry.slug for entry in ENTRIES}
        inside = [target for target in inside if not target.startswith("/") and target not in slugs]
    assert [target for target in inside if not (here.parent / target).exists()] == []


def test_the_table_of_plans_is_the_default_catalogue() -> None:
    rows = re.findall(
        r"^\| (\w+) \| ([\d,]+) \| (\d+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    so_far: set[str] = set()
    told: dict[str, tuple[int, int, set[str]]] = {}
    for plan, daily, at_once, models in rows:
        so_far |= set(re.findall(r"`(.+?)`", models))
        told[plan] = (int(daily.replace(",", "")), int(at_once), set(so_far))
    plans = tomllib.loads(default_catalog())["plan"]
    assert told == {
        plan["id"]: (plan["daily_requests"], plan["concurrent_requests"], set(plan["models"]))
        for plan in plans
    }
