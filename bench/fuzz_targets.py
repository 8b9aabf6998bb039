"""Readers of what others send, as targets of ``bench.fuzz_coverage``: what each must hold to, and what the search begins with.

A target gets its input whole, and in pieces. It raises ``Wrong`` where a promise is broken; any other exception that the
reader does not declare is a fault as well. Those of ``bench.fuzz`` (the core's readers) are targets here, too.
"""

import ast
import asyncio
import contextlib
import json
import random
import re
import selectors
import shlex
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from bench.fuzz import NAMES, REQUESTS, Wrong
from bench.fuzz import targets as core_targets
from bench.mutations import ROOT, Mutator, streams
from penstock.core import quoting
from penstock.core.api_key import is_well_formed
from penstock.core.body.cost_fields import CostBounds
from penstock.core.body.envelope import bounded
from penstock.core.catalog import DialectName
from penstock.core.dialects.registry import read_envelope
from penstock.core.sse import FrameTooLarge
from penstock.domain.catalog.models_endpoint import page_of
from penstock.domain.catalog.toml_document import CatalogError, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.domain.ledger.records import read
from penstock.errors import InvalidRequest, ModelNotOnPlan, PenstockError, simple_body
from penstock.exchange import Exchange
from penstock.providers.table import KINDS
from penstock.server.chunked import ChunkedReader
from penstock.server.connection import CallerConnection
from penstock.server.forwarded import Proxies
from penstock.server.limits import Application, ServerLimits
from penstock.server.request_head import RequestHead
from penstock.server.shared_state import SharedState
from penstock.store import journal
from penstock.store.redis.answers import AnswerReader, StrangeAnswer
from penstock.upstream.connection import UpstreamConnection
from penstock.upstream.deadlines import Deadlines
from penstock.upstream.failures import FailureReason, UpstreamFailure
from penstock.upstream.inflate import Inflater
from penstock.upstream.origin import Origin, parse_base_url
from penstock.upstream.response import UpstreamResponse

DECLARED = (InvalidRequest, FrameTooLarge)
"""What a reader may raise at any input; a target sees to the rest itself."""
_TURNS = 8
"""Of the loop, within which what was received is answered."""
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (?=[1-5][0-9]{2} [A-Z])")
_LIMITS = ServerLimits(header_bytes=2048, header_count=10, request_line=1024, max_body=1000)


@dataclass(frozen=True, slots=True)
class CoverageTarget:
    """One reader. ``check`` gets an input whole and in pieces."""

    name: str
    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes, list[bytes]], None]


def cuts(data: bytes) -> list[bytes]:
    """``data`` in pieces; the same ones each time, so that a fault comes again."""
    draw = random.Random(zlib.crc32(data))
    if len(data) < 200 and draw.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    marks = sorted(draw.randint(0, len(data)) for _ in range(draw.randint(1, 8)))
    return [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]


# ---- the server


def _literals(path: str, least: int = 4) -> list[bytes]:
    """Every string of bytes in the source of a test: requests and answers that somebody thought of."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and len(node.value) >= least
    }
    return sorted(found)


def _requests() -> list[bytes]:
    # here, not above: the targets are made in places without the tests
    from tests.server.test_corpus import CORPUS  # noqa: PLC0415 - needed by these seeds alone

    requests = [request for request, _ in CORPUS.values() if len(request) < 5000]
    pairs = [first + second for first, second in zip(requests[::3], requests[1::3], strict=False)]
    return [*requests, *pairs]


def _head_of(pieces: Sequence[bytes]) -> object:
    head = RequestHead(_LIMITS)
    read = 0
    try:
        for piece in pieces:
            if piece:
                read += head.feed(piece, 0)
            if head.complete:
                break
        if not head.complete:
            return "unfinished"
        head.check()
    except PenstockError as error:
        head.guess()
        return "refused", error.status in {400, 405, 431}
    remembered = head.remembered_head()
    if remembered is not None:
        match = remembered.match(head.raw, 0)
        if match is None or match[1] != len(head.raw) or match[0].headers != head.headers:
            raise Wrong("a head is not known again")
    return (
        read, head.method, head.path, head.query, head.version, head.headers, dict(head.fields), head.keep_alive,
        head.length, head.expects, head.encoded,
    )  # fmt: skip


def _check_head(data: bytes, pieces: list[bytes]) -> None:
    whole, cut = _head_of([data]), _head_of(pieces)
    # one that is too large is refused before its grammar is looked at where it comes at once
    if whole != cut:
        raise Wrong(f"cut elsewhere it is {cut}, whole {whole}")


def _chunks_of(pieces: Sequence[bytes]) -> object:
    reader = ChunkedReader()
    decoded, read = b"", 0
    try:
        for piece in pieces:
            if reader.complete or not piece:
                continue
            more, at = reader.feed(piece, 0)
            if not reader.complete and at != len(piece):
                raise Wrong("bytes of the body are left")
            decoded += more
            read += at
    except InvalidRequest:
        return "refused"
    return decoded, read, reader.complete


def _check_chunks(data: bytes, pieces: list[bytes]) -> None:
    whole, cut = _chunks_of([data]), _chunks_of(pieces)
    if whole != cut:
        raise Wrong(f"cut elsewhere it is {cut!r}, whole {whole!r}")


class _Socket:
    def setsockopt(self, *_: object) -> None:
        pass


class _Wire(asyncio.Transport):
    """The transport of a connection whose other end is the fuzzer."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False
        self.ended = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 9), "socket": _Socket()}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing and not self.ended:
            self.written.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class _Receiver(Protocol):
    def data_received(self, data: bytes) -> None: ...


async def _deliver(protocol: _Receiver, wire: _Wire, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        if wire.closing or not wire.reading:
            return
        if piece:
            protocol.data_received(piece)
            await _settle()
    await _settle()


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _echo(exchange: Exchange) -> None:
    body = await exchange.body()
    exchange.start(200, [])
    said = [exchange.method, exchange.path, exchange.query.hex(), repr(exchange.headers), body.hex()]
    exchange.end(json.dumps(said).encode())


def _reject(exchange: Exchange, error: PenstockError) -> None:
    exchange.start(error.status, [])
    exchange.end(simple_body(error, "fuzz"))


class _NoSockets(selectors.SelectSelector):
    """Nothing to wait for: whatever comes is given to the protocols by hand."""

    def select(self, timeout: float | None = None) -> list[Any]:
        del timeout
        return []


_loop = asyncio.SelectorEventLoop(_NoSockets())


def _shared_state() -> SharedState:
    application = Application(handler=_echo, owns=lambda _: True, site=None, reject=_reject)
    return SharedState(application, _LIMITS, _loop)


class _Serving:
    """Made at first use: it has a timer on the loop."""

    state: SharedState | None = None


async def _served(pieces: Sequence[bytes]) -> object:
    state = _Serving.state = _Serving.state or _shared_state()
    wire = _Wire()
    connection = CallerConnection(state)
    connection.connection_made(wire)
    await _deliver(connection, wire, pieces)
    closed = wire.closing or wire.ended
    connection.eof_received()
    connection.connection_lost(None)
    await _settle()
    if state.connections or state.exchanges:
        raise Wrong("a connection that is closed is not forgotten")
    answers: list[object] = []
    written = b"".join(wire.written).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    for answer in _STATUS_LINE.split(written)[1:]:
        status = int(answer[:3])
        body = answer.partition(b"\r\n\r\n")[2] if status == 200 else b""
        # which of two faults is found first may depend on what has come
        answers.append(("refused", b"") if status in {400, 405, 413, 431} else (status, body))
        if status >= 500:
            raise Wrong(f"answered with {status}")
    return answers, closed


def _check_connection(data: bytes, pieces: list[bytes]) -> None:
    whole = _loop.run_until_complete(_served([data]))
    cut = _loop.run_until_complete(_served(pieces))
    if whole != cut:
        raise Wrong(f"cut elsewhere it answers {cut}, whole {whole}")


def _check_forwarded(data: bytes, pieces: list[bytes]) -> None:
    del pieces
    values = data.split(b"\n")
    proxies = Proxies(("192.0.2.0/24", "2001:db8::/32"))
    headers = [(b"x-forwarded-for", value) for value in values] + [(b"x-forwarded-proto", values[0])]
    client = proxies.client("192.0.2.1", headers)
    if (
        not proxies.trust(client)
        and proxies.client("192.0.2.1", [(b"x-forwarded-for", client.encode())]) != client
    ):
        raise Wrong(f"{client!r} is no address")
    if proxies.scheme(headers) not in {"http", "https"}:
        raise Wrong("no scheme")


# ---- upstreams


class _Pool:
    """A pool that keeps nothing."""

    origin = Origin("http", "upstream.example", 80)
    max_response_head = 64 * 1024

    def give_back(self, connection: UpstreamConnection) -> None:
        pass

    def forget(self, connection: UpstreamConnection) -> None:
        pass

    def lost(self, connection: UpstreamConnection) -> None:
        pass


class _Told:
    """Who waits for the head of an answer."""

    def __init__(self) -> None:
        self.head = False
        self.failure: Exception | None = None

    def answered(self, response: UpstreamResponse) -> None:
        del response
        self.head = True

    def failed(self, failure: Exception) -> None:
        self.failure = failure


async def _answered(pieces: Sequence[bytes]) -> tuple[str, object, bytes]:
    """The outcome, the head, and the body as far as it was handed over."""
    wire = _Wire()
    connection = UpstreamConnection(_Pool(), _loop)
    connection.connection_made(wire)
    response = UpstreamResponse(connection, 0.0, reused=False)
    told = _Told()
    connection.send(
        response, b"GET / HTTP/1.1\r\n\r\n", b"", Deadlines(), _loop.time() + 1000, told, stream=True
    )
    body: list[bytes] = []
    done: asyncio.Future[None] | None = None
    for piece in [*pieces, None]:
        if wire.closing:
            break
        if piece is None:
            connection.eof_received()
        elif piece:
            connection.data_received(piece)
        if done is None and told.head:
            done = response.stream(body.append)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    failure: BaseException | None = told.failure
    if not told.head and failure is None:
        raise Wrong("nobody is told that there will be no head")
    if done is not None:
        for _ in range(200):
            if done.done():
                break
            await asyncio.sleep(0)
        if not done.done():
            raise Wrong("the body has no end")
        failure = done.exception()
    if failure is not None and not isinstance(failure, UpstreamFailure):
        raise failure
    head = (response.status, response.headers) if done is not None else ()
    response.close()
    outcome = "whole" if failure is None else "refused" if failure.reason is not FailureReason.CUT else "cut"
    return outcome, head, b"".join(body)


def _check_answer(data: bytes, pieces: list[bytes]) -> None:
    whole = _loop.run_until_complete(_answered([data]))
    cut = _loop.run_until_complete(_answered(pieces))
    same = (
        whole[2] == cut[2]
        if whole[0] == "whole"
        else (whole[2].startswith(cut[2]) or cut[2].startswith(whole[2]))
    )
    if whole[:2] != cut[:2] or not same:
        raise Wrong(f"cut elsewhere it is {cut}, whole {whole}")


def _answers() -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\n"
    seeds = [seed for seed in _literals("tests/upstream/test_heads.py") if seed.startswith(b"HTTP")]
    text = b'{"id":"a","choices":[]}' * 3
    packed = zlib.compress(text, wbits=31)
    seeds += [
        head + b"content-length: 69\r\n\r\n" + text,
        head + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n",
        head + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(packed), packed),
        head
        + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(packed), packed),
        head + b"content-encoding: deflate\r\n\r\n" + zlib.compress(text),
        head + b"content-encoding: deflate\r\n\r\n" + zlib.compress(text, wbits=-15),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
        + head
        + b"content-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the close",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    ]
    return seeds


def _inflated(pieces: Sequence[bytes], *, gzip: bool) -> tuple[str, bytes]:
    inflater = Inflater(gzip=gzip)
    decoded: list[bytes] = []
    given = out = 0
    try:
        for piece in pieces:
            given += len(piece)
            inflater.push(piece)
            while inflater.busy():
                step = inflater.take()
                out += len(step)
                if len(step) > 64 * 1024 or out > 1024 * 1024 + 64 * 1024 + 100 * given:
                    raise Wrong("it gives more than it may")
                if not step and len(decoded) > 100_000:
                    raise Wrong("it does not come to an end")
                decoded.append(step)
    except UpstreamFailure as failure:
        return ("bound" if "100 times" in failure.message else "refused"), b"".join(decoded)
    return ("whole" if inflater.whole() else "unfinished"), b"".join(decoded)


def _check_inflate(data: bytes, pieces: list[bytes]) -> None:
    if not data:
        return
    gzip = data[0] % 2 == 0
    whole, cut = _inflated([data[1:]], gzip=gzip), _inflated(cuts(data[1:]), gzip=gzip)
    if "bound" in (whole[0], cut[0]):  # where the bound is met depends on the steps
        return
    if whole[0] != cut[0] or (whole[0] != "refused" and whole[1] != cut[1]):
        raise Wrong(f"cut elsewhere it is {cut}, whole {whole}")
    del pieces


def _compressed() -> list[bytes]:
    texts = [b"", b"a", b"hello " * 100, bytes(3000), streams("chat")[0][:2000]]
    seeds: list[bytes] = []
    for text in texts:
        member = zlib.compress(text, wbits=31)
        seeds += [b"\0" + member, b"\0" + member + member, b"\0" + member[:-3], b"\1" + zlib.compress(text)]
        seeds.append(b"\1" + zlib.compress(text, wbits=-15))
    return [*seeds, b"\0" + zlib.compress(b"", wbits=31) * 60]


# ---- bodies


_OURS = frozenset(("m", "other", "gpt-5"))
_MOST_CHOICES = 4
_CHEAP_TIERS = frozenset(("auto", "default", "flex", "standard", "standard_only", "batch"))


def _check_cost(dialect: DialectName) -> Callable[[bytes, list[bytes]], None]:
    bounds = CostBounds(holds=_OURS.__contains__, max_choices=_MOST_CHOICES)

    def check(data: bytes, pieces: list[bytes]) -> None:
        del pieces
        envelope = read_envelope(data, dialect)
        try:
            once = bounded(envelope, bounds)
        except ModelNotOnPlan:
            return
        twice = bounded(once, bounds)
        if twice.left_out != once.left_out and twice is not once:
            raise Wrong(f"looked at again, more is left out: {once.left_out}, {twice.left_out}")
        sent = json.loads(once.encode(once.model))
        if sent["model"] != envelope.model:
            raise Wrong("another model went on")
        number, tier = sent.get("n"), sent.get("service_tier")
        if number is not None and (not isinstance(number, int) or number > _MOST_CHOICES):
            raise Wrong(f"n went on as {number!r}")
        if tier is not None and tier not in _CHEAP_TIERS:
            raise Wrong(f"service_tier went on as {tier!r}")
        for field in ("models", "fallbacks"):
            named = sent.get(field)
            if isinstance(named, list) and not all(one in _OURS for one in named if isinstance(one, str)):
                raise Wrong(f"{field} went on as {named!r}")

    return check


def _costly(dialect: DialectName) -> list[bytes]:
    added: list[dict[str, Any]] = [
        {"models": ["m", "x"]},
        {"fallbacks": [{"model": "m"}], "route": "fallback"},
        {"n": 9, "best_of": 3, "service_tier": "priority", "speed": "fast"},
        {"plugins": [{"id": "web"}, {"id": "fusion", "model": "x"}], "provider": {"order": ["a"]}},
        {
            "tools": [
                {"type": "openrouter:fusion", "model": "x"},
                {"type": "function", "function": {"name": "f"}},
            ]
        },
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "m"}], "extra_body": {"n": 3}},
    ]
    roots = [root for root in REQUESTS[dialect] if isinstance(root, dict)][:12]
    seeds = [json.dumps(root | {"model": "m"}).encode() for root in roots]
    return seeds + [json.dumps(roots[0] | {"model": "m"} | more).encode() for more in added]


# ---- stores


def _written(records: list[bytes], cycle: int) -> bytes:
    """A segment as ``penstock.store.journal`` describes it."""
    seed = zlib.crc32(cycle.to_bytes(8, "little"))
    parts = [b"penstock", cycle.to_bytes(8, "little")]
    for record in records:
        parts += [len(record).to_bytes(4, "little"), zlib.crc32(record, seed).to_bytes(4, "little"), record]
    return b"".join(parts)


class _Folder:
    path: Path | None = None


def _check_journal(data: bytes, pieces: list[bytes]) -> None:
    """Two segments: their records, and what damages them."""
    if _Folder.path is None:
        _Folder.path = Path(tempfile.mkdtemp(prefix="journal-"))
    folder = _Folder.path
    del pieces
    first, _, rest = data.partition(b"\xff\xff")
    second, _, damage = rest.partition(b"\xff\xff")
    records = [[piece for piece in part.split(b"\n") if piece] for part in (first, second)]
    files = [bytearray(_written(each, cycle)) for cycle, each in zip((2, 1), records, strict=True)]
    for at in range(0, len(damage) - 3, 4):
        file = files[damage[at] % 2]
        place = (damage[at + 1] << 8 | damage[at + 2]) % (len(file) + 1)
        if damage[at] % 3 == 0:
            del file[place:]
        else:
            file[place : place + damage[at] % 5] = damage[at + 3 : at + 4] * (damage[at] % 7)
    raw = [bytes(file) for file in files]
    if data[:1] == b"\xfe":  # what is no segment at all
        raw = [first, second]
    for suffix, content in zip(journal.SUFFIXES, raw, strict=True):
        (folder / f"a{suffix}").write_bytes(content)
    (left,) = journal.left_behind(folder)
    left.release()
    told = [*records[1], *records[0]]
    if not damage and data[:1] != b"\xfe" and left.records != told:
        raise Wrong("a whole journal is not read whole")
    if data[:1] != b"\xfe" and any(record not in told for record in left.records):
        raise Wrong("a record is read that nobody wrote")
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read(left.records)


def _check_records(data: bytes, pieces: list[bytes]) -> None:
    del pieces
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read([data])


def _records() -> list[bytes]:
    from penstock.domain.ledger.kinds import Settlement  # noqa: PLC0415 - needed by these seeds alone
    from penstock.domain.ledger.rows import OpenRow  # noqa: PLC0415 - the same

    seeds: list[bytes] = []
    for kind in (OpenRow, Settlement):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag
        plain = {name: 1 if "int" in str(field.type) else "a" for name, field in fields.items()}
        seeds.append(msgspec.msgpack.encode({kind.__struct_config__.tag_field or "type": tag, **plain}))
        seeds.append(msgspec.msgpack.encode([tag, *plain.values()]))
    return [*seeds, b"\x91" * 60, b"\x81\xa1a" * 60]


def _redis_of(pieces: Sequence[bytes]) -> object:
    reader = AnswerReader()
    replies: list[object] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            replies += reader.replies()
    except StrangeAnswer:
        return "strange"
    return repr(replies)


def _check_redis(data: bytes, pieces: list[bytes]) -> None:
    whole, cut = _redis_of([data]), _redis_of(pieces)
    if whole != cut:
        raise Wrong(f"cut elsewhere it is {cut}, whole {whole}")


# ---- texts


def _text(data: bytes) -> str:
    """Any text, with half characters in it for some."""
    if data[:1] == b"\xff":
        return data[1:].decode("utf-16-le", "replace" if len(data) % 2 == 0 else "surrogatepass")
    return data.decode("utf-8", "replace")


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r} where {wanted!r} was quoted")


def _check_quoting(data: bytes, pieces: list[bytes]) -> None:
    del pieces
    try:
        text = _text(data)
    except UnicodeDecodeError:
        return
    for line in (
        quoting.visible(text),
        quoting.header_text(text),
        quoting.log_value(text),
        quoting.shell_word(text),
    ):
        if not line.isprintable() or len(line.splitlines()) > 1:
            raise Wrong(f"more than a line: {line!r}")
    if not all(line.isprintable() for line in quoting.terminal_text(text).split("\n")):
        raise Wrong("a terminal would obey")
    _same("JSON", json.loads(quoting.json_string(text)), text)
    _same("JSON of JSON", json.loads(quoting.json_text(json.dumps([text], ensure_ascii=False))), [text])
    if text.isprintable():
        _same("shell", shlex.split(f"a {quoting.shell_word(text)}"), ["a", text])
        option = shlex.split(quoting.shell_option("name", text))
        _same("an option", option in (["--name", text], [f"--name={text}"]), True)
    plain = text.encode(errors="replace").decode()
    _same("TOML", tomllib.loads(f"a = {quoting.toml_string(plain)}"), {"a": plain})
    _same("a key of TOML", tomllib.loads(f"{quoting.toml_key(plain)} = 1"), {plain: 1})
    _same("a path", unquote(quoting.url_path(plain)), plain)
    _same("a host", unquote(quoting.url_host(plain)), plain)
    if not quoting.url_path(text).isascii() or not quoting.url_path(text).isprintable():
        raise Wrong("a path that is none")
    cell = quoting.csv_cell(text)
    if not isinstance(cell, str) or (cell.lstrip()[:1] in frozenset("=+-@") and cell):
        raise Wrong(f"a formula: {cell!r}")
    if 'a="' in quoting.log_value(text) and quoting.log_value(text)[0] != '"':
        raise Wrong("a value that looks like two")


def _check_parsers(data: bytes, pieces: list[bytes]) -> None:
    """Small parsers of what strangers or operators write: a key, a query, a base URL."""
    del pieces
    text = data.decode("latin-1")
    is_well_formed(text)
    with contextlib.suppress(PenstockError):
        page_of(data)
    try:
        origin, path = parse_base_url(text)
    except ValueError:
        return
    if not origin.host or not 0 < origin.port < 65536 or path.endswith(b"/") or b" " in path:
        raise Wrong(f"{origin} {path!r}")


def _check_catalog(data: bytes, pieces: list[bytes]) -> None:
    del pieces
    try:
        document = parse(data.decode("utf-8", "replace"), KINDS)
    except CatalogError:
        return
    for row in document.providers:
        for _, url in row.speaks:
            try:
                parse_base_url(url)
            except ValueError as error:
                raise Wrong(f"a base URL that is none: {url!r}") from error
    again = parse(dump(document), KINDS)
    if again != document:
        raise Wrong(f"written and read again it is {again}, was {document}")


_CATALOGS = (
    """[[provider]]
id = "a"
speaks = { chat = "https://a.example/v1" }
secret = "env:A"
profile = { tool_id_limit = 40, max_stop = 4, extra_body = "{}" }
""",
    """[[model]]
id = "m"
aliases = ["n"]
targets = [{ provider = "a", model = "b", priority = 1, weight = 2, via = ["chat"], lacks = ["images"] }]
[model.capabilities]
images = true
""",
    """[[model]]
id = "auto"
auto = ["m"]
[[plan]]
id = "p"
daily_requests = 1
concurrent_requests = 2
models = ["m"]
name = "P"
queue_seconds = 3
""",
    "a = [[[[{a=[{}]}]]]]\n",
)


def _catalogs() -> list[bytes]:
    text = (ROOT / "src/penstock/domain/catalog/default_catalog.toml").read_bytes()
    sections = [b"[[" + part for part in text.split(b"[[")[1:]]
    return [*sections[:60], *(each.encode() for each in _CATALOGS)]


def targets() -> list[CoverageTarget]:
    """Every reader, by name."""
    own = [
        CoverageTarget("server-head", _requests, _check_head),
        CoverageTarget(
            "server-chunks",
            lambda: [r.partition(b"\r\n\r\n")[2] for r in _requests() if b"hunked" in r],
            _check_chunks,
        ),
        CoverageTarget("server-connection", _requests, _check_connection),
        CoverageTarget(
            "forwarded",
            lambda: [
                b"192.0.2.7, 198.51.100.1",
                b"[2001:db8::1]:80\n::ffff:192.0.2.1,1.2.3.4:5",
                b"https",
                b"a%1, ::1%lo",
            ],
            _check_forwarded,
        ),
        CoverageTarget("upstream-response", _answers, _check_answer),
        CoverageTarget("upstream-inflate", _compressed, _check_inflate),
        *(
            CoverageTarget(f"cost-{name}", lambda name=name: _costly(name), _check_cost(name))
            for name in NAMES
        ),
        CoverageTarget(
            "journal",
            lambda: [
                b"one\ntwo\xff\xffthree\xff\xff",
                b"a\nb\nc\xff\xffd\xff\xff\x02\x00\x14\x00\x06\x00\x05\x01",
                b"\xfepenstock",
            ],
            _check_journal,
        ),
        CoverageTarget("ledger-records", _records, _check_records),
        CoverageTarget(
            "redis",
            lambda: [
                b"*2\r\n$2\r\nok\r\n:3\r\n",
                b"+OK\r\n-ERR no\r\n$-1\r\n",
                b"*-1\r\n%1\r\n+a\r\n#t\r\n",
                b"=7\r\ntxt:abc\r\n,1.5\r\n(99\r\n_\r\n",
            ],
            _check_redis,
        ),
        CoverageTarget(
            "quoting",
            lambda: [
                b"plain",
                b'it\'s $(x) `y` "z"',
                b"\x1b[31m\r\n=1+1",
                b"\xff\x3d\xd8a\x00",
                "\u202e\u200b é".encode(),
            ],
            _check_quoting,
        ),
        CoverageTarget(
            "parsers",
            lambda: [
                b"https://a.example:8443/v1/",
                b"http://[::1]:80",
                b"limit=3&after_id=a&before_id=",
                b"sk-ps-0123456789abcdefghij",
            ],
            _check_parsers,
        ),
        CoverageTarget("catalog-toml", _catalogs, _check_catalog),
    ]
    return own + [
        CoverageTarget(target.name.replace(" ", "-"), _seeds(target.name), target.check)
        for target in core_targets()
    ]


def _bodies(dialect: DialectName) -> list[bytes]:
    """Requests of a format: those of ``bench.fuzz``, recorded ones, and some that are damaged already."""
    found = [path.read_bytes() for path in (ROOT / "tests/vectors" / dialect).glob("*/request.json")]
    mutator = Mutator(1)
    found += [json.dumps(root).encode() for root in REQUESTS[dialect]]
    found += [mutator.body(REQUESTS[dialect], large=False) for _ in range(60)]
    return [body for body in found if len(body) < 8000]


def _seeds(name: str) -> Callable[[], list[bytes]]:
    """What a target of ``bench.fuzz`` begins with."""
    if "request" in name or "envelope" in name:
        return lambda: _bodies(_dialect(name))
    if name == "sse":
        return lambda: [stream for dialect in NAMES for stream in streams(dialect) if len(stream) < 6000]
    return lambda: [stream for stream in streams(_dialect(name)) if len(stream) < 12_000]


def _dialect(name: str) -> DialectName:
    return next(dialect for dialect in NAMES if name.startswith(dialect))
