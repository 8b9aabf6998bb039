"""Formats without a dialect: passed through as bytes both ways, counted, refused and failed over like any request."""

import asyncio
import json
from typing import Any

import pytest

from tests.samples import sample
from tests.service.conversations import PATHS, RECORDING, body_of, form_of
from tests.service.running_service import FORMAT_KINDS, VENDOR_KEY, House

FORMATS = tuple(FORMAT_KINDS)
JSON_FORMATS = tuple(name for name in FORMATS if name != "transcriptions")
WAV = b"RIFF\x00\xff\r\n\r\n" + bytes(range(256)) * 40
USAGE = b'"usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}'
REPLIES: dict[str, bytes] = {
    "completions": b'{"id":"c", "model": "up-2026", "choices": [{"index":0,"text":"x","n":1.50}], '
    b'"usage": {"prompt_tokens":5,"completion_tokens":3}}',
    "images": b'{"created": 1, "data": [{"b64_json": "AAAA"}], ' + USAGE + b"}",
    "transcriptions": b'{"text": "caf\\u00e9", "x": 1.50, ' + USAGE + b"}",
    "rerank": b'{"id":"r", "results": [{"index":0,"relevance_score":0.10}], '
    b'"meta": {"tokens": {"input_tokens": 5, "output_tokens": 3}}}',
    "moderations": b'{"id":"m", "model": "up-2026", "results": [{"flagged": false}]}',
}


def model_of(format_: str, place: str = "wire") -> str:
    return f"{place}-{FORMAT_KINDS[format_]}"


# ---- what crosses


@pytest.mark.parametrize("format_", JSON_FORMATS)
async def test_a_request_is_bytes_but_for_the_model(house: House, format_: str) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(REPLIES.get(format_, b"{}"))
    body = (
        body_of(format_, model_of(format_), x_new={"a": [1]})
        .replace(b'"a":', b'"a" :')
        .replace(b"[1]", b"[1.50]")
    )
    await house.post(format_, body, user)
    asked = await wire.next()
    assert (asked.method, asked.path) == ("POST", "/base/v1" + PATHS[format_].removeprefix("/api/v1"))
    assert asked.headers["authorization"] == f"Bearer {VENDOR_KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert b'"a" :[1.50]' in asked.body
    assert json.loads(asked.body) == {**json.loads(body), "model": f"up-{FORMAT_KINDS[format_]}"}


async def test_how_fast_is_spoken_is_no_dearer_tier(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(b"sound", kind="audio/mpeg")
    body = body_of("speech", model_of("speech"), voice="alloy", speed=1.25)
    answer = await house.post("speech", body, user, {"x-penstock-strict": "1"})
    assert (answer.status, answer.body) == (200, b"sound")
    assert json.loads((await wire.next()).body)["speed"] == 1.25


@pytest.mark.parametrize(("count", "status"), [("1", 200), (" 1", 200), ("2", 400), ("1e1", 400), ("", 400)])
async def test_one_image_may_be_asked_for_in_a_form(house: House, count: str, status: int) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(REPLIES["images"])
    body = form_of(model_of("images"), prompt="At night", n=count).replace(b'name="file"', b'name="image"')
    headers = {"content-type": "multipart/form-data; boundary=b0und"}
    answer = await house.http("POST", "/v1/images/edits", user.key, body=body, headers=headers)
    assert answer.status == status, answer.body


@pytest.mark.parametrize("format_", REPLIES)
async def test_a_whole_answer_is_bytes_but_for_the_model(house: House, format_: str) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(REPLIES[format_])
    answer = await house.ask(format_, model_of(format_), user)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == REPLIES[format_].replace(b"up-2026", model_of(format_).encode())
    row = await house.row(user)
    assert (row["outcome"], row["counted"], row["dialect"]) == ("completed", True, format_)
    if b"tokens" in REPLIES[format_]:
        assert (row["input_tokens"], row["output_tokens"]) == (5, 3)


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/audio/translations"])
async def test_a_form_is_bytes_but_for_the_model_and_its_file_is_not_looked_at(
    house: House, path: str
) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(REPLIES["transcriptions"])
    body = form_of("wire-transcription", language="de", temperature="0.20")
    headers = {"content-type": 'multipart/form-data; boundary="b0und"'}
    answer = await house.http("POST", f"/v1{path}", user.key, body=body, headers=headers)
    assert (answer.status, answer.body) == (200, REPLIES["transcriptions"])
    asked = await wire.next()
    assert asked.path == f"/base/v1{path}"
    assert asked.headers["content-type"] == "multipart/form-data; boundary=b0und"
    assert asked.body == body.replace(b"wire-transcription", b"up-transcription")
    assert RECORDING in asked.body


async def test_an_image_is_changed_by_a_form_with_it(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(REPLIES["images"])
    for field in ("image", "image[]"):
        body = form_of(model_of("images"), prompt="At night").replace(
            b'name="file"', b'name="%b"' % field.encode()
        )
        headers = {"content-type": "multipart/form-data; boundary=b0und"}
        answer = await house.http("POST", "/v1/images/edits", user.key, body=body, headers=headers)
        assert (answer.status, answer.body) == (200, REPLIES["images"])
        asked = await wire.next()
        assert asked.path == "/base/v1/images/edits"
        assert (RECORDING in asked.body, b"At night" in asked.body) == (True, True)
    answer = await house.http(
        "POST", "/v1/images/edits", user.key, body=form_of(model_of("images")), headers=headers
    )
    assert (answer.status, answer.error[:17]) == (400, "image is required")
    row = (await house.rows(user))[0]
    assert (row["dialect"], row["output_tokens"], row["outcome"]) == ("images", 3, "completed")


async def test_each_form_has_its_own_boundary(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(REPLIES["transcriptions"])
    for boundary, written in ((b"one", "one"), (b"t:w,o", '"t:w,o"'), (b"----WebKit'+_.", "----WebKit'+_.")):
        body = form_of("wire-transcription").replace(b"b0und", boundary)
        assert (await house.post("transcriptions", body, user)).status == 200
        assert (await wire.next()).headers["content-type"] == f"multipart/form-data; boundary={written}"


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ("json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip"),
        ("vtt", "text/vtt"),
    ],
)
async def test_a_transcription_has_the_type_that_was_asked_for(house: House, wanted: str, kind: str) -> None:
    user = await house.user()
    answer = await house.ask("transcriptions", "transcriptions-plain", user, response_format=wanted)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert f"{len(RECORDING)} bytes of sound" in answer.body.decode()
    assert answer.headers["x-penstock-upstream"] == "simulator"


async def test_a_type_that_a_browser_would_run_is_not_passed_on(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    for given, told in (
        ("image/svg+xml", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
        ("audio/mpeg", "audio/mpeg"),
        ("audio/wav; codecs=1", "audio/wav; codecs=1"),
    ):
        wire.script = lambda asked, given=given: asked.answer(WAV, kind=given)
        answer = await house.ask("speech", "wire-speech", user)
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, told, WAV)
        assert answer.headers["x-content-type-options"] == "nosniff"


# ---- streams


async def test_speech_goes_on_as_it_comes(house: House) -> None:
    user = await house.user()
    caller = await house.begin("speech", "wire-speech", user)
    asked = await house.wires["wire-embeddings"].next()
    asked.begin(WAV[:100], kind="audio/mpeg")
    head = await caller.head()
    assert (head.status, head.headers["content-type"]) == (200, "audio/mpeg")
    assert await caller.until(WAV[90:100]) == WAV[:100]
    asked.stream_on(WAV[100:])
    answer = await caller.rest(head)
    assert (answer.whole, answer.body) == (True, WAV[100:])
    row = await house.row(user)
    assert (row["outcome"], row["output_tokens"]) == ("completed", 0)


async def test_speech_that_breaks_off_is_cut_and_never_ends_well(house: House) -> None:
    user = await house.user()
    caller = await house.begin("speech", "wire-speech", user)
    asked = await house.wires["wire-embeddings"].next()
    asked.begin(WAV[:100], kind="audio/mpeg")
    head = await caller.head()
    await caller.until(WAV[90:100])
    asked.cut()
    answer = await caller.rest(head)
    assert (answer.whole, answer.body) == (False, b"")
    assert (await house.row(user))["outcome"] == "upstream_error"


async def test_no_keep_alive_stands_in_a_file(house: House) -> None:
    await house.restart(head_hold=0.05, keepalive=0.05)
    user = await house.user()
    caller = await house.begin("speech", "wire-speech", user)
    asked = await house.wires["wire-embeddings"].next()
    await asyncio.sleep(0.6)  # more than two looks at the open streams
    asked.begin(WAV[:10], kind="audio/mpeg")
    head = await caller.head()
    await caller.until(WAV[:10])
    await asyncio.sleep(0.6)
    asked.stream_on(WAV[10:])
    assert (await caller.rest(head)).body == WAV[10:]


EVENTS: dict[str, tuple[bytes, ...]] = {
    "completions": (
        b'data: {"id":"c","model":"up-2026","choices":[{"index":0,"text":""}]}\n\n',
        b'data: {"id":"c", "model": "up-2026", "choices":[{"index":0,"text":"Hi"}]}\n\n',
        b": a comment\n\n",
        b'data: {"id":"c","model":"up-2026","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n',
        b"data: [DONE]\n\n",
    ),
    "transcriptions": (
        b'data: {"type":"transcript.text.delta","delta":"Hi"}\n\n',
        b'event: transcript.text.done\ndata: {"type":"transcript.text.done","text":"Hi",%b}\n\n' % USAGE,
    ),
    "speech": (
        b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n',
        b'data: {"type":"speech.audio.done",%b}\n\n' % USAGE,
    ),
    "images": (
        b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image","b64_json":"AAAA"}\n\n',
        b'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"AAAA",%b}\n\n'
        % USAGE,
    ),
}
WANTED: dict[str, dict[str, Any]] = {
    name: {"stream_format": "sse"}
    if name == "speech"
    else {"stream": "true" if name == "transcriptions" else True}
    for name in EVENTS
}


@pytest.mark.parametrize("format_", EVENTS)
@pytest.mark.parametrize("size", sample([0, 1, 7, 64], 2))
async def test_events_are_bytes_but_for_the_model_wherever_they_are_cut(
    house: House, format_: str, size: int
) -> None:
    user = await house.user()
    whole = b"".join(EVENTS[format_])
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)] if size else [whole]
    house.wires["wire-embeddings"].script = lambda asked: asked.stream(*pieces)
    answer = await house.ask(format_, model_of(format_), user, **WANTED[format_])
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.whole
    public = model_of(format_).encode()
    assert answer.body.replace(b'": "', b'":"') == whole.replace(b"up-2026", public).replace(b'": "', b'":"')
    row = await house.row(user)
    assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("completed", 5, 3)


@pytest.mark.parametrize("format_", EVENTS)
@pytest.mark.parametrize("how", sample(["cut", "end", "error", "garbage"], 2))
async def test_a_stream_that_fails_after_content_says_so(house: House, format_: str, how: str) -> None:
    user = await house.user()
    first = EVENTS[format_][1 if format_ == "completions" else 0]
    caller = await house.begin(format_, model_of(format_), user, **WANTED[format_])
    asked = await house.wires["wire-embeddings"].next()
    asked.begin(first)
    head = await caller.head()
    got = await caller.until(b"\n\n")
    match how:
        case "cut":
            asked.cut()
        case "end":
            asked.end()
        case "error":
            asked.frames(b'data: {"error":{"message":"secret words","type":"server_error"}}\n\n')
        case _:
            asked.frames(b"data: {nonsense\n\n")
    answer = await caller.rest(head)
    assert b"secret words" not in answer.body
    assert b"[DONE]" not in got + answer.body
    if format_ == "speech":
        assert not answer.whole
    else:
        assert json.loads(answer.body.removeprefix(b"data: "))["error"]["code"].startswith("provider_")
    row = await house.row(user)
    assert (row["outcome"], row["counted"]) == ("upstream_error", True)


@pytest.mark.parametrize("format_", EVENTS)
async def test_a_stream_that_fails_before_content_is_another_providers(house: House, format_: str) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.stream(
        *EVENTS[format_][: int(format_ == "completions")],
        b'data: {"error":{"message":"x","type":"server_error"}}\n\n',
    )
    house.wires["spare-embeddings"].script = lambda asked: asked.stream(*EVENTS[format_])
    answer = await house.ask(format_, model_of(format_, "pair"), user, **WANTED[format_])
    assert answer.status == 200
    assert len(answer.frames) == len(EVENTS[format_]) - (format_ == "completions")
    row = await house.row(user)
    assert (row["attempts"], row["provider"], row["outcome"]) == (2, "spare-formats", "completed")


async def test_a_whole_answer_in_place_of_a_stream_goes_on_as_it_is(house: House) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(REPLIES["transcriptions"])
    answer = await house.ask("transcriptions", "wire-transcription", user, stream="true")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == REPLIES["transcriptions"]


# ---- what is refused


@pytest.mark.parametrize(
    ("format_", "fields", "param"),
    [
        ("completions", {"prompt": ...}, "prompt"),
        ("completions", {"prompt": {"a": 1}}, "prompt"),
        ("completions", {"prompt": ["x"] * 17}, "prompt"),
        ("completions", {"max_tokens": "many"}, "max_tokens"),
        ("images", {"prompt": ["x"]}, "prompt"),
        ("images", {"prompt": ""}, "prompt"),
        ("speech", {"input": ...}, "input"),
        ("speech", {"input": ["x"]}, "input"),
        ("rerank", {"query": ...}, "query"),
        ("rerank", {"documents": []}, "documents"),
        ("rerank", {"documents": "x"}, "documents"),
        ("rerank", {"documents": ["x"] * 10_001}, "documents"),
        ("rerank", {"stream": True}, "stream"),
        ("moderations", {"input": ...}, "input"),
        ("moderations", {"stream": True}, "stream"),
        ("transcriptions", {"file": ...}, "file"),
        ("transcriptions", {"file": b""}, "file"),
        ("transcriptions", {"models": "a"}, "models"),
        ("transcriptions", {"Model": "a"}, "Model"),
        ("transcriptions", {"n": "9"}, "n"),
    ],
)
async def test_a_wrong_body_is_refused_and_costs_nothing(
    house: House, format_: str, fields: dict[str, Any], param: str
) -> None:
    user = await house.user()
    headers = {"x-error-format": "native"}
    answer = await house.ask(format_, f"{format_}-plain", user, headers=headers, **fields)
    assert (answer.status, answer.code, answer.json["error"]["param"]) == (400, "invalid_request", param)
    assert (house.asked, await house.used(user)) == (0, 0)


FORM = form_of("transcriptions-plain")
MODEL_PART = b'--b0und\r\ncontent-disposition: form-data; name="model"\r\n\r\ndear\r\n'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"model":"transcriptions-plain"}',
        b"--b0und",
        b"--b0und\r\n",
        FORM[:-4],
        FORM[: len(FORM) // 2],
        FORM.replace(b"\r\n", b"\n"),
        FORM.replace(b'name="model"', b'name="mod\\el"'),
        FORM.replace(b'name="model"', b"name*=utf-8''model"),
        FORM.replace(b'name="model"', b'name="model"; name="x"'),
        FORM.replace(b'name="model"', b'name="model"\r\ncontent-disposition: form-data; name="x"'),
        FORM.replace(b'name="model"', b'name="model"\r\ncontent-transfer-encoding: base64'),
        FORM.replace(b'name="model"', b'name="model"; filename="x"'),
        MODEL_PART + FORM,
        FORM.replace(RECORDING, b"x\n" + MODEL_PART.replace(b"\r\n", b"\n") + b"y"),
        FORM.replace(RECORDING, b"x--b0und\r\n\r\ny"),
        FORM.replace(b"transcriptions-plain", b"m" * 300),
        b"x" * 9000 + FORM,
        FORM.replace(b"content-type: audio/wav", b"x: " + b"y" * 9000),
        form_of("transcriptions-plain", **{f"f{number}": 1 for number in range(70)}),
    ],
)
async def test_a_form_in_which_servers_could_find_different_things_is_refused(
    house: House, body: bytes
) -> None:
    user = await house.user()
    answer = await house.post("transcriptions", body, user)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert house.asked == 0


async def test_each_kind_of_model_has_its_routes(house: House) -> None:
    user = await house.user()
    for format_ in FORMATS:
        other = FORMATS[FORMATS.index(format_) - 1]
        answer = await house.ask(format_, f"{other}-plain", user)
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert f"POST {PATHS[other].removeprefix('/api/v1')}" in answer.error
    assert house.asked == 0


@pytest.mark.parametrize("format_", FORMATS)
async def test_keys_methods_and_prefixes_are_those_of_all_routes(house: House, format_: str) -> None:
    user = await house.user()
    body = body_of(format_, f"{format_}-plain")
    assert (await house.post(format_, body, None)).status == 401
    assert (await house.http("GET", PATHS[format_], user.key)).status == 405
    for prefix in sample(["/v1", "/api/v1/v1", "/v1/v1"], 1):
        path = prefix + PATHS[format_].removeprefix("/api/v1")
        assert (await house.http("POST", path, user.key, body=body)).status == 200
    few = await house.user("few")
    statuses = [(await house.post(format_, body, few)).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]


# ---- failures


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    sample(
        [
            ("error-400", 400, "invalid_request"),
            ("error-401", 502, "provider_credentials"),
            ("error-500", 502, "provider_error"),
            ("html", 502, "provider_garbled"),
            ("empty", 502, "provider_garbled"),
            ("error-200", 502, "provider_overloaded"),
        ],
        3,
    ),
)
async def test_a_failure_is_told_and_refunded(
    house: House, format_: str, scenario: str, status: int, code: str
) -> None:
    user = await house.user()
    answer = await house.ask(format_, f"{format_}-{scenario}", user)
    assert (answer.status, answer.code) == (status, code)
    row = await house.row(user)
    assert (row["counted"], row["status"]) == (False, status)


@pytest.mark.parametrize("format_", FORMATS)
async def test_another_place_of_the_same_model_is_tried(house: House, format_: str) -> None:
    user = await house.user()
    house.wires["wire-embeddings"].script = lambda asked: asked.answer(b"{}", 500)
    spare = house.wires["spare-embeddings"]
    spare.script = lambda asked: (
        asked.answer(REPLIES[format_]) if format_ != "speech" else asked.answer(WAV, kind="audio/wav")
    )
    answer = await house.ask(format_, model_of(format_, "pair"), user)
    assert answer.status == 200
    assert f"vendor/up-{FORMAT_KINDS[format_]}".encode() in (await spare.next()).body
    assert (await house.row(user))["attempts"] == 2


@pytest.mark.parametrize("format_", FORMATS)
async def test_only_what_costs_the_same_twice_is_sent_to_the_same_place_twice(
    house: House, format_: str
) -> None:
    await house.restart(upstream_again=True)
    user = await house.user()
    wire = house.wires["wire-embeddings"]
    wire.script = lambda asked: asked.answer(b"{}", 500)
    assert (await house.ask(format_, model_of(format_), user)).status == 502
    assert len(wire.asked) == (2 if format_ in {"rerank", "moderations"} else 1)


@pytest.mark.parametrize("format_", sample(FORMATS, 2))
async def test_a_caller_that_leaves_ends_it_at_the_provider(house: House, format_: str) -> None:
    user = await house.user("one")
    caller = await house.begin(format_, model_of(format_), user)
    asked = await house.wires["wire-embeddings"].next()
    caller.leave()
    await asked.left()
    assert (await house.row(user))["outcome"] == "client_gone"
    assert house.held(user) == 0
