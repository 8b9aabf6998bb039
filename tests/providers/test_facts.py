"""Facts of vendors: each habit has its source and its day, and no double of a vendor refuses what its row would send."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.providers.facts import FACTS, Fact
from penstock.providers.table import PROVIDERS, Provider
from tests.providers.vendors import MODELS, RULES, refusals, tried

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text("utf-8")
OURS = {"simulator", "custom"}
ROWS = [row for row in PROVIDERS.values() if row.id not in OURS]


def habits_of(row: Provider) -> set[str]:
    """The habits by which a row differs from the default."""
    profiles = (row.profile, *(profile for _, profile in row.model_profiles))
    return {
        name
        for profile in profiles
        for name in Profile.__struct_fields__
        if getattr(profile, name) != getattr(DEFAULT_PROFILE, name)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_habit_of_a_row_has_its_source(row: Provider) -> None:
    assert row.facts == FACTS[row.id]
    named = {habit for fact in row.facts for habit in fact.habits}
    assert habits_of(row) <= named
    assert named <= set(Profile.__struct_fields__)
    for fact in row.facts:
        assert fact.source
        assert not fact.read or date.fromisoformat(fact.read) <= date(2100, 1, 1)


@pytest.mark.parametrize(
    ("kind", "fact"), [(kind, fact) for kind, rows in FACTS.items() for fact in rows], ids=str
)
def test_a_fact_is_on_the_page(kind: str, fact: Fact) -> None:
    habits = ", ".join(f"`{habit}`" for habit in fact.habits)
    end = f"{fact.says} | {fact.source} | {fact.read or 'unverified'} |"
    assert f"| `{kind}` | {fact.models or 'all'} | {habits} | {end}" in PAGE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_no_double_of_a_vendor_refuses_what_its_row_sends(row: Provider) -> None:
    sent = 0
    for name, said in tried(row.id):
        sent += 1
        assert not said, f"{name}: {said}"
    assert sent > 40


def test_the_doubles_do_refuse() -> None:
    """Each double refuses something that a careless gateway would send."""
    union = {"name": "f", "input_schema": {"type": "object", "anyOf": []}}
    for kind, model, dialect, body in (
        ("anthropic", "claude-haiku-4-5", "messages", {"tools": [union]}),
        ("anthropic", "claude-opus-5-5", "messages", {"thinking": {"type": "disabled"}}),
        ("anthropic", "claude-opus-5-5", "messages", {"tool_choice": {"type": "any"}}),
        ("anthropic", "claude-opus-4-7", "messages", {"temperature": 0}),
        ("anthropic", "claude-sonnet-4-6", "messages", {"max_tokens": 30_000}),
        ("openai", "gpt-5", "chat", {"temperature": 0}),
        ("openai", "gpt-5.6", "chat", {"tools": [{"type": "object"}], "reasoning_effort": "high"}),
        ("openai", "gpt-5.2", "responses", {"reasoning": {"effort": "max"}}),
        ("moonshot", "kimi-k3", "chat", {"thinking": {"type": "enabled"}}),
        ("moonshot", "kimi-k2.6", "chat", {"tool_choice": "required"}),
        ("deepseek", "deepseek-v4-pro", "chat", {"reasoning_effort": "medium"}),
        ("dashscope", "qwen3.8-max", "chat", {"enable_thinking": True}),
        ("zai", "glm-5.1", "chat", {"reasoning_effort": "high"}),
        ("gemini", "gemini-2.5-pro", "chat", {"reasoning_effort": "none"}),
        ("mistral", "codestral-latest", "chat", {"reasoning_effort": "high"}),
        ("xai", "grok-4.5", "chat", {"reasoning_effort": "none"}),
        ("groq", "llama-3.3-70b-versatile", "chat", {"reasoning_effort": "low"}),
        ("together", "zai-org/GLM-5.2", "chat", {"logprobs": True}),
        ("ollama", "qwen3.5", "chat", {"tool_choice": "required"}),
        ("lmstudio", "openai/gpt-oss-20b", "chat", {"reasoning_effort": "low"}),
        ("bedrock", "anthropic.claude-opus-5", "messages", {"top_k": 5}),
        ("openrouter", "openai/gpt-5.2", "chat", {"tools": [{"parameters": {"type": "object", "enum": []}}]}),
    ):
        assert refusals(kind, model, body, dialect), (kind, model, body)
    assert set(RULES) <= set(MODELS)


def test_the_script_says_what_has_grown_old() -> None:
    run = [sys.executable, str(ROOT / "scripts" / "vendor_facts.py")]
    fresh = subprocess.run([*run, "2026-12-01"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert fresh.returncode == 0, fresh.stdout
    assert "days old" not in fresh.stdout
    assert "unverified: zai" in fresh.stdout
    old = subprocess.run([*run, "2027-03-15"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "105 days old: moonshot kimi-k3*" in old.stdout
