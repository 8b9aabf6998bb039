"""One conversation that changes its model at every turn, through LlamaIndex's agent, told as JSON: see conversations.py."""

import asyncio
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# It is installed apart, because it is built on the SDK's 2.x line.
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike

given = json.loads(sys.argv[1])
BASE, KEY = given["base"], given["key"]
RESULT = "Sunny."


def chat(model: str) -> Any:
    return OpenAILike(
        model=model,
        api_base=BASE,
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def responses(model: str) -> Any:
    # it knows OpenAI's own models, and asks how much others can hold
    return OpenAIResponses(model=model, api_base=BASE, api_key=KEY, max_retries=0, context_window=200_000)


class AnyModel(Anthropic):
    """It knows Anthropic's own models, and refuses to ask any other unless it is told what that can hold."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=200_000, is_chat_model=True, is_function_calling_model=True, model_name=self.model
        )


def messages(model: str) -> Any:
    return AnyModel(model=model, base_url=BASE, api_key=KEY, max_retries=0, max_tokens=4000)


async def converse(make: Callable[[str], Any], turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    memory = ChatMemoryBuffer.from_defaults(token_limit=60_000)
    told: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []

    def weather(city: str) -> str:
        """Look up the weather."""
        seen.append({"city": city})
        return RESULT

    for model, prompt in turns:
        seen.clear()
        agent = FunctionAgent(tools=[weather], llm=make(model), streaming=True)
        answer = await agent.run(prompt, memory=memory)
        told.append(
            {"tool": "weather" if seen else "", "arguments": seen[0] if seen else None, "text": str(answer)}
        )
    return told


def tried(name: str, make: Callable[[str], Any]) -> Any:
    turns = [(model, f"{prompt} (of-{name})") for model, prompt in given["turns"]]
    try:
        return asyncio.run(converse(make, turns))
    except Exception:  # noqa: BLE001 - whatever it raises is told
        return {"error": traceback.format_exc()}


CLIENTS = {"llama-index-chat": chat, "llama-index-responses": responses, "llama-index-messages": messages}

if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: tried(name, make) for name, make in CLIENTS.items()}))
