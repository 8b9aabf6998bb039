"""Local model servers, on loopback ports of this machine: each is found by asking it for its models."""

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

PROBE_SECONDS = 0.3
_MOST_BYTES = 1 << 20
_MOST_MODELS = 200
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Found(msgspec.Struct, frozen=True):
    """A model server that answered: the provider's id and the models it lists."""

    provider: str
    models: tuple[str, ...]


class _Listed(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Listed]


async def find_local(servers: Iterable[tuple[str, str]], seconds: float = PROBE_SECONDS) -> tuple[Found, ...]:
    """Ask each of ``servers`` (provider id, base URL) for its models, all at once, and wait ``seconds`` at most.

    Only loopback addresses are asked. One that does not answer, or not with a model list, is not found; that is no error.
    """
    asked = [(provider, url) for provider, url in servers if urlsplit(url).hostname in _LOOPBACK]
    lists = await asyncio.gather(*(_models(url, seconds) for _, url in asked))
    return tuple(
        Found(provider, models) for (provider, _), models in zip(asked, lists, strict=True) if models
    )


async def _models(url: str, seconds: float) -> tuple[str, ...]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    # HTTP/1.0 keeps the answer free of chunks, and ends it with the connection.
    request = f"GET {parts.path}/models HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=_MOST_BYTES)
            try:
                writer.write(request.encode())
                answer = await _all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
        return ()
    try:
        listed = msgspec.json.decode(body, type=_List).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
    # An embedding model is in the list too, and cannot chat.
    names = [entry.id for entry in listed if entry.id and "embed" not in entry.id.lower()]
    return tuple(dict.fromkeys(names))[:_MOST_MODELS]


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end or to the bound."""
    pieces: list[bytes] = []
    size = 0
    while size < _MOST_BYTES and (piece := await reader.read(65536)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
