"""A whole answer that may take longer than Anthropic lets one take: it is streamed there, and whole for the caller."""

from tests.service.conversations import FRAMES, text_of
from tests.service.running_service import House


async def test_a_long_answer_is_streamed_upstream_and_given_whole(house: House) -> None:
    user = await house.user()
    wire = house.wires["wire-messages"]
    wire.script = lambda asked: asked.stream(*FRAMES["messages"])
    answer = await house.ask("chat", "wire-messages", user, max_tokens=30_000)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert text_of("chat", answer) == "Hi  there"
    assert answer.json["usage"] == {**answer.json["usage"], "prompt_tokens": 11, "completion_tokens": 5}
    assert (await wire.next()).json["stream"] is True
    row = await house.row(user)
    assert (row["input_tokens"], row["output_tokens"], row["stream"]) == (11, 5, False)


async def test_one_that_breaks_off_is_a_502(house: House) -> None:
    user = await house.user()
    house.wires["wire-messages"].script = lambda asked: asked.stream(*FRAMES["messages"][:3])
    answer = await house.ask("chat", "wire-messages", user, max_tokens=30_000)
    assert (answer.status, answer.code) == (502, "provider_cut")
    assert (await house.row(user))["counted"] is False
