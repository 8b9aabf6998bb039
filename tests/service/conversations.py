"""The caller's side: requests as bytes on a socket, answers taken apart, and the bodies that most tests send."""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from tests.service.scripted import PATIENCE

Dialect = Literal["chat", "messages"]
DIALECTS: tuple[Dialect, ...] = ("chat", "messages")
PATHS: dict[str, str] = {
    "chat": "/api/v1/chat/completions",
    "messages": "/api/v1/messages",
    "responses": "/api/v1/responses",
    "embeddings": "/api/v1/embeddings",
    "completions": "/api/v1/completions",
    "images": "/api/v1/images/generations",
    "transcriptions": "/api/v1/audio/transcriptions",
    "speech": "/api/v1/audio/speech",
    "rerank": "/api/v1/rerank",
    "moderations": "/api/v1/moderations",
}


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream."""

    event: str
    data: bytes

    @property
    def json(self) -> Any:
        """Its data, decoded."""
        return msgspec.json.decode(self.data)


class Answer(msgspec.Struct):
    """A response. ``whole`` is False where the connection ended before the body did."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = True

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def frames(self) -> list[Frame]:
        """The events of a stream, without comments."""
        return frames_of(self.body)

    @property
    def comments(self) -> int:
        """How many comments a stream had."""
        return sum(line.startswith(b":") for line in self.body.split(b"\n"))

    @property
    def error(self) -> str:
        """The text of an error body of either form."""
        error = self.json["error"]
        return error if isinstance(error, str) else error["message"]

    @property
    def code(self) -> str:
        """The code of an error body of either form."""
        error = self.json["error"]
        return self.json["code"] if isinstance(error, str) else error["code"]


def frames_of(stream: bytes) -> list[Frame]:
    """The events of a stream that ends between two of them."""
    found: list[Frame] = []
    assert not stream or stream.endswith(b"\n\n"), "the stream ends in the middle of a frame"
    for block in stream.split(b"\n\n"):
        event, data = "", []
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"event":
                event = value.strip().decode()
            elif name == b"data":
                data.append(value.removeprefix(b" "))
        if data:
            found.append(Frame(event, b"\n".join(data)))
    return found


def _unchecked(_answer: Answer) -> None:
    """An answer about another day."""


class Caller:
    """A raw connection to the service. Every head that comes goes through ``check``."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, check: Callable[[Answer], None]
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._check = check
        self._chunked = False
        self._left = 0

    async def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        """The next response as far as its head."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines), "a response header was sent twice"
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._left = int(headers.get("content-length", 0))
        answer = Answer(int(first.split(" ")[1]), headers)
        self._check(answer)
        return answer

    async def more(self) -> bytes:
        """The next piece of the body; empty at its clean end. Raises ``IncompleteReadError`` where it breaks off."""
        async with asyncio.timeout(PATIENCE):
            if not self._chunked:
                self._left, left = 0, self._left
                return await self.reader.readexactly(left)
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def until(self, mark: bytes) -> bytes:
        """The body as far as the piece that completes ``mark``."""
        read = b""
        while mark not in read:
            piece = await self.more()
            assert piece, f"the body ended without {mark!r}: {read!r}"
            read += piece
        return read

    async def rest(self, answer: Answer) -> Answer:
        """``answer`` with all of its body that is still to come."""
        pieces = [answer.body]
        try:
            while piece := await self.more():
                pieces.append(piece)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            answer.whole = False
        answer.body = b"".join(pieces)
        return answer

    async def answer(self, *, bodiless: bool = False, checked: bool = True) -> Answer:
        """The next response; ``checked`` False: to a request of another day than it is now."""
        if not checked:
            self._check = _unchecked
        head = await self.head()
        return head if bodiless else await self.rest(head)

    @property
    def port(self) -> int:
        """Its own."""
        port: int = self.writer.get_extra_info("sockname")[1]
        return port

    @property
    def has_left(self) -> bool:
        """Whether it has gone away."""
        return self.writer.is_closing()

    def leave(self) -> None:
        """Go away."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Go away by a reset."""
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def check_api_head(answer: Answer, now: float) -> None:
    """What every answer of the data plane has: an id, and the caller's limits in notations that agree."""
    headers = answer.headers
    assert re.fullmatch(r"req_[0-9a-f]{24}", headers["x-request-id"])
    limit, left, reset = (int(headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    assert 0 <= left <= limit
    policy = re.fullmatch(r'"(\w+)";q=(\d+);w=(\d+)', headers["ratelimit-policy"])
    assert policy is not None
    assert int(policy[2]) == limit
    window = int(policy[3])
    standing = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', headers["ratelimit"])
    assert standing is not None
    assert (standing[1], int(standing[2]), int(standing[3])) == (policy[1], left, reset - int(now))
    if policy[1] == "day":
        assert (window, reset % 86_400) == (86_400, 0)
    else:
        assert (policy[1], window) == ("refused", 60)
    assert 0 < reset - now <= window
    if "request-id" in headers:  # an answer of the messages routes
        assert headers["request-id"] == headers["x-request-id"]
        assert int(headers["anthropic-ratelimit-requests-limit"]) == limit
        assert int(headers["anthropic-ratelimit-requests-remaining"]) == left
        instant = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
        assert instant.timestamp() == reset
    assert not {"set-cookie", "server", "x-powered-by", "location"} & headers.keys()


def request(
    method: str, path: str, headers: dict[str, str], body: bytes = b"", *, host: str = "penstock.test"
) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def body_of(dialect: str, model: str, /, **fields: Any) -> bytes:
    """A small request for ``model``, with these fields more, or others."""
    plain: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    if dialect == "messages":
        plain["max_tokens"] = 1000
    if dialect in {"responses", "embeddings", "speech", "moderations"}:
        plain = {"model": model, "input": "Hello"}
    if dialect in {"completions", "images"}:
        plain = {"model": model, "prompt": "Hello"}
    if dialect == "rerank":
        plain = {"model": model, "query": "Hello", "documents": ["Hello", "there"]}
    if dialect == "transcriptions":
        return form_of(model, **fields)
    return msgspec.json.encode({name: v for name, v in (plain | fields).items() if v is not ...})


def form_of(model: Any, /, **fields: Any) -> bytes:
    """A form with a recording for ``model`` (None: without that field), with these fields more, or others."""
    plain = {"model": model, "file": RECORDING, **fields}
    parts: list[bytes] = []
    for name, value in plain.items():
        if value is None or value is ...:
            continue
        file = b'; filename="a.wav"\r\ncontent-type: audio/wav' if isinstance(value, bytes) else b""
        text = value if isinstance(value, bytes) else str(value).encode()
        parts.append(
            b'--b0und\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b' % (name.encode(), file, text)
        )
    return b"\r\n".join((*parts, b"--b0und--\r\n"))


RECORDING = b"RIFF\x00\xff\r\n--b0un \x80WAVE" * 3
"""A file that is no text, and has what is nearly a boundary in it."""


# ---- what the scripted upstream says

CHAT_REPLY = (
    b'{"id":"chatcmpl-up","object":"chat.completion","created":7,"model":"up-chat","x_vendor":{"model":"up-chat"},'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi  there"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}'
)
MESSAGES_REPLY = (
    b'{"id":"msg_up","type":"message","role":"assistant","model":"up-messages","x_vendor":{"model":"up-messages"},'
    b'"content":[{"type":"text","text":"Hi  there"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":11,"output_tokens":5}}'
)
REPLIES: dict[str, bytes] = {"chat": CHAT_REPLY, "messages": MESSAGES_REPLY}

_CHUNK = b'data: {"id":"chatcmpl-up","object":"chat.completion.chunk","created":7,"model":"up-chat",%b}\n\n'
CHAT_FRAMES = (
    _CHUNK % b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]',
    _CHUNK % b'"choices":[{"index":0,"delta":{"content":"Hi "},"finish_reason":null}]',
    _CHUNK % b'"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":null}]',
    _CHUNK % b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]',
    _CHUNK % b'"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}',
    b"data: [DONE]\n\n",
)


def _event(name: bytes, rest: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b"%b}\n\n' % (name, name, rest)


MESSAGES_FRAMES = (
    _event(
        b"message_start",
        b',"message":{"id":"msg_up","type":"message","role":"assistant","model":"up-messages","content":[],'
        b'"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":11,"output_tokens":1}}',
    ),
    _event(b"content_block_start", b',"index":0,"content_block":{"type":"text","text":""}'),
    _event(b"content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":"Hi "}'),
    _event(b"content_block_delta", b',"index":0,"delta":{"type":"text_delta","text":" there"}'),
    _event(b"content_block_stop", b',"index":0'),
    _event(
        b"message_delta",
        b',"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}',
    ),
    _event(b"message_stop", b""),
)
FRAMES: dict[str, tuple[bytes, ...]] = {"chat": CHAT_FRAMES, "messages": MESSAGES_FRAMES}


def text_of(dialect: str, answer: Answer) -> str:
    """The text of a whole answer or of a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return "".join(_text_in(dialect, frame) for frame in answer.frames if frame.data != b"[DONE]")
    if dialect == "chat":
        return answer.json["choices"][0]["message"]["content"] or ""
    return "".join(block.get("text", "") for block in answer.json["content"])


def _text_in(dialect: str, frame: Frame) -> str:
    if dialect == "chat":
        return "".join(choice["delta"].get("content") or "" for choice in frame.json["choices"])
    delta = frame.json.get("delta", {})
    return delta.get("text", "") if frame.event == "content_block_delta" else ""
