"""A learnt form changes nothing but the cost: what is relayed and noted is as if every chunk had been decoded."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.dialects.chat import passthrough
from penstock.core.dialects.chat.passthrough import Passthrough
from penstock.core.dialects.chat.text_form import form_of

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("abc XYZ.,:{}[]", min_size=1, max_size=20),
    st.sampled_from(
        ['"', '","finish_reason":null', "\\", '"content":"x"', "é", "\n", "\u2028", '"model":"up/x"']
    ),
)
EXTRAS = st.sampled_from(
    [{}, {"system_fingerprint": "fp"}, {"obfuscation": "zz"}, {"x": {"content": "y", "model": "up/x"}}]
)


def frame(text: str | None, extra: dict[str, object], *, compact: bool, **delta: object) -> bytes:
    chunk = {
        "id": "c",
        "model": "up/x",
        "choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": None}],
        **extra,
    }
    separators = (",", ":") if compact else (", ", ": ")
    return b"data: " + json.dumps(chunk, separators=separators, ensure_ascii=False).encode() + b"\n\n"


@given(
    frames=st.lists(st.tuples(TEXTS, EXTRAS, st.booleans()), max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=4),
    model=st.sampled_from(["ours", None, "up/x"]),
)
def test_a_learnt_form_changes_nothing(
    frames: list[tuple[str, dict[str, object], bool]], cuts: list[int], model: str | None
) -> None:
    stream = b"".join(frame(text, extra, compact=compact) for text, extra, compact in frames)
    stream += b'data: {"model":"up/x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    decoding, learning = (Passthrough(model=model, withhold_usage=True) for _ in range(2))
    decoding._lessons.left = 0
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    outs = [
        b"".join(meter.feed(stream[a:b]) for a, b in pairwise(places)) + meter.finish()
        for meter in (decoding, learning)
    ]
    assert outs[0] == outs[1]
    assert (decoding.output_bytes, decoding.stop, decoding.done, decoding.failure) == (
        learning.output_bytes,
        learning.stop,
        learning.done,
        learning.failure,
    )


def test_chunks_of_the_learnt_form_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Passthrough(model="ours", withhold_usage=True)
    meter.feed(frame("Hello", {}, compact=True))
    monkeypatch.setattr(passthrough, "read_chunk", None)
    out = meter.feed(frame(" world", {}, compact=True))
    assert out == frame(" world", {}, compact=True).replace(b"up/x", b"ours")
    assert meter.output_bytes == len("Hello world")


@pytest.mark.parametrize(
    "raw",
    [
        frame("", {}, compact=True),
        frame(None, {}, compact=True),
        frame("x", {"x": {"content": "x"}}, compact=True),
        frame("x", {"usage": {"prompt_tokens": 1}}, compact=True),
        frame("x", {"error": {"message": "m"}}, compact=True),
        frame("x", {"base_resp": {"status_code": 0}}, compact=True),
        frame("x", {}, compact=True, reasoning_content="y"),
        frame("x", {}, compact=True, reasoning_details=[{"text": "x"}]),
        frame("x", {}, compact=True, tool_calls=[{"index": 0}]),
        frame("x", {}, compact=True)
        .replace(b'"index"', b'"finish_reason":"stop","index"', 1)
        .replace(b'"finish_reason": null', b'"n": null')
        .replace(b'"finish_reason":null', b'"n":null'),
        frame("x", {}, compact=True).replace(b'"index":0', b'"index":1'),
        frame("x", {}, compact=True).replace(b"choices", b"nothing"),
        frame("x", {}, compact=True).replace(b"delta", b"nothing"),
        frame("x", {}, compact=True).removesuffix(b"\n"),
        b"event: x\n" + frame("x", {}, compact=True),
        b"data: [DONE]\n\n",
    ],
)
def test_a_chunk_with_more_than_some_text_has_no_form(raw: bytes) -> None:
    assert form_of(raw) is None


@pytest.mark.parametrize("text", ["x", "a\\b", "é", '"'])
@pytest.mark.parametrize("field", ["content", "reasoning_content", "reasoning"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_chunk_with_some_text_or_some_reasoning_has_one(text: str, field: str, end: bytes) -> None:
    raw = frame("", {}, compact=True, **{field: text}).replace(b"\n\n", end)
    form = form_of(raw)
    assert form is not None
    other = raw.replace(json.dumps(text, ensure_ascii=False).encode(), b'"plain"')
    found = form.find(other, 0, len(other))
    assert found is not None
    begin, stop, after = found
    assert (other[begin:stop], after) == (b"plain", len(other))


@pytest.mark.parametrize(
    ("members", "known"),
    [
        (b'"model":"up/x","choices":[{"index":0,"delta":{"content":"%b"}}]', True),
        (b'"choices":[{"index":0,"delta":{"content":"%b"}}],"model":"up/x"', True),
        (b'"model":"up/x","choices":[{"index":0,"delta":{"content":"%b"}}],"model":"up/x"', False),
        (b'"choices":[{"index":0,"delta":{"content":"%b"}}]', True),
    ],
)
def test_the_model_may_stand_before_the_text_or_after_it(members: bytes, known: bool) -> None:
    meter = Passthrough(model="ours", withhold_usage=True)
    first, second = (b"data: {%b}\n\n" % (members % text) for text in (b"one", b"two"))
    assert meter.feed(first) == first.replace(b"up/x", b"ours")
    expected = second.replace(b"up/x", b"ours") if known else None
    assert meter.feed_known(second, 0, len(second)) == expected


def test_a_text_that_stands_elsewhere_teaches_nothing() -> None:
    raw = b'data: {"x":{"content":"hi"},"choices":[{"index":0,"delta":{"c\\u006fntent":"hi"}}]}\n\n'
    assert form_of(raw) is None
