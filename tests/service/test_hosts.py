"""Azure, Vertex and Bedrock as their documentation has them, played by doubles: addresses, headers, tokens and bodies."""

import asyncio
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from penstock.domain.catalog import catalog_store
from penstock.domain.catalog.toml_document import parse
from penstock.providers.table import KINDS
from tests.service.conversations import CHAT_REPLY, MESSAGES_FRAMES, MESSAGES_REPLY
from tests.service.running_service import VENDOR_KEY, House
from tests.service.scripted import Asked


async def connect(house: House, text: str) -> None:
    """Have these providers and models in the catalogue, the models on the lab's plan."""
    await house.stop()
    async with house.store.database.transaction() as conn:
        document = parse(text, KINDS)
        whole = await catalog_store.load_document(conn, KINDS)
        lab = next(row for row in whole.plans if row.id == "lab")
        names = ", ".join(f'"{name}"' for name in (*lab.models, *(row.id for row in document.models)))
        plan = f'[[plan]]\nid = "lab"\ndaily_requests = 50000\nconcurrent_requests = 64\nmodels = [{names}]\n'
        await catalog_store.apply_document(conn, parse(text + plan, KINDS), KINDS, 2)
    await house.start()


def account(house: House, folder: Path) -> str:
    """A service account whose tokens a wire of the house gives."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    url = f"http://127.0.0.1:{house.wires['spare-embeddings'].port}/token"
    path = folder / "account.json"
    path.write_text(
        json.dumps({"type": "service_account", "client_email": "a@b", "private_key": pem, "token_uri": url})
    )
    return str(path)


def give(asked: Asked) -> None:
    asked.answer(b'{"access_token":"ya29.token","expires_in":3600}')


async def test_azure_by_key_with_a_query_and_the_deployment_in_the_path(house: House) -> None:
    wire = house.wires["wire-chat"]
    await connect(
        house,
        f"""
[[provider]]
id = "azure"
secret = "env:VENDOR_KEY"
speaks = {{ chat = "http://127.0.0.1:{wire.port}/openai/deployments/{{model}}" }}
query = {{ api-version = "2024-10-21" }}
[[model]]
id = "of-azure"
targets = [{{ provider = "azure", model = "my deployment" }}]
""",
    )
    user = await house.user()
    wire.script = lambda asked: asked.answer(CHAT_REPLY)
    for _ in range(2):
        assert (await house.ask("chat", "of-azure", user)).status == 200
        asked = await wire.next()
        assert asked.path == "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
        assert asked.headers["api-key"] == VENDOR_KEY
        assert "authorization" not in asked.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_claude_on_vertex(house: House, tmp_path: Path, *, stream: bool) -> None:
    wire, tokens = house.wires["wire-messages"], house.wires["spare-embeddings"]
    tokens.script = give
    await connect(
        house,
        f"""
[[provider]]
id = "vertex-anthropic"
speaks = {{ messages = "http://127.0.0.1:{wire.port}/v1/publishers/anthropic/models/{{model}}" }}
sign_in = {{ account = "file:{account(house, tmp_path)}" }}
[[model]]
id = "of-vertex"
targets = [{{ provider = "vertex-anthropic", model = "claude-sonnet-4-6@20260101" }}]
max_output_tokens = 4096
""",
    )
    user = await house.user()
    wire.script = lambda asked: asked.stream(*MESSAGES_FRAMES) if stream else asked.answer(MESSAGES_REPLY)
    answers = await asyncio.gather(
        *(house.ask("messages", "of-vertex", user, stream=stream, x_new={"a": 1.5}) for _ in range(5))
    )
    assert [answer.status for answer in answers] == [200] * 5
    assert b"of-vertex" in answers[0].body
    assert len(tokens.asked) == 1
    for asked in wire.asked:
        method = "streamRawPredict" if stream else "rawPredict"
        assert asked.path == f"/v1/publishers/anthropic/models/claude-sonnet-4-6%4020260101:{method}"
        assert asked.headers["authorization"] == "Bearer ya29.token"
        body = asked.json
        assert "model" not in body
        assert (body["anthropic_version"], body["x_new"]) == ("vertex-2023-10-16", {"a": 1.5})
    counted = await house.http(
        "POST",
        "/v1/messages/count_tokens",
        user.key,
        body=b'{"model":"of-vertex","messages":[{"role":"user","content":"x"}]}',
    )
    assert (counted.status, counted.headers["x-penstock-token-count"]) == (200, "estimated")


async def test_a_provider_that_gives_no_token_is_not_asked_and_the_next_one_is(house: House) -> None:
    wire, spare = house.wires["wire-chat"], house.wires["spare-chat"]
    tokens = house.wires["spare-embeddings"]
    tokens.script = lambda asked: asked.answer(b"{}", 401)
    await connect(
        house,
        f"""
[[provider]]
id = "entra"
speaks = {{ chat = "http://127.0.0.1:{wire.port}/v1" }}
auth = "entra"
secret = "env:VENDOR_KEY"
sign_in = {{ tenant = "t", client = "c", authority = "http://127.0.0.1:{tokens.port}" }}
[[model]]
id = "of-entra"
targets = [{{ provider = "entra", model = "a" }}, {{ provider = "spare-chat", model = "b", priority = 1 }}]
[[model]]
id = "of-entra-alone"
targets = [{{ provider = "entra", model = "a" }}]
""",
    )
    user = await house.user()
    spare.script = lambda asked: asked.answer(CHAT_REPLY)
    assert (await house.ask("chat", "of-entra", user)).status == 200
    assert (await house.row(user))["attempts"] == 2
    assert wire.asked == []
    answer = await house.ask("chat", "of-entra-alone", user)
    assert (answer.status, answer.code) == (502, "provider_credentials")
    assert VENDOR_KEY not in answer.body.decode()


async def test_a_provider_behind_a_proxy_that_is_not_there_is_not_reached_without_it(house: House) -> None:
    wire = house.wires["wire-chat"]
    await connect(
        house,
        f"""
[[provider]]
id = "far"
speaks = {{ chat = "http://127.0.0.1:{wire.port}/v1" }}
secret = "env:VENDOR_KEY"
proxy = "http://127.0.0.1:9"
[[model]]
id = "of-far"
targets = [{{ provider = "far", model = "a" }}]
""",
    )
    user = await house.user()
    answer = await house.ask("chat", "of-far", user)
    assert (answer.status, answer.code) == (502, "provider_unreachable")
    assert wire.asked == []
