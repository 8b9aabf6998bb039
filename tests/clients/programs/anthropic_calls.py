"""What a program does with the Anthropic SDK, told as JSON; run by the newest SDK and by the last that sent x-api-key.

Not a test and not imported by one: the argument says where the service is and with which keys, stdout is what happened.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic

GIVEN = json.loads(sys.argv[1])
BASE, KEYS, NAME = GIVEN["base"], GIVEN["keys"], GIVEN["name"]
MODEL = "claude-sonnet-4.6"
TOOLS: Any = [
    {
        "name": name,
        "description": "Look it up.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    for name in ("weather", "population")
]


def client(plan: str = "pro", retries: int = 0) -> Any:
    return anthropic.Anthropic(api_key=KEYS[plan], base_url=BASE, max_retries=retries)


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def ask(content: Any, model: str = MODEL, **more: Any) -> Any:
    return {"model": model, "max_tokens": 2000, "messages": [user(content)], **more}


def told(message: Any) -> Any:
    """A message as the results show it."""
    return {
        "model": message.model,
        "stop": message.stop_reason,
        "kinds": [block.type for block in message.content],
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "calls": [
            {"id": block.id, "name": block.name, "input": block.input}
            for block in message.content
            if block.type == "tool_use"
        ],
        "input": message.usage.input_tokens,
        "output": message.usage.output_tokens,
    }


def create() -> Any:
    return told(client().messages.create(**ask("Hello from create")))


def stream() -> Any:
    kinds: list[str] = []
    text = ""
    for event in client().messages.create(**ask("Hello from create"), stream=True):
        kinds.append(event.type)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    return {"first": kinds[0], "last": kinds[-1], "pieces": kinds.count("content_block_delta"), "text": text}


def helper() -> Any:
    with client().messages.stream(**ask("Hello from create")) as streaming:
        text = "".join(streaming.text_stream)
        return {**told(streaming.get_final_message()), "streamed": text}


def answered(first: Any, asked: Any) -> Any:
    """The second turn: what the model said, and a result for each of its calls."""
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"{block.name} of {NAME}: 42"}
        for block in first.content
        if block.type == "tool_use"
    ]
    turns = [*asked["messages"], {"role": "assistant", "content": first.content}, user(results)]
    return {**asked, "messages": turns}


def tools() -> Any:
    asked = ask(f"Tools for {NAME}", tools=TOOLS)
    first = client().messages.create(**asked)
    return {"first": told(first), "second": told(client().messages.create(**answered(first, asked)))}


def tools_streamed() -> Any:
    asked = ask(f"Streamed tools for {NAME}", tools=TOOLS)
    with client().messages.stream(**asked) as streaming:
        first = streaming.get_final_message()
    with client().messages.stream(**answered(first, asked)) as streaming:
        return {"first": told(first), "second": told(streaming.get_final_message())}


def parallel() -> Any:
    asked = ask(f"Two tools for {NAME}", "drill-two-tools", tools=TOOLS)
    first = client("drills").messages.create(**asked)
    return {"first": told(first), "second": told(client("drills").messages.create(**answered(first, asked)))}


def thinking() -> Any:
    asked = ask(
        f"Think for {NAME}", "drill-thinks", tools=TOOLS, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    with client("drills").messages.stream(**asked) as streaming:
        first = streaming.get_final_message()
    return {"first": told(first), "second": told(client("drills").messages.create(**answered(first, asked)))}


def images() -> Any:
    shown = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": GIVEN["png"]}},
        {"type": "image", "source": {"type": "url", "url": "https://images.example/cat.jpg"}},
        {"type": "text", "text": f"Images of {NAME}"},
    ]
    return told(client().messages.create(**ask(shown)))


def models() -> Any:
    listed = [model.id for model in client().models.list(limit=1000)]
    one = client().models.retrieve("claude-haiku-4.5")
    return {"listed": listed, "one": one.id, "name": one.display_name}


def count() -> Any:
    return {"tokens": client().messages.count_tokens(model=MODEL, messages=[user("Hello")]).input_tokens}


def wrong_key() -> Any:
    stranger = anthropic.Anthropic(api_key="sk-ps-nobody", base_url=BASE)
    return told(stranger.messages.create(**ask("Hello")))


def not_on_plan() -> Any:
    return told(client("free", 2).messages.create(**ask("Hello", "claude-opus-4.6")))


def no_such_model() -> Any:
    return told(client().messages.create(**ask("Hello", "gpt-9")))


def bad_field() -> Any:
    return told(client().messages.create(**ask("Hello") | {"messages": []}))


def too_long() -> Any:
    return told(client("drills").messages.create(**ask("Hello", "drill-refused")))


def provider_fails() -> Any:
    return told(client("drills").messages.create(**ask("Hello", "drill-500")))


def stream_fails() -> Any:
    with client("drills").messages.stream(**ask("Hello", "drill-500")) as streaming:
        return told(streaming.get_final_message())


def stream_breaks() -> Any:
    with client("drills").messages.stream(**ask("Hello", "drill-breaks")) as streaming:
        return told(streaming.get_final_message())


def day_spent() -> Any:
    once = client("one-a-day", 2)
    once.messages.create(**ask("Hello", "claude-haiku-4.5"))
    return told(once.messages.create(**ask("Hello", "claude-haiku-4.5")))


def at_once() -> Any:
    """Two at a time on a plan for one: the second is refused, waits as it is told, and gets through."""
    single = client("one-at-a-time", 4)
    with ThreadPoolExecutor(2) as pool:
        asked = [ask(GIVEN["held"], "drill-hold")] * 2
        return [told(message) for message in pool.map(lambda body: single.messages.create(**body), asked)]


CALLS: tuple[Callable[[], Any], ...] = (
    create, stream, helper, tools, tools_streamed, parallel, thinking, images, models, count, wrong_key, not_on_plan,
    no_such_model, bad_field, too_long, provider_fails, stream_fails, stream_breaks, day_spent, at_once,
)  # fmt: skip


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except anthropic.APIStatusError as error:
        return {"error": type(error).__name__, "status": error.status_code, "text": str(error)}


sys.stdout.write(json.dumps({call.__name__: outcome(call) for call in CALLS}))
