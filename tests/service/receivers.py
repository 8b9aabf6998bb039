"""A receiver of webhooks on a loopback socket, over TLS: checks signatures as the standard says, answers as it is told."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme

from tests.service.scripted import PATIENCE

AUTHORITY = trustme.CA()


class Message:
    """A request that came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.first = lines[0]
        self.headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        self.named = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.body = body

    @property
    def id(self) -> str:
        return self.named["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed(self, secret: str) -> bool:
        """As a receiver checks it that has read nothing but the standard."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        text = f"{self.id}.{self.named['webhook-timestamp']}.".encode() + self.body
        wanted = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return f"v1,{wanted}" in self.named["webhook-signature"].split(" ")

    def is_put_by(self, key_id: str, secret: str) -> bool:
        """As S3 checks a link that was made for a put (Signature Version 4, with the body unsigned)."""
        method, target, _ = self.first.split(" ")
        path, _, query = target.partition("?")
        given = dict(each.split("=", 1) for each in query.split("&"))
        signed = "&".join(
            each for each in sorted(query.split("&")) if not each.startswith("X-Amz-Signature=")
        )
        who, day, region, service, end = given["X-Amz-Credential"].split("%2F")
        canonical = f"{method}\n{path}\n{signed}\nhost:{self.headers['host']}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{day}/{region}/{service}/{end}\n{digest}"
        key = f"AWS4{secret}".encode()
        for part in (day, region, service, end, text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return (method, who, service) == ("PUT", key_id, "s3") and key.hex() == given["X-Amz-Signature"]


class Receiver:
    """``answer`` is the status that it gives, or None to say nothing at all."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answer: int | None = 204
        self.location = ""
        self.got: list[Message] = []
        self.connections = 0
        self._more = asyncio.Event()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/hooks/canary-path-77d1?token=canary-query-02ba"

    async def messages(self, count: int) -> list[Message]:
        """So many messages, once they have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.got) < count:
                self._more.clear()
                await self._more.wait()
        return self.got

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            message = Message(head[:-4], b"")
            message.body = await reader.readexactly(int(message.headers["content-length"]))
            self.got.append(message)
            self._more.set()
            if self.answer is None:
                await reader.read()
            else:
                where = f"location: {self.location}\r\n" if self.location else ""
                said = f"HTTP/1.1 {self.answer} X\r\n{where}content-length: 17\r\n\r\ncanary-answer-9e1"
                writer.write((said if self.answer != 204 else "HTTP/1.1 204 X\r\n\r\n").encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncGenerator[Receiver]:
    """A receiver, until the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    receiver = Receiver(port)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def trusting(folder: Path) -> dict[str, Any]:
    """Settings by which a service reaches receivers."""
    file = folder / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(file))
    return {
        "webhook_ca": file,
        "webhook_addresses": ("127.0.0.0/8", "::1"),
    }
