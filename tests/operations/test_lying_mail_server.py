"""Who answers at the mail server's port lies: the mail fails within a bound, and the reason is short and plain."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import pytest

from penstock.operations.mail_sender import LONGEST_REASON, NotSent, Smtp

PATIENCE = 30
"""Seconds after which a test says that something hangs."""


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncGenerator[str]:
    """A server that says one of these first, and one after each line that it gets; it stays silent when none is left."""
    tasks: list[asyncio.StreamWriter] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(writer)
        try:
            for answer in answers:
                writer.write(answer)
                await writer.drain()
                if not await reader.readline():
                    break
            await reader.read()
        except OSError:
            pass

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in tasks:
            writer.transport.abort()


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Hello"
    message.set_content("Hello")
    return message


@pytest.mark.parametrize(
    ("answers", "lasting"),
    [
        ([], False),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], False),
        ([b"\x00\xff" * 30_000], False),
        ([b"220 " + b"x" * 200_000], False),
        ([b"220-more\r\n" * 50_000], False),
        ([b"220-x\r\n" * (1 << 20)], False),
        ([b"220 ok\r\n", b"250 ok\r\n", b"250-x\r\n" * (1 << 20)], False),
        ([b"999 \r\n"], False),
        ([b"220 ok\r\n", b"354 go on\r\n", b"221 bye\r\n", b"334 \r\n"], False),
        ([b"220 ok\r\n", b"250-SIZE \xff\r\n250 SIZE x\r\n", b"-1 no\r\n"], False),
        ([b"220 ok\r\n", b"250 ok\r\n250 too much\r\n", b"\r\n"], False),
        (
            [b"220 ok\r\n", b"250 ok\r\n", b"550 \x1b[2J" + b"no" * 3000 + b"\r\n", *[b"250 ok\r\n"] * 3],
            False,
        ),
    ],
    ids=[
        "silent",
        "http",
        "bytes",
        "a long line",
        "many lines",
        "2^20 lines",
        "2^20 lines later",
        "no code",
        "other codes",
        "odd",
        "too much",
        "a long refusal",
    ],
)
async def test_a_mail_server_that_is_none_fails_its_mail_in_short(
    answers: list[bytes], lasting: bool
) -> None:
    async with asyncio.timeout(PATIENCE), answering(*answers) as url:
        with pytest.raises(NotSent) as caught:
            await Smtp(url, seconds=0.3).send(mail())
    assert caught.value.lasting is lasting
    assert len(str(caught.value)) < LONGEST_REASON + 20
    assert str(caught.value).isprintable()


def steps(at: int, answer: bytes) -> list[bytes]:
    """A server that lets us in and takes mails, with another answer at one step."""
    said = [
        b"220 ok\r\n",
        b"250-x\r\n250 AUTH PLAIN\r\n",
        b"235 in\r\n",
        *[b"250 ok\r\n"] * 2,
        b"354 go on\r\n",
    ]
    return [*said[:at], answer, *[b"250 ok\r\n"] * 3]


@pytest.mark.parametrize(
    ("at", "answer", "lasting", "of_mail"),
    [
        (0, b"554 no service\r\n", False, False),
        (0, b"421 later\r\n", False, False),
        (2, b"535 5.7.8 wrong password\r\n", False, False),
        (2, b"534 5.7.9 another way\r\n", False, False),
        (2, b"454 later\r\n", False, False),
        (3, b"530 5.7.0 sign in first\r\n", False, False),
        (3, b"550 not from you\r\n", False, False),
        (3, b"553 not from you\r\n", False, False),
        (3, b"554 not from you\r\n", False, False),
        (3, b"451 later\r\n", False, False),
        (4, b"450 busy box\r\n", False, True),
        (4, b"450 4.7.1 greylisted\r\n", False, True),
        (4, b"550 5.1.1 no such user\r\n", True, True),
        (4, b"553 no such user\r\n", True, True),
        (4, b"530 sign in first\r\n", False, False),
        (4, b"554 5.7.1 Relay access denied\r\n", False, False),
        (4, b"421 closing\r\n", False, False),
        (5, b"554 no\r\n", True, True),
        (5, b"451 full\r\n", False, False),
    ],
    ids=lambda value: value.decode().strip() if isinstance(value, bytes) else str(value),
)
async def test_only_a_refusal_of_this_mail_ends_it_and_says_nothing_of_others(
    at: int, answer: bytes, lasting: bool, of_mail: bool
) -> None:
    async with asyncio.timeout(PATIENCE), answering(*steps(at, answer)) as url:
        with pytest.raises(NotSent) as caught:
            await Smtp(url.replace("smtp://", "smtp://us:secret@"), seconds=2).send(mail())
    assert str(caught.value).startswith(answer[:3].decode())
    assert (caught.value.lasting, caught.value.of_mail) == (lasting, of_mail)


@pytest.mark.parametrize("after", [1, 4, 6], ids=["the greeting", "DATA", "the mail"])
async def test_a_mail_server_that_closes_or_drips_fails_its_mail(after: int) -> None:
    said = [b"220 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n", b"250 taken\r\n"]

    serving: list[asyncio.Task[None] | None] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        writer.write(said[0])
        for answer in said[1:after]:
            line = await reader.readline()
            if answer == said[-1]:
                while line not in (b".\r\n", b""):
                    line = await reader.readline()
                break
            writer.write(answer)
        writer.transport.abort()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        while not writer.is_closing():
            writer.write(b"2")
            await asyncio.sleep(0.05)

    for serve in (meet, drip):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(NotSent) as caught:
                await Smtp(url, seconds=0.3).send(mail())
        assert not caught.value.lasting, "it is tried again"
        server.close()
        await asyncio.gather(*(task for task in serving if task is not None), return_exceptions=True)
