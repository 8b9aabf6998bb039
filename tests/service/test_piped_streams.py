"""Streams over real sockets, frame by frame: those that repeat a form go by the pipe, and the books are as ever."""

import msgspec
import pytest

from tests.core.dialects.delta_frames import BEGIN, END, FRAMES, written
from tests.service.conversations import body_of
from tests.service.running_service import House, raw

_PATHS = {
    "chat": "/api/v1/chat/completions",
    "messages": "/api/v1/messages",
    "responses": "/api/v1/responses",
}
_WORDS = ("alpha", "beta", "gamma", "delta \\n", "epsilon", "zeta")


@pytest.mark.parametrize("caller", ["chat", "messages", "responses"])
@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
async def test_a_stream_that_repeats_a_form_goes_by_the_pipe(
    house: House, upstream: str, caller: str
) -> None:
    user = await house.user()
    model = f"wire-{upstream}"
    body = (
        msgspec.json.encode({"model": model, "input": "Hello", "stream": True})
        if caller == "responses"
        else body_of(caller, model, stream=True)
    )
    line = await house.send(raw("POST", _PATHS[caller], user.key, body, {}))
    asked = await house.wires[model].next()
    asked.begin(BEGIN[upstream], FRAMES[upstream]("role", b'""', 1))
    got = b""
    for number, word in enumerate(_WORDS, 2):
        asked.frames(FRAMES[upstream]("text", written(word.replace("\\n", "\n")), number))
        got += await line.reader.readuntil(word.encode())
    assert house.service is not None
    assert house.service._api is not None
    (stream,) = house.service._api._relay.streams._deliveries
    assert stream._pipe is not None
    assert stream._pipe.last_write > 0
    assert stream.lane is not None
    assert stream.lane.output_bytes >= len("".join(_WORDS)) - 1
    asked.stream_on(END[upstream])
    got += await line.reader.readuntil(b"\r\n0\r\n\r\n")
    if caller == "responses" and upstream != "responses":
        assert written("".join(_WORDS).replace("\\n", "\n")) in got, "the end says all of it again"
    line.leave()
    row = await house.row(user)
    # this Chat upstream gives no counts: they are estimated from what the pipe has told of
    assert (row["outcome"], row["counted"], row["estimated"]) == ("completed", True, upstream == "chat")
