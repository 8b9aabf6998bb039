"""Pages for everybody, and what machines read: each is there, in its own words, and true."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from penstock.api.routes import ROUTES
from penstock.core.limits import day_of
from penstock.site.document_pages import ENTRIES, MENU, render_text
from penstock.site.pages import day
from tests.service.running_service import PRO
from tests.site.page_reader import Hotel, open_hotel
from tests.site.test_dashboard import ANN, on_lab

CONTRACT: dict[str, Any] = msgspec.json.decode(
    (Path(__file__).parents[2] / "src/penstock/site/openapi.json").read_bytes()
)

PATHS = [path for path in CONTRACT["paths"] if not path.startswith("/admin/")]
"""Of the data plane; those of the staff have tests of their own."""


async def test_every_link_of_every_public_page_leads_somewhere(hotel: Hotel) -> None:
    reader = hotel.reader()
    seen: set[str] = set()
    left = ["/"]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await reader.get(path)
        assert answer.status_code in {200, 302, 303}, path
        if answer.headers.get("content-type", "").startswith("text/html"):
            page_left = set(re.findall(r'(?:href|src)="(/[^"#]*)', answer.text))
            left += [found.replace("&amp;", "&") for found in page_left]
            relative = re.findall(r'href="([a-z-]+)"', answer.text)
            left += [f"/docs/{name}" for name in relative]
    assert {f"/docs/{entry.slug}" for entry in ENTRIES} <= seen
    assert {f"/models/{model}" for model in PRO} <= seen


async def test_every_page_of_the_documentation_and_its_twin(hotel: Hotel) -> None:
    reader = hotel.reader()
    for entry in ENTRIES:
        page = (await reader.get(f"/docs/{entry.slug}")).text
        twin = await reader.get(f"/docs/{entry.slug}.md")
        assert twin.headers["content-type"] == "text/markdown; charset=utf-8"
        assert twin.text.startswith("# ")
        for text in (page, twin.text):
            assert "127.0.0.1:8484" not in text, "the reader's own address stands there"
        assert "&lt;div" not in page
    assert (await reader.get("/docs/no-such-page")).status_code == 404


async def test_what_the_menu_calls_a_page_is_on_it(hotel: Hotel) -> None:
    for _, entries in MENU:
        for entry in entries:
            text = (await hotel.reader().get(f"/docs/{entry.slug}.md")).text
            assert text.splitlines()[0] == f"# {entry.title}"


async def test_a_name_in_a_text_may_be_broken_between_its_words_but_no_address() -> None:
    page = (
        await render_text("# T\n\n`messages.tool_calls` at `http://127.0.0.1:8484/api/v1`\n", "http://h")
    ).html
    assert "messages.<wbr>tool_<wbr>calls" in page
    assert "<code>http://h/api/v1</code>" in page


async def test_html_in_a_text_is_shown_and_not_obeyed() -> None:
    page = (
        await render_text("# T\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1))\n", "http://h")
    ).html
    assert "<script>" not in page
    assert 'href="javascript' not in page


async def test_the_operator_can_put_other_terms_in_their_place(tmp_path: Path) -> None:
    async with open_hotel(tmp_path) as hotel:
        assert "the terms of Penstock" in (await hotel.reader().get("/terms")).text
        pages = hotel.house.settings.data / "pages"
        pages.mkdir()
        (pages / "terms.md").write_text("# Our own\n\nNo <b>dogs</b>.\n")
        page = (await hotel.reader().get("/terms")).text
        assert "Our own" in page
        assert "<b>dogs" not in page


async def test_what_machines_read_about_the_service(hotel: Hotel) -> None:
    text = (await hotel.reader().get("/llms.txt")).text
    assert f"{hotel.origin}/api/v1" in text
    for entry in ENTRIES:
        assert f"{hotel.origin}/docs/{entry.slug}.md" in text
    assert "claude-haiku-4.5" in text


async def test_an_embedding_model_is_shown_as_what_it_is(hotel: Hotel) -> None:
    reader = hotel.reader()
    page = (await reader.get("/models/text-embedding-3-small")).text
    assert "Embeddings: vectors, not answers" in page
    assert "/embeddings" in page
    assert "chat/completions" not in page
    assert "Chat Completions, Responses, Messages" in (await reader.get("/models/claude-haiku-4.5")).text
    listed = (await reader.get("/models")).text
    assert listed.count("(for embeddings)") == len(
        [id for id in re.findall(r'href="/models/([^"]+)"', listed) if "embedding" in id]
    )


# ---- the contract


def test_the_contract_has_every_route_of_the_api() -> None:
    documented = {(method.upper(), path) for path in PATHS for method in CONTRACT["paths"][path]}
    served = {
        (method, route.path)
        for route in ROUTES
        if route.action != "hello"
        for method in route.methods
        if method != "HEAD"
    }
    assert documented == served | {("GET", "/models/{id}")}


def resolved(schema: Any) -> Any:
    """A schema with what it refers to in place."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            found: Any = CONTRACT
            for name in schema["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            return resolved(found)
        return {name: resolved(value) for name, value in schema.items()}
    return [resolved(value) for value in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("path", PATHS)
async def test_answers_are_as_the_contract_says(hotel: Hotel, path: str) -> None:
    key = (await on_lab(hotel, await hotel.reader().join(ANN))).key
    ((method, operation),) = CONTRACT["paths"][path].items()
    headers = {"x-api-key": key}
    where = "/api/v1" + path.replace("{id}", "claude-haiku-4.5")
    given: dict[str, Any] = {}
    if method == "post":
        ((kind, content),) = operation["requestBody"]["content"].items()
        given = {"json": content["example"]}
        if kind == "multipart/form-data":
            text = {name: value for name, value in content["example"].items() if name in ("model", "prompt")}
            name = "image" if "image" in content["example"] else "file"
            given = {"data": text, "files": {name: ("a.bin", b"RIFF")}}
        Draft202012Validator(resolved(content["schema"])).validate(content["example"])
    reader = hotel.reader()
    answer = await reader.http.request(method, where, headers=headers, **given)
    assert answer.status_code == 200, answer.text
    told = operation["responses"]["200"]
    if "application/json" in told["content"]:
        Draft202012Validator(resolved(told["content"]["application/json"]["schema"])).validate(answer.json())
    assert {name.lower() for name in told["headers"]} <= set(answer.headers)
    for native in ("native", "simple"):
        refused = await reader.http.request(
            method, where, headers={"x-api-key": "sk-ps-wrong", "x-error-format": native}, **given
        )
        assert refused.status_code == 401
        schema = operation["responses"]["401"]["content"]["application/json"]["schema"]
        Draft202012Validator(resolved(schema)).validate(refused.json())
        assert isinstance(refused.json()["error"], dict) == (native == "native")


async def test_the_status_says_what_today_is_and_what_its_colours_mean(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    caller = await on_lab(hotel, reader)
    today = day_of(hotel.house.clock.now)
    await hotel.house.ask("chat", "chat-plain", caller)
    await hotel.house.rows(caller)
    page = (await reader.get("/status")).text
    assert "Today every model that was asked answers as it should." in page
    for said in ("fewer than 2% failed", "fewer than 20%", "not asked", f"to {day(today)}"):
        assert said in page
    await hotel.house.ask("chat", "chat-error-500", caller)
    await hotel.house.rows(caller)
    hotel.house.clock.now += 61  # it is kept for a minute
    assert "Today there is trouble with chat-error-500." in (await reader.get("/status")).text
