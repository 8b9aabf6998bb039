"""Doubles of vendors' lists of models, on loopback ports: each path has an answer, and what was asked is kept."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import msgspec

Answer = tuple[int, bytes]


class ModelServer:
    """A vendor that has a list; ``asked`` holds each request's path and its headers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.asked: list[tuple[str, str]] = []


def listing(*ids: str, **more: object) -> bytes:
    """OpenAI's list of these models."""
    return msgspec.json.encode(
        {"object": "list", "data": [{"id": id, "object": "model"} for id in ids], **more}
    )


@asynccontextmanager
async def model_server(answers: Mapping[str, Answer] | None, *, key: str = "") -> AsyncGenerator[ModelServer]:
    """Serve ``answers`` by path with its query; another path is a 404. None: it takes connections and says nothing.

    With ``key`` every request without it is a 401.
    """
    server_of: list[ModelServer] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            server_of[0].asked.append((path, head))
            if answers is None:
                await reader.read()
                return
            status, body = answers.get(path, (404, b"{}"))
            if key and key not in head:
                status, body = 401, b'{"error": {"message": "Incorrect API key provided"}}'
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(body), body)
            )
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        server_of.append(ModelServer(server.sockets[0].getsockname()[1]))
        yield server_of[0]
