"""Log probabilities cross between OpenAI's two formats, whole and streamed alike; Messages has none, which is told."""

import json
from typing import Any

import pytest

from penstock.core.dialects.interface import NOTHING_ASKED
from penstock.core.dialects.prepare import prepare
from penstock.core.dialects.registry import DIALECTS, read_envelope
from penstock.core.neutral.events import Scored, TextDelta
from penstock.core.neutral.fold import events_of, fold
from penstock.core.profile import Profile


def score(token: str, logprob: float, **others: float) -> dict[str, Any]:
    top = [
        {"token": other, "logprob": chance, "bytes": list(other.encode())} for other, chance in others.items()
    ]
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": top}


PIECES = [("So ", [score("So ", -0.25, So=-0.25, No=-2.5)]), ("é?", [score("é", -1.0), score("?", -0.125)])]
ALL = [each for _, scores in PIECES for each in scores]
TEXT = "".join(text for text, _ in PIECES)


def chat_stream(ended: bool = True) -> bytes:
    out = b""
    deltas: list[tuple[dict[str, Any], Any]] = [({"role": "assistant", "content": ""}, None)]
    deltas.append(({"reasoning_content": "hm"}, None))
    deltas += [({"content": text}, {"content": scores, "refusal": None}) for text, scores in PIECES]
    for delta, logprobs in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        out += b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return out + b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"id": "c", "choices": [end]}).encode()


def chat_whole() -> bytes:
    message = {"role": "assistant", "content": TEXT, "reasoning_content": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": ALL}}
    return json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


def responses_whole() -> bytes:
    text = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": ALL}
    message = {
        "type": "message",
        "id": "msg",
        "status": "completed",
        "role": "assistant",
        "content": [text],
    }
    return json.dumps({"id": "r", "model": "m", "status": "completed", "output": [message]}).encode()


def responses_stream(*, deltas: bool = True) -> bytes:
    whole = json.loads(responses_whole())
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": whole | {"status": "in_progress", "output": []}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "message", "id": "msg", "content": []},
        },
    ]
    where = {"item_id": "msg", "output_index": 0, "content_index": 0}
    if deltas:
        events += [
            {"type": "response.output_text.delta", **where, "delta": text, "logprobs": scores}
            for text, scores in PIECES
        ]
    events.append({"type": "response.output_text.done", **where, "text": TEXT, "logprobs": ALL})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]})
    events.append({"type": "response.completed", "response": whole})
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events
    )


ANSWERS = {
    "chat-whole": ("chat", chat_whole()),
    "chat-stream": ("chat", chat_stream()),
    "responses-whole": ("responses", responses_whole()),
    "responses-stream": ("responses", responses_stream()),
    "responses-without-deltas": ("responses", responses_stream(deltas=False)),
}


def events_from(name: str) -> list[Any]:
    dialect, data = ANSWERS[name]
    side = DIALECTS[dialect].upstream
    assert side is not None
    if not name.endswith("whole"):
        reader = side.ResponseDecoder(profile=Profile())
        return [*reader.feed(data), *reader.finish()]
    return side.decode_response(data, Profile())


@pytest.mark.parametrize("name", ANSWERS)
def test_they_come_before_their_text_and_are_in_the_reply(name: str) -> None:
    events = events_from(name)
    assert json.loads("[" + ",".join(each.tokens for each in events if isinstance(each, Scored)) + "]") == ALL
    for at, event in enumerate(events):
        if isinstance(event, Scored):
            after = next(each for each in events[at + 1 :] if isinstance(each, TextDelta | Scored))
            assert isinstance(after, TextDelta)
    reply = fold(events)
    ((place, tokens),) = reply.scores
    assert reply.parts[place].text == TEXT  # pyright: ignore[reportAttributeAccessIssue]
    assert json.loads(f"[{tokens}]") == ALL
    assert fold(events_of(reply)) == reply


def writer_of(dialect: str) -> Any:
    side = DIALECTS[dialect].caller
    assert side is not None
    return side.ResponseEncoder(
        model="m", reply_id="x", created=1, include_usage=False, input_estimate=0, asked=NOTHING_ASKED
    )


def frames(data: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_chat_caller_gets_them_with_their_text(name: str) -> None:
    chunks = frames(writer_of("chat").write(events_from(name)))
    details = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("reasoning_details", [])]
    assert {one["index"] for one in details} <= {0}
    found: list[Any] = []
    for chunk in chunks:
        (choice,) = chunk["choices"]
        if choice["logprobs"] is not None:
            assert choice["delta"]["content"] == "".join(
                one["token"] for one in choice["logprobs"]["content"]
            )
            found += choice["logprobs"]["content"]
    assert found == ALL
    side = DIALECTS["chat"].caller
    assert side is not None
    whole = json.loads(side.encode_response(fold(events_from(name)), model="m", reply_id="x", created=1))
    assert whole["choices"][0]["logprobs"] == {"content": ALL, "refusal": None}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_responses_caller_gets_them_in_deltas_and_at_the_end(name: str) -> None:
    events = frames(writer_of("responses").write(events_from(name)))
    by_type: dict[str, list[Any]] = {}
    for event in events:
        by_type.setdefault(event["type"], []).append(event)
    deltas = by_type["response.output_text.delta"]
    assert [one for event in deltas for one in event["logprobs"]] == ALL
    assert all(event["delta"] == "".join(one["token"] for one in event["logprobs"]) for event in deltas)
    assert by_type["response.output_text.done"][0]["logprobs"] == ALL
    output = by_type["response.completed"][0]["response"]["output"]
    assert output[-1]["content"][0]["logprobs"] == ALL
    side = DIALECTS["responses"].caller
    assert side is not None
    whole = json.loads(side.encode_response(fold(events_from(name)), model="m", reply_id="x", created=1))
    assert whole["output"][-1]["content"][0]["logprobs"] == ALL


@pytest.mark.parametrize(
    "odd", [{"content": [1]}, {"content": [{"token": 1}]}, [], "x", {"content": None}, 7]
)
def test_odd_ones_are_left_out(odd: Any) -> None:
    answer = json.loads(chat_whole())
    answer["choices"][0]["logprobs"] = odd
    side = DIALECTS["chat"].upstream
    assert side is not None
    assert fold(side.decode_response(json.dumps(answer).encode(), Profile())).scores == ()


def test_odd_ones_of_a_responses_upstream_are_left_out() -> None:
    answer = json.loads(responses_whole())
    answer["output"][0]["content"][0]["logprobs"] = [{"token": 7}]
    side = DIALECTS["responses"].upstream
    assert side is not None
    assert fold(side.decode_response(json.dumps(answer).encode(), Profile())).scores == ()


def asked(caller: str, upstream: str, profile: Profile, **fields: Any) -> tuple[dict[str, Any], set[str]]:
    said = {"input": "Hi"} if caller == "responses" else {"messages": [{"role": "user", "content": "Hi"}]}
    envelope = read_envelope(json.dumps({"model": "m", **said, **fields}).encode(), caller)
    made = prepare(envelope, caller=caller, upstream=upstream, model="m", profile=profile)
    return json.loads(made.body), {loss.field for loss in made.losses}


INCLUDED = {"include": ["message.output_text.logprobs"]}


def test_they_are_asked_for_in_the_other_format() -> None:
    sent, lost = asked("chat", "responses", Profile(), logprobs=True)
    assert (sent["include"], "top_logprobs" in sent, lost) == (INCLUDED["include"], False, set())
    sent, lost = asked("chat", "responses", Profile(logprobs=False), logprobs=True)
    assert ("include" in sent, lost) == (False, {"logprobs"})
    sent, lost = asked("responses", "chat", Profile(), **INCLUDED, top_logprobs=3)
    assert (sent["logprobs"], sent["top_logprobs"], lost) == (True, 3, set())
    sent, lost = asked("responses", "chat", Profile(), **INCLUDED)
    assert (sent["logprobs"], "top_logprobs" in sent, lost) == (True, False, set())
    sent, lost = asked("chat", "responses", Profile(encrypted_reasoning=True), logprobs=True, top_logprobs=2)
    assert (sent["include"][-1], sent["top_logprobs"], lost) == (INCLUDED["include"][0], 2, set())
    for caller, fields in (
        ("chat", {"logprobs": False, "top_logprobs": 2}),
        ("responses", {"top_logprobs": 0}),
    ):
        sent, lost = asked(caller, "chat" if caller == "responses" else "responses", Profile(), **fields)
        assert not {"logprobs", "top_logprobs"} & set(sent)
        assert not lost


@pytest.mark.parametrize("upstream", ["messages", "other", "never"])
def test_what_gives_none_is_told(upstream: str) -> None:
    profiles = {"messages": Profile(), "other": Profile(sampling=False), "never": Profile(logprobs=False)}
    profile = profiles[upstream]
    for caller, other in (("chat", "responses"), ("responses", "chat")):
        fields = {"logprobs": True} if caller == "chat" else INCLUDED
        to = upstream if upstream == "messages" else other
        sent, lost = asked(caller, to, profile, top_logprobs=2, **fields)
        assert lost == {"logprobs" if caller == "chat" else "include", "top_logprobs"}
        assert not {"logprobs", "top_logprobs"} & set(sent)
