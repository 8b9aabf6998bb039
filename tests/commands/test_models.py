"""Models that are there when a key is: what the start publishes on a machine of one's own, and the commands for all else."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import CatalogDocument, parse
from penstock.operations.first_start import first_start, open_store, render_greeting
from penstock.operations.model_catalog import find_models
from penstock.providers.known_models import known_models
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.settings import load
from tests.commands.conftest import Call
from tests.operations.model_servers import Answer, ModelServer, listing, model_server

OPENAI = listing(
    "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-sol-2026-11-01", "gpt-5", "gpt-4o", "gpt-5.2-codex", "brand-new", "whisper-1",
    "text-embedding-3-small", "o1",
)  # fmt: skip


@contextmanager
def serving(answers: dict[str, Answer]) -> Generator[ModelServer]:
    """The double in a thread of its own: commands block."""
    started, stop = Event(), asyncio.Event()
    found: list[tuple[ModelServer, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with model_server(answers, key="sk-vendor") as server:
            found.append((server, asyncio.get_running_loop()))
            started.set()
            await stop.wait()

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait()
    server, loop = found[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def at(url: str, id: str = "openai") -> str:
    return f'[[provider]]\nid = "{id}"\nspeaks = {{ chat = "{url}", embeddings = "{url}", responses = "{url}" }}\n'


async def started(environ: dict[str, str], url: str) -> tuple[str, CatalogDocument]:
    """A start with the vendor at ``url``: its greeting, and the catalogue after it."""
    settings = load(environ).settings
    async with open_store(settings) as store:
        async with store.database.transaction() as conn:
            await catalog_store.apply_document(conn, parse(at(url), KINDS), KINDS, 0)
        greeting = await first_start(store, Secrets(environ))
        async with store.database.connect() as conn:
            return render_greeting(greeting, "http://x"), await catalog_store.load_document(conn, KINDS)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PENSTOCK_DATA": str(tmp_path / "data"), "OPENAI_API_KEY": "sk-vendor"}


async def test_a_newcomer_with_one_key_has_its_models_on_every_plan(environ: dict[str, str]) -> None:
    async with model_server({"/v1/models": (200, OPENAI)}, key="sk-vendor") as server:
        greeting, document = await started(environ, server.url)
        again, after = await started(environ, server.url)
    served = [model.id for model in document.models if any(t.provider == "openai" for t in model.targets)]
    # what the dated list knows by name and price, is no snapshot, and does not end within thirty days
    assert served == ["gpt-6-luna", "gpt-6.1-sol", "gpt-4o", "gpt-5.2-codex", "text-embedding-3-small"]
    assert all(set(served) <= set(plan.models) for plan in document.plans)
    assert "openai: 5 of its models are on every plan now" in greeting
    assert "penstock models remove 'openai/*'" in greeting
    assert "penstock models remove" not in again
    assert [model.id for model in after.models] == [model.id for model in document.models]
    luna = next(model for model in document.models if model.id == "gpt-6-luna")
    assert luna.context_tokens == 1_050_000
    assert next(m for m in document.models if m.id == "text-embedding-3-small").kind == "embedding"


@pytest.mark.parametrize(
    ("more", "answers", "says"),
    [
        ({"PENSTOCK_PUBLIC_URL": "https://llm.example.com"}, {"/v1/models": (200, OPENAI)}, "7 models found, none published"),
        ({"OPENAI_API_KEY": "wrong"}, {"/v1/models": (200, OPENAI)}, "refuses the credential of env:OPENAI_API_KEY (401)"),
        ({}, {"/v1/models": (200, listing())}, "openai: 0 models found"),
        ({}, {}, "openai: its key is there, but it answers 404"),
        ({"PENSTOCK_DISCOVERY_SECONDS": "0"}, {"/v1/models": (200, OPENAI)}, ""),
    ],
)  # fmt: skip
async def test_where_nothing_is_published_the_start_says_why(
    environ: dict[str, str], more: dict[str, str], answers: dict[str, Answer], says: str
) -> None:
    async with model_server(answers, key="sk-vendor") as server:
        greeting, document = await started(environ | more, server.url)
    assert says in greeting
    assert not any(t.provider == "openai" for model in document.models for t in model.targets)
    assert "wrong" not in greeting
    assert ("of demo@penstock.localhost, on the pro plan" in greeting) is ("PENSTOCK_PUBLIC_URL" not in more)


async def test_a_vendor_that_does_not_answer_does_not_hold_up_the_start(environ: dict[str, str]) -> None:
    async with model_server(None) as server:
        greeting, _ = await started(environ | {"PENSTOCK_DISCOVERY_SECONDS": "0.2"}, server.url)
    assert "openai: its key is there, but it did not give its list within 0.2 s" in greeting


async def test_vendors_that_the_catalogue_does_not_have_are_found_by_their_key() -> None:
    settings = {"GROQ_API_KEY": "sk-vendor"}
    async with model_server({"/v1/models": (200, listing("openai/gpt-oss-120b"))}, key="sk-vendor") as server:
        document = parse(at(server.url, "groq"), KINDS)
        found = await find_models(document, Secrets(settings), __import__("datetime").date(2026, 11, 30))
    outcomes = {row.provider: row.outcome for row in found.providers}
    assert outcomes["groq"] == "works"
    assert set(outcomes.values()) == {"works", "no key"}
    assert {
        "moonshot",
        "zai",
        "gemini",
        "mistral",
        "xai",
        "together",
        "fireworks",
        "openrouter",
    } <= outcomes.keys()
    (model,) = found.models
    assert (model.id, model.state, model.prices.input is not None) == ("openai/gpt-oss-120b", "new", True)


def test_the_command_shows_publishes_and_takes_back(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    with serving({"/v1/models": (200, OPENAI)}) as server:
        file = tmp_path / "vendor.toml"
        file.write_text(at(server.url))
        assert call("catalog", "apply", str(file)).code == 0
        shown = call("models", "openai/*", "--all", "--json").json
        states = {row["model"]: row["state"] for row in shown["models"]}
        assert states == {
            "gpt-6-luna": "new", "gpt-6.1-sol": "new", "gpt-6.1-sol-2026-11-01": "new", "gpt-5": "ending", "gpt-4o": "new",
            "gpt-5.2-codex": "new", "brand-new": "new", "whisper-1": "no route", "text-embedding-3-small": "new", "o1": "ended",
        }  # fmt: skip
        assert shown["read"] == known_models().read
        unknown = next(row for row in shown["models"] if row["model"] == "brand-new")
        assert unknown["unverified"] == ["context", "longest", "capabilities", "price"]
        text = call("models", "openai/gpt-5").out
        assert "2026-12-11 -> gpt-6.1-sol" in text
        assert "sk-vendor" not in text

        tried = call("models", "add", "openai/gpt-6*", "--dry-run")
        assert "Nothing is changed." in tried.out
        added = call("models", "add", "openai/gpt-6-luna", "openai/*codex", "--plan", "pro", "--json").json
        assert [c["id"] for c in added["changes"] if c["action"] == "added"] == [
            "gpt-6-luna",
            "gpt-5.2-codex",
        ]
        assert [c["id"] for c in added["changes"] if c["action"] == "updated"] == ["pro"]
        exported = call("catalog", "export").out
        assert 'model = "gpt-5.2-codex", via = ["responses"]' in exported.replace('"openai", ', '"openai", ')
        again = call("models", "add", "openai/gpt-6-luna")
        assert (again.code, "openai/gpt-6-luna (published)" in again.err) == (1, True)
        assert call("models", "add", "openai/o1").code == 1
        assert call("models", "add", "openai/gpt-4o", "--plan", "nowhere").code == 1
        everything = call("models", "add", "openai", "--json").json
        assert {row["model"] for row in everything["models"]} == {
            "gpt-6.1-sol", "gpt-6.1-sol-2026-11-01", "gpt-5", "gpt-4o", "brand-new", "text-embedding-3-small",
        }  # fmt: skip
        gone = call("models", "remove", "openai/*", "--json").json
        assert len([c for c in gone["changes"] if c["action"] == "removed"]) == 8
        assert call("models", "remove", "openai/*").out == "Nothing changes.\n"


def test_what_is_gone_from_a_list_is_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    with serving({"/v1/models": (200, listing("gpt-6-luna"))}) as server:
        file = tmp_path / "vendor.toml"
        model = '[[model]]\nid = "old"\ntargets = [{ provider = "openai", model = "gpt-5" }]\n'
        file.write_text(at(server.url) + model)
        assert call("catalog", "apply", str(file)).code == 0
        rows: list[dict[str, Any]] = call("models", "openai/*", "--json").json["models"]
    gone = next(row for row in rows if row["state"] == "gone")
    assert (gone["id"], gone["model"], gone["successor"]) == ("old", "gpt-5", "gpt-6.1-sol")


def test_without_a_key_it_says_which_would_help(call: Call) -> None:
    shown = call("models")
    assert "OPENAI_API_KEY is not set" in shown.out
    failed = call("models", "add", "openai/*")
    assert (failed.code, "openai: OPENAI_API_KEY is not set" in failed.err) == (1, True)
