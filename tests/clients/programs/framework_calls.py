"""One conversation with a tool through LangChain, LiteLLM and pydantic-ai each, told as JSON.

``framework_calls.py {"base": ..., "key": ..., "model": ...}`` goes through all ``FRAMEWORKS``. A conversation is a
question, the tool that the model asks for, and its answer after the result; then a stream.
"""

import json
import sys
from typing import Any

# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# They are installed apart, because their pins do not fit the newest SDKs.
import litellm
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

SCHEMA = {
    "name": "weather",
    "description": "Look up the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
RESULT = "Sunny."


def with_langchain(chat: Any, prompt: str) -> dict[str, Any]:
    bound = chat.bind_tools([{"type": "function", "function": SCHEMA}])
    asked = [HumanMessage(prompt)]
    first = bound.invoke(asked)
    (call,) = first.tool_calls
    second = bound.invoke([*asked, first, ToolMessage(RESULT, tool_call_id=call["id"])])
    streamed = "".join(str(piece.text) for piece in chat.stream(asked))
    usage = second.usage_metadata or {}
    return told(call["name"], call["args"], str(second.text), streamed, usage.get("output_tokens"))


def langchain_openai(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_langchain(ChatOpenAI(model=model, base_url=base, api_key=key, max_retries=0), prompt)


def langchain_responses(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    chat = ChatOpenAI(model=model, base_url=base, api_key=key, max_retries=0, use_responses_api=True)
    return with_langchain(chat, prompt)


def langchain_anthropic(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_langchain(
        ChatAnthropic(model=model, base_url=base, api_key=key, max_retries=0, max_tokens=500), prompt
    )


def with_litellm(provider: str, base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    litellm.telemetry = False
    given: dict[str, Any] = {
        "model": f"{provider}/{model}",
        "api_base": base,
        "api_key": key,
        "num_retries": 0,
    }
    asked: list[Any] = [{"role": "user", "content": prompt}]
    tools = [{"type": "function", "function": SCHEMA}]
    first = litellm.completion(messages=asked, tools=tools, max_tokens=500, **given)
    message = first.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
    second = litellm.completion(
        messages=[*asked, message.model_dump(), result], tools=tools, max_tokens=500, **given
    )
    stream = litellm.completion(messages=asked, max_tokens=500, stream=True, **given)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    arguments = json.loads(call.function.arguments)
    return told(
        call.function.name,
        arguments,
        second.choices[0].message.content,
        streamed,
        second.usage.completion_tokens,
    )


def litellm_openai(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_litellm("openai", base, key, model, prompt)


def litellm_anthropic(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_litellm("anthropic", base, key, model, prompt)


def with_pydantic_ai(model: Any, prompt: str) -> dict[str, Any]:
    agent = Agent(model)
    seen: dict[str, Any] = {}

    @agent.tool_plain
    def weather(city: str) -> str:
        """Look up the weather."""
        seen.update(city=city)
        return RESULT

    done = agent.run_sync(prompt)
    streamed = Agent(model).run_stream_sync(prompt).get_output()
    return told("weather" if seen else "", seen, done.output, streamed, done.usage.output_tokens)


def pydantic_ai_openai(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_pydantic_ai(
        OpenAIChatModel(model, provider=OpenAIProvider(base_url=base, api_key=key)), prompt
    )


def pydantic_ai_responses(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_pydantic_ai(
        OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=base, api_key=key)), prompt
    )


def pydantic_ai_anthropic(base: str, key: str, model: str, prompt: str) -> dict[str, Any]:
    return with_pydantic_ai(
        AnthropicModel(model, provider=AnthropicProvider(base_url=base, api_key=key)), prompt
    )


def told(tool: str, arguments: Any, text: str, streamed: str, tokens: int | None) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments, "text": text, "streamed": streamed, "tokens": tokens}


FRAMEWORKS = {
    "langchain-openai": langchain_openai,
    "langchain-responses": langchain_responses,
    "langchain-anthropic": langchain_anthropic,
    "litellm-openai": litellm_openai,
    "litellm-anthropic": litellm_anthropic,
    "pydantic-ai-openai": pydantic_ai_openai,
    "pydantic-ai-responses": pydantic_ai_responses,
    "pydantic-ai-anthropic": pydantic_ai_anthropic,
}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    results = {
        name: converse(given["base"], given["key"], given["model"], f"Weather in Rome? (of-{name})")
        for name, converse in FRAMEWORKS.items()
    }
    sys.stdout.write(json.dumps(results))
