"""Signing in to providers by tokens, against doubles of the vendors' endpoints: once for a herd, again before the end."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from penstock.core.catalog import TokenSettings, Upstream
from penstock.errors import ProviderCredentials
from penstock.operations.token_sources import AGAIN, TokenSources
from penstock.providers.secrets import Secrets
from penstock.upstream import UpstreamClient
from tests.service.scripted import Asked, Scripted, scripted

NOW = 1_800_000_000.0


class Desk:
    """Who gives tokens, and our side of it."""

    def __init__(self, double: Scripted, client: UpstreamClient) -> None:
        self.double = double
        self.now = NOW
        self.given = 0
        self.seconds = 3600
        self.environ: dict[str, str] = {"CLIENT_SECRET": "s3cret"}
        self.client = client
        self.sources = TokenSources(client, Secrets(self.environ), now=lambda: self.now)
        double.script = self.give

    def give(self, asked: Asked) -> None:
        self.given += 1
        asked.answer(b'{"access_token":"token-%d","expires_in":%d}' % (self.given, self.seconds))

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.double.port}"

    def entra(self) -> Upstream:
        sign_in = TokenSettings(tenant="tenant", client="client", authority=self.origin)
        return Upstream("azure", "custom", (), "entra", "env:CLIENT_SECRET", sign_in=sign_in)


@pytest.fixture
async def desk() -> AsyncGenerator[Desk]:
    client = UpstreamClient()
    async with scripted() as double:
        yield Desk(double, client)
        await client.close()


async def test_a_herd_asks_once_and_the_token_is_kept(desk: Desk) -> None:
    source = desk.sources.of(desk.entra())
    found = await asyncio.gather(*(source.get() for _ in range(100)))
    assert {secret.reveal() for secret in found} == {b"token-1"}
    assert source.current() is found[0]
    assert desk.given == 1
    asked = desk.double.asked[0]
    assert (asked.method, asked.path) == ("POST", "/tenant/oauth2/v2.0/token")
    assert b"client_secret=s3cret" in asked.body
    assert desk.sources.of(desk.entra()) is source
    assert desk.sources.of(replace(desk.entra(), sign_in=TokenSettings(tenant="other"))) is not source


async def test_case_39_the_next_token_is_there_before_the_last_is_over(desk: Desk) -> None:
    source = desk.sources.of(desk.entra())
    await source.get()
    desk.now += 3600 - 301
    assert source.current().reveal() == b"token-1"
    assert source._asking is None
    desk.now += 2
    for _ in range(50):  # all get the last one, and one of them has the next one asked for
        assert source.current().reveal() == b"token-1"
    asking = source._asking
    assert asking is not None
    await asking  # pyright: ignore[reportGeneralTypeIssues] - the calls above have set it
    await asyncio.sleep(0)
    assert source.current().reveal() == b"token-2"
    assert desk.given == 2


async def test_a_failure_keeps_the_last_one_and_is_not_repeated_by_a_herd(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    source = desk.sources.of(desk.entra())
    await source.get()
    desk.double.script = lambda asked: asked.answer(b'{"error":"s3cret is wrong"}', 401)
    desk.now += 3500
    assert source.current().reveal() == b"token-1"
    assert source._asking is not None
    await asyncio.wait((source._asking,))
    await asyncio.sleep(0)
    assert source.current().reveal() == b"token-1"  # good for 100 seconds more
    desk.now += 101
    asked = len(desk.double.asked)
    for _ in range(20):
        with pytest.raises(ProviderCredentials):
            await source.get()
    assert len(desk.double.asked) <= asked + 1
    desk.double.script = desk.give
    desk.now += AGAIN + 1
    assert (await source.get()).reveal() == b"token-2"
    logged = " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "127.0.0.1 answers 401" in logged
    for secret in ("s3cret", "token-1", "token-2"):
        assert secret not in logged


async def test_one_who_gives_up_does_not_end_it_for_the_others(desk: Desk) -> None:
    desk.double.script = None
    source = desk.sources.of(desk.entra())
    waiting = [asyncio.create_task(source.get()) for _ in range(3)]
    asked = await desk.double.next()
    waiting[0].cancel()
    await asyncio.wait((waiting[0],))
    desk.give(asked)
    assert {(await each).reveal() for each in waiting[1:]} == {b"token-1"}


async def test_googles_file_and_metadata(desk: Desk, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "client_email": "a@b",
        "private_key": pem,
        "token_uri": f"{desk.origin}/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    row = Upstream("vertex", "custom", (), "google", sign_in=TokenSettings(account=f"file:{path}"))
    assert (await desk.sources.of(row).get()).reveal() == b"token-1"
    assert b"jwt-bearer" in desk.double.asked[0].body
    desk.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(path)
    assert (
        await desk.sources.of(replace(row, id="adc", sign_in=TokenSettings())).get()
    ).reveal() == b"token-2"
    machine = replace(row, id="machine", sign_in=TokenSettings(authority=f"127.0.0.1:{desk.double.port}"))
    sources = TokenSources(desk.client, Secrets({}), now=lambda: desk.now)
    assert (await sources.of(machine).get()).reveal() == b"token-3"
    assert desk.double.asked[2].headers["metadata-flavor"] == "Google"
    missing = replace(row, id="missing", sign_in=TokenSettings(account=f"file:{tmp_path}/none.json"))
    with pytest.raises(ProviderCredentials):
        await desk.sources.of(missing).get()


async def test_bedrock_by_the_environment_a_container_and_the_machine(desk: Desk) -> None:
    row = Upstream(
        "bedrock", "custom", (), "bedrock", sign_in=TokenSettings(region="us-east-1", authority=desk.origin)
    )

    def found(**environ: str) -> TokenSources:
        return TokenSources(desk.client, Secrets(environ), now=lambda: desk.now)

    made = await found(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b").of(row).get()
    assert made.reveal().startswith(b"bedrock-api-key-")
    assert desk.double.asked == []
    role = b'{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2027-01-15T12:00:00Z"}'
    desk.double.script = lambda asked: asked.answer(role)
    container = found(
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{desk.origin}/creds?x=1", AWS_CONTAINER_AUTHORIZATION_TOKEN="tok"
    )
    assert (await container.of(row).get()).reveal().startswith(b"bedrock-api-key-")
    assert (desk.double.asked[0].path, desk.double.asked[0].headers["authorization"]) == ("/creds?x=1", "tok")

    def metadata(asked: Asked) -> None:
        if asked.path.endswith("/api/token"):
            asked.answer(b"imds-token")
        elif asked.path.endswith("/security-credentials/"):
            asked.answer(b"my-role\n")
        else:
            asked.answer(role)

    desk.double.script = metadata
    assert (await found().of(row).get()).reveal().startswith(b"bedrock-api-key-")
    methods = [(asked.method, asked.path.rpartition("/")[2]) for asked in desk.double.asked[1:]]
    assert methods == [("PUT", "token"), ("GET", ""), ("GET", "my-role")]
    assert desk.double.asked[3].headers["x-aws-ec2-metadata-token"] == "imds-token"
