"""What a program does with the OpenAI SDK, told as JSON.

Not a test and not imported by one: the argument says where the service is and with which keys, stdout is what happened.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

GIVEN = json.loads(sys.argv[1])
BASE, KEYS, NAME = GIVEN["base"], GIVEN["keys"], GIVEN["name"]
MODEL = "claude-sonnet-4.6"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "description": "Look it up.", "parameters": CITY, "strict": True},
    }
    for name in ("weather", "population")
]


def client(plan: str = "pro", retries: int = 0) -> Any:
    return openai.OpenAI(api_key=KEYS[plan], base_url=BASE, max_retries=retries)


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def ask(content: Any, model: str = MODEL, **more: Any) -> Any:
    return {"model": model, "messages": [user(content)], **more}


def told(completion: Any) -> Any:
    """A completion as the results show it."""
    choice = completion.choices[0]
    return {
        "model": completion.model,
        "stop": choice.finish_reason,
        "text": choice.message.content or "",
        "calls": [
            {"id": call.id, "name": call.function.name, "input": json.loads(call.function.arguments)}
            for call in choice.message.tool_calls or []
        ],
        "input": completion.usage and completion.usage.prompt_tokens,
        "output": completion.usage and completion.usage.completion_tokens,
    }


def create() -> Any:
    return told(client().chat.completions.create(**ask("Hello from create")))


def stream() -> Any:
    chunks = list(client().chat.completions.create(**ask("Hello from create"), stream=True))
    return {
        "text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "pieces": len(chunks),
        "usages": [chunk.usage.completion_tokens for chunk in chunks if chunk.usage],
        "models": sorted({chunk.model for chunk in chunks}),
        "stop": [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1],
    }


def stream_usage() -> Any:
    options = {"include_usage": True}
    chunks = list(
        client().chat.completions.create(**ask("Hello from create"), stream=True, stream_options=options)
    )
    return {
        "usages": [chunk.usage.completion_tokens for chunk in chunks if chunk.usage],
        "last": len(chunks[-1].choices),
    }


def helper() -> Any:
    with client().chat.completions.stream(**ask("Hello from create")) as streaming:
        streamed = "".join(event.delta for event in streaming if event.type == "content.delta")
        return {**told(streaming.get_final_completion()), "streamed": streamed}


def answered(first: Any, asked: Any) -> Any:
    """The second turn: what the model said, and a result for each of its calls."""
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} of {NAME}: 42"}
        for call in message.tool_calls or []
    ]
    said = message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in said.get("tool_calls", []):
        call["function"].pop("parsed_arguments", None)
    return {**asked, "messages": [*asked["messages"], said, *results]}


def tools() -> Any:
    asked = ask(f"Tools for {NAME}", tools=TOOLS)
    first = client().chat.completions.create(**asked)
    return {"first": told(first), "second": told(client().chat.completions.create(**answered(first, asked)))}


def tools_streamed() -> Any:
    asked = ask(f"Streamed tools for {NAME}", tools=TOOLS)
    with client().chat.completions.stream(**asked) as streaming:
        first = streaming.get_final_completion()
    with client().chat.completions.stream(**answered(first, asked)) as streaming:
        return {"first": told(first), "second": told(streaming.get_final_completion())}


def parallel() -> Any:
    asked = ask(f"Two tools for {NAME}", "drill-two-tools", tools=TOOLS)
    calling = client("drills").chat.completions
    first = calling.create(**asked)
    return {"first": told(first), "second": told(calling.create(**answered(first, asked)))}


def structured() -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY, "strict": True}}
    return told(client().chat.completions.create(**ask("A place", response_format=wanted)))


def responded(response: Any) -> Any:
    """A response as the results show it."""
    return {
        "model": response.model,
        "status": response.status,
        "text": response.output_text,
        "calls": [
            {"id": item.call_id, "name": item.name, "input": json.loads(item.arguments)}
            for item in response.output
            if item.type == "function_call"
        ],
        "output": response.usage.output_tokens,
    }


def responses() -> Any:
    return responded(client().responses.create(model=MODEL, input="Hello from create"))


def responses_streamed() -> Any:
    with client().responses.stream(model=MODEL, input="Hello from create") as streaming:
        streamed = "".join(event.delta for event in streaming if event.type == "response.output_text.delta")
        return {**responded(streaming.get_final_response()), "streamed": streamed}


def responses_tools() -> Any:
    offered: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
    asked: list[Any] = [user(f"Tools of responses for {NAME}")]
    first = client().responses.create(model=MODEL, input=asked, tools=offered)
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"{item.name} of {NAME}: 42"}
        for item in first.output
        if item.type == "function_call"
    ]
    said = [item.model_dump(exclude_none=True) for item in first.output]
    second = client().responses.create(model=MODEL, input=[*asked, *said, *results], tools=offered)
    return {"first": responded(first), "second": responded(second)}


def images() -> Any:
    shown = [
        {"type": "text", "text": f"Images of {NAME}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{GIVEN['png']}"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.jpg"}},
    ]
    return told(client().chat.completions.create(**ask(shown)))


def models() -> Any:
    one = client().models.retrieve("claude-haiku-4.5")
    return {"listed": [model.id for model in client().models.list()], "one": one.id}


def wrong_key() -> Any:
    return told(openai.OpenAI(api_key="sk-ps-nobody", base_url=BASE).chat.completions.create(**ask("Hello")))


def not_on_plan() -> Any:
    return told(client("free", 2).chat.completions.create(**ask("Hello", "claude-opus-4.6")))


def no_such_model() -> Any:
    return told(client().chat.completions.create(**ask("Hello", "gpt-9")))


def bad_field() -> Any:
    return told(client().chat.completions.create(**ask("Hello") | {"messages": []}))


def too_long() -> Any:
    return told(client("drills").chat.completions.create(**ask("Hello", "drill-refused")))


def provider_fails() -> Any:
    return told(client("drills").chat.completions.create(**ask("Hello", "drill-500")))


def stream_fails() -> Any:
    return len(list(client("drills").chat.completions.create(**ask("Hello", "drill-500"), stream=True)))


def stream_breaks() -> Any:
    return len(list(client("drills").chat.completions.create(**ask("Hello", "drill-breaks"), stream=True)))


def day_spent() -> Any:
    once = client("one-a-day", 2)
    once.chat.completions.create(**ask("Hello", "claude-haiku-4.5"))
    return told(once.chat.completions.create(**ask("Hello", "claude-haiku-4.5")))


def at_once() -> Any:
    """Two at a time on a plan for one: the second is refused, waits as it is told, and gets through."""
    single = client("one-at-a-time", 4).chat.completions
    with ThreadPoolExecutor(2) as pool:
        asked = [ask(GIVEN["held"], "drill-hold")] * 2
        return [told(completion) for completion in pool.map(lambda body: single.create(**body), asked)]


CALLS: tuple[Callable[[], Any], ...] = (
    create, stream, stream_usage, helper, tools, tools_streamed, parallel, structured, responses,
    responses_streamed, responses_tools, images, models, wrong_key,
    not_on_plan, no_such_model, bad_field, too_long, provider_fails, stream_fails, stream_breaks, day_spent, at_once,
)  # fmt: skip


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except openai.APIStatusError as error:
        fields = {"code": error.code, "param": error.param, "type": error.type}
        return {"error": type(error).__name__, "status": error.status_code, "text": error.message, **fields}
    except openai.APIError as error:
        return {"error": type(error).__name__, "text": error.message, "code": error.code}


sys.stdout.write(json.dumps({call.__name__: outcome(call) for call in CALLS}))
