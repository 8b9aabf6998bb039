"""Discovery: every shape of a vendor's list over real sockets, and that nothing of a vendor's can hold it up."""

import msgspec
import pytest

from penstock.core.catalog import Upstream
from penstock.operations.model_discovery import MOST_MODELS, Listing, ask_for_models
from penstock.providers.secrets import Secret, Secrets
from penstock.providers.table import KINDS
from penstock.upstream import UpstreamClient
from tests.operations.model_servers import Answer, listing, model_server


def vendor(url: str, kind: str = "openai") -> Upstream:
    return msgspec.structs.replace(KINDS[kind], speaks=(("chat", url),))


async def ask(row: Upstream, key: str = "sk-1", seconds: float = 5.0) -> Listing:
    client = UpstreamClient()
    try:
        return await ask_for_models(client, row, Secret(key), Secrets({}), seconds=seconds)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("answer", "outcome", "says"),
    [
        ((200, listing("a", "b")), "works", "2 models"),
        ((200, listing()), "works", "0 models"),
        ((401, b"{}"), "refused", "refuses the credential of env:OPENAI_API_KEY (401)"),
        ((403, b"{}"), "refused", "(403)"),
        ((402, b"{}"), "no money", "402"),
        ((404, b""), "no model list", "404 with nothing"),
        ((200, b"<html>"), "no model list", "no list of models"),
        ((200, b'{"data": [1, 2]}'), "no model list", "no list of models"),
        ((200, b'{"error": "x"}'), "no model list", "no list of models"),
        ((301, b""), "no model list", "301"),
        ((429, b"{}"), "unreachable", "429 at the moment"),
        ((503, b"{}"), "unreachable", "503 at the moment"),
    ],
)
async def test_what_an_answer_comes_to(answer: Answer, outcome: str, says: str) -> None:
    async with model_server({"/v1/models": answer}) as server:
        found = await ask(vendor(server.url))
    assert found.outcome == outcome
    assert says in found.text
    assert "sk-1" not in repr(found)
    assert "Bearer sk-1" in server.asked[0][1]


async def test_a_server_that_is_not_there_and_one_that_says_nothing_are_unreachable() -> None:
    async with model_server({}) as server:
        pass
    assert (await ask(vendor(server.url))).outcome == "unreachable"
    async with model_server(None) as silent:
        found = await ask(vendor(silent.url), seconds=0.2)
    assert (found.outcome, "within 0.2 s" in found.text) == ("unreachable", True)


async def test_pages_are_followed_to_their_end() -> None:
    answers = {
        "/v1/models": (200, listing("a", "b", has_more=True, last_id="b")),
        "/v1/models?after_id=b": (200, listing("c", has_more=True, last_id="c")),
        "/v1/models?after_id=c": (200, listing("d", has_more=False)),
    }
    async with model_server(answers) as server:
        found = await ask(vendor(server.url))
    assert [model.id for model in found.models] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "second", [(200, listing("a", "b", has_more=True, last_id="b")), (500, b""), (200, b"no list")]
)
async def test_a_page_that_brings_nothing_new_ends_the_list(second: Answer) -> None:
    first = listing("a", "b", has_more=True, last_id="b")
    async with model_server({"/v1/models": (200, first), "/v1/models?after_id=b": second}) as server:
        found = await ask(vendor(server.url))
    assert (found.outcome, [model.id for model in found.models]) == ("works", ["a", "b"])
    assert len(server.asked) == 2


async def test_thousands_of_models_are_a_list_and_there_is_a_bound() -> None:
    many = listing(*(f"m-{n}" for n in range(MOST_MODELS + 5)))
    async with model_server({"/v1/models": (200, many)}) as server:
        found = await ask(vendor(server.url))
    assert len(found.models) == MOST_MODELS


async def test_the_first_address_that_has_a_list_is_taken() -> None:
    async with model_server({"/v1/models": (200, listing("x"))}) as server:
        bare = server.url.removesuffix("/v1")
        row = msgspec.structs.replace(
            KINDS["minimax"], speaks=(("messages", f"{bare}/anthropic/v1"), ("chat", server.url))
        )
        found = await ask(row)
    assert [model.id for model in found.models] == ["x"]
    assert [path for path, _ in server.asked] == ["/anthropic/v1/models", "/v1/models"]


async def test_anthropic_is_asked_in_its_own_way() -> None:
    async with model_server({"/v1/models": (200, listing("claude-opus-5-5"))}) as server:
        row = msgspec.structs.replace(KINDS["anthropic"], speaks=(("messages", server.url),))
        await ask(row)
    head = server.asked[0][1].lower()
    assert "x-api-key: sk-1" in head
    assert "anthropic-version: " in head
