"""The documentation: its search, its reference, and what a reader who is signed in sees of their own in it."""

import re
from pathlib import Path

import msgspec

from penstock.site.contract import read_contract
from penstock.site.document_pages import ENTRIES
from penstock.site.document_search import Section, search, sections
from penstock.site.markdown import render_markdown
from tests.site.page_reader import Hotel
from tests.site.test_dashboard import ANN

SITE = Path(__file__).parents[2] / "src" / "penstock" / "site"
CONTRACT = (SITE / "openapi.json").read_bytes()


def index() -> list[Section]:
    return [
        section
        for entry in ENTRIES
        for section in sections(
            entry.slug, entry.title, (SITE / "docs" / f"{entry.slug}.md").read_text("utf-8")
        )
    ]


def paths(question: str) -> list[str]:
    return [found.section.path for found in search(index(), question)]


def test_what_people_look_for_is_found_first() -> None:
    for question, path in {
        "Cursor": "/docs/cursor",
        "retry-after": "/docs/errors#trying-again",
        "live slots": "/docs/limits#at-once",
        "count_tokens": "/docs/messages#counting-tokens",
        "openrouter": "/docs/moving#from-openrouter",
        "LITELLM proxy": "/docs/moving#from-litellm-s-proxy",
        "previous_response_id": "/docs/responses#nothing-is-stored",
        "X-Penstock-Strict": "/docs/chat#what-could-not-be-carried",
        "install codex": "/docs/codex",
    }.items():
        assert path in paths(question)[:4], question


def test_every_section_is_found_by_its_heading_and_its_anchor_is_on_the_page() -> None:
    anchors = {
        entry.slug: set(
            re.findall(r' id="([^"]+)"', render_markdown((SITE / "docs" / f"{entry.slug}.md").read_text())[0])
        )
        for entry in ENTRIES
    }
    for section in index():
        assert not section.anchor or section.anchor in anchors[section.slug], section.path
        assert section.path in paths(f"{section.page} {section.heading}"), section.path


def test_of_two_headings_that_are_the_same_each_has_its_place() -> None:
    source = "# T\n\nfirst\n\n## Same\n\nred\n\n## Same\n\nblue\n\n```sh\n## no heading\n```\n"
    found = list(sections("t", "T", source))
    assert [(one.heading, one.anchor) for one in found] == [("T", ""), ("Same", "same"), ("Same", "same-1")]
    assert 'id="same-1"' in render_markdown(source)[0]
    assert [one.section.anchor for one in search(found, "blue")] == ["same-1"]


def test_words_that_are_not_there_and_characters_that_mean_something_elsewhere_find_nothing() -> None:
    for question in ("", "   ", "zebra", "limits zebra", "(", "[a-z", "\\", ".*"):
        assert "zebra" not in question or paths(question) == []
        search(index(), question)
    assert search(index(), "zebra") == []


def test_an_excerpt_is_the_text_round_the_word() -> None:
    text = "before " * 40 + "<b>needle</b>" + " after" * 40
    (found,) = search([Section("s", "S", "a", "A", text)], "NEEDLE")
    joined = "".join(piece for piece, _ in found.excerpt)
    assert ("needle", True) in found.excerpt
    assert joined.startswith("… before")
    assert joined.endswith("…")
    assert len(joined) < 320


async def test_the_page_of_the_search_obeys_no_html(hotel: Hotel) -> None:
    reader = hotel.reader()
    page = (await reader.get("/docs/search", params={"q": '"><script>alert(1)</script>'})).text
    assert "<script>alert" not in page
    found = (await reader.get("/docs/search", params={"q": "concurrent"})).text
    assert "<mark>" in found.lower() or "/docs/" in found
    assert "Nothing has all of these words" in (await reader.get("/docs/search?q=zebra")).text
    assert (await reader.get("/docs/search")).status_code == 200


async def test_the_reference_has_every_route_field_and_status_of_the_contract(hotel: Hotel) -> None:
    document = msgspec.json.decode(CONTRACT)
    count = 0
    for admin, path in ((True, "/docs/api/admin"), (False, "/docs/api")):
        page = (await hotel.reader().get(path)).text
        contract = read_contract(CONTRACT, admin=admin)
        count += len(contract.operations)
        for operation in contract.operations:
            assert f'id="{operation.anchor}"' in page
            found = document["paths"][operation.path][operation.method.lower()]
            assert [answer.status for answer in operation.answers] == list(found["responses"])
            for field in (*operation.fields, *operation.parameters):
                assert f"<code>{field.name}</code>" in page
                assert field.type, field.name
        assert len(page) < (300_000 if admin else 150_000)
    assert count == sum(method != "servers" for methods in document["paths"].values() for method in methods)
    assert {header.name for header in contract.headers} >= {"X-RateLimit-Limit", "X-Request-Id"}
    assert 'href="/docs/api"' in (await hotel.reader().get("/docs/quickstart")).text.partition("<article")[0]


async def test_snippets_name_the_key_of_who_is_signed_in(hotel: Hotel) -> None:
    reader = await hotel.reader().join(ANN)
    key = await reader.key()
    page = (await reader.get("/docs/quickstart")).text
    assert f"{key[:12]}...YOUR-KEY" in page
    assert key not in page
    assert "sk-ps-YOUR-KEY" not in page
    assert "no-store" in (await reader.get("/docs/quickstart")).headers["cache-control"]
    other = (await hotel.reader().get("/docs/quickstart")).text
    assert "sk-ps-YOUR-KEY" in other
    assert key[:12] not in other
    await reader.post("/playground/key")
    assert f"{key[:12]}...YOUR-KEY" in (await reader.get("/docs/curl")).text, "never the playground's"
