"""A scripted provider of all dialects and formats: for first runs, documentation, tests, an operator's drills.

It is never presented as a model: its text says what it is. What goes wrong, and when, is chosen by a scenario, named in
the ``x-simulate`` header or in the model's name; ``SCENARIOS`` is the list.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Literal

from penstock.exchange import Exchange, Handler, HeaderList
from penstock.providers.simulator import dialects
from penstock.providers.simulator.embeddings import embeddings_answer, read_embedding_request
from penstock.providers.simulator.formats import format_answer
from penstock.providers.simulator.request import Ask, SimulatedDialect, Unreadable, read_request, scenarios_of
from penstock.providers.simulator.script import compose_answer, number

SCENARIOS: Mapping[str, str] = {
    "ok": "plain text, whatever tools or thinking are offered",
    "echo": "the text of the last user turn, as it came",
    "words": "N words after the opening (`words=200`)",
    "tool": "a call of the tool NAME (`tool=Bash`)",
    "tools": "N calls at once (`tools=2`), of the tools in turn",
    "thinking": "reasoning before the answer, asked for or not",
    "refusal": "the dialect's refusal",
    "slow": "MS milliseconds between the frames of a stream (`slow=50`)",
    "first": "MS milliseconds before the answer begins (`first=2000`)",
    "error": "an error of this HTTP status in the dialect's form (`error-429`, `error-529`)",
    "overflow": "a 400 with the vendor's own words for a prompt that is too long",
    "hang": "no answer at all, until the caller goes away",
    "hang-mid": "silence after N frames of the answer (`hang-mid=3`; half of them)",
    "cut": "the connection lost after N frames (`cut=3`; half of them)",
    "unfinished": "a stream that ends cleanly, but without the dialect's own end",
    "garbage": "bytes that are neither JSON nor a stream",
    "html": "a web page with status 200",
    "drip": "the answer in pieces of N bytes (`drip=1`)",
    "error-in-stream": "the dialect's error event after N frames (`error-in-stream=3`; half of them)",
    "error-200": "an error body with status 200",
    "whole": "one JSON body, though a stream was asked for",
    "huge": "N kilobytes of text (`huge=1024`)",
    "empty": "status 200 and nothing else",
    "empty-text": "an answer with no text in it",
    "badutf8": "a byte that no UTF-8 text has, in the middle of the answer",
    "no-usage": "no token counts",
    "pings": "keep-alives between the frames",
}
"""Every scenario by its name, and what it does. In a model's name it is written ``sim-NAME`` or ``sim-NAME=ARGUMENT``,
several with ``+`` between them; in the header without ``sim-``, several with commas."""

GAP = 0.005
"""Seconds between frames, unless a scenario says otherwise."""

_BROKEN = ("cut", "hang-mid", "error-in-stream", "unfinished")
"""Scenarios that end a stream before its end."""

SimulatedOutcome = Literal["running", "completed", "cut", "caller gone"]

_OVERFLOW = {
    "messages": "prompt is too long: 212345 tokens > 200000 maximum",
    "chat": "This model's maximum context length is 128000 tokens. However, your messages resulted in 212345 tokens.",
    "responses": "Your input exceeds the context window of this model. Please adjust your input and try again.",
}
_JSON = b"application/json"
_SSE = b"text/event-stream; charset=utf-8"


class SimulatedRequest:
    """One request that the simulator got, and how it ended. Times are monotonic seconds.

    A scenario that hangs waits for ``proceed`` as well as for the caller to leave; ``ended`` is set last.
    """

    __slots__ = (
        "arrived_at",
        "body",
        "ended",
        "ended_at",
        "headers",
        "method",
        "outcome",
        "path",
        "proceed",
        "written",
    )

    def __init__(self, method: str, path: str, headers: HeaderList, body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.arrived_at = time.monotonic()
        self.ended_at: float | None = None
        self.outcome: SimulatedOutcome = "running"
        self.written = 0
        """Bytes of body written so far."""
        self.proceed = asyncio.Event()
        self.ended = asyncio.Event()

    def end(self, outcome: SimulatedOutcome) -> None:
        """Note how it ended."""
        self.outcome = outcome
        self.ended_at = time.monotonic()
        self.ended.set()


SimulatorLog = Callable[[SimulatedRequest], None]
"""Told of each request when its body has arrived."""


def simulator(*, journal: SimulatorLog | None = None, gap: float = GAP) -> Handler:
    """A handler that simulates a provider, under any prefix of path; ``gap`` is seconds between frames."""

    async def handle(exchange: Exchange) -> None:
        body = await exchange.body()
        visit = SimulatedRequest(exchange.method, exchange.path, exchange.headers, body)
        if journal is not None:
            journal(visit)
        try:
            await _Answer(exchange, visit, gap).run()
        except asyncio.CancelledError:
            visit.end("caller gone")
            raise
        visit.end("cut" if visit.outcome == "cut" else "completed")

    return handle


simulate: Handler = simulator()
"""The built-in simulator, with visible streaming."""


class _Flow:
    """Holds the writing back while the caller is slower."""

    def __init__(self) -> None:
        self.clear = asyncio.Event()
        self.clear.set()

    def caller_stalled(self) -> None:
        self.clear.clear()

    def caller_resumed(self) -> None:
        self.clear.set()


class _Answer:
    """One answer in the making."""

    def __init__(self, exchange: Exchange, visit: SimulatedRequest, gap: float) -> None:
        self._exchange = exchange
        self._visit = visit
        self._gap = gap
        self._flow = _Flow()

    async def run(self) -> None:
        path = self._visit.path.rstrip("/")
        if path.endswith("/models"):
            self._send(200, _JSON, dialects.model_list(tuple(f"sim-{name}" for name in SCENARIOS)))
            return
        if path.endswith("/embeddings") and self._visit.method == "POST":
            await self._embed()
            return
        if self._visit.method == "POST" and await self._pass(path):
            return
        counting = path.endswith("/messages/count_tokens")
        dialect = _dialect_of(path)
        if dialect is None or self._visit.method != "POST":
            self._send(404, _JSON, dialects.error("chat", 404, "The simulator has no such route."))
            return
        try:
            ask = read_request(self._visit.body, dialect)
        except Unreadable as error:
            self._send(400, _JSON, dialects.error(dialect, 400, str(error)))
            return
        scenarios = self._scenarios(ask.model)
        if counting:
            self._send(200, _JSON, dialects.counted(ask.input_tokens))
            return
        await self._wait(scenarios)
        if self._misbehave(dialect, scenarios, _SSE if ask.stream else _JSON):
            return
        if ask.stream and "whole" not in scenarios:
            await self._stream(ask, scenarios)
        else:
            await self._whole(dialects.whole_answer(dialect, compose_answer(ask, scenarios)), scenarios)

    async def _embed(self) -> None:
        """Answer with embeddings, whose errors have Chat's form."""
        try:
            ask = read_embedding_request(self._visit.body)
        except Unreadable as error:
            self._send(400, _JSON, dialects.error("chat", 400, str(error)))
            return
        scenarios = self._scenarios(ask.model)
        await self._wait(scenarios)
        if not self._misbehave("chat", scenarios, _JSON):
            await self._whole(embeddings_answer(ask, scenarios), scenarios)

    async def _pass(self, path: str) -> bool:
        """Answer in a format that is passed through, whose errors have Chat's form; whether the path is of one."""
        try:
            answer = format_answer(path, self._visit.body)
        except Unreadable as error:
            self._send(400, _JSON, dialects.error("chat", 400, str(error)))
            return True
        if answer is None:
            return False
        scenarios = self._scenarios(answer.model)
        await self._wait(scenarios)
        if self._misbehave("chat", scenarios, answer.content_type):
            return True
        if not answer.streams:
            await self._whole(answer.pieces[0], scenarios, answer.content_type)
            return True
        pieces, half = answer.pieces, max(len(answer.pieces) // 2, 1)
        at = next((number(scenarios[name], half) for name in _BROKEN if name in scenarios), len(pieces))
        self._start(200, answer.content_type, None)
        self._exchange.watch(self._flow)
        await self._play(iter(pieces[:at]), scenarios, "chat")
        if "cut" in scenarios:
            self._cut()
        elif "error-in-stream" in scenarios:
            said = "A simulated error in the middle of a stream."
            self._end(dialects.simulated_error_frame("chat", said))
        else:
            if "hang-mid" in scenarios:
                self._exchange.flush()
                await self._visit.proceed.wait()
            await self._play(iter(() if "unfinished" in scenarios else pieces[at:]), scenarios, "chat")
            self._end(b"")
        return True

    def _scenarios(self, model: str) -> dict[str, str]:
        header = self._exchange.header(b"x-simulate")
        return scenarios_of(model, None if header is None else header.decode("latin-1"))

    async def _wait(self, scenarios: Mapping[str, str]) -> None:
        """Let the time pass that goes before the answer."""
        if "slow" in scenarios:
            self._gap = number(scenarios["slow"], 50) / 1000
        if "first" in scenarios:
            await asyncio.sleep(number(scenarios["first"], 1000) / 1000)
        if "hang" in scenarios:
            await self._visit.proceed.wait()

    def _misbehave(
        self, dialect: SimulatedDialect, scenarios: Mapping[str, str], content_type: bytes
    ) -> bool:
        """Answer with a failure in place of an answer, if a scenario wants it."""
        for name in scenarios:
            status = name.removeprefix("error-")
            if name.startswith("error-") and status.isdigit() and status != "200":
                message = scenarios[name] or f"A simulated error with status {status}."
                self._send(int(status), _JSON, dialects.error(dialect, int(status), message))
                return True
        if "overflow" in scenarios:
            code = None if dialect == "messages" else "context_length_exceeded"
            self._send(400, _JSON, dialects.error(dialect, 400, _OVERFLOW[dialect], code))
        elif "error-200" in scenarios:
            self._send(200, _JSON, dialects.error(dialect, 529, "A simulated error in a good answer."))
        elif "html" in scenarios:
            self._send(200, b"text/html", b"<html><body>A simulated page of some proxy.</body></html>")
        elif "empty" in scenarios:
            self._send(200, content_type, b"")
        elif "garbage" in scenarios:
            self._send(200, content_type, b'data: {"simulated": gar\x00bage\n\n}]{{\r\n\n')
        else:
            return False
        return True

    # ---- whole answers

    async def _whole(self, body: bytes, scenarios: Mapping[str, str], content_type: bytes = _JSON) -> None:
        if "badutf8" in scenarios:
            body = _spoilt(body)
        half = len(body) // 2
        if "cut" in scenarios or "hang-mid" in scenarios:
            self._start(200, content_type, len(body))
            self._write(body[:half])
            if "cut" in scenarios:
                self._cut()
                return
            await self._visit.proceed.wait()
            self._end(body[half:])
        elif "drip" in scenarios:
            self._start(200, content_type, len(body))
            for piece in _dripped((body,), number(scenarios["drip"], 1)):
                self._write(piece)
                await asyncio.sleep(self._gap)
            self._end(b"")
        else:
            self._send(200, content_type, body)

    # ---- streams

    async def _stream(self, ask: Ask, scenarios: Mapping[str, str]) -> None:
        frames = list(
            dialects.frames(ask.dialect, compose_answer(ask, scenarios), include_usage=ask.include_usage)
        )
        half = max(len(frames) // 2, 1)
        last = frames.pop() if "unfinished" not in scenarios else b""
        if "unfinished" in scenarios:
            del frames[half:]
        if "badutf8" in scenarios:
            frames[half] = _spoilt(frames[half])
        self._start(200, _SSE, None)
        self._exchange.watch(self._flow)
        for name in ("cut", "hang-mid", "error-in-stream"):
            if name not in scenarios:
                continue
            at = number(scenarios[name], half)
            await self._play(iter(frames[:at]), scenarios, ask.dialect)
            if name == "cut":
                self._cut()
                return
            if name == "error-in-stream":
                self._end(
                    dialects.simulated_error_frame(
                        ask.dialect, "A simulated error in the middle of a stream."
                    )
                )
                return
            self._exchange.flush()
            await self._visit.proceed.wait()
            frames = frames[at:]
        await self._play(iter(frames), scenarios, ask.dialect)
        self._end(last)

    async def _play(
        self, frames: Iterator[bytes], scenarios: Mapping[str, str], dialect: SimulatedDialect
    ) -> None:
        """Write the frames one by one, with the gap after each, no faster than the caller reads."""
        async for piece in self._paced(frames, scenarios, dialect):
            self._write(piece)

    async def _paced(
        self, frames: Iterator[bytes], scenarios: Mapping[str, str], dialect: SimulatedDialect
    ) -> AsyncIterator[bytes]:
        pieces = _dripped(frames, number(scenarios["drip"], 1)) if "drip" in scenarios else frames
        for piece in pieces:
            if self._exchange.stalled:
                await self._flow.clear.wait()
            yield piece
            if "pings" in scenarios:
                yield dialects.keepalive(dialect)
            if self._gap > 0:
                await asyncio.sleep(self._gap)

    # ---- the exchange

    def _start(self, status: int, content_type: bytes, length: int | None) -> None:
        headers: HeaderList = [(b"content-type", content_type), (b"x-request-id", b"req_simulated")]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if status in (429, 503, 529):
            headers.append((b"retry-after", b"7"))
        self._exchange.start(status, headers)

    def _write(self, data: bytes) -> None:
        self._visit.written += len(data)
        self._exchange.write(data)

    def _end(self, data: bytes) -> None:
        self._visit.written += len(data)
        self._exchange.end(data)

    def _cut(self) -> None:
        self._visit.outcome = "cut"
        self._exchange.abort()

    def _send(self, status: int, content_type: bytes, body: bytes) -> None:
        self._start(status, content_type, len(body))
        self._end(body)


def _dialect_of(path: str) -> SimulatedDialect | None:
    if path.endswith("/chat/completions"):
        return "chat"
    if path.endswith(("/messages", "/messages/count_tokens")):
        return "messages"
    return "responses" if path.endswith("/responses") else None


def _dripped(frames: Iterator[bytes] | tuple[bytes, ...], size: int) -> Iterator[bytes]:
    size = max(size, 1)
    for frame in frames:
        for at in range(0, len(frame), size):
            yield frame[at : at + size]


def _spoilt(data: bytes) -> bytes:
    """With a byte that UTF-8 never has, inside a string of the JSON."""
    at = data.rfind(b'"')
    return data[:at] + b"\xff" + data[at:]
