"""A dialect that upstreams alone speak: forty lines, registered here, serve callers of every format, whole and streamed."""

import json
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core import endpoints
from penstock.core.catalog import Target, Upstream
from penstock.core.dialects.interface import Dialect, UpstreamFormat, UpstreamSide
from penstock.core.dialects.registry import DIALECTS
from penstock.core.neutral.events import AnyEvent, Failed, Metered, Started, Stopped, TextDelta
from penstock.core.neutral.request import Loss, Request, Text
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.domain.catalog import catalog_store
from penstock.providers.table import KINDS
from tests.service.running_service import House, catalogue

# ---- the dialect: lines of text, a count of words, and a full stop


def encode_request(request: Request, *, model: str, profile: Profile) -> tuple[bytes, list[Loss]]:
    said = [part.text for turn in request.turns for part in turn.parts if isinstance(part, Text)]
    lost = [Loss("tools", "dropped")] if request.tools else []
    return json.dumps({"lines": said}).encode(), lost


class LineDecoder:
    answered = "lines"

    def __init__(self, *, profile: Profile) -> None:
        self._rest = b""
        self._began = False

    def feed(self, data: bytes) -> list[AnyEvent]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        events: list[AnyEvent] = [] if self._began else [Started("", "lines")]
        self._began = True
        for line in lines:
            match line.partition(b" "):
                case (b"say", _, text):
                    events.append(TextDelta(text.decode()))
                case (b"words", _, counts):
                    given, made = counts.split()
                    events.append(Metered(Usage(input=int(given), output=int(made))))
                case (b".", _, _):
                    events.append(Stopped("end_turn"))
                case _:
                    events.append(Failed("api_error", "no such line"))
        return events

    def finish(self) -> list[AnyEvent]:
        return [Failed("api_error", "cut", truncated=True)] if self._rest else []


def decode_response(body: bytes, profile: Profile) -> list[AnyEvent]:
    decoder = LineDecoder(profile=profile)
    return [*decoder.feed(body), *decoder.finish()]


LINES = Dialect(
    "lines",
    upstream=UpstreamSide(
        path=lambda model, stream: f"/{model}:{'stream' if stream else 'whole'}".encode(),
        encode_request=encode_request,
        ResponseDecoder=LineDecoder,
        decode_response=decode_response,
        error_text=lambda _status, body: body.decode(),
    ),
)

ANSWER = b"say Hello \nsay there\nwords 7 2\n.\n"


@pytest.fixture
async def lines(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The house with a model whose only upstream speaks ``lines``."""
    assert LINES.upstream is not None
    monkeypatch.setitem(cast("dict[str, Dialect]", DIALECTS), "lines", LINES)
    for table in (endpoints.SIDES, endpoints.FORMATS):
        monkeypatch.setitem(cast("dict[str, UpstreamFormat]", table), "lines", LINES.upstream)
    ports = {name: wire.port for name, wire in house.wires.items()}
    document = catalogue(1, ports)
    url = f"http://127.0.0.1:{ports['wire-chat']}/base"
    provider: Upstream = replace(
        KINDS["custom"], id="liner", speaks=(("lines", url),), secret="env:VENDOR_KEY"
    )
    wire = next(model for model in document.models if model.id == "wire-chat")
    model = replace(wire, id="line-model", name="line-model", targets=(Target("liner", "up-lines"),))
    plans = tuple(replace(plan, models=(*plan.models, "line-model")) for plan in document.plans)
    async with house.store.database.transaction() as conn:
        document = replace(
            document, providers=(*document.providers, provider), models=(*document.models, model), plans=plans
        )
        await catalog_store.apply_document(conn, document, KINDS, 2)
    await house.restart()
    return house


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@pytest.mark.parametrize("stream", [False, True])
async def test_it_serves_callers_of_every_format(lines: House, dialect: str, stream: bool) -> None:
    wire, user = lines.wires["wire-chat"], await lines.user()
    wire.script = lambda asked: (
        asked.begin(ANSWER[:9], ANSWER[9:], kind="text/plain") or asked.end()
        if stream
        else asked.answer(ANSWER)
    )
    if dialect == "responses":
        body = json.dumps({"model": "line-model", "input": "Hi", "stream": stream}).encode()
        answer = await lines.http("POST", "/v1/responses", user.key, body=body)
    else:
        answer = await lines.ask(dialect, "line-model", user, stream=stream)
    assert answer.status == 200
    assert "Hello there" in answer.body.decode() or pieces(answer.body) == [b"Hello ", b"there"]
    (asked,) = wire.asked
    assert asked.path == f"/base/up-lines:{'stream' if stream else 'whole'}"
    assert asked.headers["authorization"].startswith("Bearer ")
    assert "anthropic-version" not in asked.headers
    row = await lines.row(user)
    assert (row["dialect"], row["upstream_dialect"], row["outcome"]) == (dialect, "lines", "completed")
    assert (row["input_tokens"], row["output_tokens"]) == (7, 2)


def pieces(stream: bytes) -> list[bytes]:
    """The texts of a stream, in whichever format it is."""
    found: list[bytes] = []
    for line in stream.split(b"\n"):
        if line.startswith(b"data: {"):
            event: Any = msgspec.json.decode(line[6:])
            if event.get("type") in {"content_block_delta", "response.output_text.delta"}:
                delta = event["delta"]
                found.append((delta if isinstance(delta, str) else delta["text"]).encode())
            elif event.get("choices"):
                found.append((event["choices"][0]["delta"].get("content") or "").encode())
    return [text for text in found if text]


async def test_what_it_refuses_is_told_in_its_own_words(lines: House) -> None:
    wire, user = lines.wires["wire-chat"], await lines.user()
    wire.script = lambda asked: asked.answer(b"that many lines are too many", 400)
    answer = await lines.ask("messages", "line-model", user)
    assert (answer.status, answer.json["error"]) == (400, "that many lines are too many")


async def test_what_it_cannot_say_is_told_or_refused(lines: House) -> None:
    wire, user = lines.wires["wire-chat"], await lines.user()
    wire.script = lambda asked: asked.answer(ANSWER)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await lines.ask("chat", "line-model", user, tools=[tool])
    assert answer.headers["x-penstock-translation"] == "tools=dropped"
    strict = await lines.ask("chat", "line-model", user, tools=[tool], headers={"x-penstock-strict": "1"})
    assert strict.status == 400
