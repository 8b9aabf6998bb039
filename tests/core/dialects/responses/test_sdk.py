"""The official OpenAI SDK as the judge of what we write: it parses our streams and whole responses."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from msgspec import Raw, structs
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from penstock.core.dialects.interface import Asked
from penstock.core.dialects.registry import caller_side, read_envelope
from penstock.core.dialects.responses.dialect import KEEPALIVE, ResponseEncoder, encode_response
from penstock.core.dialects.responses.request_echo import echoed
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


# ---- the schema


STREAM: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
FIELDS = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens",
    "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
"""What the Open Responses specification requires of every response object (read 2026-11-30)."""
SENT: dict[str, Any] = {
    "model": "m",
    "input": "hi",
    "instructions": "Be brief.\n",
    "metadata": {"a": "b"},
    "temperature": 0.2,
    "top_p": 0.5,
    "max_output_tokens": 9,
    "max_tool_calls": 3,
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "safety_identifier": "u",
    "user": "v",
    "truncation": "auto",
    "top_logprobs": 2,
    "tool_choice": {"type": "function", "name": "get"},
}
FUNCTION = {"type": "function", "name": "get", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "patch", "description": "p"}


def asked(**fields: Any) -> Asked:
    read = caller_side("responses").asked
    assert read is not None
    return read(
        read_envelope(json.dumps({"model": "m", "input": "hi", **fields}, indent=1).encode(), "responses")
    )


def checked(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of them by the SDK's schema to the letter."""
    events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]
    for event in events:
        STREAM.validate_python(event, strict=True)
    return events


ENDS: list[list[AnyEvent]] = [
    EVENTS,
    [Started("", "m"), TextDelta("Cut"), Stopped("max_tokens")],
    [Started("", "m"), TextDelta("Why"), Stopped("refusal", None, "I will not.")],
    [Started("", "m"), TextDelta("Half"), Failed("api_error", "x")],
    [Failed("overloaded_error", "x")],
    [Started("", "m"), CallOpened("c", "patch", None, custom=True), Stopped("tool_use")],
    [Started("", "m"), Stopped("end_turn")],
]


@pytest.mark.parametrize(
    "events", ENDS, ids=["all", "cut", "refused", "broken", "failed", "custom", "nothing"]
)
@pytest.mark.parametrize("fields", [{}, SENT], ids=["plain", "asked"])
def test_every_event_and_every_response_is_of_the_schema(
    events: list[AnyEvent], fields: dict[str, Any]
) -> None:
    wanted = asked(**fields, tools=[FUNCTION, CUSTOM])
    writing = ResponseEncoder(
        model="public", reply_id="resp_1", created=1, include_usage=True, input_estimate=7, asked=wanted
    )
    responses = [event["response"] for event in checked(writing.write(events)) if "response" in event]
    assert len(responses) == 3
    if not isinstance(events[-1], Failed):
        whole = encode_response(fold(events), model="public", reply_id="resp_1", created=1, asked=wanted)
        responses.append(json.loads(whole))
    for response in responses:
        Response.model_validate(response, strict=True)
        assert set(response) >= FIELDS
        assert (
            response.items()
            >= {name: value for name, value in fields.items() if name not in ("model", "input")}.items()
        )
        assert response["tools"] == [{"description": None, "strict": None, **FUNCTION}, CUSTOM]


def test_what_was_not_asked_for_has_its_default() -> None:
    events = checked(writer().write(EVENTS))
    first, last = events[0]["response"], events[-1]["response"]
    for response in (first, last):
        given = {name: response[name] for name in FIELDS - {"output", "usage", "status", "completed_at"}}
        assert given == {
            "id": "resp_1", "object": "response", "created_at": 1, "incomplete_details": None, "model": "public",
            "previous_response_id": None, "instructions": None, "error": None, "tools": [], "tool_choice": "auto",
            "truncation": "disabled", "parallel_tool_calls": True,
            "text": {"format": {"type": "text"}, "verbosity": "medium"}, "top_p": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "top_logprobs": 0, "temperature": 1.0,
            "reasoning": {"effort": None, "summary": None}, "max_output_tokens": None, "max_tool_calls": None,
            "store": False, "background": False, "service_tier": "default", "metadata": {}, "safety_identifier": None,
            "prompt_cache_key": None,
        }  # fmt: skip
    assert (first["completed_at"], last["completed_at"]) == (None, 1)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high", "summary": None}}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({"text": {"verbosity": "low"}}, {"text": {"format": {"type": "text"}, "verbosity": "low"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
            {
                "text": {
                    "format": {
                        "type": "json_schema", "name": "n", "schema": {"type": "object"}, "description": None,
                        "strict": False,
                    },
                    "verbosity": "medium",
                }
            },
        ),
        ({"metadata": {"a": 1}}, {"metadata": {}}),
        ({"metadata": None, "temperature": None, "tools": None}, {"metadata": {}, "temperature": 1.0, "tools": []}),
        ({"truncation": "sometimes"}, {"truncation": "disabled"}),
        ({"background": True, "store": True}, {"background": False, "store": False}),
        ({"tools": [{"type": "brand_new"}, {"type": "web_search"}]}, {"tools": [{"type": "web_search"}]}),
        ({"tools": [5, {"type": 5}]}, {"tools": []}),
        ({"tools": 5, "text": 5, "reasoning": []}, {"tools": [], "reasoning": {"effort": None, "summary": None}}),
    ],
)  # fmt: skip
def test_what_was_asked_for_is_said_as_far_as_a_response_can(
    sent: dict[str, Any], said: dict[str, Any]
) -> None:
    members = json.loads(
        b"{" + echoed({name: Raw(json.dumps(value)) for name, value in sent.items()})[1:] + b"}"
    )
    assert members.items() >= said.items()


def test_a_frame_is_one_line_whatever_the_caller_wrote() -> None:
    wanted = asked(tools=[FUNCTION], instructions="a\nb", tool_choice={"type": "function", "name": "get"})
    assert b"\n" not in wanted.members
    assert b"\r" not in wanted.members


def test_the_time_of_the_end_is_by_the_clock() -> None:
    wanted = structs.replace(asked(), clock=lambda: 12.7)
    whole = encode_response(fold(EVENTS), model="m", reply_id="resp_1", created=1, asked=wanted)
    assert json.loads(whole)["completed_at"] == 12
