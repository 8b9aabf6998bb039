"""Secrets that do not show themselves, and servers found on loopback ports."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.providers.local_servers import Found, find_local
from penstock.providers.secrets import Secret, Secrets
from tests.providers.conftest import Sim

# ---- secrets


def test_a_secret_does_not_show_itself():
    secret = Secret("sk-ant-123")
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "sk-ant" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == b"sk-ant-123"
    assert secret == Secret("sk-ant-123")
    assert len({secret, Secret("sk-ant-123"), Secret("other")}) == 2


@pytest.mark.parametrize("value", ["", "two\nlines", "k\r\nx-evil: 1", "schl\u00fcssel", "\x00"])
def test_what_cannot_be_a_header_is_no_secret(value: str):
    with pytest.raises(ValueError, match="one line of printable"):
        Secret(value)


def test_references(tmp_path: Path):
    (tmp_path / "key").write_text("  sk-file\n")
    (tmp_path / "bad").write_text("two\nlines\n")
    secrets = Secrets({"KEY": " sk-env ", "EMPTY": "", "BAD": "a\nb"})
    assert secrets.get("env:KEY") == Secret("sk-env")
    assert secrets.get(f"file:{tmp_path}/key") == Secret("sk-file")
    for reference in (
        "",
        "env:EMPTY",
        "env:MISSING",
        "env:BAD",
        f"file:{tmp_path}/none",
        f"file:{tmp_path}/bad",
        "x",
    ):
        assert secrets.get(reference) is None
        assert secrets.has(reference) == (reference == "")
    assert secrets.has("env:KEY")


def test_problems_are_told_without_the_secret(tmp_path: Path):
    (tmp_path / "bad").write_text("sk-ant\nsk-ant\n")
    secrets = Secrets({"KEY": "x", "BAD": "sk-ant\nx"})
    assert secrets.problem("") is None
    assert secrets.problem("env:KEY") is None
    assert secrets.problem("env:MISSING") == "MISSING is not set"
    assert (
        secrets.problem(f"file:{tmp_path}/none")
        == f"{tmp_path}/none cannot be read: No such file or directory"
    )
    assert secrets.problem(f"file:{tmp_path}/bad") == "what file: points to is not a usable secret"
    assert secrets.problem("env:BAD") == "what env: points to is not a usable secret"
    assert secrets.problem("sealed:x") == "the reference is neither env:NAME nor file:PATH"


def test_a_file_is_read_again_after_forgetting(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text("one")
    secrets = Secrets({})
    assert secrets.get(f"file:{path}") == Secret("one")
    path.write_text("two")
    assert secrets.get(f"file:{path}") == Secret("one")
    secrets.refresh()
    assert secrets.get(f"file:{path}") == Secret("two")


# ---- servers

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncGenerator[str]:
    """A raw server on a free port; gives its base URL."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def answering(raw: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    return serve


def page(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\ncontent-type: application/json\r\n\r\n{body}".encode()


async def test_servers_that_answer_are_found_with_their_models(sim: Sim):
    listed = (
        '{"object":"list","data":[{"id":"llama3"},{"id":"nomic-embed-text"},{"id":"qwen3"},{"id":"llama3"}]}'
    )
    async with serving(answering(page(listed))) as url:
        found = await find_local([("ollama", url), ("vllm", sim.base)], seconds=10)
    assert found[0] == Found("ollama", ("llama3", "qwen3"))
    assert found[1].provider == "vllm"
    assert "sim-ok" in found[1].models


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"220 smtp ready\r\n",
        page('{"data":[]}'),
        page('{"data":[{"id":7}]}'),
        page('{"error":"key"}', "401 Unauthorized"),
        page("<html></html>"),
        page('{"data":[{"id":"\xff"'),
        b"HTTP/1.0 200 OK\r\n\r\n" + b'{"data":[{"id":"' + b"\xff" * 10 + b'"}]}',
        b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (3 << 20),
    ],
)
async def test_what_answers_otherwise_is_not_found(raw: bytes):
    async with serving(answering(raw)) as url:
        assert await find_local([("llama-server", url)], seconds=10) == ()


async def test_silence_costs_no_more_than_the_time_allowed():
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with serving(silent) as url:
        assert await find_local([("vllm", url)], seconds=0.05) == ()
        await gone.wait()


async def test_only_loopback_addresses_are_asked():
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    async with serving(serve) as url:
        port = url.removesuffix("/v1").rsplit(":", 1)[1]
        hosts = ["example.com", "127.0.0.1.example.com", "0.0.0.0", "[::ffff:127.0.0.1]"]
        assert await find_local([("vllm", f"http://{host}:{port}/v1") for host in hosts], seconds=10) == ()
        assert not asked.is_set()


async def test_nobody_there():
    async with serving(answering(b"")) as url:
        pass
    assert await find_local([("ollama", url)], seconds=10) == ()
