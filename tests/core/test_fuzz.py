"""A short run of ``python -m bench.fuzz``: no damaged input breaks a reader. Longer runs are under ``bench/records``."""

import json
from contextlib import suppress

import pytest

from bench.fuzz import NAMES, run, targets
from bench.fuzz_targets import DECLARED, CoverageTarget, cuts
from bench.fuzz_targets import targets as coverage_targets
from penstock.core.dialects.registry import upstream_side
from penstock.core.neutral.events import Failed, Stopped
from penstock.core.profile import DEFAULT_PROFILE


def test_no_reader_breaks() -> None:
    tried, faults = run(seed=20, inputs=1000)
    assert [(fault.target, fault.trace, fault.input) for fault in faults] == []
    assert all(target.inputs >= 30 for target in tried)


def test_every_reader_is_among_them() -> None:
    names = {target.name for target in targets()}
    assert len(names) == len(targets())
    for name in NAMES:
        assert {f"{name}.Reader", f"{name}.Meter", f"{name} envelope", f"{name} whole answer"} <= names
    assert "sse" in names


@pytest.mark.parametrize("target", coverage_targets(), ids=lambda target: target.name)
def test_a_reader_takes_what_the_search_by_coverage_begins_with(target: CoverageTarget) -> None:
    """And keeps its promises: the search itself is ``python -m bench.fuzz_coverage``."""
    seeds = target.seeds()
    for data in seeds[:: max(len(seeds) // 40, 1)]:
        with suppress(*DECLARED):
            target.check(data, cuts(data))


@pytest.mark.parametrize("member", ["index", "delta", "content_block", "message", "usage"])
@pytest.mark.parametrize("kind", ["content_block_delta", "citations_delta", "message_delta", "ping", "error"])
def test_nesting_without_end_in_a_messages_event(kind: str, member: str) -> None:
    deep = '{"a":' * 3000
    frame = f'data: {{"type":"{kind}","{member}":{{"x":1}},"more":{deep}'
    for data in (frame, frame + "}" * 3001, frame.replace('{"x":1}', deep + "1" + "}" * 3000)):
        start = 'data: {"type":"message_start","message":{"id":"m","model":"up"}}\n\n'
        reader = upstream_side("messages").ResponseDecoder(profile=DEFAULT_PROFILE)
        events = [*reader.feed(f"{start}{data}\n\n".encode()), *reader.finish()]
        assert sum(isinstance(event, Failed | Stopped) for event in events) == 1


def test_nesting_in_what_a_reply_only_passes_on() -> None:
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    for raw in (
        f'{{"type":"message","content":[],"stop_reason":"refusal","stop_details":{deep}}}',
        f'{{"type":"message","content":[{{"type":"text","text":"x","citations":[{deep}]}}],"stop_reason":"end_turn"}}',
    ):
        assert isinstance(
            upstream_side("messages").decode_response(raw.encode(), DEFAULT_PROFILE)[-1], Failed | Stopped
        )


def test_items_of_one_number_without_end_take_linear_work() -> None:
    """Each begins while the last is open; looking through all of them each time was quadratic."""
    added = json.dumps(
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "function_call", "name": "a"},
        }
    )
    stream = f"data: {added}\n\n" * 20_000
    reader = upstream_side("responses").ResponseDecoder(profile=DEFAULT_PROFILE)
    assert len(reader.feed(stream.encode())) == 2
    assert isinstance(reader.finish()[-1], Failed)
