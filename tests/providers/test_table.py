"""The provider table: every row is complete, reachable in principle, and documented."""

import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args
from urllib.parse import urlsplit

import pytest

from penstock.core.catalog import Auth as AuthName
from penstock.core.catalog import Upstream
from penstock.core.dialects.interface import NO_VERSION, ApiVersion
from penstock.core.endpoints import FORMATS
from penstock.core.limits import Header
from penstock.providers.auth import AUTH, Auth, ToSign, sign
from penstock.providers.secrets import Secret
from penstock.providers.table import KINDS, PROVIDERS, Provider, extra_headers

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
ROWS = list(PROVIDERS.values())
OURS = {"simulator", "custom"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_complete(row: Provider):
    assert row.id in KINDS
    assert row.name
    assert row.speaks or row.id == "custom"
    for dialect, url in row.speaks.items():
        assert dialect in FORMATS
        parts = urlsplit(url)
        assert parts.scheme == ("http" if row.local else "https")
        assert (parts.hostname == "127.0.0.1") == row.local
        assert not url.endswith("/")
        assert not parts.query
    assert row.docs.startswith("https://") or row.id in OURS
    assert (row.auth == "none") == row.local
    assert bool(row.env) == (not row.local and row.id not in OURS and not AUTH[row.auth].tokens)


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


OLD_VERSION = b"2023-06-01"


def signed(
    at: Upstream, key: Secret | None, dialect: str, asked: ApiVersion = NO_VERSION, model: str = ""
) -> Sequence[Header]:
    """The headers of a request, without those that every request has."""
    profile = at.profile_of(model) if model else at.profile
    version = FORMATS[dialect].version_headers
    about = (*extra_headers(at.kind), *(() if version is None else version(asked, profile)))
    return sign(at, key, ToSign(b"POST", b"https://up.example/v1", about, b"{}", 0.0))


def test_signing_to_anthropic():
    at = KINDS["anthropic"]
    assert signed(at, KEY, "messages") == ((b"x-api-key", b"sk-1"), (b"anthropic-version", OLD_VERSION))
    assert signed(at, KEY, "messages", ApiVersion(b"2026-10-21", b"a,b")) == (
        (b"x-api-key", b"sk-1"),
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
    )


def test_the_old_api_is_asked_in_its_own_version():
    at = KINDS["bedrock"]
    for version in (b"2026-10-21", b"2023-06-01", None):
        assert signed(at, KEY, "messages", ApiVersion(version), "anthropic.claude-opus-4-6")[1] == (
            b"anthropic-version", b"2023-06-01",
        )  # fmt: skip
    assert at.profile_of("anthropic.claude-opus-4-6").old_api
    assert not at.profile_of("anthropic.claude-opus-4-7").old_api
    assert not KINDS["anthropic"].profile_of("claude-haiku-4-5").old_api


def test_signing_to_others():
    bearer = (b"authorization", b"Bearer sk-1")
    assert signed(KINDS["openai"], KEY, "chat", ApiVersion(b"x", b"y")) == (bearer,)
    assert signed(KINDS["deepseek"], KEY, "messages") == (bearer, (b"anthropic-version", OLD_VERSION))
    assert signed(KINDS["ollama"], None, "chat") == ()
    assert signed(KINDS["ollama"], KEY, "chat") == ()
    assert signed(KINDS["custom"], None, "chat") == ()


def test_every_scheme_of_the_catalogue_is_one_that_can_sign():
    assert set(AUTH) == set(get_args(AuthName))


def test_a_scheme_may_sign_the_method_the_address_the_body_and_the_time(monkeypatch: pytest.MonkeyPatch):
    def over_all(secret: Secret, request: ToSign) -> tuple[Header, ...]:
        about = b"|".join(
            (request.method, request.url, *(n + b":" + v for n, v in request.headers), request.body)
        )
        digest = hmac.new(secret.reveal(), about + b"|%d" % request.now, "sha256").hexdigest().encode()
        return ((b"x-signature", digest),)

    monkeypatch.setitem(cast("dict[str, Auth]", AUTH), "bearer", Auth(over_all))
    at = KINDS["openai"]

    def of(method: bytes, url: bytes, about: Sequence[Header], body: bytes, now: float) -> bytes:
        return sign(at, KEY, ToSign(method, url, about, body, now))[0][1]

    plain = of(b"POST", b"https://a/v1", ((b"a", b"b"),), b"{}", 1.0)
    assert plain == of(b"POST", b"https://a/v1", ((b"a", b"b"),), b"{}", 1.0)
    others = {
        of(b"PUT", b"https://a/v1", ((b"a", b"b"),), b"{}", 1.0),
        of(b"POST", b"https://a/v2", ((b"a", b"b"),), b"{}", 1.0),
        of(b"POST", b"https://a/v1", (), b"{}", 1.0),
        of(b"POST", b"https://a/v1", ((b"a", b"b"),), b"{ }", 1.0),
        of(b"POST", b"https://a/v1", ((b"a", b"b"),), b"{}", 2.0),
    }
    assert len(others) == 5
    assert plain not in others
