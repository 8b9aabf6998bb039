"""The catalogue in a real database: idempotent, reversible, followed."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from penstock.core.catalog import Model, Target
from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.catalog import Plan
from penstock.domain.catalog.catalog_store import CatalogSource, Change, default_catalog, difference, merge
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, parse
from penstock.providers.secrets import Secrets
from penstock.providers.table import KINDS
from penstock.store.sql.database import Database
from penstock.store.sql.schema import users
from tests.stores import Engine

DEFAULT = parse(default_catalog(), KINDS)
NOW = 1_764_000_000_000


@pytest.fixture
async def database(engine: Engine, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await engine.open(tmp_path)
    yield opened
    await opened.close()


async def apply(
    database: Database, document: CatalogDocument, *, prune: bool = False, now: int = NOW
) -> list[Change]:
    async with database.transaction() as conn:
        return await catalog_store.apply_document(conn, document, KINDS, now, prune=prune)


async def load(database: Database) -> CatalogDocument:
    async with database.connect() as conn:
        return await catalog_store.load_document(conn, KINDS)


async def revision(database: Database) -> int:
    async with database.connect() as conn:
        return await catalog_store.revision(conn)


def created(document: CatalogDocument, at: int = NOW) -> CatalogDocument:
    models = tuple(msgspec.structs.replace(model, created_at=at) for model in document.models)
    return msgspec.structs.replace(document, models=models)


async def test_applying_twice_changes_once(database: Database):
    changes = await apply(database, DEFAULT)
    assert {change.action for change in changes} == {"added"}
    assert len(changes) == len(DEFAULT.providers) + len(DEFAULT.models) + len(DEFAULT.plans)
    assert await load(database) == created(DEFAULT)
    assert await revision(database) == 1
    assert await apply(database, DEFAULT, now=NOW + 1) == []
    assert await revision(database) == 1


async def test_what_is_exported_applies_to_another_database_and_gives_the_same(
    database: Database, tmp_path: Path
):
    await apply(database, DEFAULT)
    async with database.connect() as conn:
        text = await catalog_store.export_document(conn, KINDS)
    assert await apply(database, parse(text, KINDS), prune=True) == []
    other = await Database.open(f"sqlite:///{tmp_path}/other.db")
    try:
        await apply(other, parse(text, KINDS))
        assert await load(other) == await load(database)
    finally:
        await other.close()


async def test_a_part_adds_and_updates_and_only_pruning_removes(database: Database):
    await apply(database, DEFAULT)
    part = parse(
        """
        [[model]]
        id = "claude-haiku-4.5"
        name = "Haiku"
        targets = [{ provider = "anthropic", model = "h" }]

        [[model]]
        id = "new"
        targets = [{ provider = "openrouter", model = "n" }]
        """,
        KINDS,
    )
    changes = await apply(database, part, now=NOW + 5)
    assert [str(change) for change in changes] == [
        "updated model claude-haiku-4.5 (name, aliases, targets, max_output_tokens, context_tokens, capabilities)",
        "added model new",
    ]
    after = await load(database)
    ids = [model.id for model in after.models]
    assert ids.index("new") == ids.index("claude-haiku-4.5") + 1
    assert {model.id: model.created_at for model in after.models}["claude-haiku-4.5"] == NOW
    assert len(ids) == len(DEFAULT.models) + 1
    assert await apply(database, part) == []
    back = await apply(database, DEFAULT, prune=True)
    assert "removed model new" in [str(change) for change in back]
    assert await load(database) == created(DEFAULT)


async def test_what_refers_to_nothing_changes_nothing(database: Database):
    await apply(database, DEFAULT)
    part = CatalogDocument(plans=(Plan("free", "Free", 1, 1, ("claude-haiku-4.6",)),))
    with pytest.raises(
        CatalogError, match=r'plan\[0\]\.models\[0\]: unknown model "claude-haiku-4.6"; did you mean'
    ):
        await apply(database, part)
    assert await load(database) == created(DEFAULT)
    assert await revision(database) == 1


async def test_a_plan_that_users_have_is_not_removed(database: Database):
    await apply(database, DEFAULT)
    async with database.transaction() as conn:
        await conn.execute(
            insert(users).values(
                id="u",
                email="a@b.c",
                email_canonical="a@b.c",
                plan_id="starter",
                created_at=0,
            )
        )
    part = msgspec.structs.replace(DEFAULT, plans=tuple(plan for plan in DEFAULT.plans if plan.id == "free"))
    with pytest.raises(CatalogError, match='plan "starter" cannot be removed: 1 user has it'):
        await apply(database, part, prune=True)
    assert len((await load(database)).plans) == 3


async def test_a_new_order_is_a_change_and_is_kept(database: Database):
    await apply(database, DEFAULT)
    turned = msgspec.structs.replace(DEFAULT, models=DEFAULT.models[::-1])
    assert {change.action for change in await apply(database, turned)} == {"moved"}
    assert await load(database) == created(turned)
    assert await apply(database, turned) == []


# ---- following


async def test_a_source_follows_the_revision_and_what_is_set_up(database: Database, tmp_path: Path):
    key = tmp_path / "key"
    environ: dict[str, str] = {}
    secrets = Secrets(environ)
    source = CatalogSource(database, KINDS, secrets.has, "http://127.0.0.1:4/v1")
    assert source.current.models == {}
    assert await source.refresh() is False
    await apply(database, DEFAULT)
    assert await source.refresh() is True
    assert await source.refresh() is False
    assert source.current.simulated
    assert source.current.upstreams["simulator"].url("messages") == "http://127.0.0.1:4/v1"
    before = source.current

    # a key that arrives later is taken up with the catalogue unchanged
    file = msgspec.structs.replace(KINDS["anthropic"], secret=f"file:{key}")
    await apply(database, CatalogDocument(providers=(file,)))
    assert await source.refresh() is True
    assert source.current.simulated
    assert before.simulated
    key.write_text("sk-ant\n")
    secrets.refresh()
    assert await source.refresh() is True
    assert not source.current.simulated


# ---- local servers


async def test_found_servers_are_offered_under_their_own_name_on_every_plan(database: Database):
    await apply(database, DEFAULT)
    found = {"ollama": ("llama3.2:3b", "qwen3:8b"), "vllm": ("org/model",)}
    async with database.transaction() as conn:
        changes = await catalog_store.offer_local(conn, found, KINDS, NOW)
    assert len(changes) == 2 + 3 + 3
    async with database.transaction() as conn:
        assert await catalog_store.offer_local(conn, found, KINDS, NOW) == []
    source = CatalogSource(database, KINDS, Secrets({}).has)
    await source.refresh()
    offered = [model.id for model in source.current.offered("free")]
    assert offered == ["ollama/llama3.2:3b", "ollama/qwen3:8b", "vllm/org/model"]
    assert not source.current.simulated
    assert source.current.resolve("ollama/qwen3:8b", "free").model.targets == (Target("ollama", "qwen3:8b"),)


# ---- properties of the pure part

IDS = st.sampled_from("abcdef")
DOCUMENTS = st.lists(
    st.builds(Model, id=IDS, name=st.sampled_from(["x", "y"]), targets=st.just((Target("p", "m"),))),
    unique_by=lambda model: model.id,
).map(lambda models: CatalogDocument(models=tuple(models)))


@given(DOCUMENTS, DOCUMENTS)
def test_merging_twice_is_merging_once(before: CatalogDocument, document: CatalogDocument):
    after = merge(before, document, prune=False)
    assert merge(after, document, prune=False) == after
    assert difference(after, merge(after, document, prune=False)) == []
    ids = [model.id for model in after.models]
    assert set(ids) == {model.id for model in (*before.models, *document.models)}
    assert len(ids) == len(set(ids))
    named = [model.id for model in document.models]
    assert [name for name in ids if name in named] == named
    assert merge(before, document, prune=True).models == document.models


@given(DOCUMENTS, DOCUMENTS)
def test_nothing_changed_means_the_same(before: CatalogDocument, after: CatalogDocument):
    assert (difference(before, after) == []) == (before == after)


async def test_habits_that_the_operator_changed_are_kept_and_told(database: Database):
    await apply(database, DEFAULT)
    changed = parse('[[provider]]\nid = "anthropic"\nprofile = { sampling = false }', KINDS)
    assert [str(change) for change in await apply(database, changed)] == [
        "updated provider anthropic (profile)"
    ]
    found = next(row for row in (await load(database)).providers if row.id == "anthropic")
    assert found.habits == (("sampling", False),)
    assert not found.profile_of("claude-sonnet-4-5").sampling
    async with database.connect() as conn:
        assert "profile = { sampling = false }" in await catalog_store.export_document(conn, KINDS)
    assert await apply(database, changed) == []
