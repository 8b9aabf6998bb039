"""What is set up on this machine: the secrets that references point to, and model servers on loopback ports.

The environment comes as an argument; ``penstock.settings`` alone reads it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

PROBE_SECONDS = 0.3
_MOST_BYTES = 1 << 20
_MOST_MODELS = 200
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Secret:
    """A credential that does not show itself: neither ``repr`` nor ``str`` nor a format string reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Raises ``ValueError`` where the value cannot be a header's: empty, not ASCII, or with control characters."""
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError("a secret is one line of printable ASCII characters")
        self._value = value.encode()

    def reveal(self) -> bytes:
        """The value itself, for the one header that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


class Secrets:
    """Looks up references: ``env:NAME``, ``file:PATH``, or '' for none. A file is read once, until ``forget``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[str, Secret | str] = {}

    def get(self, reference: str) -> Secret | None:
        """The secret, or None where there is none (or none is needed)."""
        found = self._look(reference)
        return found if isinstance(found, Secret) else None

    def has(self, reference: str) -> bool:
        """Whether a provider with this reference can be used: its secret is there, or it needs none."""
        return not reference or isinstance(self._look(reference), Secret)

    def problem(self, reference: str) -> str | None:
        """Why there is no secret, in words for the operator that never hold it; None if all is well."""
        if not reference:
            return None
        found = self._look(reference)
        return found if isinstance(found, str) else None

    def forget(self) -> None:
        """Read files again at the next use, so that a rotated key is taken up."""
        self._known.clear()

    def _look(self, reference: str) -> Secret | str:
        known = self._known.get(reference)
        if known is None:
            known = self._known[reference] = self._read(reference)
        return known

    def _read(self, reference: str) -> Secret | str:
        kind, _, rest = reference.partition(":")
        try:
            match kind:
                case "env":
                    value = self._environ.get(rest, "").strip()
                    return Secret(value) if value else f"{rest} is not set"
                case "file":
                    return Secret(Path(rest).read_text("utf-8").strip())
                case _:
                    return "the reference is neither env:NAME nor file:PATH"
        except OSError as error:
            return f"{rest} cannot be read: {error.strerror}"
        except ValueError:
            return f"what {kind}: points to is not a usable secret"


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
