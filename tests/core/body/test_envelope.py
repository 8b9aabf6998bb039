"""The envelope: what it refuses and why, and that what it lets through stays as it was, byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.body.envelope import MAX_MESSAGES
from penstock.core.body.request_scan import ENCRYPTED
from penstock.core.catalog import DialectName
from penstock.core.dialects.registry import read_envelope
from penstock.errors import InvalidRequest
from tests.core.dialects.remembering import scanned

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
MESSAGES = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'


def chat(**fields: Any) -> bytes:
    return json.dumps({**json.loads(CHAT), **fields}).encode()


def with_content(content: bytes) -> bytes:
    return CHAT.replace(b'"hi"', content)


def refused(body: bytes, dialect: DialectName = "chat", *, counting: bool = False) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_envelope(body, dialect, counting=counting)
    return caught.value


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf" + CHAT, "byte-order mark"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (CHAT[:-1], "ends too early"),
        (CHAT + b"x", "trailing characters"),
        (CHAT + CHAT, "trailing characters"),
        (CHAT + b"\x00", "trailing characters"),
        (with_content(b'"a\nb"'), "invalid character"),
        (with_content(b'"a\x00b"'), "invalid character"),
        (with_content(b'"\\q"'), "invalid escape"),
        (with_content(b'"\\u12G4"'), "not valid JSON"),
        (with_content(b"NaN"), "not valid JSON"),
        (with_content(b"Infinity"), "not valid JSON"),
        (with_content(b"-Infinity"), "not valid JSON"),
        (with_content(b"'hi'"), "not valid JSON"),
        (with_content(b"[1,]"), "trailing comma"),
        (with_content(b"01"), "invalid number"),
        (with_content(b"tru"), "not valid JSON"),
        (with_content(b'[{"a" 1}]'), "not valid JSON"),
        (with_content(b"[{a:1}]"), "not valid JSON"),
        (with_content(b'"x" /* no */'), "not valid JSON"),
        (with_content(b'"\xff"'), "not valid UTF-8 (byte 51)"),
        (with_content(b'"\xc0\x80"'), "not valid UTF-8"),
        (with_content(b'"\xed\xa0\x80"'), "not valid UTF-8"),
        (with_content(b'[{"\xfe":1}]'), "not valid UTF-8"),
        (with_content(b'"\\ud83d"'), "surrogate"),
        (with_content(b'"\\ud83d and more text"'), "surrogate"),
        (with_content(b'"\\ude00"'), "surrogate"),
        (with_content(b'"\\ud83d\\u0041"'), "surrogate"),
    ],
)
def test_a_body_that_is_not_good_json_is_refused_with_the_reason(body: bytes, words: str) -> None:
    assert words in refused(body).message


@pytest.mark.parametrize("before", range(4096 - 54, 4096 - 48))
def test_a_character_may_lie_where_a_long_body_is_cut(before: int) -> None:
    assert read_envelope(with_content(b'"%b%b"' % (b"x" * before, "😀".encode())), "chat").model == "m"


@given(
    st.integers(min_value=3900, max_value=4100),
    st.sampled_from([*("é€😀".encode()[i:j] for i in range(9) for j in range(i, 10)), b"\x80" * 9]),
    st.sampled_from([b"", "ü".encode() * 5000]),
)
def test_the_encoding_is_judged_as_a_whole_wherever_a_character_falls(
    before: int, middle: bytes, after: bytes
) -> None:
    body = with_content(b'"%b%b%b"' % (b"x" * before, middle, after))
    wrong_at = None
    try:
        body.decode()
    except UnicodeDecodeError as error:
        wrong_at = error.start
    if wrong_at is None:
        assert read_envelope(body, "chat").body == body
    else:
        assert refused(body).message == f"The body is not valid UTF-8 (byte {wrong_at})."


@pytest.mark.parametrize(
    "text", [b'"\\ud83d\\ude00"', '"😀 \u2028 ÿ"'.encode(), b'"\\u0000\\"\\/\x7f"', b"null"]
)
def test_whatever_is_good_json_passes(text: bytes) -> None:
    assert read_envelope(with_content(text), "chat").model == "m"


@pytest.mark.parametrize(
    ("body", "dialect", "param"),
    [
        (b"{}", "chat", "model"),
        (chat(model=None), "chat", "model"),
        (chat(model=7), "chat", "model"),
        (chat(model=" "), "chat", "model"),
        (b'{"model":"m"}', "chat", "messages"),
        (chat(messages=[]), "chat", "messages"),
        (chat(messages="hi"), "chat", "messages"),
        (chat(messages=None), "chat", "messages"),
        (chat(messages={"role": "user"}), "chat", "messages"),
        (chat(messages=["hi"]), "chat", "messages[0]"),
        (chat(messages=[{"content": "hi"}]), "chat", "messages[0].role"),
        (chat(messages=[{"role": 1, "content": "hi"}]), "chat", "messages[0].role"),
        (
            chat(messages=[{"role": "user", "content": "hi"}, {"role": "user", "content": 5}]),
            "chat",
            "messages[1].content",
        ),
        (chat(messages=[{"role": "user", "content": {}}]), "chat", "messages[0].content"),
        (chat(messages=[{"role": "user", "content": True}]), "chat", "messages[0].content"),
        (chat(messages=[{"role": "user", "content": {"x": "y" * 300}}]), "chat", "messages[0].content"),
        (chat(messages=[{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1)), "chat", "messages"),
        (chat(stream="yes"), "chat", "stream"),
        (chat(stream=1), "chat", "stream"),
        (chat(temperature="hot"), "chat", "temperature"),
        (chat(temperature=-0.1), "chat", "temperature"),
        (chat(temperature=2.1), "chat", "temperature"),
        (chat(max_tokens=0), "chat", "max_tokens"),
        (chat(max_tokens=-5), "chat", "max_tokens"),
        (chat(max_tokens=1.5), "chat", "max_tokens"),
        (chat(max_tokens="9"), "chat", "max_tokens"),
        (chat(max_completion_tokens=0), "chat", "max_completion_tokens"),
        (chat(stream_options=True), "chat", "stream_options"),
        (chat(stream_options={"include_usage": "yes"}), "chat", "stream_options"),
        (CHAT, "messages", "max_tokens"),
        (MESSAGES.replace(b"9", b"-1"), "messages", "max_tokens"),
        (MESSAGES.replace(b"9", b"null"), "messages", "max_tokens"),
        (MESSAGES.replace(b"9", b'9,"temperature":"x"'), "messages", "temperature"),
        (b'{"model":"m"}', "responses", "input"),
        (b'{"model":"m","input":5}', "responses", "input"),
        (b'{"model":"m","input":"x","max_output_tokens":"x"}', "responses", "max_output_tokens"),
    ],
)
def test_a_wrong_field_is_named(body: bytes, dialect: DialectName, param: str) -> None:
    error = refused(body, dialect)
    assert error.param == param
    assert param.rsplit(".", maxsplit=1)[-1].split("[", maxsplit=1)[0] in error.message


def test_what_the_relay_reads() -> None:
    envelope = read_envelope(chat(stream=True, max_tokens=5, stream_options={"include_usage": True}), "chat")
    assert (envelope.model, envelope.stream, envelope.max_tokens, envelope.include_usage) == (
        "m",
        True,
        5,
        True,
    )
    assert read_envelope(chat(max_completion_tokens=7, max_tokens=5), "chat").max_tokens == 7
    assert not read_envelope(chat(stream=None, temperature=None, max_tokens=None), "chat").include_usage
    assert read_envelope(MESSAGES, "messages").include_usage
    assert read_envelope(MESSAGES.replace(b"9", b"0"), "messages").max_tokens == 0
    assert read_envelope(CHAT, "messages", counting=True).max_tokens is None
    assert read_envelope(b'{"model":"m","input":[]}', "responses").model == "m"


def test_unknown_fields_roles_and_blocks_are_the_upstreams_to_judge() -> None:
    read_envelope(
        chat(brand_new={"a": 1}, messages=[{"role": "critic", "content": [{"type": "hologram"}], "x": 1}]),
        "chat",
    )
    read_envelope(
        chat(messages=[{"role": "assistant", "tool_calls": []}, {"role": "assistant", "content": None}]),
        "chat",
    )


# ---- depth

TOO_DEEP = 20_000
"""For every Python: the decoder stops at about a thousand levels on 3.11, and at ten thousand on 3.13."""


def nested(levels: int, inner: bytes = b"") -> bytes:
    """``levels`` objects and arrays inside one another, round ``inner``."""
    opened = b"".join(b'{"a":' if level % 2 else b"[" for level in range(levels))
    closed = b"".join(b"}" if level % 2 else b"]" for level in reversed(range(levels)))
    return opened + (inner or (b"1" if levels % 2 == 0 else b"")) + closed


PLACES = {
    "an unknown field": (b'{"model":"m","x":%s,"messages":[{"role":"user","content":"hi"}]}', 1),
    "a block": (b'{"model":"m","messages":[{"role":"user","content":[%s]}]}', 4),
    "a message": (b'{"model":"m","messages":[{"role":"user","content":"hi","x":%s}]}', 3),
    "a late message": (
        b'{"model":"m","messages":['
        + b'{"role":"user","content":"hi"},' * 100
        + b'{"role":"user","content":[%s]}]}',
        4,
    ),
    "a tool": (b'{"model":"m","tools":[{"name":"t","s":%s}],"messages":[{"role":"user","content":"hi"}]}', 3),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [b"", b'"' + b"{[" * 3000 + b'"', b'"}]\\"{{[[\\\\"'])
def test_deep_nesting_passes_and_the_deepest_is_refused(place: str, text: bytes) -> None:
    body, _ = PLACES[place]
    read_envelope(body.replace(b"%s", nested(500, text)), "chat")
    error = refused(body.replace(b"%s", nested(TOO_DEEP, text)), "chat")
    assert "nested too deeply" in error.message


@pytest.mark.parametrize("levels", [TOO_DEEP, 50_000, 1_000_000])
def test_any_depth_is_refused_and_never_a_crash(levels: int) -> None:
    assert refused(b'{"model":"m","messages":' + b"[" * levels + b"]" * levels + b"}").status == 400
    error = refused(b'{"model":"m","x":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}")
    assert "nested too deeply" in error.message


def test_brackets_in_text_are_text() -> None:
    text = "".join("{[(" for _ in range(5000)) + '"\\"{'
    many = [{"role": "user", "content": [{"type": "text", "text": text}]}] * 20
    assert read_envelope(chat(messages=many), "chat").model == "m"


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.text(max_size=8)
    | st.sampled_from(["[{", '"', "\\", "}}]"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


# ---- the body written again

separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
extras = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda k: k not in ("model", "messages", "stream")),
    values,
    max_size=5,
)


@given(
    extras=extras,
    separators=separators,
    escaped=st.booleans(),
    indent=st.sampled_from([None, 2]),
    first=st.booleans(),
)
def test_only_the_model_changes(
    extras: dict[str, Any], separators: tuple[str, str], escaped: bool, indent: int | None, first: bool
) -> None:
    known = {"model": "m", "messages": [{"role": "user", "content": 'a "quoted" ü'}]}
    fields = {**known, **extras} if first else {**extras, **known}
    for name in ("temperature", "max_tokens", "max_completion_tokens", "stream_options"):
        fields.pop(name, None)
    body = json.dumps(fields, separators=separators, ensure_ascii=escaped, indent=indent).encode()
    envelope = read_envelope(body, "chat")
    assert envelope.encode("m") is body
    changed = envelope.encode("upstream/ö")
    assert list(json.loads(changed).items()) == list({**fields, "model": "upstream/ö"}.items())
    for name, raw in envelope.fields.items():
        assert name == "model" or bytes(raw) in changed


def test_numbers_and_escapes_are_not_reformatted() -> None:
    body = rb'{"temperature":0.70,"model":"m","seed":1e3,"x":[1.0, 2],"messages":[{"role":"user","content":"\u00e9\/"}]}'
    assert read_envelope(body, "chat").encode("up") == body.replace(b'"model":"m"', b'"model":"up"')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"m","messages":[{"role":"user","content":"hi"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"model":"m"}',
        b'{"mod\\u0065l":"x","messages":[{"role":"user","content":"hi"}],"model":"m"}',
        b'{"model":"m","x":1,"messages":[],"messages":[{"role":"user","content":"hi"}], "x":2}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"y":1,"y":1}',
    ],
)
def test_of_a_repeated_key_the_last_wins_and_goes_on_once(body: bytes) -> None:
    envelope = read_envelope(body, "chat")
    for model in ("m", "up"):
        out = envelope.encode(model)
        assert json.loads(out) == {**json.loads(body), "model": model}
        assert all(out.count(b'"%s":' % name) <= 1 for name in (b"model", b"messages", b"x", b"y"))


def test_an_escaped_key_is_no_repeated_key() -> None:
    body = b'{"mod\\u0065l":"m", "messages":[{"role":"user","content":"hi"}]}'
    assert read_envelope(body, "chat").encode("m") is body


def test_fields_are_set_added_and_dropped() -> None:
    envelope = read_envelope(b'{"model":"m","n":1,"messages":[{"role":"user","content":"hi"}],"x":2}', "chat")
    out = envelope.encode("m", {"n": b"[ 3 ]", "new": b"null"}, drop=("x", "absent"))
    assert out == b'{"model":"m","n":[ 3 ],"messages":[{"role":"user","content":"hi"}],"new":null}'
    assert envelope.encode("m", drop=("absent",)) is envelope.body


def test_usage_is_asked_for_beside_the_callers_other_options() -> None:
    assert read_envelope(CHAT, "chat").usage_options() == b'{"include_usage":true}'
    assert read_envelope(chat(stream_options=None), "chat").usage_options() == b'{"include_usage":true}'
    options = {"include_obfuscation": False, "include_usage": False}
    assert json.loads(read_envelope(chat(stream_options=options), "chat").usage_options()) == {
        **options,
        "include_usage": True,
    }


# ---- for routing and estimates


def test_features_are_seen_where_they_are() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}
    both = [{"role": "user", "content": [image, file]}]
    assert read_envelope(chat(messages=both, tools=[{"type": "function"}]), "chat").features() == {
        "images",
        "documents",
        "tools",
    }
    assert read_envelope(chat(tools=[]), "chat").features() == set()
    assert read_envelope(chat(tools=None), "chat").features() == set()
    blocks = b'[{"type": "image","source":{}},{"type":"document","source":{}}]'
    assert read_envelope(MESSAGES.replace(b'"hi"', blocks), "messages").features() == {"images", "documents"}
    inputs = b'{"model":"m","input":[{"type":"input_image"},{"type":"input_file"}]}'
    assert read_envelope(inputs, "responses").features() == {"images", "documents"}


def test_words_about_images_are_not_images() -> None:
    said = chat(
        messages=[{"role": "user", "content": 'what is {"type":"image_url"}?'}],
        tools=[{"function": {"parameters": {"properties": {"image_url": {"type": "string"}}}}}],
    )
    assert read_envelope(said, "chat").features() == {"tools"}


def test_an_attachment_is_not_counted_by_its_base64() -> None:
    plain = read_envelope(CHAT, "chat").estimate_input()
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}]
    assert plain <= len(CHAT) // 4
    assert (
        1600
        < read_envelope(chat(messages=[{"role": "user", "content": image}]), "chat").estimate_input()
        < 2000
    )


# ---- whatever comes


@given(st.binary(max_size=200), st.sampled_from(["chat", "messages", "responses"]))
def test_no_bytes_break_it(body: bytes, dialect: DialectName) -> None:
    # a valid request is not to be had by chance
    assert refused(body, dialect).message


@given(data=st.data(), dialect=st.sampled_from(["chat", "messages"]))
def test_no_mutation_breaks_it(data: st.DataObject, dialect: DialectName) -> None:
    body = bytearray(
        chat(stream=True, max_tokens=5, tools=[{"a": [1, {"b": '\\"[{'}]}], temperature=1, x={"y": [[]]})
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        envelope = read_envelope(bytes(body), dialect)
    except InvalidRequest:
        return
    assert json.loads(envelope.encode("other"))["model"] == "other"
    assert envelope.estimate_input() >= 0
    assert envelope.features() is not None


def test_what_is_encrypted_is_looked_for_in_the_one_format_that_has_it() -> None:
    turns = b'{"model": "m", "input": [{"type": "reasoning", "encrypted_content": "x"}, {"role": "user", "content": "y"}]}'
    plain = b'{"model": "m", "input": [{"role": "user", "content": "y"}]}'
    chat = b'{"model": "m", "messages": [{"role": "user", "content": "encrypted_content"}]}'
    assert read_envelope(turns, "responses").may_show(ENCRYPTED)
    assert scanned("responses", turns).may_show(ENCRYPTED)
    assert not scanned("responses", plain).may_show(ENCRYPTED)
    assert not scanned("chat", chat).may_show(ENCRYPTED)
