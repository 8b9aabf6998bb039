"""What only the operator can mend reaches the operator in the provider's words, by log and mail, and a caller never."""

import json
import logging
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from penstock.domain.accounts.accounts import create_user
from penstock.relay.upstream_errors import for_operator
from tests.service.conversations import PATHS, body_of
from tests.service.running_service import House

TEXT = "Your credit balance is too low to access the API"
REFUSED = json.dumps({"error": {"type": "authentication_error", "message": TEXT}}).encode()


async def with_operators(house: House, mails: Path, *emails: str) -> None:
    async with house.store.database.transaction() as conn:
        for number, email in enumerate(emails):
            await create_user(
                conn, email, plan="lab", admin=True, verified=True, now=1, id=f"usr_operator{number}"
            )
    await house.restart(mail_url=f"file:{mails}")


async def read(house: House, mails: Path) -> list[dict[str, str]]:
    """All mails that were sent, in their order."""
    service = house.service
    assert service is not None
    assert service.provider_refusals is not None
    assert service.site_process is not None
    await service.provider_refusals.tell_due()
    await service.site_process.mail_sender.send_due()
    return [told(path.read_bytes()) for path in sorted(mails.glob("*.eml"))]  # noqa: ASYNC240 - a few small files


def told(mail: bytes) -> dict[str, str]:
    found = message_from_bytes(mail, policy=policy.default)
    text = found.get_body(("plain",))
    assert text is not None
    return {
        "to": str(found["to"]),
        "subject": str(found["subject"]),
        "text": " ".join(text.get_content().split()),
    }


async def test_every_operator_gets_one_mail_with_the_providers_status_and_text(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await with_operators(house, tmp_path / "mails", "ann@example.com", "bob@example.com")
    user, wire = await house.user(), house.wires["wire-chat"]
    wire.script = lambda asked: asked.answer(REFUSED, 401)
    with caplog.at_level(logging.WARNING, "penstock.relay"):
        for _ in range(3):
            told = await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "wire-chat"))
            assert told.status == 502
            assert TEXT not in told.body.decode()
    records: list[Any] = [each for each in caplog.records if each.message == "provider failed"]
    assert {(each.status, each.error) for each in records} == {(401, TEXT)}
    mails = await read(house, tmp_path / "mails")
    assert sorted(mail["to"] for mail in mails) == ["ann@example.com", "bob@example.com"]
    assert "wire-chat refuses requests" in mails[0]["subject"]
    assert f"It answered 401: {TEXT}" in mails[0]["text"]

    # another cause has a mail of its own; the same cause has none within the hour, whichever server sees it
    wire.script = lambda asked: asked.answer(
        b'{"error": {"message": "no such model", "code": "model_not_found"}}', 404
    )
    house.clock.now += 60
    await house.restart()
    await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "wire-chat"))
    mails = await read(house, tmp_path / "mails")
    assert "does not have a model" in mails[-1]["text"]
    wire.script = lambda asked: asked.answer(REFUSED, 401)
    await house.restart()
    await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "wire-chat"))
    house.clock.now += 3600
    await house.restart()
    await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "wire-chat"))
    assert len(await read(house, tmp_path / "mails")) == 6


async def test_a_failure_that_passes_by_itself_is_no_mail(house: House, tmp_path: Path) -> None:
    await with_operators(house, tmp_path / "mails", "ann@example.com")
    user, wire = await house.user(), house.wires["wire-chat"]
    for status in (500, 503, 529):
        wire.script = lambda asked, status=status: asked.answer(b"{}", status)
        await house.http("POST", PATHS["chat"], user.key, body=body_of("chat", "wire-chat"))
    assert await read(house, tmp_path / "mails") == []


@pytest.mark.parametrize(
    ("said", "asked", "kept"),
    [
        ("Incorrect API key", b'{"model": "m"}', "Incorrect API key"),
        ("  two\n lines\t", b"", "two lines"),
        ("invalid: my secret plan here", b'{"content": "tell my secret plan to"}', "invalid:(...)here"),
        ("x" * 400, b"", "x" * 300),
        ("short in it", b"short", "short in it"),
        ("anything", b"x" * (256 * 1024 + 1), ""),
        ("", b"", ""),
        ("das Gedächtnis ist voll", "Gedächtnis".encode(), "das (...) ist voll"),
    ],
)
def test_what_the_caller_wrote_is_not_told_to_the_operator(said: str, asked: bytes, kept: str) -> None:
    assert for_operator(said, asked) == kept
