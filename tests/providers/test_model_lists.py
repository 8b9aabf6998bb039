"""Vendors' lists of models, as each of them writes its own, and as none should."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.known_models import Prices
from penstock.providers.model_lists import Listed, read_page


def one(entry: str) -> Listed:
    page = read_page(f'{{"data": [{entry}]}}'.encode())
    assert page is not None
    (model,) = page.models
    return model


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('{"id": "gpt-6-luna", "object": "model", "owned_by": "system", "shutdown_date": null}', Listed("gpt-6-luna")),
        ('{"id": "gpt-5", "shutdown_date": "2026-12-11"}', Listed("gpt-5", ends="2026-12-11")),
        (
            ('{"type": "model", "id": "claude-opus-5-5", "display_name": "Claude Opus 5.5", "max_input_tokens": 1000000,'
            ' "max_tokens": 128000, "capabilities": {"image_input": {"supported": true}, "pdf_input": {"supported": false}}}'),
            Listed(
                "claude-opus-5-5", "Claude Opus 5.5", context=1_000_000, longest=128_000, vision=True, documents=False
            ),
        ),
        ('{"id": "models/gemini-3.8-flash", "object": "model"}', Listed("gemini-3.8-flash")),
        (
            ('{"id": "mistral-large-4-0", "capabilities": {"vision": true, "function_calling": true},'
            ' "max_context_length": 262144, "deprecation": "2027-02-27T12:00:00Z",'
            ' "deprecation_replacement_model": "mistral-large-5"}'),
            Listed(
                "mistral-large-4-0", context=262_144, vision=True, tools=True, ends="2027-02-27", successor="mistral-large-5"
            ),
        ),
        (
            ('{"id": "z-ai/glm-5.3", "name": "GLM 5.3", "context_length": 1000000,'
            ' "architecture": {"input_modalities": ["text", "image"]}, "supported_parameters": ["tools", "top_p"],'
            ' "pricing": {"prompt": "0.0000014", "completion": "0.0000044", "input_cache_read": "0.00000026"},'
            ' "top_provider": {"max_completion_tokens": 65536}}'),
            Listed(
                "z-ai/glm-5.3", "GLM 5.3", context=1_000_000, longest=65_536, vision=True, documents=False, tools=True,
                prices=Prices(1_400_000_000, 260_000_000, None, 4_400_000_000),
            ),
        ),
        ('{"id": "Qwen/Qwen3.8-27B", "max_model_len": 40960}', Listed("Qwen/Qwen3.8-27B", context=40_960)),
        ('{"id": "e5", "type": "embedding", "context_length": 512}', Listed("e5", context=512, word="embedding")),
        ('"llama-3.3"', Listed("llama-3.3")),
        ('{"name": "phi", "context_window": "many", "max_tokens": true, "pricing": 3, "capabilities": []}', Listed("phi")),
        ('{"id": "free", "pricing": {"prompt": "0", "completion": "x"}}', Listed("free", prices=Prices(0))),
    ],
)  # fmt: skip
def test_an_entry_as_its_vendor_writes_it(entry: str, expected: Listed) -> None:
    assert one(entry) == expected


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'[{"id": "a"}, {"id": "b"}]', ["a", "b"]),
        (b'{"models": [{"model": "a:7b"}]}', ["a:7b"]),
        (b'{"data": []}', []),
        (b'{"data": [{"id": "a"}, null, 3, {"id": ""}, {"id": "two words"}, {"id": "x\\u0000"}]}', ["a"]),
        (b'{"data": [{"id": "%s"}, {"id": "ok"}]}' % (b"a" * 129), ["ok"]),
    ],
)
def test_where_the_list_lies(body: bytes, ids: list[str]) -> None:
    page = read_page(body)
    assert page is not None
    assert [model.id for model in page.models] == ids


@pytest.mark.parametrize(
    "body", [b"", b"null", b"3", b'"x"', b"{}", b'{"data": {}}', b'{"data": [{}]}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_list(body: bytes) -> None:
    assert read_page(body) is None


def test_the_next_page_is_asked_for_in_the_vendors_way() -> None:
    page = read_page(b'{"data": [{"id": "a b"}, {"id": "m/x&y"}], "has_more": true}')
    assert page is not None
    assert page.next_query == "after_id=m%2Fx%26y"
    page = read_page(b'{"models": [{"name": "models/g"}], "nextPageToken": "t=1"}')
    assert page is not None
    assert page.next_query == "pageToken=t%3D1"


NAMES = (
    "data", "id", "models", "pricing", "prompt", "capabilities", "vision", "shutdown_date", "has_more", "type",
)  # fmt: skip
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(ODD)
def test_whatever_a_list_holds_it_is_read_or_refused(value: object) -> None:
    page = read_page(msgspec.json.encode({"data": [value, {"id": "a", "x": value}]}))
    assert page is not None
    assert "a" in [model.id for model in page.models] or not page.models
