"""What the two sides of a dialect say of themselves, and which way an answer crosses from one to the other."""

import json

import pytest

from penstock.core.dialects.context_overflow import Overflow
from penstock.core.dialects.interface import (
    NO_VERSION,
    ApiVersion,
    Dialect,
    EventDecoder,
    Prepared,
    UpstreamSide,
)
from penstock.core.dialects.lanes import Crossing, ObservedPassthrough, Translation, stream_lane, whole_reply
from penstock.core.dialects.registry import (
    DIALECTS,
    caller_side,
    passing_of,
    read_envelope,
    upstream_side,
)
from penstock.core.endpoints import ENDPOINTS, FORMATS, Endpoint, endpoint_of
from penstock.core.profile import DEFAULT_PROFILE, Profile
from penstock.core.reasoning.cache import ReasoningCache, ReasoningScope
from penstock.errors import InvalidRequest

CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
ONE_SIDED = Dialect(
    "lines",
    upstream=UpstreamSide(
        path=lambda _model, _stream: b"/lines",
        encode_request=upstream_side("chat").encode_request,
        ResponseDecoder=upstream_side("chat").ResponseDecoder,
        decode_response=upstream_side("chat").decode_response,
        error_text=upstream_side("chat").error_text,
    ),
)


def test_a_side_that_is_not_there_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "lines", ONE_SIDED)
    monkeypatch.setitem(DIALECTS, "none", Dialect("none"))
    for ask in (
        lambda: caller_side("lines"),
        lambda: passing_of("lines"),
        lambda: upstream_side("none"),
        lambda: caller_side("no such dialect"),
    ):
        with pytest.raises(KeyError):
            ask()
    with pytest.raises(TypeError):
        endpoint_of(ONE_SIDED, "/lines")


def test_what_only_some_dialects_have_is_not_there_in_the_others() -> None:
    chat, messages, upstream = caller_side("chat"), caller_side("messages"), upstream_side("chat")
    assert (chat.api_version, chat.response_headers, chat.limit_headers, chat.overflow_words) == (None,) * 4
    assert upstream.version_headers is None
    assert messages.response_headers is not None
    assert messages.response_headers(b"req_1") == ((b"request-id", b"req_1"),)
    assert messages.limit_headers is not None
    assert len(messages.limit_headers(5, 86_400, b"4")) == 3
    assert messages.overflow_words is not None
    assert messages.overflow_words(Overflow(9, 5), "too long") == "prompt is too long: 9 tokens > 5 maximum"


def version_of(headers: list[tuple[bytes, bytes]]) -> ApiVersion:
    """What a caller of Messages means."""
    read = caller_side("messages").api_version
    assert read is not None
    return read(headers)


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        ([], ApiVersion(b"2023-06-01")),
        ([(b"accept", b"*/*"), (b"anthropic-version", b"2026-10-21")], ApiVersion(b"2026-10-21")),
        ([(b"anthropic-beta", b"a"), (b"anthropic-beta", b"b, c")], ApiVersion(b"2023-06-01", b"a,b, c")),
        ([(b"anthropic-beta", b"")], ApiVersion(b"2023-06-01")),
    ],
)
def test_the_version_that_a_caller_means(headers: list[tuple[bytes, bytes]], meant: ApiVersion) -> None:
    assert version_of(headers) == meant


@pytest.mark.parametrize(
    "headers",
    [[(b"anthropic-version", b"today")], [(b"anthropic-beta", b"a b")], [(b"anthropic-beta", b"x" * 5000)]],
)
def test_a_version_that_is_none_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidRequest):
        version_of(headers)


def test_the_version_that_an_upstream_is_asked_in() -> None:
    headers = upstream_side("messages").version_headers
    assert headers is not None
    assert headers(NO_VERSION, DEFAULT_PROFILE) == ((b"anthropic-version", b"2023-06-01"),)
    asked = ApiVersion(b"2026-10-21", b"a,b")
    assert headers(asked, DEFAULT_PROFILE) == (
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"a,b"),
    )
    assert headers(asked, Profile(old_api=True))[0] == (b"anthropic-version", b"2023-06-01")


def test_the_endpoints_and_what_they_can_be_passed_on_to() -> None:
    by_name = {row.name: row for row in ENDPOINTS}
    assert set(DIALECTS) <= set(FORMATS)
    assert by_name["messages"].counting_path == "/messages/count_tokens"
    assert by_name["chat"].counting_path is None
    alone = Endpoint("x", "/x", by_name["chat"].caller, {})
    assert alone.counting_path is None
    assert FORMATS["chat"].path("up", True) == b"/chat/completions"


# ---- which way an answer crosses


def crossing(caller: str, upstream: str) -> Crossing:
    return Crossing(
        caller_side(caller), upstream_side(upstream), caller == upstream, DEFAULT_PROFILE, "public", "id_1", 7
    )


def decoder(lane: Translation) -> EventDecoder:
    return lane._decoder._decoder


def test_a_stream_is_passed_through_observed_or_translated() -> None:
    envelope = read_envelope(CHAT, "chat")
    plain = Prepared(b"")
    kept = Prepared(b"", reasoning=ReasoningScope(ReasoningCache(1000), "u", "p"))
    same = crossing("chat", "chat")
    assert not isinstance(stream_lane(same, envelope, plain, b"text/event-stream"), Translation)
    assert isinstance(stream_lane(same, envelope, kept, b"text/event-stream"), ObservedPassthrough)
    assert isinstance(stream_lane(same, envelope, plain, b"application/json"), Translation)
    other = stream_lane(crossing("chat", "messages"), envelope, kept, b"text/event-stream")
    assert isinstance(other, Translation)
    assert other.pausable is None, "no tools of the upstream's own were offered"
    searching = Prepared(b"", may_pause=True)
    other = stream_lane(crossing("chat", "messages"), envelope, searching, b"text/event-stream")
    assert isinstance(other, Translation)
    assert other.pausable is not None
    assert other.pausable is decoder(other)
    back = stream_lane(crossing("messages", "chat"), envelope, plain, b"text/event-stream")
    assert isinstance(back, Translation)
    assert back.pausable is None
    own = stream_lane(crossing("messages", "messages"), envelope, plain, b"application/json")
    assert isinstance(own, Translation)
    assert own.pausable is None, "a caller of Messages goes on itself"


def test_a_whole_answer_is_decoded_unless_it_is_known_and_its_reasoning_kept_or_hidden() -> None:
    message = {"role": "assistant", "content": "there", "reasoning_content": "hm"}
    body = json.dumps(
        {"id": "x", "model": "up", "choices": [{"message": message, "finish_reason": "stop"}]}
    ).encode()
    way = crossing("messages", "chat")
    cache = ReasoningCache(1000)
    kept = Prepared(b"", reasoning=ReasoningScope(cache, "u", "p"))
    reply = whole_reply(way, kept, body)
    texts = [getattr(part, "text", "") for part in reply.parts]
    assert texts == ["hm", "there"]
    hidden = whole_reply(way, Prepared(b"", hides_reasoning=True), body)
    assert [getattr(part, "text", "") for part in hidden.parts] == ["", "there"]
    known = upstream_side("chat").decode_response(body, DEFAULT_PROFILE)
    assert whole_reply(way, Prepared(b""), b"never looked at", known) == reply
