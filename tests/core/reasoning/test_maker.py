"""Maker marks: on what goes out, and off what comes back to its maker."""

from penstock.core.neutral.events import AnyEvent, TextDelta, ThoughtRedacted, ThoughtSigned
from penstock.core.neutral.request import Request, Text, Thought, Turn
from penstock.core.reasoning.maker import maker_mark, marked_events, own_again
from penstock.core.reasoning.signature import ReasoningOrigin, has_to_return, is_ours, sign_reasoning

MARK = maker_mark("minimax")
GW = sign_reasoning(ReasoningOrigin("deepseek"))


def asked(*parts: Thought | Text) -> Request:
    return Request("m", (Turn("user", (Text("x"),)), Turn("assistant", parts), Turn("user", (Text("y"),))))


def test_marks_are_ours_and_differ() -> None:
    marks = {maker_mark(provider) for provider in ("minimax", "zai", "", "\udc80", "x" * 10_000)}
    assert len(marks) == 5
    assert all(is_ours(mark) and len(mark) == len(MARK) for mark in marks)


def test_what_goes_out_comes_back_to_its_maker() -> None:
    events: list[AnyEvent] = [
        ThoughtSigned("c0ffee"),
        ThoughtRedacted("data"),
        ThoughtSigned(GW),
        TextDelta("hi"),
    ]
    out = marked_events(events, MARK)
    assert out == [
        ThoughtSigned(MARK + "c0ffee"),
        ThoughtRedacted(MARK + "data"),
        ThoughtSigned(GW),
        TextDelta("hi"),
    ]
    sent = asked(
        Thought("hm", MARK + "c0ffee"), Thought(redacted=MARK + "data"), Thought("t", GW), Text("hi")
    )
    back = own_again(sent, MARK, native=False)
    assert back == asked(Thought("hm", "c0ffee"), Thought(redacted="data"), Thought("t", GW), Text("hi"))
    assert own_again(sent, maker_mark("zai"), native=True) is sent
    assert own_again(asked(Text("hi"), Thought("hm")), MARK, native=False) == asked(Text("hi"), Thought("hm"))


def test_a_signature_has_to_return_where_it_carries_something() -> None:
    assert has_to_return("EuSig")
    assert has_to_return(MARK + "c0ffee")
    assert has_to_return(sign_reasoning(ReasoningOrigin("m", "{}")))
    assert not has_to_return(GW)
