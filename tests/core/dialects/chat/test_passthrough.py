"""The byte lane of Chat: the same bytes out but for the model, and usage, end and failure on the side."""

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.dialects.chat.dialect import Passthrough, ResponseDecoder, passthrough_response
from penstock.core.neutral.events import AnyEvent, Failed, Metered, Stopped
from penstock.core.neutral.fold import fold
from penstock.core.neutral.usage import Usage

VECTORS = Path(__file__).parents[3] / "vectors" / "chat"
STREAMS = sorted(path.parent for path in VECTORS.glob("*/upstream.sse"))
WHOLE = sorted(path.parent for path in VECTORS.glob("*/upstream.json"))


def expected(case: Path) -> list[AnyEvent]:
    return msgspec.json.decode((case / "events.json").read_bytes(), type=list[AnyEvent])


def is_event_stream(case: Path) -> bool:
    return not (case / "upstream.sse").read_bytes().startswith((b"{", b"<"))


GOOD = [case for case in STREAMS if is_event_stream(case) and isinstance(expected(case)[-1], Stopped)]
BAD = [case for case in STREAMS if isinstance(expected(case)[-1], Failed)]


def relay(
    pieces: list[bytes], *, model: str | None = None, withhold_usage: bool = False
) -> tuple[bytes, Passthrough]:
    meter = Passthrough(model=model, withhold_usage=withhold_usage)
    out = b"".join(meter.feed(piece) for piece in pieces)
    out += meter.finish()
    assert meter.ended
    assert meter.finish() == b""
    assert meter.feed(b"data: {}\n\n") == b""
    return out, meter


def cut(data: bytes, at: list[int]) -> list[bytes]:
    return [data[a:b] for a, b in pairwise([0, *sorted(at), len(data)])]


def through_done(data: bytes) -> bytes:
    """What is relayed of a good stream: all of it to its end, which is added where the upstream forgot it."""
    at = data.find(b"[DONE]")
    if at < 0:
        return data + b"data: [DONE]\n\n"
    end = data.find(b"\n\n", at)
    return data + b"\n\n" if end < 0 else data[: end + 2]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_good_stream_passes_unchanged_at_any_split(case: Path) -> None:
    data = (case / "upstream.sse").read_bytes()
    wanted = through_done(data)
    reply = fold(expected(case))
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        out, meter = relay(pieces)
        assert out == wanted
        assert meter.usage == reply.usage
        assert meter.failure is None
        assert meter.done
        assert meter.started
        assert meter.stop is not None


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"], ids=["crlf", "cr"])
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_good_stream_with_other_line_ends_passes_unchanged(case: Path, ending: bytes) -> None:
    data = through_done((case / "upstream.sse").read_bytes()).replace(b"\n", ending)
    out, meter = relay([data])
    assert out == data
    assert meter.failure is None
    for at in range(0, len(data), 7):
        pieces = [data[:at], data[at:]]
        # the LF of the very last CRLF may come after the end was seen
        assert relay(pieces)[0] in {data, data[:-1]}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_a_failure_is_kept_from_the_caller(case: Path) -> None:
    data = (case / "upstream.sse").read_bytes()
    failed = expected(case)[-1]
    assert isinstance(failed, Failed)
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        out, meter = relay(pieces)
        assert meter.failure is not None
        assert meter.failure.truncated == failed.truncated
        assert b"[DONE]" not in out
        assert b"error" not in out.replace(b'"finish_reason":"error"', b"")
        assert data.startswith(out)


FRAME = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up/x", "choices": []}
TEXTS = [
    "plain",
    '"model":"up/x"',
    '{"model":"up/x"}',
    "usage error finish_reason",
    "\\",
    "日本",
]


def frame(text: str, order: list[str], indent: int | None = None, **more: object) -> bytes:
    whole = {**FRAME, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    body = json.dumps({key: whole[key] for key in [*order, *more]}, ensure_ascii=False, indent=indent)
    return b"data: " + body.replace("\n", "\ndata: ").encode() + b"\n\n"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TEXTS),
            st.permutations(sorted(FRAME)),
            st.booleans(),
            st.sampled_from([None, None, 1]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(0, 2000), max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_only_the_model_changes(frames: list[tuple[str, list[str], bool, int | None]], at: list[int]) -> None:
    """Inner models, quoted ones and every order of members: the decoded chunk is the same but for its own model."""
    sent = b"".join(
        frame(text, order, indent, **({"extra": {"model": "up/x", "n": 1.50}} if nested else {}))
        for text, order, nested, indent in frames
    )
    sent += b'data: {"model":"up/x","choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    pieces = cut(sent, [min(place, len(sent)) for place in at])
    out, meter = relay(pieces, model="claude-x")
    assert meter.failure is None

    def chunks(data: bytes) -> list[object]:
        lines = data.replace(b"\ndata: ", b" ").replace(b"\n \n", b"\n\n").split(b"\n\n")
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if line and b"[DONE]" not in line]

    assert chunks(out) == [
        {**chunk, "model": "claude-x"} for chunk in chunks(sent) if isinstance(chunk, dict)
    ]


def test_the_splice_touches_nothing_else() -> None:
    sent = b'event: message\ndata: { "x" : 1.50,\t"model" : "up" , "choices" : [ {"delta":{"content":"\\u00e9"}} ] }\n\n'
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    out, _ = relay([sent + sent + end], model="pub")
    assert out == (sent + sent).replace(b'"up"', b'"pub"') + end


def test_the_same_model_needs_no_splice() -> None:
    sent = frame("hi", sorted(FRAME)) + b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert relay([sent], model="up/x")[0] == sent


USAGE = (
    b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
)
TEXT = b'data: {"model":"m","choices":[{"delta":{"content":"usage"},"finish_reason":null}],"usage":null}\n\n'
STOP = b'data: {"model":"m","choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"


def test_the_usage_that_only_we_asked_for_is_withheld() -> None:
    out, meter = relay([TEXT + STOP + USAGE + DONE], withhold_usage=True)
    assert out == TEXT + STOP + DONE
    assert meter.usage == Usage(input=5, output=2)
    assert relay([TEXT + STOP + USAGE + DONE])[0] == TEXT + STOP + USAGE + DONE


def test_usage_in_the_finish_is_not_withheld() -> None:
    finish = STOP.replace(b'"usage":null', b'"usage":{"prompt_tokens":5,"completion_tokens":2}')
    out, meter = relay([TEXT + finish + DONE], withhold_usage=True)
    assert out == TEXT + finish + DONE
    assert meter.usage == Usage(input=5, output=2)


def test_what_was_generated_is_counted_and_relayed_before_a_cut() -> None:
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a"}}]}}]}\n\n'
    meter = Passthrough(model=None, withhold_usage=False)
    assert not meter.started
    assert meter.feed(b": OPENROUTER PROCESSING\n\n") == b": OPENROUTER PROCESSING\n\n"
    assert not meter.started
    assert meter.feed(TEXT + call + TEXT[:20]) == TEXT + call
    assert meter.started
    assert not meter.done
    assert meter.output_bytes == len("usage") + len('{"a')
    assert meter.finish() == b""
    assert meter.failure == Failed("api_error", "upstream stream truncated", truncated=True)


def test_only_whole_frames_come_out_so_that_keepalives_fit_between() -> None:
    meter = Passthrough(model=None, withhold_usage=False)
    data = TEXT + STOP + DONE
    for at in range(len(data)):
        out = meter.feed(data[at : at + 1])
        assert out in {b"", TEXT, STOP, DONE}


def test_nothing_after_the_end_is_relayed() -> None:
    out, meter = relay([TEXT + STOP + DONE + TEXT + b"data: {"])
    assert out == TEXT + STOP + DONE
    assert meter.failure is None


@pytest.mark.parametrize("case", [c for c in STREAMS if not is_event_stream(c)], ids=lambda case: case.name)
def test_an_answer_that_is_no_stream_becomes_one(case: Path) -> None:
    events = expected(case)
    out, meter = relay([(case / "upstream.sse").read_bytes()], model="pub")
    if isinstance(events[-1], Failed):
        assert out == b""
        assert meter.failure is not None
        return
    assert meter.failure is None
    assert meter.started
    reader = ResponseDecoder()
    again = [*reader.feed(out), *reader.finish()]
    assert fold(again).parts[1:] == fold(events).parts[1:]  # a thought's signature names the model
    assert fold(again).model == "pub"
    assert out.endswith(DONE)


def test_an_unfinished_frame_may_not_grow_for_ever() -> None:
    meter = Passthrough(model=None, withhold_usage=False)
    assert meter.feed(TEXT) == TEXT
    for _ in range(5):
        meter.feed(b"data: " + b"x" * 1024 * 1024)
    assert meter.failure is not None
    assert "larger than" in meter.failure.message
    assert meter.ended


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes(body: bytes) -> None:
    for form in (body, TEXT + b"data: " + body + b"\n\n", b"{" + body):
        _, meter = relay([form], model="pub")
        assert (meter.failure is None) == meter.done
        out, _, failed, _ = passthrough_response(form, model="pub")
        assert (failed is None) == (out != b"")


# ---- whole answers


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_whole_answer(case: Path) -> None:
    body = (case / "upstream.json").read_bytes()
    events = expected(case)
    out, usage, failed, _ = passthrough_response(body, model=None)
    if isinstance(events[-1], Failed):
        assert out == b""
        assert failed == events[-1]
    elif body.startswith(b"data:"):
        assert failed is not None  # a stream where none was asked for cannot pass as it is
    else:
        assert out == body
        assert failed is None
        metered = [event.usage for event in events if isinstance(event, Metered)]
        assert usage == (metered[-1] if metered else Usage())


def test_the_model_of_a_whole_answer() -> None:
    body = b'{ "choices" : [{"message":{"content":"\\"model\\":\\"up\\""}}], "x":{"model":"up"},\n "model" : "up" }'
    out, _, failed, named = passthrough_response(body, model="pub")
    assert (failed, named) == (None, "up")
    assert out == body.replace(b'"model" : "up"', b'"model" : "pub"')
    assert passthrough_response(body, model="up")[0] is body


def test_the_end_of_another_choice_is_not_the_end_of_the_reply() -> None:
    frames = [
        {"model": "m", "choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": finish}]}
        for index, finish in ((0, None), (1, "length"))
    ]
    data = b"".join(f"data: {json.dumps(frame)}\n\n".encode() for frame in frames)
    _, meter = relay([data])
    assert meter.failure == Failed("api_error", "upstream stream truncated", truncated=True)
    assert not meter.done
    first = {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    _, meter = relay([data + f"data: {json.dumps(first)}\n\n".encode()])
    assert (meter.failure, meter.done, meter.stop) == (None, True, "end_turn")


@pytest.mark.parametrize(
    ("order", "whole"),
    [
        ("a0 a1 z0", False),
        ("a1 a0 z0", False),
        ("a0 a1 a2 z0 z2", False),
        ("a0 z0 a1", False),
        ("a0 a1 z1 z0", True),
        ("a0 a1 z0 z1", True),
        ("a0 a1 z0 a1 z1", True),
        ("a0 z0 z1", True),
    ],
)
def test_a_reply_ends_when_each_of_its_choices_has(order: str, whole: bool) -> None:
    data = b""
    for each in order.split():
        choice = {"index": int(each[1:]), "delta": {"content": "x"}}
        choice |= {"finish_reason": "stop"} if each[0] == "z" else {}
        data += f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode()
    out, meter = relay([data])
    assert out == data + (DONE if whole else b"")
    assert meter.failure == (
        None if whole else Failed("api_error", "upstream stream truncated", truncated=True)
    )
    assert relay([data + DONE])[1].failure is None, "the upstream says that it is the end"
