"""Frames of a known form: what each lane gives for them, where it gives nothing, and what ends its knowledge.

That nothing else differs, for whatever comes, is in ``tests/service/test_pipe.py``.
"""

import pytest

from penstock.core.dialects.chat.response_schema import CallFragment, Function
from penstock.core.dialects.chat.tool_call_assembly import Calls
from penstock.core.dialects.forms import LESSONS, NUMBER, PADDING, Lessons, NumberedForm, TextForm, text_at
from penstock.core.dialects.interface import Lane
from penstock.core.dialects.lanes import TOO_LONG, ObservedPassthrough, Translation
from penstock.core.dialects.learning_decoder import LearningDecoder
from penstock.core.dialects.messages.paused_turn import PausedTurnDecoder, Said
from penstock.core.dialects.messages.text_form import form_of as messages_form
from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.dialects.responses.text_form import form_of as responses_form
from penstock.core.neutral.events import AnyEvent, CallArgs, CallOpened, Stopped, TextDelta, ThoughtDelta
from penstock.core.neutral.text_pieces import TextPieces
from penstock.core.profile import DEFAULT_PROFILE
from tests.core.dialects.delta_frames import BEGIN, END, FRAMES, written
from tests.core.dialects.sides import stream_of

DIALECTS = ("chat", "messages", "responses")
dialects = pytest.mark.parametrize("dialect", DIALECTS)
callers = pytest.mark.parametrize("caller", DIALECTS)


class Ear:
    def __init__(self) -> None:
        self.heard: list[AnyEvent] = []

    def take(self, event: AnyEvent) -> None:
        self.heard.append(event)


def translation(
    dialect: str, caller: str, ear: Ear | None = None, *, hides: bool = False, keeps: int = 10_000
) -> Translation:
    encoder = caller_side(caller).ResponseEncoder(
        model="ours", reply_id="r", created=7, include_usage=True, input_estimate=0
    )
    decoder = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    return Translation(decoder, encoder, listener=ear, hides_reasoning=hides, keeps=keeps)


def lanes(dialect: str, caller: str, ear: Ear) -> list[Lane]:
    if dialect != caller:
        return [translation(dialect, caller, ear)]
    passed = stream_of(dialect)(model="ours", withhold_usage=False)
    observed = ObservedPassthrough(
        stream_of(dialect)(model="ours", withhold_usage=False),
        upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE),
        ear,
    )
    return [passed, observed]


def frame(dialect: str, text: str, number: int = 5, kind: str = "text") -> bytes:
    return FRAMES[dialect](kind, written(text), number)


def read(lane: Lane, raw: bytes) -> bytes:
    """Feed what is not known, as a pipe does: only what was asked about is learnt."""
    known = lane.feed_known(raw, 0, len(raw))
    return lane.feed(raw) if known is None else known


def begun(lane: Lane, dialect: str) -> Lane:
    lane.feed(BEGIN[dialect])
    lane.feed(FRAMES[dialect]("role", b'""', 1))
    read(lane, frame(dialect, "first"))
    return lane


@dialects
@callers
def test_what_is_known_comes_out_as_if_it_had_been_fed(dialect: str, caller: str) -> None:
    ears = Ear(), Ear()
    for fed, known in zip(lanes(dialect, caller, ears[0]), lanes(dialect, caller, ears[1]), strict=True):
        begun(fed, dialect)
        begun(known, dialect)
        assert read(known, frame(dialect, "a\nb")) == fed.feed(frame(dialect, "a\nb"))
        for text in ("second", "drittes é", "第四"):
            assert known.feed_known(
                b"5\r\n" + frame(dialect, text) + b"\r\n", 3, 3 + len(frame(dialect, text))
            ) == fed.feed(frame(dialect, text))
        two = frame(dialect, "five", 8) + frame(dialect, "six", 9)
        assert known.feed_known(two, 0, len(two)) == fed.feed(two)
        assert known.feed(END[dialect]) == fed.feed(END[dialect])
        assert (known.output_bytes, known.usage, known.stop, known.done, known.sequence) == (
            fed.output_bytes,
            fed.usage,
            fed.stop,
            fed.done,
            fed.sequence,
        )
        assert known.feed_known(two, 0, len(two)) is None, "after the end"
    assert ears[0].heard == ears[1].heard


@dialects
@callers
def test_what_is_not_known_changes_nothing(dialect: str, caller: str) -> None:
    for lane in lanes(dialect, caller, Ear()):
        raw = frame(dialect, "second")
        assert lane.feed_known(raw, 0, len(raw)) is None, "before the first"
        begun(lane, dialect)
        before = lane.output_bytes
        special = (
            frame(dialect, 'a"b'),
            frame(dialect, "a\\b"),
            frame(dialect, "a\nb"),
            frame(dialect, ""),
            frame(dialect, "x", kind="thought"),
        )
        for other in (
            # what Messages and Responses pass through is known by one grammar, which has escapes
            *(special if dialect != caller or dialect == "chat" else ()),
            raw[:-1],
            raw + raw[:-1],
            raw + b": ping\n\n",
            b": ping\n\n" + raw,
            raw.replace(b"\n", b"\r\n"),
            END[dialect],
        ):
            assert lane.feed_known(other, 0, len(other)) is None
        assert lane.output_bytes == before
        assert lane.feed_known(raw, 0, len(raw)) is not None


@pytest.mark.parametrize(
    ("dialect", "caller"), [("chat", "chat"), ("chat", "messages"), ("messages", "chat")]
)
def test_what_is_not_utf_8_is_left_to_those_who_read(dialect: str, caller: str) -> None:
    for lane in lanes(dialect, caller, Ear()):
        begun(lane, dialect)
        cut = frame(dialect, "x").replace(b'"x"', b'"\xe6\xbc"')
        assert lane.feed_known(cut, 0, len(cut)) is None


@dialects
def test_a_frame_under_way_is_no_time_for_another(dialect: str) -> None:
    lane = begun(stream_of(dialect)(model="ours", withhold_usage=False), dialect)
    raw = frame(dialect, "second")
    lane.feed(raw[:9])
    assert lane.feed_known(raw, 0, len(raw)) is None
    lane.feed(raw[9:])
    assert lane.feed_known(raw, 0, len(raw)) is not None


@pytest.mark.parametrize(
    ("dialect", "caller"), [("chat", "messages"), ("messages", "chat"), ("responses", "chat")]
)
def test_whatever_else_is_fed_ends_what_a_translation_knows(dialect: str, caller: str) -> None:
    lane = begun(translation(dialect, caller), dialect)
    raw = frame(dialect, "second")
    for other in (b": ping\n\n", raw + raw, frame(dialect, "x", kind="thought")):
        assert lane.feed_known(raw, 0, len(raw)) is not None
        lane.feed(other)
        assert lane.feed_known(raw, 0, len(raw)) is None
        read(lane, raw)


def test_a_refusal_of_responses_is_kept_and_so_always_read() -> None:
    lane = translation("responses", "chat")
    lane.feed(BEGIN["responses"])
    raw = frame("responses", "no", kind="model")
    for _ in range(3):
        assert lane.feed_known(raw, 0, len(raw)) is None
        lane.feed(raw)
    decoder = upstream_side("responses").ResponseDecoder(profile=DEFAULT_PROFILE)
    assert decoder.form_of(b": no frame\n\n") is None
    assert decoder.form_of(b"data: {}\n\n") is None
    assert decoder.form_of(b"data: \xff\n\n") is None


def test_reasoning_that_is_hidden_gives_nothing_to_write() -> None:
    lane = translation("chat", "messages", hides=True)
    lane.feed(BEGIN["chat"])
    raw = frame("chat", "hm", kind="thought")
    read(lane, raw)
    assert lane.feed_known(raw, 0, len(raw)) == b""
    assert lane.output_bytes == 4


def test_the_text_has_to_be_what_became_of_the_frame() -> None:
    """An event that says something else than the place where its text seems to stand teaches nothing."""

    class Decoder:
        answered = ""

        def feed(self, data: bytes) -> list[AnyEvent]:
            return [TextDelta("other") if b"other" in data else TextDelta("same")]

        def finish(self) -> list[AnyEvent]:
            return []

        def form_of(self, raw: bytes) -> TextForm | None:
            return None if b"none" in raw else TextForm(b'{"', b'"}')

    decoder = LearningDecoder(Decoder())
    for data, known in ((b'{"none"}', None), (b'{"say other"}', None), (b'{"same"}', [TextDelta("same")])):
        assert decoder.known(b'{"else', 0, 6) is None
        decoder.feed(data)
        assert decoder.known(b'{"same"}', 0, 8) == known
    decoder.feed(b'{"\\n"}')
    assert decoder.known(b'{"same"}', 0, 8) == [TextDelta("same")], "like the one before, whatever it says"
    decoder.finish()
    assert decoder.known(b'{"same"}', 0, 8) is None


def test_the_kind_of_event_is_that_of_the_frame_that_taught() -> None:
    lane = LearningDecoder(upstream_side("messages").ResponseDecoder(profile=DEFAULT_PROFILE))
    lane.feed(BEGIN["messages"])
    for kind, made in (("thought", ThoughtDelta("x")), ("text", TextDelta("x"))):
        raw = frame("messages", "x", kind=kind)
        assert lane.known(raw, 0, len(raw)) is None
        lane.feed(raw)
        assert lane.known(raw, 0, len(raw)) == [made]
    lane.feed(FRAMES["messages"]("call", b"", 1))
    raw = frame("messages", "12", kind="arguments")
    assert lane.known(raw, 0, len(raw)) is None
    lane.feed(raw)
    assert lane.known(raw, 0, len(raw)) == [CallArgs("12")]


def test_lessons_come_to_an_end() -> None:
    lessons = Lessons(lambda _: None)
    for _ in range(LESSONS):
        assert lessons.take(b"") is None
    assert lessons.left == 0
    lessons = Lessons(lambda raw: TextForm(raw[:2], raw[2:]))
    lessons.left = 1
    first = lessons.take(b'a""b')
    assert first is not None
    assert lessons.take(b'a"x"b') is first, "the same form is none to learn"
    assert lessons.take(b'c""d') is None
    assert lessons.form is first


def test_text_is_read_between_its_quotes() -> None:
    assert text_at(b'"a\\n"', 1, 4) == "a\n"
    assert text_at(b'"\\ud83d"', 1, 7) is None
    assert text_at(b'"\xff"', 1, 2) is None


def test_numbers_and_padding_may_differ_in_a_form() -> None:
    form = NumberedForm([b"n:", b' t:"', b'" p:"', b'";'], [NUMBER, None, PADDING])
    assert form.find(b'n:17 t:"text" p:"xx";', 0, 21) == (8, 12, 21)
    assert form.find(b'n:0 t:"t" p:"";more', 0, 15) == (7, 8, 15)
    for other in (
        b'm:1 t:"t" p:"";',
        b'n:x t:"t" p:"";',
        b'n:07 t:"t" p:"";',
        b'n:1 u:"t" p:"";',
        b'n:1 t:"" p:"";',
        b'n:1 t:"t" p:"\xc3\xa9";',
        b'n:1 t:"t" p:""',
    ):
        assert form.find(other, 0, len(other)) is None
    assert form.find(b'n:1 t:"t" p:"";', 0, 14) is None


def test_only_the_usual_writing_has_a_form() -> None:
    usual = frame("responses", "x", 12)
    assert responses_form(usual) is not None
    assert responses_form(usual.replace(b":12", b":012")) is None
    assert responses_form(usual.replace(b'"xxxxx"', '"é"'.encode())) is None
    assert responses_form(BEGIN["responses"]) is None
    assert responses_form(usual.replace(b',"sequence_number":12', b"")) is not None
    assert messages_form(frame("messages", "x")) is not None
    assert messages_form(BEGIN["messages"]) is None


# ---- what is kept of a stream, and up to where


def test_pieces_are_put_together_and_are_still_in_their_order() -> None:
    pieces = TextPieces()
    assert not pieces
    words = [str(number) for number in range(600)]
    for word in words:
        pieces.add(word)
    assert pieces
    assert pieces.text() == "".join(words)
    assert pieces.size == len("".join(words))
    pieces = TextPieces()
    pieces.add("")
    assert pieces


def test_the_text_of_a_paused_turn_is_told_to_it() -> None:
    decoder = PausedTurnDecoder()
    decoder.skipped("nowhere to go")
    lane = translation("messages", "chat")
    lane.pausable = decoder
    lane._decoder = LearningDecoder(decoder)
    begun(lane, "messages")
    raw = frame("messages", " second")
    assert lane.feed_known(raw, 0, len(raw)) is not None
    lane.feed(FRAMES["messages"]("choice", b"", 1))
    lane.feed(END["messages"].replace(b"end_turn", b"pause_turn"))
    assert decoder.paused
    request = b'{"messages":[{"role":"user","content":"x"}]}'
    assert b'[{"type":"text","text":"first second"}]' in decoder.resume(request)


def test_a_turn_that_is_too_long_is_not_kept_and_all_its_answers_count() -> None:
    said = Said(keeps=100)
    for data in (
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"%b"}}' % (b"x" * 90),
    ):
        upstream = upstream_side("messages").ResponseDecoder(profile=DEFAULT_PROFILE)
        upstream._heard = said  # pyright: ignore[reportAttributeAccessIssue]
        upstream.feed(b"data: " + data + b"\n\n")
    assert said.content() == []
    decoder = PausedTurnDecoder(keeps=150)
    block = FRAMES["messages"]("role", b"", 0)
    stop = END["messages"].replace(b"end_turn", b"pause_turn")
    decoder.feed(BEGIN["messages"] + block + frame("messages", "one") + stop)
    assert decoder.paused
    decoder.resume(b'{"messages":[{"role":"user","content":"x"}]}')
    events = decoder.feed(BEGIN["messages"] + block + frame("messages", "two") + stop)
    assert not decoder.paused
    assert [type(event).__name__ for event in events][-1] == "Stopped"


def test_an_answer_whose_end_would_say_too_much_again_fails() -> None:
    raw = frame("chat", "second")
    lane = translation("chat", "responses", keeps=2 * len(raw) + 10)
    begun(lane, "chat")
    assert lane.feed_known(raw, 0, len(raw)) is not None
    assert lane.feed_known(raw, 0, len(raw)) is None, "it is near the bound, which only what is fed passes"
    while lane.failure is None:
        assert lane.feed(raw)
    assert lane.failure is not None
    assert (lane.failure.kind, lane.ended, lane.done) == (TOO_LONG, True, False)
    assert lane.feed_known(raw, 0, len(raw)) is None
    assert lane.feed(raw) == b""
    elsewhere = translation("chat", "messages", keeps=12)
    begun(elsewhere, "chat")
    elsewhere.feed(raw + raw)
    assert elsewhere.failure is None, "nothing is said again there"
    whole = translation("chat", "responses", keeps=12)
    whole.feed(BEGIN["chat"] + raw + raw + raw + END["chat"])
    assert whole.failure is None, "it is over"


def test_free_text_of_a_call_is_kept_up_to_its_end() -> None:
    encoder = caller_side("chat").ResponseEncoder(
        model="m", reply_id="r", created=7, include_usage=True, input_estimate=0
    )
    assert encoder.kept == 0
    encoder.write([CallOpened("c", "tool", None, custom=True), CallArgs('{"input":"abc')])
    assert encoder.kept == len('{"input":"abc') + len("abc")
    encoder.write([CallArgs('"}'), Stopped("tool_use")])
    assert encoder.kept == 0


def test_of_long_arguments_nothing_is_compared_once_they_were_given_out() -> None:
    calls = Calls()
    long = '{"a":"' + "x" * 300_000
    first = calls.add([CallFragment(0, "id", Function("tool", long))])
    assert first[-1] == CallArgs(long)
    assert calls.add([CallFragment(0, None, Function(None, '"}'))]) == [CallArgs('"}')]
    assert calls.add([CallFragment(0, None, Function(None, long + '"}'))]) == []
    assert calls.add([CallFragment(0, None, Function("tool", long + '"}'))]) == []
    calls = Calls()
    calls.add([CallFragment(0, "id", Function("tool", long))])
    assert calls.add([CallFragment(0, None, Function(None, "{" + long))]) == [CallArgs("{" + long)]
