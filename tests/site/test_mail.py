"""Mails on their way: over real SMTP, tried again while it fails, given up when it is of no use, and never kept after."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select, update

from penstock.domain.mail.outbox import TRIES, Mail, queue
from penstock.operations.mail_sender import (
    SMTP_ANSWERS,
    SMTP_SECONDS,
    Console,
    Files,
    MailSender,
    MailUrlError,
    Smtp,
    compose_message,
    mail_transport,
)
from penstock.store.sql.schema import outbox
from tests.site.page_reader import PASSWORD, Hotel, open_hotel

ANN = "ann@example.com"


class Server:
    """An SMTP server's own mind: what it answers next, and what it was given."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.taken: list[Envelope] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        answer = self.answers.pop(0) if self.answers else "250 taken"
        if answer.startswith("250"):
            self.taken.append(envelope)
        return answer


@asynccontextmanager
async def smtp_hotel(tmp_path: Path) -> AsyncGenerator[tuple[Hotel, Server]]:
    mind = Server()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SMTP(mind, loop=loop), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with open_hotel(
            tmp_path, mail_url=f"smtp://127.0.0.1:{port}", brand="Acme", mail_from=""
        ) as hotel:
            yield hotel, mind
    finally:
        listening.close()
        await listening.wait_closed()


async def rows(hotel: Hotel) -> list[Any]:
    async with hotel.house.store.database.connect() as conn:
        return list(await conn.execute(select(outbox).order_by(outbox.c.created_at)))


async def begin(hotel: Hotel) -> None:
    """Somebody signs up; the answer does not wait for the mail."""
    answer = await hotel.reader().post("/signup", email=ANN, password=PASSWORD)
    assert answer.status_code == 303


async def test_a_mail_goes_out_over_smtp_and_is_not_kept(tmp_path: Path) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        await begin(hotel)
        await hotel.posted()
        (envelope,) = server.taken
        assert envelope.rcpt_tos == [ANN]
        text = envelope.content.decode() if isinstance(envelope.content, bytes) else str(envelope.content)
        assert "From: Acme <no-reply@localhost>" in text
        (row,) = await rows(hotel)
        assert (row.sealed, row.due_at, row.error) == (None, None, None)
        assert row.sent_at is not None


async def test_what_is_not_taken_is_tried_again_later(tmp_path: Path) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        server.answers = ["451 busy"] * 3
        await begin(hotel)
        await hotel.posted()
        assert server.taken == []
        (row,) = await rows(hotel)
        assert row.error.startswith("451")
        for _ in range(3):
            hotel.house.clock.now += 30 * 2**4
            await hotel.posted()
        assert len(server.taken) == 1, "once, however often it was tried"
        await hotel.posted()
        assert len(server.taken) == 1


async def test_what_will_never_be_taken_is_given_up(tmp_path: Path) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        server.answers = ["550 no such user"]
        await begin(hotel)
        await hotel.posted()
        (row,) = await rows(hotel)
        assert (row.sealed, row.due_at, row.sent_at) == (None, None, None)
        assert row.error.startswith("550")
        hotel.house.clock.now += 1_000_000
        await hotel.posted()
        assert server.taken == []


def of_another_ring(sealed: bytes) -> bytes:
    """As after an older secrets file was put back."""
    return sealed[:1] + b"00000000" + sealed[9:]


def changed(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def cut(sealed: bytes) -> bytes:
    return sealed[:12]


@pytest.mark.parametrize("spoil", [of_another_ring, changed, cut])
async def test_a_mail_that_does_not_open_holds_up_none_behind_it(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        database = hotel.house.store.database
        server.answers = ["451 busy"]
        await begin(hotel)
        await hotel.posted()
        (row,) = await rows(hotel)
        async with database.transaction() as conn:
            await conn.execute(update(outbox).values(sealed=spoil(row.sealed)))
        hotel.house.clock.now += 600
        await hotel.reader().post("/signup", email="bob@example.com", password=PASSWORD)
        await hotel.posted()
        assert [envelope.rcpt_tos for envelope in server.taken] == [["bob@example.com"]]
        (spoilt,) = [each for each in await rows(hotel) if each.id == row.id]
        assert spoilt.error.startswith("cannot be opened: ")
        async with database.transaction() as conn:
            await conn.execute(update(outbox).where(outbox.c.id == row.id).values(sealed=row.sealed))
        hotel.house.clock.now += 600
        await hotel.posted()
        assert server.taken[1].rcpt_tos == [ANN], "it opens again, and is sent"


async def test_a_mail_that_never_opens_is_given_up(tmp_path: Path) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        server.answers = ["451 busy"]
        await begin(hotel)
        await hotel.posted()
        async with hotel.house.store.database.transaction() as conn:
            await conn.execute(update(outbox).values(sealed=b"\x01" + b"00000000" * 8))
        for _ in range(TRIES):
            hotel.house.clock.now += 30 * 2**TRIES
            await hotel.posted()
        (row,) = await rows(hotel)
        assert (row.sealed, row.due_at, row.sent_at, row.tries) == (None, None, None, TRIES)
        assert server.taken == []


async def test_a_server_that_is_away_is_asked_so_often_and_no_more(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, mail_url="smtp://127.0.0.1:1") as hotel:
        await begin(hotel)
        for _ in range(TRIES + 2):
            await hotel.posted()
            hotel.house.clock.now += 30 * 2**TRIES
        (row,) = await rows(hotel)
        assert (row.tries, row.due_at, row.sealed) == (TRIES, None, None)


@pytest.mark.parametrize("seconds", [2, 20])
async def test_of_two_servers_one_sends_a_mail_however_long_those_before_it_take(
    tmp_path: Path, seconds: float
) -> None:
    async with smtp_hotel(tmp_path) as (hotel, server):
        store, clock = hotel.house.store, hotel.house.clock
        people = [f"ann{number}@example.com" for number in range(25)]
        async with store.database.transaction() as conn:
            for recipient in people:
                mail = Mail("test", recipient, "A subject", ("First.",))
                await queue(
                    conn, store.secrets_file, mail, now=int(clock.now * 1000), entropy=secrets.token_bytes
                )
        sent: list[str] = []

        class Slow:
            async def send(self, message: EmailMessage) -> None:
                await asyncio.sleep(0)
                clock.now += seconds
                sent.append(str(message["To"]))

        senders = [
            MailSender(store.database, store.secrets_file, Slow(), "a@b.example", clock) for _ in range(2)
        ]

        async def send(sender: MailSender) -> None:
            while len(sent) + len(server.taken) < len(people):
                await sender.send_due()

        await asyncio.gather(*(send(sender) for sender in senders))
        clock.now += 3600
        await asyncio.gather(*(sender.send_due() for sender in senders))
        sent += [recipient for envelope in server.taken for recipient in envelope.rcpt_tos]
        assert sorted(sent) == sorted(people)


async def test_no_other_server_takes_a_mail_for_as_long_as_a_mail_server_may_take(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, mail_url="smtp://127.0.0.1:1") as hotel:
        store, clock = hotel.house.store, hotel.house.clock
        sent: list[str] = []

        class Slow:
            async def send(self, message: EmailMessage) -> None:
                sent.append(str(message["To"]))
                if len(sent) == 1:
                    clock.now += SMTP_ANSWERS * SMTP_SECONDS
                    await other.send_due()

        one, other = (
            MailSender(store.database, store.secrets_file, Slow(), "a@b.example", clock) for _ in range(2)
        )
        mail = Mail("test", ANN, "A subject", ("First.",))
        async with store.database.transaction() as conn:
            await queue(
                conn, store.secrets_file, mail, now=int(clock.now * 1000), entropy=secrets.token_bytes
            )
        await one.send_due()
        assert sent == [ANN]


async def test_a_mail_server_may_be_away_for_half_a_working_day(tmp_path: Path) -> None:
    async with open_hotel(tmp_path, mail_url="smtp://127.0.0.1:1") as hotel:
        await begin(hotel)
        begun = hotel.house.clock.now
        await hotel.posted()
        while (due_at := (await rows(hotel))[0].due_at) is not None:
            hotel.house.clock.now = max(due_at / 1000, hotel.house.clock.now)
            await hotel.posted()
        assert 3.5 <= (hotel.house.clock.now - begun) / 3600 <= 5, "about four hours, as the documents say"


async def test_a_password_is_not_sent_without_tls_to_another_machine() -> None:
    assert Smtp("smtp://user:secret@mail.example.com:587")._start_tls is True
    assert Smtp("smtp://user:secret@127.0.0.1:587")._start_tls is None
    assert Smtp("smtp://mail.example.com")._start_tls is None
    assert Smtp("smtps://user:secret@mail.example.com")._tls is True


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "start_tls"),
    [
        ("smtp://mail.example.com", "mail.example.com", 587, False, None),
        ("smtp://mail.example.com:465", "mail.example.com", 465, True, None),
        ("smtps://mail.example.com", "mail.example.com", 465, True, None),
        ("smtp+ssl://mail.example.com:2465/", "mail.example.com", 2465, True, None),
        ("smtp+starttls://mail.example.com:25", "mail.example.com", 25, False, True),
        ("smtp://a%40b:p%2F%23@[fd00::1]:25", "fd00::1", 25, False, True),
        ("smtp://a@b.example:p:q@mail.example.com", "mail.example.com", 587, False, True),
    ],
)
def test_addresses_of_mail_servers(url: str, host: str, port: int, tls: bool, start_tls: bool | None) -> None:
    made = Smtp(url)
    assert (made._host, made._port, made._tls, made._start_tls) == (host, port, tls, start_tls)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("smtp://user:tiger@mail.example.com:smtp", "see its port"),
        ("smtp://user:ti#ger@mail.example.com", "a # in it"),
        ("smtp://user:1?tiger@mail.example.com", "an @ behind its host"),
        ("smtp://user:tiger@mail.example.com?encryption=tls", "not known: encryption"),
        ("smtp://user:tiger@mail.example.com/inbox", "nothing behind"),
        ("smtp://:tiger@mail.example.com", "without a user"),
    ],
)
def test_an_address_of_a_mail_server_that_cannot_be_used_is_told_without_its_password(
    url: str, says: str
) -> None:
    with pytest.raises(MailUrlError, match=says) as refused:
        mail_transport(url)
    assert "ger" not in str(refused.value)


async def test_a_mail_in_the_database_cannot_be_read(hotel: Hotel) -> None:
    reader = hotel.reader()
    await reader.post("/signup", email=ANN, password=PASSWORD)
    await hotel.posted()
    code = hotel.mailbox.code(ANN)
    data = b"".join(file.read_bytes() for file in hotel.house.settings.data.glob("penstock.db*"))
    assert code.encode() not in data
    assert PASSWORD.encode() not in data
    assert reader.token.encode() not in data


async def test_the_console_and_the_routes(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = compose_message(
        Mail("test", ANN, "A subject", ("First.", "Last."), "123456"), "Acme <a@b.example>", "eml_1", 0.0
    )
    await Console().send(message)
    assert "123456" in capfd.readouterr().out
    assert isinstance(mail_transport("console:"), Console)
    assert isinstance(mail_transport(f"file:{tmp_path}"), Files)
    assert isinstance(mail_transport("smtps://user:p%40ss@mail.example.com"), Smtp)
