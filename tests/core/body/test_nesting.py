"""The bound on nesting: as many levels as it says and not one more, whatever the strings hold and whichever Python runs it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.body.nesting import (
    MAX_NESTING,
    any_nests_deeper,
    body_nests_deeper,
    is_object,
    nests_deeper,
)
from penstock.core.dialects.chat import response_schema as chat
from penstock.core.dialects.messages import response_schema as messages
from penstock.core.dialects.responses import response_schema as responses
from penstock.core.dialects.upstream_error_text import error_text
from penstock.core.formats.embeddings import passthrough_response
from penstock.core.neutral.events import Failed

MOST = 20


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(inner) for inner in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(inner) for inner in value), default=0)
    return 0


def lists(levels: int, inside: bytes = b"") -> bytes:
    return b"[" * levels + inside + b"]" * levels


def objects(levels: int, key: bytes = b"a", inside: bytes = b"1") -> bytes:
    return b'{"%b": ' % key * levels + inside + b"}" * levels


FORMS = {
    "lists": lists,
    "objects": objects,
    "with texts of brackets": lambda levels: objects(levels, b"a", b'"' + b"{[" * 400 + b'"'),
    "with quotes in texts": lambda levels: objects(levels, b'\\"{[', b'"\\\\\\"{[\\\\"'),
    "with keys that close": lambda levels: objects(levels, b"}]"),
    "with much before": lambda levels: b'{"a":"%b","b":%b}' % (b"x" * 9000, lists(levels - 1)),
    "with much after": lambda levels: b'[%b,"%b",{"a":"]}"}]' % (objects(levels - 1), b"y " * 5000),
    "between many small ones": lambda levels: b"[%b%b%b]" % (b"{}," * 900, lists(levels - 1), b",[[]]" * 900),
    "between long ones": lambda levels: (
        b"[%b%b]" % (b'{"text":"%b"},' % (b"z" * 3000) * 40, lists(levels - 1))
    ),
    "in one of many messages": lambda levels: (
        b'{"messages":[%b{"content":[{"x":%b}]}]}'
        % (b'{"role":"user","content":"%b"},' % (b"hello " * 90) * 60, lists(levels - 5))
    ),
    "with white space": lambda levels: b" \n" + b"[\n \t" * levels + b"]\r\n" * levels,
    "beside texts with backslashes": lambda levels: (
        b'["%b",%b]' % (b"\\\\" * 700 + b"\\n", lists(levels - 1))
    ),
}


@pytest.mark.parametrize("most", [MOST, MAX_NESTING])
@pytest.mark.parametrize("form", FORMS)
def test_one_level_more_is_too_many(form: str, most: int) -> None:
    make = FORMS[form]
    assert [nests_deeper(make(levels), most) for levels in (most - 1, most, most + 1, most + 2)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 998, 5000, 9_999, 100_000, 1_000_000])
@pytest.mark.parametrize("form", FORMS)
def test_any_depth_is_told(form: str, levels: int) -> None:
    """Also one that the decoders of some versions of Python take."""
    if levels <= 100_000 or form in {"lists", "objects"}:
        assert nests_deeper(FORMS[form](levels))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"{",
        b'"',
        b"x" * 5000,
        b'"' * 5000,
        b"\\" * 5001,
        b"]" * 5000,
        b"[]" * 5000,
        b'{"a":[1,2]}',
        b'["' * 200,
    ],
)
def test_what_is_no_json_or_is_shallow_is_not_too_deep(text: bytes) -> None:
    assert not nests_deeper(text)


def test_what_is_never_closed_is_deep() -> None:
    assert nests_deeper(b"[" * 501)
    assert nests_deeper(b'{"a":[' * 251)
    assert not nests_deeper(b"[" * 500)


nested = st.recursive(
    st.none() | st.text('{}[]"\\,:ax\n') | st.integers(-5, 5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{}[]"\\a'), inner, max_size=3),
    max_leaves=60,
)


@given(nested, st.integers(1, 12), st.booleans(), st.sampled_from([0, 300, 20_000]))
def test_it_is_the_depth_that_counts(value: Any, most: int, plain: bool, padding: int) -> None:
    value = [value, "p" * padding]
    text = json.dumps(value, separators=(",", ":") if plain else None, indent=None if plain else 1).encode()
    assert nests_deeper(text, most) == (depth(value) > most)
    fields = msgspec.json.decode(b'{"a":%b,"b":1}' % text, type=dict[str, msgspec.Raw])
    assert any_nests_deeper(fields.values(), most) == (depth(value) > most)
    assert body_nests_deeper(b'{"a":%b}' % text, fields.values(), most + 1) == (depth(value) > most)


def test_an_object_is_one_of_few_levels() -> None:
    assert is_object(b'{"a":[1]}')
    assert is_object(objects(MAX_NESTING))
    for text in (objects(MAX_NESTING + 1), objects(990), objects(20_000), b"[]", b'"{}"', b"", b"{", b"{}{}"):
        assert not is_object(text)


@pytest.mark.parametrize("levels", [501, 900])
def test_answers_and_events_that_are_deeper_are_not_read(levels: int) -> None:
    """The same that is said of what is no JSON; 900 levels are read by the decoder of every Python."""
    deep = lists(levels)
    assert chat.read_chunk(b'{"id":"a","x":%b}' % deep) is None
    assert chat.read_regular(b'{"model":"m","choices":[%b],"usage":{}}' % deep) is None
    assert messages.decode_whole(b'{"type":"message","content":%b}' % deep) is None
    assert isinstance(messages.read_event(b"ping", b'{"type":"ping","x":%b}' % deep), Failed)
    assert responses.decode_whole(b'{"id":"r","x":%b}' % deep) is None
    assert responses.decode_whole(b"no JSON") is None
    assert isinstance(responses.read_event(b"x", b'{"type":"x","x":%b}' % deep), Failed)
    assert isinstance(responses.read_event(b"x", b"[]"), Failed)
    assert not responses.is_json(deep)
    assert passthrough_response(b'{"data":[],"x":%b}' % deep, model=None)[2] is not None
    assert error_text(400, b'{"error":{"message":"m","x":%b}}' % deep) is None


@pytest.mark.parametrize("padding", [0, 20_000], ids=["short", "long"])
def test_a_body_is_looked_at_as_a_whole_or_by_its_members(padding: int) -> None:
    for levels, deeper in ((MOST - 2, False), (MOST - 1, False), (MOST, True), (MOST + 1, True)):
        body = b'{"a":%b,"b":"%b"}' % (lists(levels), b"{" * padding)
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).values()
        assert body_nests_deeper(body, members, MOST) == deeper
