"""Estimates: every kind of block counts, more of it counts more, and nothing is ever 0."""

import asyncio
import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from penstock.tokens.estimator import Estimator, tokenizer_family
from penstock.tokens.images import LARGEST_IMAGE, PAGE_TOKENS, document_tokens, image_tokens
from penstock.tokens.vocabulary import O200k

LONG = "Twelve grey geese went over the weir. " * 20


@pytest.fixture(scope="module")
def estimator() -> Iterator[Estimator]:
    made = Estimator(most_text=1 << 20)
    yield made
    made.close()


def raw(**fields: Any) -> dict[str, Raw]:
    return msgspec.json.decode(json.dumps(fields).encode(), type=dict[str, Raw])


def of(*blocks: object, **fields: Any) -> dict[str, Raw]:
    return raw(messages=[{"role": "user", "content": list(blocks)}], **fields)


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return base64.b64encode(head + b"\x08\x02" + bytes(64)).decode()


def image(data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def pdf(data: bytes) -> dict[str, Any]:
    source = {
        "type": "base64",
        "media_type": "application/pdf",
        "data": base64.b64encode(data).decode(),
    }
    return {"type": "document", "source": source}


BLOCKS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": LONG},
    "citations": {"type": "text", "text": "", "citations": [{"type": "char_location", "cited_text": LONG}]},
    "image": image(png(800, 600)),
    "image-url": {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
    "pdf": pdf(b"%PDF-1.4 /Type /Page /Type/Page /Type /Pages"),
    "document-text": {"type": "document", "source": {"type": "text", "data": LONG}, "title": "Weirs"},
    "document-blocks": {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": LONG}]},
    },
    "document-url": {"type": "document", "source": {"type": "url", "url": "https://example.com/x.pdf"}},
    "search-result": {"type": "search_result", "source": "x", "title": "y", "content": [{"text": LONG}]},
    "tool-use": {"type": "tool_use", "id": "t", "name": "open_gate", "input": {"order": LONG}},
    "server-tool-use": {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": LONG}},
    "tool-result-text": {"type": "tool_result", "tool_use_id": "t", "content": LONG},
    "tool-result-blocks": {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": LONG}, image(png(400, 400))],
    },
    "web-search-result": {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"x": LONG}]},
    "thinking": {"type": "thinking", "thinking": LONG, "signature": "c2ln"},
    "signature-only": {"type": "thinking", "thinking": "", "signature": "c" * 4000},
    "redacted": {"type": "redacted_thinking", "data": "c" * 4000},
    "unknown": {"type": "weather_report", "rain": LONG},
}


@pytest.mark.parametrize("kind", BLOCKS)
async def test_every_kind_of_block_counts(estimator: Estimator, kind: str) -> None:
    without = await estimator.estimate(of(), "m")
    once = await estimator.estimate(of(BLOCKS[kind]), "m")
    assert once > without + 100
    assert await estimator.estimate(of(BLOCKS[kind], BLOCKS[kind]), "m") > once + 100


@pytest.mark.parametrize(
    "field",
    [
        {"system": LONG},
        {"system": [{"type": "text", "text": LONG}]},
        {"tools": [{"name": "x", "description": LONG, "input_schema": {"type": "object"}}]},
        {"tools": [{"name": "x", "input_schema": {"properties": {"a": {"enum": [LONG]}}}}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "allowed_domains": [LONG]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"description": LONG}}}},
    ],
    ids=["system", "system-blocks", "tool", "schema", "server-tool", "output"],
)
async def test_every_field_that_the_model_reads_counts(estimator: Estimator, field: dict[str, Any]) -> None:
    assert await estimator.estimate(of(**field), "m") > await estimator.estimate(of(), "m") + 100


async def test_what_only_the_service_reads_counts_nothing(estimator: Estimator) -> None:
    plain = {"type": "text", "text": LONG}
    tool = {"name": "x", "input_schema": {}}
    marker = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert await estimator.estimate(
        of(plain | marker, tools=[tool | marker], metadata={"user_id": LONG}, temperature=1), "m"
    ) == await estimator.estimate(of(plain, tools=[tool]), "m")


async def test_text_is_looked_up_in_the_vocabulary(estimator: Estimator) -> None:
    """A model of the vocabulary's own family, so that the difference between two requests is the text's count."""
    short = await estimator.estimate(of({"type": "text", "text": ""}), "gpt-5")
    text = "hello world, 你好 🙂 1234567"
    # hello| world|,| |你好| 🙂|...: counted by the reference program for the vocabulary
    assert O200k().count("hello world") == 2
    assert await estimator.estimate(of({"type": "text", "text": text}), "gpt-5") == short - 1 + O200k().count(
        text
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), max_size=6), st.sampled_from(sorted(BLOCKS)))
def test_a_block_more_never_makes_it_less(kinds: list[str], more: str) -> None:
    async def both() -> tuple[int, int]:
        estimator = _SHARED
        few = await estimator.estimate(of(*(BLOCKS[kind] for kind in kinds)), "m")
        return few, await estimator.estimate(of(*(BLOCKS[kind] for kind in [*kinds, more])), "m")

    few, many = asyncio.run(both())
    assert 0 < few < many


_SHARED = Estimator(most_text=1 << 20)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": ["x", None, 3, {"role": "user"}, {"content": {"a": 1}}]},
        {"messages": [{"content": [None, 3, "x", {}, {"type": 3}, {"type": "image"}, {"type": "document"}]}]},
        {"messages": {"a": 1}, "system": 3, "tools": {"a": 1}},
        {"tools": [None, 3, "x"]},
    ],
    ids=["nothing", "no-messages", "empty", "odd-messages", "odd-blocks", "odd-fields", "odd-tools"],
)
async def test_it_is_never_0_whatever_it_is_asked_of(estimator: Estimator, fields: dict[str, Any]) -> None:
    assert await estimator.estimate(raw(**fields), "m") > 0


async def test_a_text_beyond_the_bound_counts_as_densely_as_what_is_looked_at() -> None:
    bounded, whole = Estimator(most_text=100_000), Estimator(most_text=10_000_000)
    text = of({"type": "text", "text": LONG * 1000})
    assert await bounded.estimate(text, "m") == pytest.approx(await whole.estimate(text, "m"), rel=0.01)
    bounded.close()
    whole.close()


async def test_a_caller_that_leaves_frees_the_thread() -> None:
    """The next estimate does not wait for all of a long text that nobody asks for any more."""
    estimator = Estimator(most_text=1 << 30)
    await estimator.estimate(of(), "m")
    long = asyncio.create_task(estimator.estimate(of({"type": "text", "text": "ab (" * 5_000_000}), "m"))
    short = asyncio.create_task(estimator.estimate(of(), "m"))
    await asyncio.sleep(0)
    long.cancel()
    assert await short > 0
    with pytest.raises(asyncio.CancelledError):
        await long
    estimator.close()


class Ticking:
    """A clock that goes on by a second whenever it is read, and notes nothing else."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


async def test_the_thread_goes_from_user_to_user() -> None:
    """Seven long estimates of one user come before another's short one, and end after it."""
    estimator = Estimator(most_text=1 << 30, clock=Ticking())
    long = of({"type": "text", "text": LONG * 1000})
    ended: list[str] = []

    async def ask(name: str, fields: dict[str, Raw], user: str) -> None:
        assert await estimator.estimate(fields, "m", user) > 0
        ended.append(name)

    many = [asyncio.create_task(ask(f"long {at}", long, "busy")) for at in range(7)]
    others = [asyncio.create_task(ask(f"short {at}", of(), f"other {at}")) for at in range(3)]
    await asyncio.gather(*many, *others)
    assert ended == [*(f"short {at}" for at in range(3)), *(f"long {at}" for at in range(7))]
    estimator.close()


async def test_an_estimate_has_a_bound_of_time_after_which_the_rest_counts_as_densely() -> None:
    text = of({"type": "text", "text": LONG * 1000})
    whole, bounded = (
        Estimator(most_text=1 << 30),
        Estimator(most_text=1 << 30, most_seconds=3, clock=Ticking()),
    )
    counted: list[int] = []
    count = O200k.count

    class Counting(O200k):
        def count(self, piece: str) -> int:
            counted.append(len(piece))
            return count(self, piece)

    bounded._vocabulary = Counting()
    assert await bounded.estimate(text, "m") == pytest.approx(await whole.estimate(text, "m"), rel=0.01)
    assert 1 <= len(counted) < 6
    assert sum(counted) < len(LONG) * 1000
    whole.close()
    bounded.close()


async def test_what_fails_is_told_and_the_next_one_goes_on() -> None:
    estimator = Estimator(most_text=1 << 20)
    wrong = {"messages": Raw(b"[")}
    first = asyncio.create_task(estimator.estimate(wrong, "m", "a"))
    second = asyncio.create_task(estimator.estimate(of(), "m", "a"))
    with pytest.raises(msgspec.DecodeError):
        await first
    assert await second > 0
    estimator.close()


def test_families_are_told_by_the_providers_name_for_a_model() -> None:
    assert tokenizer_family("anthropic/Claude-Sonnet-4.6").word == "claude"
    assert tokenizer_family("MiniMax-M2.1").word == "minimax"
    assert tokenizer_family("something-else").factor > 1


# ---- sizes


def jpeg(width: int, height: int) -> bytes:
    preview = b"\xff\xe1\x01\x02" + bytes(256)
    frame = b"\xff\xc2\x00\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes(16)
    return b"\xff\xd8" + preview + frame


@pytest.mark.parametrize(
    "data",
    [
        base64.b64decode(png(300, 200)),
        b"GIF89a" + (300).to_bytes(2, "little") + (200).to_bytes(2, "little") + bytes(9),
        jpeg(300, 200),
        b"RIFF....WEBPVP8 " + bytes(10) + (300).to_bytes(2, "little") + (200).to_bytes(2, "little"),
        b"RIFF....WEBPVP8L" + bytes(5) + (299 | 199 << 14).to_bytes(4, "little") + bytes(9),
        b"RIFF....WEBPVP8X" + bytes(8) + (299).to_bytes(3, "little") + (199).to_bytes(3, "little"),
    ],
    ids=["png", "gif", "jpeg", "webp", "webp-lossless", "webp-extended"],
)
def test_an_image_is_measured_by_its_header(data: bytes) -> None:
    assert image_tokens(base64.b64encode(data).decode()) == 80  # 300 x 200 / 750


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (png(1, 1), 1),
        (png(1000, 750), 1000),
        (png(8000, 8000), LARGEST_IMAGE),
        (png(15680, 10), 3),
        (png(0, 9), LARGEST_IMAGE),
        ("", LARGEST_IMAGE),
        ("!!!!", LARGEST_IMAGE),
        ("é", LARGEST_IMAGE),
        (base64.b64encode(b"RIFF....WEBPVP9 " + bytes(40)).decode(), LARGEST_IMAGE),
        (base64.b64encode(b"\xff\xd8" + bytes(40)).decode(), LARGEST_IMAGE),
        (base64.b64encode(b"BM" + bytes(40)).decode(), LARGEST_IMAGE),
    ],
    ids=[
        "dot",
        "middle",
        "huge",
        "strip",
        "flat",
        "empty",
        "rubbish",
        "no-ascii",
        "webp9",
        "jpeg-cut",
        "bmp",
    ],
)
def test_images_at_the_edges(data: str, tokens: int) -> None:
    assert image_tokens(data) == tokens


def test_a_document_is_measured_by_its_pages_or_its_length() -> None:
    pages = base64.b64encode(b"/Type /Pages /Type /Page /Type/Page\n").decode()
    assert document_tokens(pages) == 2 * PAGE_TOKENS
    hidden = base64.b64encode(zlib.compress(b"x")).decode() + "A" * 500_000
    assert document_tokens(hidden) == 4 * PAGE_TOKENS
    assert document_tokens("") == PAGE_TOKENS
