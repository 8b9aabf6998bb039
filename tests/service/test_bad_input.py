"""What callers send that cannot be served: a clear 4xx that names the field, never a 500, and nothing reaches a provider."""

import base64
import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import msgspec
import pytest

from tests.service.conversations import DIALECTS, PATHS, Answer, body_of, request
from tests.service.running_service import House

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

both = pytest.mark.parametrize("dialect", DIALECTS)
NATIVE = {"x-error-format": "native"}


async def _refused(house: House, dialect: str, body: bytes, **headers: str) -> Answer:
    """The answer to this body, which costs nothing, and after which the user goes on."""
    user = await house.user("one")
    answer = await house.post(dialect, body, user, {**NATIVE, **headers})
    assert 400 <= answer.status < 500, answer.body
    assert answer.json["type"] == "error"
    assert answer.json["message"]
    assert house.asked == 0
    assert await house.used(user) == 0
    assert house.held(user) == 0
    return answer


def _text(dialect: str) -> str:
    return body_of(dialect, f"{dialect}-plain").decode()


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \r\n",
    "cut": b'{"model": "x", "messages": [{"role": "user"',
    "more after it": b"{} {}",
    "no object": b'[{"model": "x"}]',
    "text": b'"model"',
    "null": b"null",
    "number": b"17",
    "single quotes": b"{'model': 'x'}",
    "trailing comma": b'{"model": "x",}',
    "comment": b'{"model": "x" /* hello */}',
    "byte-order mark": b'\xef\xbb\xbf{"model":"x"}',
    "utf-16": '{"model":"x"}'.encode("utf-16"),
    "a form": b"model=x&messages=hello",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n--x--\r\n',
    "gzip": gzip.compress(b"{}"),
    "zeros": b"\x00" * 100,
    "control character": b'{"model": "a\nb"}',
    "bad escape": b'{"model": "\\x"}',
    "leading zero": b'{"model": 01}',
}


@both
@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_json_object_is_a_400_that_says_what_was_expected(
    house: House, dialect: str, name: str
) -> None:
    answer = await _refused(house, dialect, MALFORMED[name])
    assert answer.status == 400
    assert "body" in answer.error.lower()
    assert answer.json["error"]["type"] == "invalid_request_error"


@both
async def test_values_that_json_does_not_have_are_a_400(house: House, dialect: str) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999", "undefined", "True", "+1", ".5", "0x10"):
        body = _text(dialect)[:-1] + f',"temperature":{value}}}'
        assert (await _refused(house, dialect, body.encode())).status == 400
    for value in ("NaN", "undefined"):
        deep = _text(dialect)[:-1] + f',"metadata":{{"a":[{value}]}}}}'
        assert (await _refused(house, dialect, deep.encode())).status == 400


@both
async def test_bytes_and_escapes_that_are_no_characters_are_a_400(house: House, dialect: str) -> None:
    for text in (
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf5\x80\x80\x80",
        b"\\ud83d",
        b"\\udc00\\ud800",
    ):
        body = _text(dialect).encode().replace(b"Hello", b"Hel" + text + b"lo")
        answer = await _refused(house, dialect, body)
        assert answer.status == 400
        assert "UTF-8" in answer.error or "surrogate" in answer.error


@both
async def test_nesting_that_is_too_deep_is_a_400_wherever_it_is(house: House, dialect: str) -> None:
    for depth in (2_000, 50_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            nested = opening * depth + ("1" if opening != "[" else "") + closing * depth
            body = _text(dialect)[:-1] + f',"metadata":{nested}}}'
            answer = await _refused(house, dialect, body.encode())
            assert answer.status == 400
            assert "deep" in answer.error
            inside = _text(dialect).replace('"Hello"', f'[{{"type":"text","text":"x","more":{nested}}}]')
            assert (await _refused(house, dialect, inside.encode())).status == 400
    assert (await _refused(house, dialect, b"[" * 1_000_000)).status == 400


@both
@pytest.mark.parametrize("model", ["plain", "other"])
async def test_the_bound_on_nesting_is_our_own(house: House, dialect: str, model: str) -> None:
    """The same level in the own lane and towards another dialect, for lists, objects and both; every Python reads more."""
    names = {"plain": f"{dialect}-plain", "other": next(f"{d}-plain" for d in DIALECTS if d != dialect)}
    text = body_of(dialect, names[model]).decode()
    user = await house.user("one")
    for opening, closing in (("[", "]"), ('{"a":', "}"), ('[{"]}":', "}]")):
        times = len(closing)
        for levels in (498, 500, 502, 700, 900):
            nested = (
                opening * (levels // times)
                + ('"{[["' if ":" in opening else "")
                + closing * (levels // times)
            )
            # the body itself is one level
            body = text[:-1] + f',"x_unknown":{nested}}}'
            answer = await house.post(dialect, body.encode(), user, NATIVE)
            deep = levels // times * times + 1 > 500
            assert (answer.status == 400 and "deep" in answer.error) if deep else answer.status == 200, levels


WRONG: dict[str, list[tuple[str, Any]]] = {
    "chat": [
        ("model", ...),
        ("model", None),
        ("model", 5),
        ("model", ""),
        ("model", " "),
        ("model", ["chat-plain"]),
        ("messages", ...),
        ("messages", None),
        ("messages", "hello"),
        ("messages", {}),
        ("messages", []),
        ("messages", ["hello"]),
        ("messages", [[]]),
        ("messages[0].role", [{"content": "x"}]),
        ("messages[0].role", [{"role": 5, "content": "x"}]),
        ("messages[1].content", [{"role": "user", "content": "x"}, {"role": "user", "content": 5}]),
        ("messages[0].content", [{"role": "user", "content": {"type": "text"}}]),
        ("messages[0].content", [{"role": "user", "content": True}]),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", "include_usage"),
        ("stream_options", {"include_usage": "yes"}),
        ("max_tokens", "100"),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", [1]),
        ("max_completion_tokens", 0),
        ("max_completion_tokens", "x"),
        ("temperature", "warm"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", [1]),
    ],
    "messages": [
        ("model", ...),
        ("model", 5),
        ("model", ""),
        ("messages", ...),
        ("messages", "hello"),
        ("messages", {}),
        ("messages", []),
        ("messages", ["hello"]),
        ("messages[0].role", [{"content": "x"}]),
        ("messages[0].role", [{"role": None, "content": "x"}]),
        ("messages[0].content", [{"role": "user", "content": 5}]),
        ("messages[0].content", [{"role": "user", "content": {}}]),
        ("max_tokens", ...),
        ("max_tokens", None),
        ("max_tokens", "100"),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("stream", "true"),
        ("stream", 1),
        ("temperature", "warm"),
        ("temperature", {}),
    ],
}


@both
async def test_a_field_of_the_wrong_type_is_named(house: House, dialect: str) -> None:
    for name, value in WRONG[dialect]:
        field = name.partition("[")[0]
        answer = await _refused(house, dialect, body_of(dialect, f"{dialect}-plain", **{field: value}))
        assert answer.status == 400, (name, value)
        param = answer.json["error"]["param"]
        assert param is not None, (name, value)
        assert param == name or param.startswith(f"{name}["), (name, value)
        assert field in answer.error


TRANSLATED: dict[str, list[tuple[str, Any]]] = {
    "chat": [
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "hologram"}]}]),
        (
            "messages",
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
                }
            ],
        ),
        ("messages", [{"role": "user", "content": [{"type": "image_url"}]}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "assistant", "tool_calls": "x"}]),
        ("messages", [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]),
        ("tools", "x"),
        ("tools", [{}]),
        ("tools", [{"type": "function", "function": {"name": 5}}]),
        ("tool_choice", 5),
        ("tool_choice", "sometimes"),
        ("stop", 5),
        ("stop", [5]),
        ("top_p", "x"),
        ("n", 3),
        ("response_format", "json"),
        ("parallel_tool_calls", "x"),
    ],
    "messages": [
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "hologram"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image", "source": {"type": "telepathy"}}]}]),
        ("messages", [{"role": "user", "content": [{"type": "tool_result"}]}]),
        ("messages", [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]),
        ("system", 5),
        ("system", [{"type": "image"}]),
        ("tools", "x"),
        ("tools", [{}]),
        ("tools", [{"name": 5, "input_schema": {}}]),
        ("tool_choice", "auto"),
        ("tool_choice", {"type": "sometimes"}),
        ("stop_sequences", "x"),
        ("stop_sequences", [5]),
        ("top_k", "x"),
        ("thinking", "on"),
        ("metadata", "x"),
    ],
}


@both
async def test_what_cannot_be_translated_is_named_where_the_provider_speaks_the_other_dialect(
    house: House, dialect: str
) -> None:
    other = "chat" if dialect == "messages" else "messages"
    for name, value in TRANSLATED[dialect]:
        answer = await _refused(house, dialect, body_of(dialect, f"{other}-plain", **{name: value}))
        assert answer.status == 400, (name, value)
        assert (answer.json["error"]["param"] or "").startswith(name), (name, value, answer.body)


@both
async def test_a_body_above_the_limit_is_a_413_told_before_it_is_sent(house: House, dialect: str) -> None:
    user = await house.user("one")
    raw = request("POST", PATHS[dialect], {"x-api-key": user.key}, b"").replace(
        b"content-length: 0", b"content-length: %d" % ((32 << 20) + 1)
    )
    answer = await (await house.send(raw)).answer()
    assert (answer.status, answer.code) == (413, "request_too_large")
    assert "33554432" in answer.error
    assert house.held(user) == 0
    chunks = b"%x\r\n" % (33 << 20) + b" " * (33 << 20) + b"\r\n0\r\n\r\n"
    head = raw.partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"
    caller = await house.send(head)
    caller.writer.write(chunks)
    assert (await caller.answer()).status == 413
    assert house.asked == 0


@both
async def test_a_body_at_the_limit_is_served(house: House, dialect: str) -> None:
    user = await house.user("one")
    body = body_of(dialect, f"wire-{dialect}")
    house.wires[f"wire-{dialect}"].script = lambda asked: asked.answer(b"{}", 400)
    answer = await house.post(dialect, body[:-1] + b" " * ((32 << 20) - len(body)) + b"}", user)
    assert answer.status == 400
    assert len(house.wires[f"wire-{dialect}"].asked) == 1


@both
async def test_the_content_type_is_nobodys_business(house: House, dialect: str) -> None:
    user = await house.user("one")
    for kind in (
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-8",
        "x",
        "",
    ):
        answer = await house.ask(dialect, f"{dialect}-plain", user, headers={"content-type": kind})
        assert answer.status == 200, kind
    assert (await house.ask(dialect, f"{dialect}-plain", user)).status == 200


@both
async def test_a_coding_that_is_not_taken_is_a_415_that_names_those_that_are(
    house: House, dialect: str
) -> None:
    body = gzip.compress(body_of(dialect, f"{dialect}-plain"))
    for encoding in ("compress", "deflate, gzip", "gzip, gzip", "x-made-up", "aes128gcm"):
        answer = await _refused(house, dialect, body, **{"content-encoding": encoding})
        assert (answer.status, answer.code) == (415, "encoded_body")
        assert answer.headers["accept-encoding"] == "zstd, br, gzip, deflate"
    user = await house.user("one")
    plain = await house.ask(dialect, f"{dialect}-plain", user, headers={"content-encoding": "identity"})
    assert plain.status == 200


def _bare(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


CODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zstd, as Codex sends it": ("zstd", zstd.compress),
    "zstd in two frames": ("zstd", lambda body: zstd.compress(body[:9]) + zstd.compress(body[9:])),
    "br": ("br", brotli.compress),
    "gzip": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in two members": ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    "deflate": ("identity, deflate", zlib.compress),
    "deflate without its wrapping": ("deflate", _bare),
}


@both
async def test_a_compressed_body_is_read_as_what_it_stands_for(house: House, dialect: str) -> None:
    user = await house.user("one")
    plain = body_of(dialect, f"{dialect}-plain")
    for name, (coding, compress) in CODED.items():
        for body in (plain, plain + b" " * 300_000):  # one that is read in a thread
            answer = await house.post(dialect, compress(body), user, {"content-encoding": coding})
            assert answer.status == 200, (name, answer.body)
    assert await house.used(user) == 2 * len(CODED)


@both
async def test_what_is_not_what_its_coding_says_is_a_400(house: House, dialect: str) -> None:
    plain = body_of(dialect, f"{dialect}-plain")
    for coding, compress in CODED.values():
        whole = compress(plain)
        for body in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"more", plain, b"\0" * 40):
            answer = await _refused(house, dialect, body, **{"content-encoding": coding})
            assert (answer.status, answer.code) == (400, "invalid_request"), (coding, body[-8:])
    many = gzip.compress(b"") * 65 + gzip.compress(plain)
    assert (await _refused(house, dialect, many, **{"content-encoding": "gzip"})).status == 400


@both
async def test_names_and_fields_of_any_kind_do_no_harm(house: House, dialect: str) -> None:
    names = [
        "\x00",
        "a" * 10_000,
        "../../etc/passwd",
        "{0}",
        "%s",
        "'; drop table requests; --",
        "\u202e",
        "💧",
        "\r\nx: y",
    ]
    for name in names:
        answer = await _refused(house, dialect, body_of(dialect, name))
        assert answer.status == 404
        assert len(answer.body) < 10_000
    user = await house.user("one")
    strange: dict[str, Any] = {name: name for name in names}
    for upstream in DIALECTS:
        answer = await house.ask(dialect, f"{upstream}-plain", user, **strange)
        assert answer.status == 200
    rows = await house.rows(user)
    assert [row["outcome"] for row in rows] == ["completed"] * 2


@both
async def test_ten_thousand_messages_are_served_and_more_are_refused(house: House, dialect: str) -> None:
    user = await house.user("one")
    turns: list[Any] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 5_000
    for upstream in DIALECTS:
        answer = await house.ask(dialect, f"{upstream}-plain", user, messages=[*turns[:-1], turns[0]])
        assert answer.status == 200
    refused = await house.post(
        dialect, body_of(dialect, f"{dialect}-plain", messages=[*turns, turns[0]]), user, NATIVE
    )
    assert (refused.status, refused.json["error"]["param"]) == (400, "messages")


SEALS = ["[]", "garbage", "[" + ",".join(["[]"] * 50_000) + "]", '[{"type":"text"},{"type":"text"}]']


@pytest.mark.parametrize("raw", SEALS, ids=["none", "garbage", "many", "texts"])
async def test_a_seal_that_a_caller_has_written_is_no_fault_of_ours(house: House, raw: str) -> None:
    hosted = {"kind": "search", "id": "s1", "name": "web_search", "raw": raw}
    value = msgspec.json.encode(["hosted", msgspec.json.encode(hosted).decode()])
    sealed = "gwe1." + base64.urlsafe_b64encode(value).decode().rstrip("=")
    items: list[Any] = [
        {"role": "user", "content": "q"},
        {"type": "reasoning", "summary": [], "encrypted_content": sealed},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "gwi_7aCA", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "gwi_7aCA", "output": "1"},
    ]
    user = await house.user()
    for upstream in DIALECTS:
        answer = await house.ask("responses", f"{upstream}-plain", user, input=items)
        assert answer.status == 200, answer.body


def test_the_bodies_of_these_tests_are_what_they_say() -> None:
    for dialect in DIALECTS:
        assert msgspec.json.decode(_text(dialect))["model"] == f"{dialect}-plain"
