"""Somebody with a browser: follows the forms of the pages, and reads the mails."""

import asyncio
import email
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from penstock.domain.accounts.passwords import PasswordHasher
from penstock.domain.accounts.sessions import form_token
from tests.service.running_service import House, open_house

PASSWORD = "a long enough sentence"
COOKIE = "penstock"
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No TLS is spoken here. A client that is given no context reads all authorities of the world, which takes longer than a
page."""


class OpenedMail(NamedTuple):
    """A mail, whom it is to, and what it says where it has a plain text."""

    mail: EmailMessage
    recipient: str
    text: str | None


class Mailbox:
    """The mails that the service has written to files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: dict[bytes, OpenedMail] = {}
        """What was read before, by its bytes: to take a mail apart takes longer than to send it."""

    def all(self) -> list[EmailMessage]:
        """Every mail, the oldest first."""
        return [opened.mail for opened in self._all()]

    def texts(self, recipient: str) -> list[str]:
        """The text of every mail to this address."""
        return [
            opened.text for opened in self._all() if opened.recipient == recipient and opened.text is not None
        ]

    def _all(self) -> list[OpenedMail]:
        files = sorted(self._directory.glob("*.eml")) if self._directory.exists() else []
        return [self._open(file.read_bytes()) for file in files]

    def _open(self, data: bytes) -> OpenedMail:
        if data not in self._opened:
            mail = email.message_from_bytes(data, policy=default)
            body = mail.get_body(("plain",))
            self._opened[data] = OpenedMail(
                mail, str(mail["to"]), None if body is None else str(body.get_content())
            )
        return self._opened[data]

    def code(self, recipient: str) -> str:
        """The newest code that was sent to this address."""
        for text in reversed(self.texts(recipient)):
            if found := re.search(r"^\d{6}$", text, re.MULTILINE):
                return found[0]
        raise AssertionError(f"no code was sent to {recipient}")


class Hotel:
    """A house with pages, and its mails."""

    def __init__(self, house: House, mailbox: Mailbox) -> None:
        self.house = house
        self.mailbox = mailbox
        self.readers: list[Reader] = []

    @property
    def origin(self) -> str:
        assert self.house.listener is not None
        return f"http://127.0.0.1:{self.house.listener.port}"

    @property
    def hasher(self) -> PasswordHasher:
        """Counts the work that passwords cost."""
        assert self.house.service is not None
        assert self.house.service.site_process is not None
        return self.house.service.site_process.hasher

    async def posted(self) -> None:
        """All mails that are due are sent."""
        assert self.house.service is not None
        assert self.house.service.site_process is not None
        await self.house.service.site_process.mail_sender.send_due()

    async def cut_off(self, head: str) -> None:
        """Send a head and a part of its body, and leave; somebody else is served afterwards."""
        host, _, port = self.origin.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}host: {host}:{port}\r\ncontent-length: 1000\r\n\r\nemail=".encode())
        await asyncio.sleep(0.2)  # until the page waits for the rest: who leaves before that has not begun
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        for _ in range(3):
            assert (await self.reader().get("/")).status_code == 200

    def reader(self, network: str = "") -> "Reader":
        """Somebody else; ``network`` is the address they seem to come from."""
        made = Reader(self, network)
        self.readers.append(made)
        return made


class Reader:
    """A browser with its cookies."""

    def __init__(self, hotel: Hotel, network: str) -> None:
        self.hotel = hotel
        headers = {"x-forwarded-for": network} if network else {}
        self.http = httpx2.AsyncClient(
            base_url=hotel.origin,
            headers=headers,
            verify=PLAIN,
            trust_env=False,
            follow_redirects=False,
            timeout=120,
        )

    @property
    def token(self) -> str:
        """What the cookie holds."""
        return self.http.cookies.get(COOKIE) or ""

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.http.get(path, **more)

    async def post(
        self, path: str, headers: dict[str, str] | None = None, /, **fields: str
    ) -> httpx2.Response:
        """Send a form as a page of ours would."""
        if not self.token:
            await self.get("/signin")
        given = {"form_token": form_token(self.token), **fields}
        return await self.http.post(
            path, data=given, headers={"sec-fetch-site": "same-origin", **(headers or {})}
        )

    async def sign_up(self, address: str, password: str = PASSWORD) -> None:
        """Sign up, as far as the code."""
        answer = await self.post("/signup", email=address, password=password)
        assert (answer.status_code, answer.headers["location"]) == (303, "/verify"), answer.text
        await self.hotel.posted()

    async def join(self, address: str, password: str = PASSWORD) -> "Reader":
        """Sign up, and enter the code."""
        await self.sign_up(address, password)
        answer = await self.post("/verify", code=self.hotel.mailbox.code(address))
        assert (answer.status_code, answer.headers["location"]) == (303, "/welcome"), answer.text
        return self

    async def sign_in(self, address: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.post("/signin", email=address, password=password)

    async def key(self) -> str:
        """The key that the welcome page shows."""
        found = re.search(r"sk-ps-\w{49}", (await self.get("/welcome")).text)
        assert found is not None
        return found[0]

    async def is_in(self) -> bool:
        """Whether a page of the account is shown."""
        return (await self.get("/settings")).status_code == 200


@asynccontextmanager
async def open_hotel(folder: Path, **changes: Any) -> AsyncGenerator[Hotel]:
    """A house with its mails in files, and no time lost on answers."""
    mails = folder / "mails"
    given = {
        "mail_url": f"file:{mails}",
        "answer_floor": 0.0,
        "cache_seconds": 0.0,
        "trusted_proxies": ("127.0.0.1",),
        **changes,
    }
    async with open_house(folder / "data", **given) as house:
        hotel = Hotel(house, Mailbox(mails))
        try:
            yield hotel
        finally:
            for reader in hotel.readers:
                await reader.http.aclose()
