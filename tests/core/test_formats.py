"""Formats without a dialect: what is taken of a body, of a form, of a whole answer and of a stream."""

import json
from typing import Any

import msgspec
import pytest

from penstock.core.body.cost_fields import says_cost
from penstock.core.body.envelope import Envelope, read_body, scan_body
from penstock.core.dialects.prepare import pass_through
from penstock.core.endpoints import ENDPOINTS, FORMATS, Endpoint
from penstock.core.formats import completions, images, moderations, rerank, speech, streams, transcriptions
from penstock.core.formats.answers import WholeAnswers, usage_in
from penstock.core.formats.multipart import MAX_MODEL_NAME, MAX_PARTS, form_type, read_parts
from penstock.core.formats.streams import BYTES, EVENT_STREAM, EventLane, WholeLane, passed_lane
from penstock.core.neutral.usage import Usage
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.errors import InvalidRequest, ProviderError

JSON = {
    completions: {"prompt": "x"},
    images: {"prompt": "x"},
    moderations: {"input": "x"},
    rerank: {"query": "x", "documents": ["x"]},
    speech: {"input": "x"},
}


def read(format_: Any, **fields: Any) -> Envelope:
    body = {"model": "m", **JSON[format_], **fields}
    return read_body(
        json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), format_.CALLER.body
    )


def row(name: str) -> Endpoint:
    return next(row for row in ENDPOINTS if row.name == name and not row.beside)


# ---- requests


@pytest.mark.parametrize("format_", JSON, ids=lambda format_: format_.NAME)
def test_a_plain_request(format_: Any) -> None:
    envelope = read(format_)
    assert (envelope.model, envelope.stream) == ("m", format_ is speech)
    assert envelope.estimate_input() == 1
    passing = format_.UPSTREAM.passing
    prepared = pass_through(envelope, passing, "up", DEFAULT_PROFILE, False, None)
    assert json.loads(prepared.body)["model"] == "up"
    more = pass_through(envelope, passing, "up", Profile(extra_body='{"x":1}'), False, None)
    assert json.loads(more.body)["x"] == 1
    assert format_.UPSTREAM.path("m", False) == row(format_.NAME).path.encode()
    assert FORMATS[format_.NAME] is format_.UPSTREAM


@pytest.mark.parametrize("format_", JSON, ids=lambda format_: format_.NAME)
def test_what_a_scanner_takes_is_read_the_same(format_: Any) -> None:
    rules = format_.CALLER.body
    for more in ({}, {"stream": False}, {"user": "u"}, {"max_tokens": 7}):
        body = json.dumps({"model": "m", **JSON[format_], **more}).encode()
        scanned = scan_body(body, rules, rules.scan)
        if scanned is not None and format_ is not speech:
            long = read_body(body, rules)
            assert (scanned.model, scanned.stream, scanned.max_tokens) == (
                long.model,
                long.stream,
                long.max_tokens,
            )


@pytest.mark.parametrize(
    ("format_", "fields"),
    [
        (completions, {"prompt": ["a", "b"], "stream": True, "max_tokens": 5}),
        (completions, {"prompt": [1, 2, 3]}),
        (completions, {"prompt": [[1], [2]]}),
        (images, {"stream": True}),
        (moderations, {"input": ["a"], "stream": False}),
        (rerank, {"documents": [{"text": "x"}]}),
    ],
)
def test_what_is_taken(format_: Any, fields: dict[str, Any]) -> None:
    envelope = read(format_, **fields)
    assert envelope.max_tokens == fields.get("max_tokens")
    assert envelope.stream is bool(fields.get("stream"))


@pytest.mark.parametrize(
    ("format_", "fields", "param"),
    [
        (completions, {"prompt": ...}, "prompt"),
        (completions, {"prompt": 7}, "prompt"),
        (completions, {"prompt": ["x"] * 17}, "prompt"),
        (completions, {"max_tokens": "x"}, "max_tokens"),
        (images, {"prompt": []}, "prompt"),
        (images, {"prompt": ["x"]}, "prompt"),
        (moderations, {"input": ""}, "input"),
        (moderations, {"stream": True}, "stream"),
        (rerank, {"query": None}, "query"),
        (rerank, {"documents": "x"}, "documents"),
        (rerank, {"documents": []}, "documents"),
        (rerank, {"documents": ["x"] * 10_001}, "documents"),
        (speech, {"input": {}}, "input"),
    ],
)
def test_what_is_refused(format_: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(format_, **fields)
    assert refused.value.param == param


def test_a_list_that_is_empty_but_for_blanks_is_empty() -> None:
    body = b'{"model":"m","query":"x","documents":[ ]}'
    with pytest.raises(InvalidRequest, match="must not be empty"):
        read_body(body, rerank.CALLER.body)


# ---- forms

FILE = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nsound\r\n'
MODEL = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper\r\n"
END = b"--b--\r\n"
FORM = MODEL + FILE + END


def field(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, value)


def form(body: bytes) -> Envelope:
    reads = transcriptions.CALLER.body.form
    assert reads is not None
    return reads(body)


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (FORM, False),
        (b"\r\n" + FORM, False),
        (field(b"stream", b"True") + FORM, True),
        (field(b"stream", b"0") + FORM, False),
        (field(b"language", b"de") + field(b"language", b"en") + FORM, False),
        (FORM.replace(b"--b\r\n", b"--b \t\r\n"), False),
        (FORM.replace(b"sound", b"a\r\n--\r\n-b"), False),
        (field(b"x", b"", b"\r\ncontent-transfer-encoding: 8bit\r\nx-y: z") + FORM, False),
        (FORM + b"epilogue", False),
    ],
)
def test_a_form_is_read_and_written_with_another_model(body: bytes, stream: bool) -> None:
    envelope = form(body)
    assert (envelope.model, envelope.stream, envelope.estimate_input()) == ("whisper", stream, 0)
    passing = transcriptions.UPSTREAM.passing
    assert passing is not None
    for strict in (False, True):
        prepared = pass_through(envelope, passing, "up", Profile(extra_body='{"x":1}'), strict, None)
        assert prepared.body == body.replace(b"whisper", b"up")
    assert passing.request(envelope, "whisper", DEFAULT_PROFILE, None).body == body
    assert envelope.features() == frozenset()
    assert envelope.value("language") == b""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "must be multipart"),
        (b"--b\r\n", "without its closing"),
        (MODEL + FILE, "without its closing"),
        (FORM.replace(b"sound", b"a--b"), "in the middle"),
        (FORM.replace(b"sound\r\n--b", b"sound\r\n--bc"), "in the middle"),
        (b"--b\r\nx\r\n" + END, "no end of its headers"),
        (b"--b\r\n\r\n\r\nx\r\n" + END, "header that is none"),
        (b"--b\r\nx: y\nz: w\r\n\r\nx\r\n" + END, "header that is none"),
        (b"--b\r\nx: y\r\n\r\nx\r\n" + END, "no name"),
        (field(b"x", b"", b"\r\ncontent-disposition: form-data; name=y") + FORM, "two names"),
        (field(b"x", b"", b"; name=y") + FORM, "two names"),
        (field(b"x", b"", b"; name*=utf-8''model") + FORM, "cannot be read"),
        (field(b"x\\y", b"") + FORM, "cannot be read"),
        (field(b"", b"") + FORM, "no name"),
        (field(b"\xff", b"") + FORM, "not valid UTF-8"),
        (b"--b\r\ncontent-disposition: attachment; name=x\r\n\r\n\r\n" + FORM, "no name"),
        (field(b"x", b"", b"\r\ncontent-transfer-encoding: base64") + FORM, "without a transfer encoding"),
        (field(b"x", b"") * MAX_PARTS + FORM, "more than"),
        (MODEL + FORM, "model is there twice"),
        (FILE + FORM, "file is there twice"),
        (FILE + END, "model is required"),
        (field(b"model", b" ") + FILE + END, "model is required"),
        (field(b"model", b"x", b"; filename=y") + FILE + END, "model is required"),
        (field(b"model", b"x" * (MAX_MODEL_NAME + 1)) + FILE + END, "longer than"),
        (field(b"model", b"\xff") + FILE + END, "not valid UTF-8"),
        (MODEL + END, "file is required"),
        (FORM.replace(b"sound", b""), "file is required"),
        (field(b"n", b"9") + FORM, "not taken in a form"),
        (field(b"Fallback_Model", b"x") + FORM, "not taken in a form"),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        form(body)


def test_no_json_is_a_form() -> None:
    with pytest.raises(InvalidRequest, match="multipart"):
        read_body(b'{"model":"m"}', transcriptions.CALLER.body)
    assert transcriptions.CALLER.body.scanned(lambda _name: b"") == (None, True)
    for upstream in (transcriptions.UPSTREAM, transcriptions.TO_ENGLISH):
        assert upstream.path("m", True).startswith(b"/audio/trans")


def test_the_type_of_a_form_has_its_boundary() -> None:
    assert form_type(FORM) == b"multipart/form-data; boundary=b"
    assert form_type(b"--a:b\r\n") == b'multipart/form-data; boundary="a:b"'
    assert form_type(b"") == b'multipart/form-data; boundary=""'
    assert [part.name for part in read_parts(FORM)] == ["model", "file"]


def test_names_that_say_what_something_costs() -> None:
    assert all(map(says_cost, ("model", "judge-Model", "N", "best_of", "fallbacks", "service_tier")))
    assert not any(map(says_cost, ("language", "file", "prompt", "stream")))


# ---- whole answers

ANSWERS = WholeAnswers(("results", "data"))
TEXTS = WholeAnswers(("text",), plain=True, writes=True)


def test_a_whole_answer_with_our_model_in_it() -> None:
    for body, model, out in (
        (b'{"model": "up","results":[1.50]}', "pub", b'{"model": "pub","results":[1.50]}'),
        (b'{"model":"up","data":[]}', None, b'{"model":"up","data":[]}'),
        (b'{"model":"pub","data":[]}', "pub", b'{"model":"pub","data":[]}'),
        (b'{"data":[]}', "pub", b'{"data":[]}'),
        (b'{"model":7,"data":[]}', "pub", b'{"model":7,"data":[]}'),
        (b'{"m\\u006fdel":"up","data":[]}', "pub", b'{"model":"pub","data":[]}'),
    ):
        given, usage, failed, _ = ANSWERS(body, model=model)
        assert (given, usage, failed) == (out, Usage(output=0), None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"results":null}',
        b"\xff",
        b'{"x":"\xff"}',
        b'{"a":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    out, _, failed, _ = ANSWERS(body, model="pub")
    assert out == b""
    assert failed is not None
    assert failed.garbled


def test_an_error_in_the_place_of_an_answer() -> None:
    for error, said in (
        ({"message": "no", "type": "overloaded"}, "no"),
        ({}, "without a message"),
        ("words", "words"),
    ):
        failed = ANSWERS(json.dumps({"error": error}).encode(), model="pub")[2]
        assert failed is not None
        assert said in failed.message
    deep = b'{"error":' + b"[" * 300 + b"1e999" + b"]" * 300 + b"}"
    assert ANSWERS(deep, model="pub")[2] is not None
    assert ANSWERS(b'{"error":null,"data":[]}', model="pub")[2] is None


def test_texts_and_files() -> None:
    assert TEXTS(b"1\n00:00", model="pub") == (b"1\n00:00", Usage(), None, "")
    assert TEXTS(b'{"text":"x"}', model="pub")[0] == b'{"text":"x"}'
    for wrong in (b"", b" <!DOCTYPE html>", b"<html><body>"):
        failed = TEXTS(wrong, model="pub")[2]
        assert failed is not None
        assert failed.garbled


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}, Usage(3, 2)),
        ({"usage": {"input_tokens": 3, "output_tokens": 0}}, Usage(3, 0)),
        ({"usage": {"total_tokens": 5}}, Usage(5, None)),
        ({"usage": {"total_tokens": 5, "completion_tokens": 5}}, Usage(None, 5)),
        ({"meta": {"tokens": {"input_tokens": 7}}}, Usage(7, None)),
        ({"meta": {"billed_units": {}}}, Usage()),
        ({"meta": None}, Usage()),
        ({"usage": "many"}, Usage()),
        ({}, Usage()),
    ],
)
def test_the_counts_of_an_answer(answer: dict[str, Any], usage: Usage) -> None:
    fields = read_fields(answer)
    assert usage_in(fields) == usage


def read_fields(answer: dict[str, Any]) -> Any:

    return msgspec.json.decode(json.dumps(answer), type=dict[str, msgspec.Raw])


# ---- streams


def lane(*, writes: bool = False) -> EventLane:
    return EventLane(model="pub", writes=writes)


def test_events_cross_with_our_model_and_are_counted() -> None:
    one = lane(writes=True)
    assert one.feed(b'\xef\xbb\xbfdata: {"model":"up","choices":[{"text":""}]}\n\n').endswith(
        b'"choices":[{"text":""}]}\n\n'
    )
    assert (one.output_bytes, one.started, one.answered) == (0, True, "up")
    assert one.feed(b'event: x\ndata: {"model":"up","choices":[{"text":"Hi"}]}\n\n') == (
        b'event: x\ndata: {"model":"pub","choices":[{"text":"Hi"}]}\n\n'
    )
    assert one.output_bytes == 2
    assert one.feed(b": comment\n\ndata: [DO") == b": comment\n\n"
    assert one.feed_known(b"", 0, 0) is None
    assert one.feed(b"NE]\n\ndata: {}\n\n") == b"data: [DONE]\n\n"
    assert (one.done, one.ended, one.feed(b"data: {}\n\n"), one.finish()) == (True, True, b"", b"")


@pytest.mark.parametrize(
    ("event", "length"),
    [
        ({"type": "transcript.text.delta", "delta": "abc"}, 3),
        ({"type": "speech.audio.delta", "audio": "AAAA"}, 0),
        ({"choices": [{"delta": {"content": "ab"}}]}, 2),
        ({"choices": [{"delta": {}}]}, 0),
        ({"delta": {"of": "another shape"}}, 1),
    ],
)
def test_what_is_content(event: dict[str, Any], length: int) -> None:
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    counted, plain = lane(writes=True), lane()
    assert counted.feed(data) == plain.feed(data) == data
    assert counted.output_bytes == length
    assert plain.output_bytes == int(bool(length) or "audio" in event)


def test_the_end_of_a_stream_is_a_type_or_a_word() -> None:
    one = lane()
    one.feed(b'data: {"type":"transcript.text.delta","delta":"a"}\n\n')
    done = b'data: {"type":"transcript.text.done","text":"a","usage":{"input_tokens":3,"output_tokens":2}}'
    assert one.feed(done) == b""
    assert one.finish() == done + b"\n\n"
    assert (one.done, one.failure, one.usage) == (True, None, Usage(3, 2))
    cut = lane()
    cut.feed(b'data: {"type":"x.delta","delta":"a"}\n\n')
    assert cut.finish() == b""
    assert cut.failure is not None
    assert cut.failure.truncated


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"error":{"message":"x"}}\n\n',
        b"data: {nonsense\n\n",
        b"data: " + b'{"a":' * 600 + b"1" + b"}" * 600 + b"\n\n",
    ],
)
def test_an_event_that_is_a_failure_is_not_relayed(data: bytes) -> None:
    one = lane()
    assert one.feed(data + b"data: {}\n\n") == b""
    assert one.failure is not None
    assert one.finish() == b""


def test_an_event_without_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_EVENT", 10)
    one = lane()
    assert one.feed(b"data: 12345678") == b""
    assert one.failure is not None
    assert one.feed(b"\n\n") == b""


def test_lanes_by_what_the_upstream_says_it_is() -> None:
    passing = speech.UPSTREAM.passing
    assert passing is not None
    assert isinstance(passed_lane(passing, "pub", b"text/event-stream; charset=utf-8"), EventLane)
    nothing = moderations.UPSTREAM.passing
    assert nothing is not None
    assert not isinstance(passed_lane(nothing, "pub", b"text/event-stream"), EventLane)
    sound = passed_lane(passing, "pub", b"audio/mpeg")
    assert (sound.feed(b"ID3"), sound.output_bytes, sound.feed(b"\0"), sound.finish()) == (
        b"ID3",
        1,
        b"\0",
        b"",
    )
    assert (sound.done, sound.failure, sound.usage, sound.feed(b"x"), sound.finish()) == (
        True,
        None,
        Usage(output=0),
        b"",
        b"",
    )
    page = passed_lane(passing, "pub", b"")
    assert (page.feed(b"<html>"), page.failure is not None, page.finish()) == (b"", True, b"")
    assert isinstance(passed_lane(passing, "pub", b"Application/JSON"), WholeLane)
    empty = passed_lane(passing, "pub", b"audio/mpeg")
    empty.finish()
    assert empty.failure is not None


def test_a_whole_answer_in_the_place_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    one = WholeLane(ANSWERS, "pub")
    assert one.feed(b'{"model":"up",') + one.feed(b'"data":[]}') == b""
    assert (one.finish(), one.done, one.finish()) == (b'{"model":"pub","data":[]}', True, b"")
    wrong = WholeLane(ANSWERS, "pub")
    wrong.feed(b"{}")
    assert (wrong.finish(), wrong.failure is not None) == (b"", True)
    monkeypatch.setattr(streams, "MAX_ANSWER", 4)
    large = WholeLane(ANSWERS, "pub")
    large.feed(b"12345")
    assert large.failure is not None


def test_what_stands_beside_an_answer() -> None:
    assert EVENT_STREAM.says_nothing(b"x")
    assert EVENT_STREAM.error_frame(ProviderError("words"), "req").startswith(b'data: {"type":"error"')
    assert BYTES.keepalive == b""
