"""What events add up to where they say little, and which count holds where two were told."""

import msgspec
import pytest

from penstock.core.neutral.events import (
    AnyEvent,
    CallArgs,
    CallOpened,
    Metered,
    Started,
    Stopped,
    TextDelta,
    ThoughtDelta,
    ThoughtSigned,
)
from penstock.core.neutral.fold import events_of, fold
from penstock.core.neutral.request import Text, Thought, ToolCall
from penstock.core.neutral.usage import Special, Usage, add_special, merge_usage

COUNTS = [name for name in Usage.__struct_fields__ if name != "special"]


def test_a_call_without_arguments_has_an_empty_object_of_them() -> None:
    events: list[AnyEvent] = [
        CallOpened("c1", "now"),
        CallOpened("c2", "add"),
        CallArgs('{"a"'),
        CallArgs(":1}"),
        Stopped("tool_use"),
    ]
    assert fold(events).parts == (ToolCall("c1", "now", "{}"), ToolCall("c2", "add", '{"a":1}'))


def test_pieces_of_one_kind_are_one_part_up_to_another_kind_or_a_signature() -> None:
    events: list[AnyEvent] = [
        ThoughtDelta("a"),
        ThoughtDelta("b"),
        ThoughtSigned("s"),
        ThoughtDelta("c"),
        TextDelta("d"),
        TextDelta("e"),
        ThoughtSigned("t"),
        TextDelta("f"),
    ]
    assert fold(events).parts == (
        Thought("ab", "s"),
        Thought("c"),
        Text("de"),
        Thought("", "t"),
        Text("f"),
    )


def known(counts: dict[str, int]) -> Usage:
    return msgspec.convert(counts, Usage)


@pytest.mark.parametrize("name", COUNTS)
def test_a_later_count_holds_and_an_unknown_one_takes_nothing_back(name: str) -> None:
    before, after = known({name: 3}), known({name: 5})
    assert merge_usage(before, after) == after
    assert merge_usage(before, Usage()) == before
    assert merge_usage(before, known({name: 0})) == known({name: 0})
    others = known({other: 7 for other in COUNTS if other != name})
    assert merge_usage(before, others) == known(dict.fromkeys(COUNTS, 7) | {name: 3})
    reply = fold([Started("id", "m"), Metered(before), Metered(others), Stopped("end_turn")])
    assert fold(events_of(reply)).usage == reply.usage == merge_usage(before, others)


def test_of_what_few_answers_are_billed_by_the_later_word_holds() -> None:
    before = Usage(special=Special("flex", audio_input_tokens=3, web_searches=1))
    after = Usage(output=5, special=Special(web_searches=4, code_runs=2))
    assert merge_usage(before, after) == Usage(
        output=5, special=Special("flex", audio_input_tokens=3, web_searches=4, code_runs=2)
    )
    assert merge_usage(before, Usage(output=5)).special == before.special
    assert merge_usage(Usage(output=5), before).special == before.special
    assert add_special(before.special, after.special) == Special(
        "flex", audio_input_tokens=3, web_searches=5, code_runs=2
    )
    assert add_special(None, before.special) == add_special(before.special, None) == before.special
