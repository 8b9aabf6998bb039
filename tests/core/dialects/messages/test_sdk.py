"""The official Anthropic SDK as the judge of what we write: it accumulates our streams into messages."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from penstock.core.dialects.messages.dialect import KEEPALIVE, ResponseEncoder, encode_response, error_frame
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Metered,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage
from penstock.errors import ProviderOverloaded

EVENTS: list[AnyEvent] = [
    Started("up", "upstream-model"),
    ThoughtDelta("Let me "),
    ThoughtDelta("see."),
    ThoughtSigned("EuSig"),
    ThoughtRedacted("opaque=="),
    ThoughtSigned("EuEmpty"),
    TextDelta("Grüße "),
    TextDelta("😀"),
    Cited("https://a.example", "A", "so"),
    CallOpened("toolu_1", "get"),
    CallArgs('{"place":'),
    CallArgs('"Ulm"}'),
    CallOpened("functions.now:0", "now"),
    TextDelta("and"),
    ThoughtDelta("unsigned"),
    Metered(Usage(30, 12, 60, 10, 3)),
    Stopped("tool_use"),
]


@asynccontextmanager
async def serving(body: bytes, content_type: str) -> AsyncGenerator[anthropic.AsyncAnthropic]:
    """A client of a server that answers everything with ``body``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\nconnection: close\r\n\r\n%s"
            % (content_type.encode(), body)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        anthropic.AsyncAnthropic(
            base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0
        ) as client,
    ):
        yield client


REQUEST: Any = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def writer() -> ResponseEncoder:
    return ResponseEncoder(model="public", reply_id="msg_1", created=1, include_usage=True, input_estimate=7)


def content(message: anthropic.types.Message) -> list[dict[str, Any]]:
    return [block.model_dump(exclude_none=True) for block in message.content]


async def streamed(body: bytes) -> anthropic.types.Message:
    async with serving(body, "text/event-stream") as client, client.messages.stream(**REQUEST) as stream:
        return await stream.get_final_message()


async def test_the_sdk_builds_the_message_that_was_meant() -> None:
    writing = writer()
    body = b"".join(
        writing.write([event]) + (KEEPALIVE if at > 1 else b"") for at, event in enumerate(EVENTS[:-1])
    )
    message = await streamed(body + writing.write(EVENTS[-1:]))
    blocks = content(message)
    assert [block["type"] for block in blocks] == [
        "thinking", "redacted_thinking", "thinking", "text", "tool_use", "tool_use", "text", "thinking",
    ]  # fmt: skip
    assert blocks[0] == {"type": "thinking", "thinking": "Let me see.", "signature": "EuSig"}
    assert blocks[1]["data"] == "opaque=="
    assert blocks[2] == {"type": "thinking", "thinking": "", "signature": "EuEmpty"}
    assert blocks[3]["text"] == "Grüße 😀"
    assert blocks[3]["citations"][0]["url"] == "https://a.example"
    assert (blocks[4]["id"], blocks[4]["input"]) == ("toolu_1", {"place": "Ulm"})
    assert blocks[5]["input"] == {}
    assert blocks[7]["signature"].startswith("gw1.")
    assert (message.id, message.model, message.stop_reason) == ("msg_1", "public", "tool_use")
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (30, 12)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (60, 10)


async def test_streamed_and_whole_are_the_same_message() -> None:
    whole = encode_response(fold(EVENTS), model="public", reply_id="msg_1", created=1)
    async with serving(whole, "application/json") as client:
        message = await client.messages.create(**REQUEST)
    assert content(message) == content(await streamed(writer().write(EVENTS)))
    assert json.loads(whole)["usage"]["input_tokens"] == message.usage.input_tokens


async def test_an_error_inside_a_stream_is_raised_with_our_text() -> None:
    started = writer().write([Started("", ""), TextDelta("Hi")])
    frame = error_frame(ProviderOverloaded("The provider is overloaded."), "req_1")
    with pytest.raises(anthropic.APIStatusError) as caught:
        await streamed(started + frame)
    assert "The provider is overloaded." in str(caught.value)
