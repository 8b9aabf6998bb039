"""The model list, as both official SDKs read it."""

import msgspec
import pytest
from anthropic.types import ModelInfo as AnthropicModel
from openai.types import Model as OpenAIModel
from pydantic import TypeAdapter

from penstock.core.catalog import Model, Target
from penstock.domain.catalog.catalog import Catalog
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.models_endpoint import list_models, one_model, page_of
from penstock.domain.catalog.toml_document import parse
from penstock.errors import InvalidRequest
from penstock.providers.table import KINDS

DEFAULT = parse(default_catalog(), KINDS)
CATALOG = Catalog(
    providers=DEFAULT.providers,
    models=[msgspec.structs.replace(model, created_at=1_764_000_000_123) for model in DEFAULT.models],
    plans=DEFAULT.plans,
    available=lambda _: False,
    simulator=KINDS["simulator"],
)


@pytest.mark.parametrize("kind", [AnthropicModel, OpenAIModel])
def test_every_entry_is_what_both_sdks_declare(kind: type):
    answer = msgspec.json.decode(list_models(CATALOG, "pro"))
    entries = [TypeAdapter(kind).validate_python(entry) for entry in answer["data"]]
    assert [entry.id for entry in entries] == [model.id for model in CATALOG.offered("pro")]
    assert len(entries) == 11


def test_the_list_is_one_whole_page_of_the_callers_models():
    answer = msgspec.json.decode(list_models(CATALOG, "free"))
    ids = [entry["id"] for entry in answer["data"]]
    assert set(ids) == {"claude-sonnet-4.6", "claude-haiku-4.5", "deepseek-3.2", "minimax-m2.1"}
    assert (answer["object"], answer["has_more"]) == ("list", False)
    assert (answer["first_id"], answer["last_id"]) == (ids[0], ids[-1])
    entry = answer["data"][0]
    assert (entry["created"], entry["created_at"]) == (1_764_000_000, "2025-11-24T16:00:00Z")
    assert (entry["max_input_tokens"], entry["max_tokens"]) == (200_000, 64_000)
    assert entry["owned_by"] == "simulator"
    empty = msgspec.json.decode(list_models(CATALOG, "free", frozenset()))
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


def test_one_model_by_id_or_alias_if_the_caller_may_use_it():
    found = one_model(CATALOG, "free", None, "claude-sonnet-4-6")
    assert found is not None
    assert msgspec.json.decode(found)["id"] == "claude-sonnet-4.6"
    assert one_model(CATALOG, "free", None, "claude-opus-4.6") is None
    assert one_model(CATALOG, "free", None, "nothing") is None


def paged(query: bytes) -> tuple[list[str], bool]:
    answer = msgspec.json.decode(list_models(CATALOG, "pro", page=page_of(query)))
    ids = [entry["id"] for entry in answer["data"]]
    assert (answer["first_id"], answer["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, answer["has_more"]


def test_pages_forwards_and_backwards_are_the_whole_list():
    every = [model.id for model in CATALOG.offered("pro")]
    assert paged(b"beta=true") == (every, False)
    assert paged(b"limit=1000") == (every, False)
    assert paged(b"limit=11") == (every, False)
    for limit in (1, 4, 10):
        forwards, more = paged(b"limit=%d" % limit)
        while more:
            ids, more = paged(b"limit=%d&after_id=%b" % (limit, forwards[-1].encode()))
            forwards += ids
        assert forwards == every
        backwards, more = paged(b"limit=%d&before_id=%b" % (limit, every[-1].encode()))
        while more:
            ids, more = paged(b"limit=%d&before_id=%b" % (limit, backwards[0].encode()))
            backwards = ids + backwards
        assert [*backwards, every[-1]] == every
    assert paged(b"after_id=" + every[-1].encode()) == ([], False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=1001", "limit"),
        (b"limit=x", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1" + b"0" * 5000, "limit"),
        (b"after_id=nobody", "after_id"),
        (b"before_id=nobody", "before_id"),
        (b"after_id=claude-sonnet-4.6&before_id=claude-sonnet-4.6", "before_id"),
    ],
    ids=["0", "1001", "word", "negative", "long", "after", "before", "both"],
)
def test_a_page_that_cannot_be_is_refused(query: bytes, param: str):
    with pytest.raises(InvalidRequest) as caught:
        paged(query)
    assert caught.value.param == param


def test_kinds_are_told_and_can_be_left_out():
    embedding = Model("e", "E", targets=(Target("simulator", "e"),), kind="embedding")
    plan = msgspec.structs.replace(DEFAULT.plans[0], models=(*DEFAULT.plans[0].models, "e"))
    catalog = Catalog(
        providers=DEFAULT.providers,
        models=[*DEFAULT.models, embedding],
        plans=[plan],
        available=lambda _: False,
        simulator=KINDS["simulator"],
    )
    kinds = {e["id"]: e["kind"] for e in msgspec.json.decode(list_models(catalog, "free"))["data"]}
    assert (kinds.pop("e"), set(kinds.values())) == ("embedding", {"chat"})
    chat = msgspec.json.decode(list_models(catalog, "free", kind="chat"))
    assert [entry["id"] for entry in chat["data"]] == list(kinds)
    found = one_model(catalog, "free", None, "e")
    assert found is not None
    assert msgspec.json.decode(found)["kind"] == "embedding"
    assert one_model(catalog, "free", None, "e", "chat") is None
