"""One conversation that changes its model at every turn, through LangChain, LiteLLM, pydantic-ai and llm each, told as JSON.

``conversations.py {"base": ..., "key": ..., "turns": [[model, prompt], ...]}`` goes through all ``CLIENTS``. In each turn the
model asks for a tool and answers after its result, both streamed; the history of all earlier turns goes along. What a client
gets is a list of turns: the tool's arguments, and the text at the end. One that fails has its error in place of them.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# They are installed apart, because their pins do not fit the newest SDKs.
import litellm
import llm
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
Turns = list[tuple[str, str]]
Told = list[dict[str, Any]]
given = json.loads(sys.argv[1])
BASE, KEY = given["base"], given["key"]


# ---- LangChain


def with_langchain(chat: Callable[[str], Any], turns: Turns) -> Iterator[dict[str, Any]]:
    said: list[Any] = []
    for model, prompt in turns:
        bound = chat(model).bind_tools([{"type": "function", "function": SCHEMA}])
        said.append(HumanMessage(prompt))
        first = added(bound.stream(said))
        (call,) = first.tool_calls
        said += [first, ToolMessage(RESULT, tool_call_id=call["id"])]
        second = added(bound.stream(said))
        said.append(second)
        yield told(call["name"], call["args"], str(second.text))


def added(pieces: Iterator[Any]) -> Any:
    whole = next(pieces)
    for piece in pieces:
        whole += piece
    return whole


def langchain_chat(model: str) -> Any:
    return ChatOpenAI(model=model, base_url=BASE, api_key=KEY, max_retries=0)


def langchain_responses(model: str) -> Any:
    return ChatOpenAI(
        model=model,
        base_url=BASE,
        api_key=KEY,
        max_retries=0,
        use_responses_api=True,
        store=False,
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
    )


def langchain_messages(model: str) -> Any:
    thinking = {"type": "adaptive"}
    return ChatAnthropic(
        model=model, base_url=BASE, api_key=KEY, max_retries=0, max_tokens=4000, thinking=thinking
    )


# ---- LiteLLM


def with_litellm(provider: str, turns: Turns) -> Iterator[dict[str, Any]]:
    litellm.telemetry = False
    said: list[Any] = []
    for model, prompt in turns:
        said.append({"role": "user", "content": prompt})
        asked: dict[str, Any] = {
            "model": f"{provider}/{model}",
            "api_base": BASE,
            "api_key": KEY,
            "num_retries": 0,
            "stream": True,
            "tools": [{"type": "function", "function": SCHEMA}],
        }
        first = gathered(litellm.completion(messages=said, **asked))
        (call,) = first.tool_calls
        said += [first.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": RESULT}]
        second = gathered(litellm.completion(messages=said, **asked))
        said.append(second.model_dump())
        yield told(call.function.name, json.loads(call.function.arguments), second.content)


def gathered(stream: Any) -> Any:
    return litellm.stream_chunk_builder(list(stream)).choices[0].message


# ---- pydantic-ai


def with_pydantic_ai(make: Callable[[str], Any], turns: Turns) -> Iterator[dict[str, Any]]:
    history: list[Any] = []
    for model, prompt in turns:
        weather, seen = looked_up()
        agent = Agent(make(model), tools=[weather])
        done = agent.run_sync(prompt, message_history=history, event_stream_handler=listen)
        history = done.all_messages()
        yield told("weather" if seen else "", seen[0] if seen else None, done.output)


async def listen(_context: Any, events: Any) -> None:
    """With someone who listens, it streams."""
    async for _ in events:
        pass


def pydantic_ai_chat(model: str) -> Any:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=BASE, api_key=KEY))


def pydantic_ai_responses(model: str) -> Any:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=BASE, api_key=KEY))


def pydantic_ai_messages(model: str) -> Any:
    return AnthropicModel(model, provider=AnthropicProvider(base_url=BASE, api_key=KEY))


# ---- llm


def with_llm(turns: Turns) -> Iterator[dict[str, Any]]:
    lines = [
        f"- model_id: ours-{model}\n  model_name: {model}\n  api_base: {BASE}\n  api_key_name: ours\n  supports_tools: true\n"
        for model in {model for model, _ in turns}
    ]
    Path(os.environ["LLM_USER_PATH"], "extra-openai-models.yaml").write_text("".join(lines))
    weather, seen = looked_up()
    conversation = llm.get_model(f"ours-{turns[0][0]}").conversation(tools=[weather])
    for model, prompt in turns:
        conversation.model = llm.get_model(f"ours-{model}")
        seen.clear()
        answers = list(conversation.chain(prompt, key=KEY, stream=True).responses())
        yield told("weather" if seen else "", seen[0] if seen else None, answers[-1].text())


def looked_up() -> tuple[Callable[[str], str], list[dict[str, Any]]]:
    """A tool, and the arguments that it has been called with."""
    seen: list[dict[str, Any]] = []

    def weather(city: str) -> str:
        """Look up the weather."""
        seen.append({"city": city})
        return RESULT

    return weather, seen


def told(tool: str, arguments: Any, text: str) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments, "text": text}


CLIENTS: dict[str, Callable[[Turns], Iterator[dict[str, Any]]]] = {
    "langchain-chat": lambda turns: with_langchain(langchain_chat, turns),
    "langchain-responses": lambda turns: with_langchain(langchain_responses, turns),
    "langchain-messages": lambda turns: with_langchain(langchain_messages, turns),
    "litellm-chat": lambda turns: with_litellm("openai", turns),
    "litellm-messages": lambda turns: with_litellm("anthropic", turns),
    "pydantic-ai-chat": lambda turns: with_pydantic_ai(pydantic_ai_chat, turns),
    "pydantic-ai-responses": lambda turns: with_pydantic_ai(pydantic_ai_responses, turns),
    "pydantic-ai-messages": lambda turns: with_pydantic_ai(pydantic_ai_messages, turns),
    "llm": with_llm,
}


def converse(name: str, client: Callable[[Turns], Iterator[dict[str, Any]]]) -> Any:
    turns = [(model, f"{prompt} (of-{name})") for model, prompt in given["turns"]]
    try:
        return list(client(turns))
    except Exception:  # noqa: BLE001 - whatever a client raises is told, and the next one has its turn
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: converse(name, client) for name, client in CLIENTS.items()}))
