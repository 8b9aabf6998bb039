"""What Chat callers get: every vector, the official SDK as judge, and a way back into the same events."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from penstock.core.dialects.chat.dialect import (
    KEEPALIVE,
    ResponseDecoder,
    ResponseEncoder,
    decode_response,
    encode_response,
    error_frame,
)
from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Cited,
    Failed,
    Metered,
    Reply,
    Started,
    Stopped,
    StopReason,
    TextDelta,
    ThoughtDelta,
    ThoughtRedacted,
    ThoughtSigned,
)
from penstock.core.neutral.fold import events_of, fold
from penstock.core.neutral.request import Text, Thought, ToolCall
from penstock.core.neutral.usage import Usage
from penstock.errors import Overloaded

VECTORS = Path(__file__).parents[3] / "vectors" / "chat"
CASES = sorted(path.parent for path in VECTORS.glob("*/caller.sse"))


def writer(*, include_usage: bool = True) -> ResponseEncoder:
    return ResponseEncoder(
        model="claude-x",
        reply_id="chatcmpl-1",
        created=1_700_000_000,
        include_usage=include_usage,
        input_estimate=7,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stream(case: Path) -> None:
    events = msgspec.json.decode((case / "events.json").read_bytes(), type=list[AnyEvent])
    wanted = (case / "caller.sse").read_bytes()
    assert writer().write(events) == wanted
    single = writer()
    assert b"".join(single.write([event]) for event in events) == wanted


def test_vectors_are_there() -> None:
    assert len(CASES) > 10


def test_usage_is_left_out_unless_asked_for() -> None:
    events: list[AnyEvent] = [
        Started("a", "b"),
        TextDelta("x"),
        Metered(Usage(input=1, output=2)),
        Stopped("end_turn"),
    ]
    with_usage, without = writer().write(events), writer(include_usage=False).write(events)
    assert with_usage.count(b"data: ") == without.count(b"data: ") + 1
    assert b"usage" not in without
    assert without.endswith(b"data: [DONE]\n\n")


def test_a_failure_is_told_in_our_words_and_is_the_last_thing() -> None:
    telling = writer()
    telling.error = Overloaded("Try again later.")
    out = telling.write(
        [
            Started("a", "b"),
            TextDelta("x"),
            Failed("api_error", "http://10.0.0.1 said no"),
            Stopped("end_turn"),
        ]
    )
    assert out.endswith(error_frame(Overloaded("Try again later."), "chatcmpl-1"))
    assert b"10.0.0.1" not in out
    assert b"[DONE]" not in out
    assert telling.write([TextDelta("more")]) == b""


# ---- the official SDK


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[openai.OpenAI, dict[str, bytes]]]:
    """A client of a server that answers every request with what stands in the dict under its model."""
    answers: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = answers[sent["model"]]
            self.send_response(200)
            self.send_header(
                "content-type", "text/event-stream" if sent.get("stream") else "application/json"
            )
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the library calls it by
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", api_key="none", max_retries=0
    )
    yield client, answers
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


RICH: list[AnyEvent] = [
    Started("msg_1", "up"),
    ThoughtDelta("I "),
    ThoughtDelta("think"),
    ThoughtSigned("sig=="),
    ThoughtRedacted("opaque"),
    TextDelta("Let me "),
    TextDelta("look."),
    Cited("https://a.example", "A"),
    Cited("https://b.example", "B"),
    CallOpened("functions.add:0", "a"),
    CallArgs('{"x":'),
    CallArgs('"日本 🎉"}'),
    CallOpened("toolu_2", "b"),
    Metered(Usage(input=5, output=9, cache_read=3, cache_write=2, reasoning=4)),
    Stopped("tool_use"),
]


def test_the_sdk_reads_a_stream(served: tuple[openai.OpenAI, dict[str, bytes]]) -> None:
    client, answers = served
    frames = writer().write(RICH).split(b"\n\n")
    answers["m"] = KEEPALIVE + KEEPALIVE.join(frame + b"\n\n" for frame in frames if frame)
    with client.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": "x"}], stream_options={"include_usage": True}
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    check_rich(final)


def test_the_sdk_reads_a_whole_answer(served: tuple[openai.OpenAI, dict[str, bytes]]) -> None:
    client, answers = served
    answers["m"] = encode_response(fold(RICH), model="claude-x", reply_id="chatcmpl-1", created=1_700_000_000)
    check_rich(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}]))


def check_rich(answer: ChatCompletion) -> None:
    assert answer.id == "chatcmpl-1"
    assert answer.model == "claude-x"
    assert answer.created == 1_700_000_000
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    message = choice.message
    assert message.role == "assistant"
    assert message.content == "Let me look."
    calls = message.tool_calls or []
    assert [call.id for call in calls] == ["gwi_ZnVuY3Rpb25zLmFkZDow", "toolu_2"]
    assert [call.type for call in calls] == ["function", "function"]
    functions = [call.function for call in calls if call.type == "function"]
    assert [function.name for function in functions] == ["a", "b"]
    assert [json.loads(function.arguments) for function in functions] == [{"x": "日本 🎉"}, {}]
    extra = message.model_extra or {}
    assert extra["reasoning_content"] == "I think"
    assert [
        {key: value for key, value in entry.items() if value is not None}
        for entry in extra["reasoning_details"]
    ] == [
        {
            "type": "reasoning.text",
            "index": 0,
            "text": "I think",
            "format": "anthropic-claude-v1",
            "signature": "sig==",
        },
        {"type": "reasoning.encrypted", "index": 1, "data": "opaque", "format": "anthropic-claude-v1"},
    ]
    assert [note.url_citation.url for note in message.annotations or []] == [
        "https://a.example",
        "https://b.example",
    ]
    usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 9, 19)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 4


def test_the_sdk_raises_on_a_failure_inside_a_stream(served: tuple[openai.OpenAI, dict[str, bytes]]) -> None:
    client, answers = served
    answers["m"] = writer().write(
        [Started("a", "b"), TextDelta("x"), Failed("api_error", "secret", truncated=True)]
    )
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    with pytest.raises(openai.APIError, match="The provider broke off its answer") as raised:
        for _ in stream:
            pass
    assert raised.value.code == "provider_cut"


def test_the_sdk_raises_its_own_errors_for_refusal_and_length(
    served: tuple[openai.OpenAI, dict[str, bytes]],
) -> None:
    client, answers = served
    wanted: list[tuple[StopReason, type[openai.OpenAIError]]] = [
        ("refusal", openai.ContentFilterFinishReasonError),
        ("max_tokens", openai.LengthFinishReasonError),
    ]
    for reason, error in wanted:
        answers["m"] = writer().write([Started("a", "b"), TextDelta("x"), Stopped(reason)])
        with (
            pytest.raises(error),
            client.chat.completions.stream(
                model="m",
                messages=[{"role": "user", "content": "x"}],
                tools=[{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}],
            ) as stream,
        ):
            stream.until_done()


# ---- there and back

TEXT = st.text(min_size=1, max_size=12).filter(lambda text: not text.isspace())
ARGUMENTS = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=9) | st.none(), max_size=3
).map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))
NATIVE = st.builds(
    Thought, text=TEXT, signature=st.none() | st.from_regex(r"[A-Za-z0-9+/]{1,12}={0,2}", fullmatch=True)
)
COUNT = st.integers(0, 10**6)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Replies as a Chat answer can say them: at most one thought, then one text, then calls."""
    thoughts = draw(st.lists(NATIVE, max_size=1))
    texts = [Text(text) for text in draw(st.lists(TEXT, max_size=1))]
    ids = draw(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True), max_size=3, unique=True))
    ids = [id for id in ids if not id.startswith(("gwi_", "gwh_"))]
    calls = [ToolCall(id, draw(st.from_regex(r"[a-z_]{1,8}", fullmatch=True)), draw(ARGUMENTS)) for id in ids]
    ends: list[StopReason] = ["tool_use"] if calls else ["end_turn", "max_tokens", "context_window"]
    reason = draw(st.sampled_from(ends))
    output = draw(COUNT)
    usage = Usage(input=draw(COUNT), output=output, cache_read=draw(COUNT), cache_write=draw(COUNT))
    return Reply("id-1", "m", (*thoughts, *texts, *calls), usage, reason)


def comparable(reply: Reply) -> Reply:
    """A reply without what Chat gives another name: a signature becomes part of ours."""
    parts = tuple(
        Thought(part.text, None if part.signature is None else "signed")
        if isinstance(part, Thought)
        else part
        for part in reply.parts
    )
    return msgspec.structs.replace(reply, parts=parts)


def sign_all(reply: Reply) -> Reply:
    parts = tuple(Thought(part.text, "signed") if isinstance(part, Thought) else part for part in reply.parts)
    return msgspec.structs.replace(reply, parts=parts)


@given(replies(), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_stream_and_whole_answer_say_the_same(reply: Reply, size: int) -> None:
    sent = ResponseEncoder(model="m", reply_id="id-1", created=1, include_usage=True, input_estimate=0).write(
        events_of(reply)
    )
    reader = ResponseDecoder()
    events = [event for at in range(0, len(sent), size) for event in reader.feed(sent[at : at + size])]
    streamed = fold([*events, *reader.finish()])
    whole = fold(decode_response(encode_response(reply, model="m", reply_id="id-1", created=1)))
    assert streamed == whole
    assert comparable(whole) == sign_all(reply)


@given(replies())
@settings(max_examples=50, deadline=None)
def test_the_same_reply_gives_the_same_bytes(reply: Reply) -> None:
    first, second = (encode_response(reply, model="m", reply_id="i", created=1) for _ in range(2))
    assert first == second
