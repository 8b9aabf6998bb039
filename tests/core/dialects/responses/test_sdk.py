"""The official OpenAI SDK as the judge of what we write: it parses our streams and whole responses."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from penstock.core.dialects.responses.dialect import KEEPALIVE, ResponseEncoder, encode_response
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
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

EVENTS: list[AnyEvent] = [
    Started("up", "upstream-model"),
    ThoughtDelta("Let me "),
    ThoughtDelta("see."),
    ThoughtSigned("EuSig"),
    ThoughtRedacted("opaque=="),
    TextDelta("Grüße "),
    TextDelta("😀"),
    Cited("https://a.example", "A", "so"),
    CallOpened("call_1", "get"),
    CallArgs('{"place":'),
    CallArgs('"Ulm"}'),
    CallOpened("functions.now:0", "now", "clock"),
    CallOpened("call_3", "patch", None, custom=True),
    CallArgs('{"input":"*** \\"'),
    CallArgs('Begin\\""}'),
    Metered(Usage(30, 12, 60, 10, 3)),
    Stopped("tool_use"),
]
REQUEST: Any = {"model": "m", "input": "hi"}


@asynccontextmanager
async def serving(body: bytes, content_type: str) -> AsyncGenerator[openai.AsyncOpenAI]:
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
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0) as client,
    ):
        yield client


def writer() -> ResponseEncoder:
    return ResponseEncoder(model="public", reply_id="resp_1", created=1, include_usage=True, input_estimate=7)


def dumped(response: Any) -> dict[str, Any]:
    """The response as data, without what the SDK's helper adds to it."""
    data = response.model_dump(exclude_none=True)
    for item in data["output"]:
        item.pop("parsed_arguments", None)
        for part in item.get("content", ()):
            part.pop("parsed", None)
    return data


async def streamed(body: bytes) -> Any:
    async with serving(body, "text/event-stream") as client, client.responses.stream(**REQUEST) as stream:
        return await stream.get_final_response()


async def test_the_sdk_builds_the_response_that_was_meant() -> None:
    writing = writer()
    body = b"".join(
        writing.write([event]) + (KEEPALIVE if at > 1 else b"") for at, event in enumerate(EVENTS)
    )
    response = await streamed(body)
    assert [item.type for item in response.output] == [
        "reasoning", "reasoning", "message", "function_call", "function_call", "custom_tool_call",
    ]  # fmt: skip
    thought, redacted, message, get, now, patch = response.output
    assert thought.summary[0].text == "Let me see."
    assert thought.encrypted_content.startswith("gwe1.")
    assert redacted.summary == []
    assert response.output_text == message.content[0].text == "Grüße 😀"
    assert message.content[0].annotations[0].url == "https://a.example"
    assert (get.call_id, get.name, get.arguments) == ("call_1", "get", '{"place":"Ulm"}')
    assert (now.name, now.namespace, now.arguments) == ("now", "clock", "{}")
    assert (patch.name, patch.input) == ("patch", '*** "Begin"')
    assert (response.id, response.model, response.status) == ("resp_1", "public", "completed")
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 12, 112)
    assert usage.input_tokens_details.cached_tokens == 60
    assert usage.input_tokens_details.cache_write_tokens == 10
    assert usage.output_tokens_details.reasoning_tokens == 3


async def test_streamed_and_whole_are_the_same_response() -> None:
    whole = encode_response(fold(EVENTS), model="public", reply_id="resp_1", created=1)
    async with serving(whole, "application/json") as client:
        response = await client.responses.create(**REQUEST)
    assert dumped(response) == dumped(await streamed(writer().write(EVENTS)))


async def test_the_events_are_the_sdks_own() -> None:
    """Every event is of a type that the SDK knows, and its model has every member that the API promises."""
    async with serving(writer().write(EVENTS), "text/event-stream") as client:
        stream = await client.responses.create(**REQUEST, stream=True)
        events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        required = {name for name, field in type(event).model_fields.items() if field.is_required()}
        assert required <= event.model_fields_set, event.type


async def test_a_failure_is_the_last_event() -> None:
    body = writer().write([*EVENTS[:7], Failed("api_error", "CUDA error on node 7")])
    async with serving(body, "text/event-stream") as client:
        stream = await client.responses.create(**REQUEST, stream=True)
        events: list[Any] = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message == "The provider broke off its answer."


@pytest.mark.parametrize(
    ("reason", "why"), [("max_tokens", "max_output_tokens"), ("refusal", "content_filter")]
)
async def test_incomplete_responses(reason: Any, why: str) -> None:
    body = encode_response(
        fold([Started("", ""), TextDelta("Cut"), Stopped(reason)]), model="m", reply_id="resp_1", created=1
    )
    async with serving(body, "application/json") as client:
        response = await client.responses.create(**REQUEST)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == why
    assert response.usage is None
