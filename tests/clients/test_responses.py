"""The official OpenAI SDK's Responses calls against a running service, over upstreams of all three dialects."""

import json
from typing import Any

import openai
import pytest

from penstock.providers.simulator.script import AFTER_TOOL, OPENING
from tests.clients.running import Running, User

pytestmark = pytest.mark.xdist_group("clients")

MODEL = "claude-sonnet-4.6"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
LONG = "mcp__a_server_with_a_long_name__" + "look_up_the_weather_" * 3


def client(everywhere: Running, user: User) -> openai.OpenAI:
    return openai.OpenAI(api_key=user.key, base_url=everywhere.base, max_retries=0)


def function(name: str) -> Any:
    return {"type": "function", "name": name, "parameters": CITY, "strict": True}


def test_whole_and_streamed(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("pro", "responses-text")) as sdk:
        whole = sdk.responses.create(model=MODEL, input="Hello, Responses")
        with sdk.responses.stream(model=MODEL, input="Hello, Responses") as stream:
            types = [event.type for event in stream]
            final = stream.get_final_response()
    assert whole.output_text.startswith(OPENING)
    assert final.output_text == whole.output_text
    assert types.count("response.output_text.delta") > 10
    assert (whole.model, final.model, whole.status, final.status) == (MODEL, MODEL, "completed", "completed")
    assert whole.usage is not None
    assert whole.usage == final.usage
    assert whole.usage.output_tokens > 10


@pytest.mark.parametrize("name", ["weather", LONG])
def test_a_tool_and_its_result(everywhere: Running, name: str) -> None:
    with client(everywhere, everywhere.user("pro", f"responses-tool-{len(name)}")) as sdk:
        history: Any = [{"role": "user", "content": f"Weather for {len(name)}?"}]
        asked: Any = {"model": MODEL, "tools": [function(name)], "store": False}
        first = sdk.responses.create(input=history, **asked)
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == (name, {"city": "simulated"})
        history += first.output
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
        second = sdk.responses.create(input=history, **asked)
    assert second.output_text.startswith(AFTER_TOOL)
    assert "rain" in json.dumps(everywhere.heard(f"Weather for {len(name)}?")[-1])


def test_free_text_and_namespaces_come_back_as_they_are(everywhere: Running) -> None:
    namespace = {"type": "namespace", "name": "agents", "description": "x", "tools": [function("close")]}
    asked: Any = {
        "model": "drill-two-tools",
        "tools": [{"type": "custom", "name": "patch", "description": "Patches."}, namespace],
        "input": "Two tools, please",
    }
    with client(everywhere, everywhere.user("drills", "responses-custom")) as sdk:
        whole = sdk.responses.create(**asked)
        with sdk.responses.stream(**asked) as stream:
            streamed = stream.get_final_response()
    for response in (whole, streamed):
        calls: Any = [item for item in response.output if item.type not in ("message", "reasoning")]
        assert [(item.type, item.name) for item in calls] == [
            ("custom_tool_call", "patch"),
            ("function_call", "close"),
        ]
        assert "simulated" in calls[0].input
        assert "{" not in calls[0].input
        assert calls[1].namespace == "agents"


def test_reasoning_is_shown_and_can_be_sent_back(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("drills", "responses-thinks")) as sdk:
        history: Any = [{"role": "user", "content": "Think about Responses"}]
        first = sdk.responses.create(model="drill-thinks", input=history, store=False)
        thought: Any = first.output[0]
        assert thought.type == "reasoning"
        assert thought.summary[0].text.startswith("This reasoning is simulated")
        assert thought.encrypted_content
        history += [*first.output, {"role": "user", "content": "And once more"}]
        sdk.responses.create(model="drill-thinks", input=history, store=False)
    sent = everywhere.heard("Think about Responses")[-1]
    assert "This reasoning is simulated" in json.dumps(sent)


def test_the_answer_in_the_shape_of_a_schema(everywhere: Running) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
    with client(everywhere, everywhere.user("pro", "responses-schema")) as sdk:
        response = sdk.responses.create(model=MODEL, input="Which city?", text=form)
    assert json.loads(response.output_text) == {"city": "simulated"}


def test_nothing_is_stored_at_the_provider(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("pro", "responses-store")) as sdk:
        raw = sdk.responses.with_raw_response.create(model=MODEL, input="Store me", store=True)
        assert "store=dropped" in raw.headers["x-penstock-translation"]
        with pytest.raises(openai.BadRequestError, match="nothing is stored here") as caught:
            sdk.responses.create(model=MODEL, input="Go on", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    assert everywhere.heard("Store me")[-1].get("store") in (None, False)


def test_an_answer_at_its_limit_is_incomplete(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("pro", "responses-limit")) as sdk:
        whole: Any = sdk.responses.create(model=MODEL, input="Be long", max_output_tokens=5)
        events: Any = list(
            sdk.responses.create(model=MODEL, input="Be long", max_output_tokens=5, stream=True)
        )
    for response in (whole, events[-1].response):
        assert response.status == "incomplete"
        assert response.incomplete_details.reason == "max_output_tokens"


def test_a_stream_that_breaks_ends_as_failed_in_our_words(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("drills", "responses-breaks")) as sdk:
        events: Any = list(sdk.responses.create(model="drill-breaks", input="Break", stream=True))
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "failed"
    assert events[-1].response.error.message.startswith("The provider")


def test_limits_and_refusals(everywhere: Running) -> None:
    with client(everywhere, everywhere.user("free", "responses-free")) as sdk:
        raw = sdk.responses.with_raw_response.create(model=MODEL, input="Hello")
        assert int(raw.headers["x-ratelimit-remaining"]) < int(raw.headers["x-ratelimit-limit"])
        with pytest.raises(openai.PermissionDeniedError, match="not on your plan"):
            sdk.responses.create(model="claude-opus-4.6", input="Hello")
        with pytest.raises(openai.BadRequestError, match="input must be"):
            sdk.responses.create(model=MODEL)
