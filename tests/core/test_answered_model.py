"""Which names in an answer are of the model that was asked for, and what is kept of one that is not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.answered_model import MAX_NAME, other_model

SAME = [
    ("gpt-5.2", "gpt-5.2"),
    ("gpt-5.2", ""),
    ("gpt-5.2", "   "),
    ("gpt-5.2", "gpt-5.2-2026-01-15"),
    ("gpt-5.2-2026-01-15", "gpt-5.2"),
    ("gpt-5.2-2026-01-15", "gpt-5.2-20260115"),
    ("claude-sonnet-4-6", "claude-sonnet-4-6-20260201"),
    ("claude-sonnet-4-6-latest", "claude-sonnet-4-6-20260201"),
    ("claude-sonnet-4-6@20260201", "claude-sonnet-4-6"),
    ("anthropic.claude-sonnet-4-6", "anthropic.claude-sonnet-4-6-20260201-v1:0"),
    ("anthropic.claude-opus-4-6", "anthropic.claude-opus-4-6-v1:0"),
    ("gpt-4", "gpt-4-0613"),
    ("mistral-large-latest", "mistral-large-2411"),
    ("gemini-2.5-flash-preview", "gemini-2.5-flash-preview-05-20"),
    ("gemini-2.5-flash-preview", "gemini-2.5-flash-preview-09-2025"),
    ("gemini-2.0-flash", "models/gemini-2.0-flash-001"),
    ("models/gemini-2.0-flash", "gemini-2.0-flash"),
    ("models/gemini-2.0-flash", "google/gemini-2.0-flash"),
    ("gpt-oss-120b", "openai/gpt-oss-120b"),
    ("openai/gpt-5.2", "gpt-5.2-2026-01-15"),
    ("accounts/fireworks/models/deepseek-v3", "deepseek-v3"),
    ("llama3", "llama3:latest"),
    ("up-embed", "up-embed-2026"),
    ("up-embed", "UP-Embed-2026-02"),
    ("MiniMax-M2.1", " minimax-m2.1 "),
]
OTHER = [
    ("gpt-5.2", "gpt-5.2-mini"),
    ("gpt-5.2", "gpt-5"),
    ("gpt-5", "gpt-5-2"),
    ("gpt-4", "gpt-4-32k"),
    ("gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("gpt-5.2-2026-01-15", "gpt-5.2-2025-12-01"),
    ("claude-sonnet-4", "claude-sonnet-4-6"),
    ("claude-haiku-4-5-20251001", "claude-opus-4-5-20251101"),
    ("claude-3", "claude-3-5"),
    ("meta/llama-3-8b", "other/llama-3-8b"),
    ("llama-3-8b", "llama-3-70b"),
    ("llama3:8b", "llama3:70b"),
    ("deepseek-r1:free", "deepseek-r1"),
    ("titan-embed-text", "titan-embed-text-v2"),
    ("vendor/auto", "vendor/dearest"),
    ("sonnet", "sonnet-2099x"),
    ("sonnet", "sonnet-20261301"),
    ("ok", "okay"),
    ("", "anything"),
]


@pytest.mark.parametrize(("asked", "answered"), SAME)
def test_a_longer_or_shorter_name_of_the_same_model(asked: str, answered: str) -> None:
    assert other_model(asked, answered) is None


@pytest.mark.parametrize(("asked", "answered"), OTHER)
def test_another_model_is_named_as_the_answer_does(asked: str, answered: str) -> None:
    assert other_model(asked, answered) == answered


@pytest.mark.parametrize(
    ("answered", "kept"),
    [
        ("two\x00\x1b[31m", "two?31m"),
        ("=cmd|' /C calc'!A0", "?cmd? /C calc?A0"),
        ("<script>", "?script?"),
        ("模型", "?"),
        ("\u202eelpmis", "?elpmis"),
        ("a\nb\r\nc\u2028d", "a?b?c?d"),
        ("\ud800", "?"),
        ("x" * 1_000_000, "x" * MAX_NAME),
        ("ok" + " " * MAX_NAME + "x", "ok"),
    ],
)
def test_of_a_strangers_text_plain_characters_are_kept(answered: str, kept: str) -> None:
    assert other_model("ok", answered) == kept


_WORD = st.from_regex(r"[a-z]{2,8}(-[a-z]{2,6}){0,2}", fullmatch=True)
_SUFFIX = st.sampled_from(
    ["", "-20260115", "-2026-01-15", "-0613", "-001", "-latest", ":latest", "@20260115"]
)
_PREFIX = st.sampled_from(["", "models/", "vendor/", "accounts/a/models/"])


@given(_WORD, _PREFIX, _SUFFIX)
def test_vendor_version_and_case_make_no_other_model(name: str, before: str, after: str) -> None:
    longer = f"{before}{name}{after}"
    assert other_model(name, longer.upper()) is None
    assert other_model(longer, name) is None
    assert other_model(name, f"{before}{name}x{after}") is not None


@given(st.text(), st.text())
def test_whatever_an_answer_names_is_plain_and_short(asked: str, answered: str) -> None:
    kept = other_model(asked, answered)
    assert kept is None or (re.fullmatch(r"[A-Za-z0-9 ._:/@+()?-]+", kept) and len(kept) <= MAX_NAME)
    assert other_model(answered, answered) is None
