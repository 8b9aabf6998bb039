"""Heads of requests: read piece by piece under limits, with the rules that decide where a request ends.

llhttp (through httptools) checks the grammar; what it lets through that another server on the way might read
differently is refused here. RFC 9112 is followed where it says "must", and more strictly where it says "may".
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import httptools

from penstock.errors import HeadersTooLarge, InvalidRequest, MethodNotAllowed
from penstock.exchange import HeaderList, SharedHeaders
from penstock.server.limits import ServerLimits

END: Final = b"\r\n\r\n"
METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
ONCE: Final = (
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"content-encoding",
    b"x-api-key",
    b"authorization",
)
"""Headers that a request may have once: they frame it or say who sends it, and of two nobody could tell which is meant."""
CHUNKED: Final = -1
SHORT_LINE: Final = 64
"""Header lines up to here are remembered when split: clients repeat them, and keys and cookies are longer."""
SHORT_HEAD: Final = 2048
"""Heads up to here are remembered by their connection."""
MOST_DIGITS: Final = 18
"""Of a ``Content-Length``."""

_host = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
).fullmatch
_absolute = re.compile(rb"(?i:https?)://([^/?#@]+)(.*)", re.DOTALL).fullmatch
_no_callbacks: Final = object()


class RequestHead:
    """One request's head. Feed it until ``complete``; then ``check`` it and read the fields.

    The parser only judges: calling back for each header would cost more than splitting, in one go, lines that are
    known to be well-formed. It is a fresh one for each request (cheaper than a single callback), so that no state of
    an earlier request can reach a later one.
    """

    complete = False
    method = ""
    path = ""
    """Percent-encoded, as received, without the query."""
    query = b""
    version = ""
    """``1.0`` or ``1.1``."""
    headers: HeaderList = []  # noqa: RUF012 - never added to: each head that is read gets its own
    """Names in lower case, in the order received; values without the white space round them."""
    fields: Mapping[bytes, bytes] = {}
    """The first header of each name."""
    keep_alive = False
    length = 0
    """Bytes of body that follow, or ``CHUNKED``."""
    expects = False
    """The caller waits for ``100 Continue`` before it sends the body."""
    encoded = False
    """The body has a ``Content-Encoding`` other than ``identity``."""
    raw = b""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self.shared_headers = SharedHeaders()
        self._parser = httptools.HttpRequestParser(_no_callbacks)

    def feed(self, data: bytes, start: int) -> int:
        """Read on from ``data[start:]``, never past the end of the head; gives the index after what was read.

        The first piece begins with the request line. Raises ``HeadersTooLarge`` before more than the allowed bytes are
        looked at, and ``InvalidRequest`` as soon as the grammar is broken.
        """
        raw = self.raw
        end = find_end(raw, data, start)
        piece = data[start:end] if end else data[start:]
        raw = self.raw = raw + piece if raw else piece
        most = self._limits.header_bytes + self._limits.request_line
        if len(raw) > most:
            self.raw = raw[:most]
            raise self._too_large()
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # an offer to change protocols, which RFC 9110 section 7.8 lets a server ignore; before the head's end it is none
            if not end:
                raise InvalidRequest("This is not a valid HTTP/1.1 request.") from None
        except httptools.HttpParserError:
            raise InvalidRequest("This is not a valid HTTP/1.1 request.") from None
        if not end:
            return len(data)
        self.complete = True
        return end

    def check(self) -> None:
        """Apply the rules to a complete head and fill in the fields.

        Raises ``HeadersTooLarge``, ``InvalidRequest`` and ``MethodNotAllowed``; whatever comes after on the connection
        cannot be trusted then.
        """
        raw = self.raw
        lines = raw.split(b"\r\n")
        words = lines[0].split(b" ")
        version = VERSIONS.get(words[-1])
        if version is None or len(words) != 3:
            raise InvalidRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        limits = self._limits
        target = words[1]
        if len(target) > limits.request_line or len(raw) - len(target) > limits.header_bytes:
            raise self._too_large()
        if len(lines) - 3 > limits.header_count:
            raise HeadersTooLarge(f"There are more than {limits.header_count} headers.")
        method = METHODS.get(words[0])
        if method is None:
            raise MethodNotAllowed("This method is not allowed.", allow=", ".join(METHODS.values()))
        self.method = method
        self.version = version
        self._read_fields(lines[1:-2])
        host = self._check_fields()
        if target.startswith(b"/") and b"#" not in target and target.isascii():
            path, _, self.query = target.partition(b"?")
            self.path = path.decode("ascii")
        else:
            self._unusual_target(target, host)
        base = limits.base_path
        if base and self.path.startswith(base) and self.path[len(base) :][:1] in ("", "/"):
            self.path = self.path[len(base) :] or "/"

    def remembered_head(self) -> "RememberedHead | None":
        """What the next head can be known by, where this one is plain and the next one within the limits like it."""
        if (
            len(self.raw) > min(SHORT_HEAD, self._limits.header_bytes - MOST_DIGITS)
            or b"expect" in self.fields
        ):
            return None
        return RememberedHead(self)

    def with_length(self, digits: bytes) -> "RequestHead":
        """The same head with another ``Content-Length``."""
        pair = (b"content-length", digits)
        head = RequestHead.__new__(RequestHead)
        head.method = self.method
        head.path = self.path
        head.query = self.query
        head.version = self.version
        head.headers = [pair if each[0] == b"content-length" else each for each in self.headers]
        head.shared_headers = self.shared_headers
        head.fields = {**self.fields, b"content-length": digits}
        head.keep_alive = self.keep_alive
        head.encoded = self.encoded
        head.length = int(digits)
        return head

    def guess(self) -> None:
        """Fill in what can be understood of a head that was refused, so that the refusal suits its reader."""
        first, *lines = self.raw.split(b"\r\n")
        words = first.split(b" ")
        self.method = METHODS.get(words[0], "")
        if len(words) > 1 and words[1].startswith(b"/") and words[1].isascii():
            self.path = words[1].partition(b"?")[0].decode("ascii")
        self._read_fields([line for line in lines[: self._limits.header_count] if b":" in line])

    def _too_large(self) -> HeadersTooLarge:
        limits = self._limits
        if self.raw.find(b"\r\n", 0, limits.request_line) < 0:
            return HeadersTooLarge(f"The request target is longer than {limits.request_line} bytes.")
        return HeadersTooLarge(f"The headers are larger than {limits.header_bytes} bytes.")

    def _read_fields(self, lines: list[bytes]) -> None:
        headers = [_split_short(line) if len(line) <= SHORT_LINE else _split(line) for line in lines]
        fields = dict(headers)
        self.headers = headers
        self.fields = fields if len(fields) == len(headers) else dict(reversed(headers))

    def _check_fields(self) -> bytes:
        """Read the headers that decide about the connection and the body; gives the host."""
        get = self.fields.get
        connection = get(b"connection", b"keep-alive")
        if len(self.fields) != len(self.headers):
            names = [name for name, _ in self.headers]
            for name in ONCE:
                if names.count(name) > 1:
                    raise InvalidRequest(f"There is more than one {name.decode()} header.")
            connection = b",".join([value for name, value in self.headers if name == b"connection"])
        host = get(b"host")
        if host is None or not _host(host):
            raise InvalidRequest("The Host header is missing or is not a host name.")
        length = get(b"content-length")
        coding = get(b"transfer-encoding")
        # how the body ends: RFC 9112 section 6.3, without its repairs
        if coding is not None:
            if length is not None or self.version == "1.0" or coding.lower() != b"chunked":
                raise InvalidRequest(
                    "The only transfer coding taken is chunked, and without a Content-Length."
                )
            self.length = CHUNKED
        elif length is not None:
            if not length.isdigit() or len(length) > MOST_DIGITS:
                raise InvalidRequest("The Content-Length is not a number.")
            self.length = int(length)
        self.keep_alive = self.version == "1.1" and (
            connection == b"keep-alive"
            or b"close" not in [token.strip() for token in connection.lower().split(b",")]
        )
        expect = get(b"expect")
        if expect is not None and self.length and self.version == "1.1":
            self.expects = expect.lower() == b"100-continue"
        encoding = get(b"content-encoding")
        self.encoded = encoding is not None and encoding.lower() not in {b"", b"identity"}
        return host

    def _unusual_target(self, target: bytes, host: bytes) -> None:
        """A target in absolute form must name the host that the Host header names; ``*`` is for OPTIONS."""
        if match := _absolute(target):
            if match[1].lower() != host.lower():
                raise InvalidRequest("The request target and the Host header name different hosts.")
            target = match[2] if match[2].startswith(b"/") else b"/" + match[2]
        elif not target.startswith(b"/") and (target != b"*" or self.method != "OPTIONS"):
            raise InvalidRequest("The request target is not a path.")
        if b"#" in target or not target.isascii():
            raise InvalidRequest("The request target has characters that must be percent-encoded.")
        path, _, self.query = target.partition(b"?")
        self.path = path.decode("ascii")


class RememberedHead:
    """A head that was read, by which the next one is known when nothing but its ``Content-Length`` differs.

    Clients send the same head with each request on a connection. What is byte for byte the same needs no second
    judgement, and any number is as good as another.
    """

    __slots__ = ("_after", "_before", "_head", "_raw")

    def __init__(self, head: RequestHead) -> None:
        self._head = head
        self._raw = head.raw
        self._before: bytes | None = None
        self._after = b""

    def match(self, data: bytes, at: int) -> tuple[RequestHead, int] | None:
        """The head at ``data[at:]`` and the index after it, or None when it is another one or not all there."""
        if data.startswith(self._raw, at):
            return self._head, at + len(self._raw)
        before = self._before
        if before is None:
            before = self._split()
        if not before or not data.startswith(before, at):
            return None
        at += len(before)
        end = data.find(b"\r", at, at + MOST_DIGITS + 1)
        digits = data[at:end] if end > 0 else b""
        if not digits.isdigit() or not data.startswith(self._after, end):
            return None
        return self._head.with_length(digits), end + len(self._after)

    def _split(self) -> bytes:
        """Find what stands round the number; without one no other head is like this one."""
        raw = self._raw
        line = raw.lower().find(b"\r\ncontent-length:")
        if line < 0:
            self._before = b""
            return b""
        end = raw.find(b"\r", line + 2)
        value = raw[line:end].partition(b":")[2].lstrip()
        self._before = raw[: end - len(value)]
        self._after = raw[end:]
        return self._before


def _split(line: bytes) -> tuple[bytes, bytes]:
    """The name in lower case, and the value without the white space round it."""
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()


_split_short = lru_cache(1024)(_split)


def find_end(before: bytes, data: bytes, start: int) -> int:
    """The index after the first blank line in ``data[start:]``, or 0; its four bytes may have begun in ``before``."""
    if before:
        tail = before[-3:]
        split = (tail + data[start : start + 3]).find(END)
        if split >= 0:
            return start + split + 4 - len(tail)
    end = data.find(END, start)
    return end + 4 if end >= 0 else 0
