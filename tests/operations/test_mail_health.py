"""A dead mail server is known before anybody waits for a mail: to doctor, readiness and metrics, and by a command."""

import secrets
import socket
from pathlib import Path

import pytest

from penstock.domain.mail import outbox
from penstock.domain.notifications import deliveries
from penstock.operations.doctor import examine_installation
from penstock.operations.first_start import open_store
from penstock.operations.health import Health
from penstock.operations.mail_sender import Files, MailSender, NotSent, Smtp
from penstock.settings import load
from tests.commands.conftest import Call, call, data
from tests.operations.test_lying_mail_server import answering, steps

__all__ = ["call", "data"]

GOOD = (b"220 ready\r\n", b"250 hello\r\n", b"250 nothing\r\n", b"221 bye\r\n")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def test_a_server_that_answers_is_well_and_gets_no_mail() -> None:
    async with answering(*GOOD) as url:
        await Smtp(url, seconds=5).look()


@pytest.mark.parametrize(
    "answers", [[b"554 go away\r\n"], [b"220 ok\r\n", b"500 no\r\n", b"500 no\r\n"], [b"HTTP/1.1 400\r\n"]]
)
async def test_a_server_that_does_not_take_us_is_said(answers: list[bytes]) -> None:
    async with answering(*answers) as url:
        with pytest.raises(NotSent):
            await Smtp(url, seconds=2).look()


async def test_the_sender_knows_and_forgets_it(tmp_path: Path) -> None:
    settings = load({"PENSTOCK_DATA": str(tmp_path)}).settings
    port = closed_port()
    async with open_store(settings) as store:
        sender = MailSender(
            store.database,
            store.secrets_file,
            Smtp(f"smtp://127.0.0.1:{port}", seconds=2),
            "a@b.c",
            lambda: 1.0,
        )
        health = Health({}, owed=lambda: 0)
        health.watch("mail", lambda: sender.trouble)
        assert health.look()[0].works
        await sender._look()
        assert f"127.0.0.1:{port}" in (sender.trouble or "")
        (part,) = health.look()
        assert (part.name, part.works, part.failures) == ("mail", False, 1)
        async with answering(*GOOD) as url:
            sender._route = Smtp(url, seconds=5)
            await sender._look()
            assert sender.trouble is not None, "it is not looked at more often than it is to be"
            sender._looked -= 1000
            await sender._look()
        assert health.look()[0].works


@pytest.mark.parametrize(
    ("at", "answer", "troubled", "left"),
    [
        (0, b"554 no service\r\n", True, 1),
        (2, b"535 wrong password\r\n", True, 1),
        (3, b"553 not from you\r\n", True, 1),
        (4, b"450 busy box\r\n", False, 1),
        (4, b"550 no such user\r\n", False, 0),
        (5, b"554 no\r\n", False, 0),
    ],
)
async def test_what_is_about_us_is_trouble_and_what_is_about_a_mail_is_not(
    tmp_path: Path, at: int, answer: bytes, troubled: bool, left: int
) -> None:
    settings = load({"PENSTOCK_DATA": str(tmp_path)}).settings
    async with open_store(settings) as store, answering(*steps(at, answer)) as url:
        route = Smtp(url.replace("smtp://", "smtp://us:secret@"), seconds=2)
        sender = MailSender(store.database, store.secrets_file, route, "a@b.example", lambda: 1.0)
        async with store.database.transaction() as conn:
            mail = outbox.Mail("test", "ann@example.com", "A subject", ("First.",))
            await outbox.queue(conn, store.secrets_file, mail, now=1, entropy=secrets.token_bytes)
        assert await sender.send_due() == 0
        assert (sender.trouble is not None) is troubled
        async with store.database.connect() as conn:
            assert (await deliveries.backlog(conn, now=1)).mails == left


@pytest.mark.parametrize(
    ("at", "answer", "stays"),
    [
        (0, b"554 no service\r\n", False),
        (2, b"535 wrong password\r\n", False),
        (3, b"553 not from you\r\n", True),
        (4, b"554 5.7.1 Relay access denied\r\n", True),
        (5, b"451 full\r\n", True),
    ],
)
async def test_trouble_that_only_a_mail_shows_is_over_with_a_mail(
    tmp_path: Path, at: int, answer: bytes, stays: bool
) -> None:
    """Otherwise staff would be told every few minutes that it is over, and again that it is there."""
    settings = load({"PENSTOCK_DATA": str(tmp_path)}).settings
    clock = [1.0]
    async with (
        open_store(settings) as store,
        answering(*steps(at, answer)) as refusing,
        answering(*GOOD) as looked_at,
    ):
        route = Smtp(refusing.replace("smtp://", "smtp://us:secret@"), seconds=2)
        sender = MailSender(store.database, store.secrets_file, route, "a@b.example", lambda: clock[0])
        async with store.database.transaction() as conn:
            mail = outbox.Mail("test", "ann@example.com", "A subject", ("First.",))
            await outbox.queue(conn, store.secrets_file, mail, now=1, entropy=secrets.token_bytes)
        assert await sender.send_due() == 0
        sender._route = Smtp(looked_at, seconds=2)
        await sender._look()
        assert (sender.trouble is not None) is stays
        clock[0] += 60
        sender._route = Files(tmp_path / "mails")
        assert await sender.send_due() == 1
        assert sender.trouble is None


async def test_the_doctor_connects(tmp_path: Path) -> None:
    environ = {"PENSTOCK_DATA": str(tmp_path), "PENSTOCK_MAIL_URL": f"smtp://127.0.0.1:{closed_port()}"}
    report = await examine_installation(environ, None, {})
    (finding,) = [each for each in report.findings if each.subject == "mail"]
    assert (finding.level, "penstock mail test" in finding.mend) == ("fail", True)
    async with answering(*GOOD) as url:
        report = await examine_installation(environ | {"PENSTOCK_MAIL_URL": url}, None, {})
    assert [each.level for each in report.findings if each.subject == "mail"] == ["ok"]
    public = {"PENSTOCK_DATA": str(tmp_path), "PENSTOCK_PUBLIC_URL": "https://llm.example.com"}
    report = await examine_installation(public, None, {})
    assert [each.level for each in report.findings if each.subject == "mail"] == ["warn"]


def test_a_test_mail_is_sent_or_it_is_said_why(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_MAIL_URL", f"file:{tmp_path}/mails")
    assert call("mail", "test", "--to=ann@example.com").out == "The mail to ann@example.com was taken.\n"
    (mail,) = (tmp_path / "mails").glob("*.eml")
    assert b"To: ann@example.com" in mail.read_bytes()
    assert call("mail", "test", "--to=ann@example.com", "--json").json == {
        "to": "ann@example.com",
        "sent": True,
    }
    monkeypatch.setenv("PENSTOCK_MAIL_URL", f"smtp://127.0.0.1:{closed_port()}")
    failed = call("mail", "test", "--to=ann@example.com")
    assert (failed.code, "the mail was not taken" in failed.err) == (1, True)
    assert call("mail", "test", "--to=not an address").code == 1
