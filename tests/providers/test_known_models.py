"""The dated list: that it can be read, that its names mean what they say, and what is told of the end of models."""

from datetime import date

import pytest

from penstock.providers.known_models import formats_alone, known_models, mode_of
from penstock.providers.retirements import RETIREMENTS, retirement
from penstock.providers.table import PROVIDERS

KNOWN = known_models()


def test_every_row_is_of_a_provider_of_the_table_and_says_something() -> None:
    assert date.fromisoformat(KNOWN.read)
    for row in KNOWN.models:
        assert row.provider in PROVIDERS
        assert KNOWN.find(row.provider, row.model) is row
        assert row.input is None or 0 <= row.input < 10**13, row.model
        assert row.output is None or 0 <= row.output < 10**13, row.model
        assert row.context is None or 256 <= row.context <= 20_000_000, row.model


def test_every_vendor_with_a_key_has_models_with_a_price() -> None:
    """Bedrock's prices are by region, and are not known; on Azure a model is called by its deployment's name."""
    priced = {row.provider for row in KNOWN.models if row.input}
    with_key = {row.id for row in PROVIDERS.values() if row.env}
    assert with_key - priced == {"bedrock", "azure", "azure-anthropic"}


@pytest.mark.parametrize(
    ("provider", "name", "means"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-11-20", "gpt-4o"),
        ("openai", "gpt-6-luna-2026-09-01", "gpt-6-luna"),
        ("anthropic", "claude-opus-5-5-20260901", "claude-opus-5-5"),
        ("zai", "glm-5.3", "GLM-5.3"),
        ("openai", "gpt-99", None),
        ("anthropic", "gpt-4o", None),
        ("nobody", "gpt-4o", None),
    ],
)
def test_a_name_means_the_row_that_is_nearest(provider: str, name: str, means: str | None) -> None:
    found = KNOWN.find(provider, name)
    assert (found and found.model) == means


def test_a_price_is_in_nano_units_for_a_million_tokens() -> None:
    row = KNOWN.find("openai", "gpt-4o")
    assert row is not None
    assert (row.prices.input, row.prices.output) == (2_500_000_000, 10_000_000_000)
    assert row.agreed is True


@pytest.mark.parametrize(
    ("name", "word", "mode"),
    [
        ("gpt-6-luna", "", "chat"), ("text-embedding-3-small", "", "embedding"), ("whisper-1", "", "other"),
        ("gpt-image-2", "", "other"), ("gpt-realtime-2", "", "other"), ("x", "embedding", "embedding"),
        ("x", "image", "other"), ("gpt-5-pro", "responses", "chat"), ("bge-m3", "", "embedding"),
        ("x", "audio_speech", "other"),
        ("omni-moderation-latest", "", "other"),
    ],
)  # fmt: skip
def test_what_a_model_is_called_for(name: str, word: str, mode: str) -> None:
    assert mode_of(name, word) == mode


def test_formats_that_are_a_models_only_ones() -> None:
    assert formats_alone("openai", "gpt-5.2-codex") == ("responses",)
    assert formats_alone("openai", "gpt-6-luna") == ()
    assert formats_alone("bedrock", "anthropic.claude-opus-5") == ("messages",)


def test_the_end_of_a_model_has_a_source_and_its_successor_has_not_ended() -> None:
    for row in RETIREMENTS:
        assert row.source.startswith("https://"), row
        assert date.fromisoformat(row.read)
        if row.day:
            assert date.fromisoformat(row.day)
        if row.successor:
            after = retirement(row.provider, row.successor)
            assert after is None or after.day > row.day, row


def test_the_end_of_a_model_is_found_by_its_name() -> None:
    found = retirement("openai", "gpt-5-mini-2025-08-07")
    assert found is not None
    assert (found.day, found.successor) == ("2026-12-11", "gpt-6.1-terra")
    assert retirement("openai", "gpt-5.5") is None
    assert retirement("anthropic", "gpt-5") is None
