"""A streamed reply on its way, moment by moment: the exchange and the upstream's flow are stand-ins that take notes."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from penstock.core.dialects.interface import Lane
from penstock.core.dialects.registry import caller_side
from penstock.core.neutral.usage import Usage
from penstock.errors import PenstockError, ProviderCut
from penstock.exchange import Exchange
from penstock.relay.stream import COMMENT, ResponseStream
from tests.core.dialects.sides import stream_of
from tests.service.conversations import CHAT_FRAMES
from tests.service.paper import Paper

BEAT = b": the dialect's own\n\n"
SIDE = replace(
    caller_side("chat"),
    keepalive=BEAT,
    error_frame=lambda error, _request, _number=0, _asked=None: error.code.encode(),
)


class Tap:
    """A flow that notes how it is turned."""

    def __init__(self) -> None:
        self.turned: list[str] = []
        self.take: Callable[[bytes], int] | None = None

    def pause(self) -> None:
        self.turned.append("pause")

    def resume(self) -> None:
        self.turned.append("resume")

    def offer(self, take: Callable[[bytes], int]) -> None:
        self.take = take

    def close(self) -> None:
        self.turned.append("close")


class Scene:
    """A delivery that holds its head until 10 and keeps alive every 5 seconds, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.paper = Paper()
        self.flow = Tap()
        self.delivered = 0
        self.delivery = ResponseStream(
            cast("Exchange", self.paper),
            SIDE,
            "req_1",
            delivered=self._delivered,
            begin=lambda: self.paper.start(200, []),
            clock=lambda: self.now,
            hold_until=10.0,
            keepalive=5.0,
            max_startup=1024,
        )
        self.lane: Lane = stream_of("chat")(model=None, withhold_usage=False)

    def _delivered(self) -> None:
        self.delivered += 1

    def tick(self, now: float) -> None:
        self.now = now
        self.delivery.tick(now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_head_is_held_until_there_is_something_to_say(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    scene.tick(9.8)
    assert not scene.paper.started
    scene.delivery.sink(CHAT_FRAMES[0])
    assert not scene.paper.started, "a role is no content"
    scene.now = 9.9
    scene.delivery.sink(CHAT_FRAMES[1])
    assert scene.paper.written == [CHAT_FRAMES[0] + CHAT_FRAMES[1]]
    assert scene.delivery.first_byte_at == 9.9


def test_an_end_without_content_is_held_and_given_as_it_is(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    for frame in (CHAT_FRAMES[0], CHAT_FRAMES[3], CHAT_FRAMES[5]):
        assert scene.paper.written == []
        scene.delivery.sink(frame)
    assert scene.delivery.empty
    assert scene.paper.written == [], "the relay has the next word"
    scene.delivery.deliver()
    assert b"".join(scene.paper.written) == CHAT_FRAMES[0] + CHAT_FRAMES[3] + CHAT_FRAMES[5]


def test_an_end_that_says_why_there_is_no_content_goes_out(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    cut = CHAT_FRAMES[3].replace(b'"stop"', b'"length"')
    scene.delivery.sink(CHAT_FRAMES[0])
    scene.delivery.sink(cut)
    assert scene.paper.written == [CHAT_FRAMES[0] + cut]


def test_more_startup_than_is_held_goes_on(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    role = CHAT_FRAMES[0]
    held = 1024 // len(role)
    for _ in range(held):
        scene.delivery.sink(role)
    assert scene.paper.written == []
    scene.delivery.sink(role)
    assert scene.paper.written == [role * (held + 1)]


def test_an_attempt_that_breaks_before_content_leaves_nothing(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    scene.delivery.sink(CHAT_FRAMES[0])
    scene.tick(10.0)
    scene.delivery.broke(ProviderCut("early"))
    assert scene.paper.written == [COMMENT]
    scene.delivery.tell(ProviderCut("early"))
    assert scene.paper.written == [COMMENT, b"provider_cut"]


def test_a_hold_that_ends_sends_the_head_with_a_comment(scene: Scene) -> None:
    scene.tick(10.0)
    assert (scene.paper.started, scene.paper.written) == (True, [COMMENT])
    assert scene.delivery.first_byte_at is None, "it is no byte of the reply"


def test_a_quiet_reply_is_kept_alive_from_its_last_write_on(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    scene.tick(10.0)
    scene.tick(14.9)
    assert scene.paper.written == [COMMENT]
    scene.tick(15.0)
    assert scene.paper.written == [COMMENT, COMMENT], "what the dialect has is for replies that have begun"
    scene.now = 18.0
    scene.delivery.sink(CHAT_FRAMES[1])
    scene.tick(22.9)
    assert len(scene.paper.written) == 3
    scene.tick(23.0)
    assert scene.paper.written[3:] == [BEAT]


def test_nothing_is_added_to_what_a_slow_caller_has_not_taken(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    scene.delivery.sink(CHAT_FRAMES[1])
    scene.paper.stalled = True
    scene.tick(100.0)
    assert len(scene.paper.written) == 1
    scene.paper.stalled = False
    scene.tick(100.0)
    assert scene.paper.written[1:] == [BEAT]


def test_an_answer_that_comes_while_the_caller_is_slow_is_not_read(scene: Scene) -> None:
    """The next one of a turn that was paused: nobody tells the delivery again that its caller has stalled."""
    scene.delivery.attach(scene.flow, scene.lane)
    assert scene.flow.turned == []
    scene.paper.stalled = True
    after = Tap()
    scene.delivery.attach(after, scene.lane)
    assert (scene.flow.turned, after.turned) == ([], ["pause"])
    scene.delivery.caller_resumed()
    assert after.turned == ["pause", "resume"]


def test_the_caller_has_all_at_the_end_of_the_reply_and_nothing_more_comes(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    scene.now = 1.0
    scene.delivery.sink(b"".join(CHAT_FRAMES))
    assert (scene.paper.ended, scene.delivered, scene.delivery.done_at) == (1, 1, 1.0)
    scene.delivery.sink(CHAT_FRAMES[1])
    scene.delivery.finish()
    scene.delivery.broke(ProviderCut("late"))
    assert (scene.paper.ended, scene.delivered, scene.delivery.error) == (1, 1, None)
    scene.tick(300.0)
    assert (scene.paper.ended, scene.flow.turned) == (1, [])


class Unfinished:
    """A lane whose upstream ends cleanly, without a fault and without an end of the reply."""

    usage = Usage()
    answered = ""
    failure = stop = None
    done = ended = False
    started = True
    output_bytes = 1
    sequence = 0

    def feed(self, data: bytes) -> bytes:
        return data

    def feed_known(self, data: bytes, start: int, end: int) -> bytes | None:
        return None

    def finish(self) -> bytes:
        return b"rest"


def test_an_end_that_no_lane_calls_an_end_is_a_break(scene: Scene) -> None:
    scene.delivery.attach(scene.flow, Unfinished())
    scene.delivery.sink(b"begin")
    scene.delivery.finish()
    error: PenstockError | None = scene.delivery.error
    assert isinstance(error, ProviderCut)
    scene.delivery.tell(error)
    assert scene.paper.written == [b"begin", b"rest", b"provider_cut"]
    assert (scene.delivered, scene.delivery.done_at) == (0, None)


def test_the_pipe_is_laid_with_the_first_content_and_what_it_carries_keeps_the_stream_alive(
    scene: Scene,
) -> None:
    scene.delivery.attach(scene.flow, scene.lane)
    assert scene.flow.take is None
    scene.now = 1.0
    scene.delivery.sink(CHAT_FRAMES[0])
    assert scene.flow.take is None
    scene.delivery.sink(CHAT_FRAMES[1])
    take = scene.flow.take
    assert take is not None
    scene.delivery.sink(CHAT_FRAMES[1])
    scene.now = 4.0
    read = b"%x\r\n%b\r\n" % (len(CHAT_FRAMES[1]), CHAT_FRAMES[1])
    assert take(read + read[:9]) == len(read)
    assert (take(read[:9]), take(b"5\r\nother\r\n"), take(b"+5\r\nother\r\n")) == (0, 0, 0)
    assert scene.paper.written[-1] == scene.paper.written[-2]
    scene.tick(8.9)
    assert len(scene.paper.written) == 3
    scene.tick(9.0)
    assert scene.paper.written[3:] == [BEAT]
    again = Tap()
    scene.delivery.attach(again, scene.lane)
    assert again.take is None
    scene.tick(13.9)
    assert len(scene.paper.written) == 4
    scene.delivery.sink(CHAT_FRAMES[1])
    assert again.take is not None
