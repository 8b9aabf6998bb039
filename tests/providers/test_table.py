"""The provider table: every row is complete, reachable in principle, and documented."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from penstock.core.catalog import DIALECT_NAMES
from penstock.core.profile import DEFAULT_PROFILE
from penstock.providers.secrets import Secret
from penstock.providers.table import ANTHROPIC_VERSION, KINDS, PROVIDERS, Provider, sign

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
ROWS = list(PROVIDERS.values())
OURS = {"simulator", "custom"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_complete(row: Provider):
    assert row.id in KINDS
    assert row.name
    assert row.speaks or row.id == "custom"
    for dialect, url in row.speaks.items():
        assert dialect in DIALECT_NAMES
        parts = urlsplit(url)
        assert parts.scheme == ("http" if row.local else "https")
        assert (parts.hostname == "127.0.0.1") == row.local
        assert not url.endswith("/")
        assert not parts.query
    assert row.docs.startswith("https://") or row.id in OURS
    assert (row.auth == "none") == row.local
    assert bool(row.env) == (not row.local and row.id not in OURS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_on_the_page(row: Provider):
    line = next(line for line in PAGE.split("\n") if line.startswith(f"| `{row.id}` |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == (row.name if row.id in OURS else f"[{row.name}]({row.docs})")
    assert cells[2] == ", ".join(f"{dialect}: `{url}`" for dialect, url in row.speaks.items())
    assert cells[3] == (f"`{row.env}`" if row.env else "")
    assert cells[4] == row.note


def test_the_environment_variables_are_distinct():
    names = [row.env for row in ROWS if row.env]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("model", "thinking", "sampling", "system_turns"),
    [
        ("claude-3-7-sonnet-20250219", "budget", True, False),
        ("claude-3-5-haiku-20241022", "none", True, False),
        ("claude-sonnet-4-20250514", "budget", True, False),
        ("claude-haiku-4-5-20251001", "budget", True, False),
        ("claude-opus-4-6", "adaptive", True, False),
        ("claude-opus-4-7", "adaptive", False, False),
        ("claude-opus-4-8", "adaptive", False, True),
        ("claude-sonnet-5-5", "adaptive", False, True),
    ],
)
def test_what_each_generation_of_claude_takes(model: str, thinking: str, sampling: bool, system_turns: bool):
    for upstream, name in (("anthropic", model), ("bedrock", f"anthropic.{model}")):
        profile = KINDS[upstream].profile_of(name)
        assert (profile.thinking, profile.sampling, profile.system_turns) == (
            thinking,
            sampling,
            system_turns,
        )
        assert profile.native_anthropic
        assert profile.thoughts_hidden is (model == "claude-sonnet-5-5")


# ---- signing

KEY = Secret("sk-1")


def test_signing_to_anthropic():
    at = KINDS["anthropic"]
    assert sign(at, KEY, "messages") == ((b"x-api-key", b"sk-1"), (b"anthropic-version", ANTHROPIC_VERSION))
    assert sign(at, KEY, "messages", version=b"2026-10-21", betas=b"a,b") == (
        (b"x-api-key", b"sk-1"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
    )


def test_the_old_api_is_asked_in_its_own_version():
    at = KINDS["bedrock"]
    for version in (b"2026-10-21", b"2023-06-01", None):
        assert sign(at, KEY, "messages", version=version, old_api=True)[1] == (
            b"anthropic-version", b"2023-06-01",
        )  # fmt: skip
    assert at.profile_of("anthropic.claude-opus-4-6").old_api
    assert not at.profile_of("anthropic.claude-opus-4-7").old_api
    assert not KINDS["anthropic"].profile_of("claude-haiku-4-5").old_api


def test_signing_to_others():
    bearer = (b"authorization", b"Bearer sk-1")
    assert sign(KINDS["openai"], KEY, "chat", version=b"x", betas=b"y") == (bearer,)
    assert sign(KINDS["deepseek"], KEY, "messages") == (bearer, (b"anthropic-version", ANTHROPIC_VERSION))
    assert sign(KINDS["ollama"], None, "chat") == ()
    assert sign(KINDS["ollama"], KEY, "chat") == ()
    assert sign(KINDS["custom"], None, "chat") == ()


def test_the_page_names_every_habit_with_its_default():
    section = PAGE.partition("### Habits")[2].partition("### ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]*?)`? \|", section, re.MULTILINE))
    defaults = {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in msgspec.structs.asdict(DEFAULT_PROFILE).items()
    }
    assert shown == defaults
