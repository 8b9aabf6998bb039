"""The format of embeddings: what is refused and what passes, what of an answer is read, and what is written into it."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.body.envelope import Envelope, read_body
from penstock.core.catalog import Model, ModelKind, is_same_model
from penstock.core.endpoints import ENDPOINTS, FORMATS, formats_of, paths_of
from penstock.core.formats import embeddings
from penstock.core.formats.embeddings import MAX_INPUTS, pass_request, passthrough_response
from penstock.core.neutral.usage import Usage
from penstock.core.profile import Profile
from penstock.errors import InvalidRequest


def read(value: Any = "hello", **fields: Any) -> Envelope:
    return read_body(json.dumps({"model": "m", "input": value, **fields}).encode(), embeddings.CALLER.body)


def written(value: str) -> Envelope:
    """The same with its input as JSON text."""
    return read_body(b'{"model": "m", "input": %b}' % value.encode(), embeddings.CALLER.body)


# ---- the request


@pytest.mark.parametrize(
    "value",
    [
        "hello",
        " ",
        ["hello", "there"],
        ["", "an empty one is the provider's to refuse"],
        ['"quoted", with [commas]', "a backslash at its end\\\\", "\\"],
        [1, 2, 3],
        [7],
        [[1, 2], [3]],
        [[1], []],
        ["x"] * MAX_INPUTS,
        [[1, 2]] * MAX_INPUTS,
        list(range(MAX_INPUTS + 1)),  # one list of token ids is one input
    ],
    ids=lambda value: json.dumps(value)[:20],
)
def test_every_form_of_input_passes(value: Any) -> None:
    envelope = read(value)
    assert pass_request(envelope, "m", Profile(), None).body is envelope.body
    passed = pass_request(envelope, "up", Profile(), None).body
    assert json.loads(passed) == {"model": "up", "input": value}


def test_white_space_is_no_matter() -> None:
    for text in (' [ "a" ,\n "b" ]', "[ 1 ,\t2 ]", "[ [ 1 ] , [ 2 , 3 ] ]"):
        written(text)


def test_other_fields_pass_as_they_are() -> None:
    body = (
        b'{"model":"m","dimensions":1e1,"encoding_format":"base64","user":"u","new":{"x":[1.50]},"input":"a"}'
    )
    passed = pass_request(read_body(body, embeddings.CALLER.body), "up", Profile(), None).body
    assert passed == body.replace(b'"m"', b'"up"')
    assert read(stream=False).stream is False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "input is required."),
        ("", "input must not be empty."),
        ([], "input must not be empty."),
        (7, "input must be a string, a list"),
        (True, "input must be a string, a list"),
        ({"text": "a"}, "input must be a string, a list"),
        ([1.5], "input must be a string, a list"),
        ([-1], "input must be a string, a list"),
        ([None], "input must be a string, a list"),
        (["a", 1], "input must be a string, a list"),
        (["a", ["b"]], "input must be a string, a list"),
        ([[1], 2], "input must be a string, a list"),
        ([1, [2]], "input must be a string, a list"),
        ([[1], 2, [3]], "input must be a string, a list"),
        ([[[1]]], "input must be a string, a list"),
        ([[1], [[2]]], "input must be a string, a list"),
        ([{"text": "a"}], "input must be a string, a list"),
        (["x"] * (MAX_INPUTS + 1), "input may hold at most 2048 entries"),
        (["\\\\"] * (MAX_INPUTS + 1), "input may hold at most 2048 entries"),
        ([[1]] * (MAX_INPUTS + 1), "input may hold at most 2048 entries"),
    ],
    ids=lambda value: json.dumps(value)[:30],
)
def test_what_is_no_input_is_refused_by_its_name(value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said.replace("[", r"\[")) as caught:
        read(value)
    assert caught.value.param == "input"


def test_a_missing_input_a_missing_model_and_a_stream_are_refused() -> None:
    for body, param in (
        (b'{"model": "m"}', "input"),
        (b'{"input": "a"}', "model"),
        (b'{"model": "m", "input": "a", "stream": true}', "stream"),
        (b'{"model": "m", "input": "a", "stream": 1}', "stream"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            read_body(body, embeddings.CALLER.body)
        assert caught.value.param == param


_texts = st.lists(st.text(), min_size=1, max_size=8)
_ids = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=8)


@given(st.one_of(_texts, _ids, st.lists(_ids, min_size=1, max_size=8)), st.booleans())
def test_whatever_has_one_of_the_forms_passes(value: Any, plain: bool) -> None:
    body = json.dumps({"model": "m", "input": value}, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    assert read_body(body, embeddings.CALLER.body).estimate_input() > 0


def test_tokens_are_estimated_by_ids_or_by_bytes() -> None:
    assert read([1, 22, 333]).estimate_input() == 3
    assert read([[1, 22], [333]]).estimate_input() == 3
    assert read("x" * 4000).estimate_input() == 1000
    assert read("x").estimate_input() == 1


# ---- the answer

ANSWER = (
    b'{"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.10, -1e-05]}],'
    b' "model": "up-1", "usage": {"prompt_tokens": 5, "total_tokens": 5}}'
)


def test_of_an_answer_the_model_alone_is_changed() -> None:
    assert passthrough_response(ANSWER, model="m") == (
        ANSWER.replace(b'"up-1"', b'"m"'),
        Usage(input=5, output=0),
        None,
        "up-1",
    )
    for same in ("up-1", None):
        assert passthrough_response(ANSWER, model=same)[0] is ANSWER


def test_a_model_that_is_missing_or_odd_is_put_in() -> None:
    for model in (
        b"",
        b'"model": null, ',
        b'"model": "\\u0078", ',
        b'"model": "x", "about": {"model": "x"}, ',
    ):
        body = b'{%b"data": [{"embedding": "AAAA"}]}' % model
        out, _, failed, _ = passthrough_response(body, model="m")
        assert failed is None
        assert json.loads(out)["model"] == "m"
        assert b'[{"embedding": "AAAA"}]' in out


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (b'{"prompt_tokens": 3, "total_tokens": 4, "cost": 0.1}', 3),
        (b'{"total_tokens": 4}', 4),
        (b'{"prompt_tokens": 0, "total_tokens": 0}', 0),
        (b"null", None),
        (b'{"prompt_tokens": "many"}', None),
    ],
)
def test_usage_as_far_as_it_is_understood(usage: bytes, tokens: int | None) -> None:
    body = b'{"data": [], "usage": %b}' % usage
    assert passthrough_response(body, model="m")[1] == Usage(input=tokens, output=0)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"[]", "api_error", "the answer is not a JSON object"),
        (b"<html>", "api_error", "the answer is not a JSON object"),
        (b'{"data": [], "x": "\xff"}', "api_error", "the answer is not a JSON object"),
        (b"{}", "api_error", "the answer has no list of embeddings"),
        (b'{"data": null}', "api_error", "the answer has no list of embeddings"),
        (b'{"error": {"message": "busy", "type": "overloaded_error"}}', "overloaded_error", "busy"),
        (b'{"error": 7, "data": []}', "api_error", "an error object without a message"),
        (b'{"error": 1e999}', "api_error", "an error object without a message"),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str, said: str) -> None:
    out, usage, failed, _ = passthrough_response(body, model="m")
    assert (out, usage) == (b"", Usage())
    assert failed is not None
    assert (failed.kind, failed.message) == (kind, said)


def test_what_is_not_ascii_passes() -> None:
    body = '{"data": [], "model": "m", "note": "é"}'.encode()
    assert passthrough_response(body, model="m")[0] is body


# ---- the row


def test_the_row() -> None:
    row = next(row for row in ENDPOINTS if row.name == embeddings.NAME)
    assert (row.path, row.kind, row.side, row.counting_path) == ("/embeddings", "embedding", None, None)
    assert embeddings.UPSTREAM.path("any", False) == b"/embeddings"
    assert formats_of("embedding") == {embeddings.NAME: embeddings.UPSTREAM}
    assert {name for kind in get_args(ModelKind) for name in formats_of(kind)} == set(FORMATS)
    counting = [row.counting_path for row in ENDPOINTS if row.counting_path is not None]
    assert counting == ["/messages/count_tokens"]
    assert Model("m", "M").chats
    assert not Model("m", "M", kind="embedding").chats
    assert paths_of("chat") == ("/chat/completions", "/messages", "/responses")


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("text-embedding-3-small", "openai/text-embedding-3-small", True),
        ("Qwen/Qwen3-Embedding-8B", "qwen3-embedding-8b", True),
        ("accounts/fireworks/models/nomic-embed", "nomic-ai/nomic-embed", True),
        ("text-embedding-3-small", "text-embedding-3-large", False),
        ("nomic-embed-text", "nomic-embed-text:latest", False),
    ],
)
def test_names_of_one_model(name: str, other: str, same: bool) -> None:
    assert is_same_model(name, other) is same
    assert is_same_model(other, name) is same
