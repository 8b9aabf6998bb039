"""One JSON value changed in place: exactly that one, whatever surrounds it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.body.splice import find_values, replace_at, replace_known, replace_top_level

CASES = [
    (b'{"model":"a"}', b'{"model":"NEW"}'),
    (b'{"x":{"model":"a"},"model":"b"}', b'{"x":{"model":"a"},"model":"NEW"}'),
    (b'{"x":[{"model":"a"}],"y":0,"model" :\t"b" , "z":1}', b'{"x":[{"model":"a"}],"y":0,"model" :\t"NEW" , "z":1}'),
    (b'{"text":"\\"model\\":\\"a\\"","model":"b"}', b'{"text":"\\"model\\":\\"a\\"","model":"NEW"}'),
    (b'{"text":"\\\\","model":"b"}', b'{"text":"\\\\","model":"NEW"}'),
    (b'{"mod\\u0065l":"b"}', b'{"mod\\u0065l":"NEW"}'),
    (b'{"foo\\"model":"a","model":"b"}', b'{"foo\\"model":"a","model":"NEW"}'),
    (b'\n{ "model" : { "deep" : [1,{"model":2}] } }\n', b'\n{ "model" : "NEW" }\n'),
    (b'{"model":[1,2],"a":"b"}', b'{"model":"NEW","a":"b"}'),
    (b'{"model":null,"n":-1.5e3}', b'{"model":"NEW","n":-1.5e3}'),
    (b'{"model":"a","model":"b"}', b'{"model":"NEW","model":"NEW"}'),
    ('{"é":"model","model":"日本"}'.encode(), '{"é":"model","model":"NEW"}'.encode()),
    (b'{"models":"a","mode":"b"}', b'{"models":"a","mode":"b"}'),
    (b'[{"model":"a"}]', b'[{"model":"a"}]'),
    (b'"model"', b'"model"'),
    (b"{}", b"{}"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CASES)
def test_top_level(before: bytes, after: bytes) -> None:
    assert replace_top_level(before, "model", b'"NEW"') == after


def test_a_path() -> None:
    frame = (
        b'{"type":"message_start","model":"no","message":{"usage":{"model":1},"model":"a"},"x":{"model":"b"}}'
    )
    wanted = frame.replace(b'"model":"a"', b'"model":"NEW"')
    assert replace_at(frame, ("message", "model"), b'"NEW"') == wanted
    assert replace_at(frame, ("message", "none"), b"1") == frame
    assert replace_at(frame, ("type", "model"), b"1") == frame
    assert (
        replace_at(b'{"message":[{"model":"a"}]}', ("message", "model"), b"1")
        == b'{"message":[{"model":"a"}]}'
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["model", '"model":']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "a", 'mo"del', "\\"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.sampled_from(["model", "a", "b", 'x"']), JSON),
    st.booleans(),
    st.sampled_from([None, 1]),
)
@settings(max_examples=300, deadline=None)
def test_only_the_value_changes(value: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    changed = replace_top_level(body.encode(), "model", b'"NEW"')
    wanted = {**value, "model": "NEW"} if "model" in value else value
    assert changed.decode() == json.dumps(wanted, ensure_ascii=ascii_only, indent=indent)


@given(st.binary(max_size=60), st.text(alphabet='{}[]",:\\model1 ', max_size=40))
@settings(max_examples=200, deadline=None)
def test_what_is_not_json_does_no_harm(noise: bytes, text: str) -> None:
    for body in (noise, text.encode()):
        for start, end in find_values(body, ("model",)):
            assert 0 <= start <= end <= len(body)


@pytest.mark.parametrize(
    "text",
    [
        b'{"model":"up/x","a":1}',
        b'{"a": "\\"model\\":\\"up/x\\"", "model" : "up/x"}',
        b'{"x":{"model":"up/x"},"model":"up/x"}',
        b'{"object":"model","model":"up/x"}',
        b'{"a":[{"model":1}],"model":"up\\/x","b":"model"}',
        b'{"\\u006dodel":"up/x"}',
        b'{"model":"up/x","x":"model"}',
        b'{"foo\\"model":"up/x","mod\\u0065l":"up/x"}',
    ],
)
def test_a_known_value_is_replaced_where_a_search_would_replace_it(text: bytes) -> None:
    assert replace_known(text, ("model",), "up/x", b'"ours"') == replace_top_level(text, "model", b'"ours"')
    assert json.loads(replace_known(text, ("model",), "up/x", b'"ours"'))["model"] == "ours"


def test_brackets_that_nothing_opened_hold_nothing() -> None:
    assert find_values(b'}{"model":"x"}', ("model",)) == []
