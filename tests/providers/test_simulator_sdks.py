"""The official SDKs read the simulator's answers: the oracle of what is legal in each dialect."""

from typing import Any, cast

import anthropic
import openai
import pytest
from anthropic.types import MessageParam

from tests.providers.conftest import Sim

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("scenario", ["ok", "thinking", "tools=2", "thinking, tools=2"])
async def test_the_anthropic_sdk(sim: Sim, scenario: str):
    base = sim.base.removesuffix("/v1")
    headers = {"x-simulate": scenario}
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=base, default_headers=headers, max_retries=0
    ) as client:
        tools = [{"name": "weather", "description": "w", "input_schema": SCHEMA}]
        asked: dict[str, Any] = {"model": "m", "max_tokens": 500, "messages": HELLO, "tools": tools}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            final = await stream.get_final_message()
    assert final.model_dump(exclude={"usage", "parsed_output"}) == whole.model_dump(
        exclude={"usage", "parsed_output"}
    )
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert whole.stop_reason == ("end_turn" if scenario == "ok" else "tool_use")


@pytest.mark.parametrize("scenario", ["ok", "thinking", "tools=2", "thinking, tools=2"])
async def test_the_openai_sdk(sim: Sim, scenario: str):
    headers = {"x-simulate": scenario}
    async with openai.AsyncOpenAI(
        api_key="k", base_url=sim.base, default_headers=headers, max_retries=0
    ) as client:
        function = {
            "name": "weather",
            "parameters": {**SCHEMA, "additionalProperties": False},
            "strict": True,
        }
        tools = [{"type": "function", "function": function}]
        asked: dict[str, Any] = {"model": "m", "messages": HELLO, "tools": tools}
        whole = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            final = await stream.get_final_completion()
    first, second = whole.choices[0].message, final.choices[0].message
    assert second.content == first.content
    assert [call.function.arguments for call in second.tool_calls or []] == [
        call.function.arguments for call in first.tool_calls or []
    ]
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.total_tokens == whole.usage.total_tokens
    assert whole.choices[0].finish_reason == ("stop" if scenario == "ok" else "tool_calls")


@pytest.mark.parametrize("scenario", ["ok", "thinking", "tools=2"])
async def test_the_openai_sdk_with_responses(sim: Sim, scenario: str):
    headers = {"x-simulate": scenario}
    async with openai.AsyncOpenAI(
        api_key="k", base_url=sim.base, default_headers=headers, max_retries=0
    ) as client:
        function = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
        asked: dict[str, Any] = {"model": "m", "input": "Hello", "tools": [function]}
        whole = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as stream:
            final = await stream.get_final_response()
    assert final.output_text == whole.output_text
    assert [item.type for item in final.output] == [item.type for item in whole.output]


@pytest.mark.parametrize(
    ("scenario", "kind"), [("error-401", "AuthenticationError"), ("error-429", "RateLimitError")]
)
async def test_errors_are_the_sdks_own(sim: Sim, scenario: str, kind: str):
    headers = {"x-simulate": scenario}
    async with openai.AsyncOpenAI(
        api_key="k", base_url=sim.base, default_headers=headers, max_retries=0
    ) as client:
        with pytest.raises(openai.APIStatusError, match="A simulated error") as caught:
            await client.chat.completions.create(model="m", messages=cast("Any", HELLO))
    assert type(caught.value).__name__ == kind
