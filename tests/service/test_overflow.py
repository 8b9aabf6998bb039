"""A prompt that a provider finds too long, told to each kind of caller so that it can make room."""

import pytest

from tests.service.running_service import House

SAID = "This model's maximum context length is 65536 tokens. However, you requested 70123 tokens (66123 in the messages)."
REFUSED = (
    b'{"error":{"message":"%s","type":"invalid_request_error","code":"context_length_exceeded"}}'
    % SAID.encode()
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("caller", "text"),
    [("messages", "prompt is too long: 70123 tokens > 65536 maximum"), ("chat", SAID)],
    ids=["messages", "chat"],
)
async def test_each_caller_hears_it_in_words_that_it_knows(
    house: House, caller: str, text: str, stream: bool
) -> None:
    user = await house.user()
    asking = await house.begin(caller, "wire-chat", user, stream=stream, headers={"x-error-format": "native"})
    (await house.wires["wire-chat"].next()).answer(REFUSED, status=400)
    answer = await asking.answer()
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["message"], error["code"], error["type"]) == (
        text,
        "context_length_exceeded",
        "invalid_request_error",
    )
    row = await house.row(user)
    assert (row["counted"], row["refund_reason"]) == (False, "provider_refused")
