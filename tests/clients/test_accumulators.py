"""The official SDKs as judges: each recorded stream, written for each dialect, adds up to what the upstream said."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from penstock.core.dialects.registry import caller_side, upstream_side
from penstock.core.neutral.events import Reply
from penstock.core.neutral.fold import fold
from penstock.core.neutral.request import Text, ToolCall
from penstock.core.profile import DEFAULT_PROFILE
from tests.clients.installed import NODE, NODE_MODULES

ROOT = Path(__file__).parent.parent.parent
VECTORS = ROOT / "tests" / "vectors"
NAMES = ("chat", "messages", "responses")


def recorded() -> list[tuple[str, str, bytes]]:
    """Each upstream's stream: its vector, its dialect, its bytes."""
    found = [
        (f"{dialect}/{path.parent.name}", dialect, path.read_bytes())
        for dialect in NAMES
        for path in sorted((VECTORS / dialect).glob("*/upstream.*"))
    ]
    found += [
        (f"translate/{path.parent.name}", path.name.split(".")[1], path.read_bytes())
        for path in sorted((VECTORS / "translate").glob("*/upstream.*.sse"))
    ]
    return found


def written(dialect: str, stream: bytes, caller: str) -> tuple[Reply, bytes]:
    """What an upstream said, and the stream that a caller gets of it."""
    reader = upstream_side(dialect).ResponseDecoder(profile=DEFAULT_PROFILE)
    events = [*reader.feed(stream), *reader.finish()]
    writer = caller_side(caller).ResponseEncoder(
        model="public", reply_id="reply-1", created=1, include_usage=True, input_estimate=7
    )
    return fold(events), writer.write(events)


def meant(reply: Reply) -> dict[str, Any]:
    return {
        "text": "".join(part.text for part in reply.parts if isinstance(part, Text)),
        "calls": [(part.name, loose(part.arguments)) for part in reply.parts if isinstance(part, ToolCall)],
    }


def loose(arguments: str) -> Any:
    """Arguments as a value, or the text of what is none, without what an SDK drops of a call that was cut off."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return "cut off"


class Served:
    """A server on loopback that answers everything with ``body``."""

    def __init__(self) -> None:
        served = self
        self.body = b""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("content-length", str(len(served.body)))
                self.end_headers()
                self.wfile.write(served.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the library calls it by
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.openai = openai.OpenAI(api_key="none", base_url=self.url, max_retries=0)
        self.anthropic = anthropic.Anthropic(api_key="none", base_url=self.url, max_retries=0)

    def chat(self) -> dict[str, Any]:
        state = ChatCompletionStreamState()
        for chunk in self.openai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ):
            state.handle_chunk(chunk)
        message = state.current_completion_snapshot.choices[0].message
        calls: list[tuple[str, Any]] = []
        for call in message.model_dump()["tool_calls"] or ():
            said = call.get("function") or call["custom"]
            calls.append((said["name"], loose(said.get("arguments", "{}"))))
        return {"text": message.content or "", "calls": calls}

    def messages(self) -> dict[str, Any]:
        with self.anthropic.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            message = stream.get_final_message()
        return {
            "text": "".join(block.text for block in message.content if block.type == "text"),
            "calls": [(block.name, block.input) for block in message.content if block.type == "tool_use"],
        }

    def responses(self) -> dict[str, Any]:
        events: list[Any] = list(self.openai.responses.create(model="m", input="hi", stream=True))
        last = events[-1]
        assert last.type in ("response.completed", "response.incomplete", "response.failed")
        if last.type == "response.failed":
            raise ValueError("failed")
        return {
            "text": "".join(
                part.text if part.type == "output_text" else part.refusal
                for item in last.response.output
                if item.type == "message"
                for part in item.content
            ),
            "calls": [
                (item.name, loose(item.arguments if item.type == "function_call" else "{}"))
                for item in last.response.output
                if item.type in ("function_call", "custom_tool_call")
            ],
        }


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    serving = Served()
    thread = threading.Thread(target=serving.server.serve_forever)
    thread.start()
    yield serving
    serving.openai.close()
    serving.anthropic.close()
    serving.server.shutdown()
    thread.join()
    serving.server.server_close()


TOLD = (openai.APIError, anthropic.APIError, ValueError)
"""What the SDKs raise where a stream fails."""


@pytest.mark.parametrize("caller", NAMES)
def test_the_python_sdk_adds_up_what_was_said(served: Served, caller: str) -> None:
    accumulate = {"chat": served.chat, "messages": served.messages, "responses": served.responses}[caller]
    for name, dialect, stream in recorded():
        reply, served.body = written(dialect, stream, caller)
        if reply.failure is not None:
            with pytest.raises(TOLD):
                accumulate()
        else:
            assert comparable(accumulate(), reply) == comparable(meant(reply), reply), name


def comparable(found: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """What every dialect can say of it.

    Calls that a limit cut off, and those of free-text tools, which have another form in each, are compared by their names;
    the explanation of a refusal is text of its own in some.
    """
    free = {part.name for part in reply.parts if isinstance(part, ToolCall) and part.custom}
    cut = reply.reason == "max_tokens"
    calls = [(name, None if cut or name in free else value) for name, value in found["calls"]]
    text = found["text"]
    if reply.reason == "refusal":
        text = text.removesuffix(reply.detail or "")
    return {"text": text, "calls": calls}


@pytest.mark.parametrize("caller", NAMES)
def test_the_javascript_sdk_adds_up_what_was_said(tmp_path: Path, caller: str) -> None:
    program = Path(shutil.copy(ROOT / "tests/clients/programs/accumulate.mjs", tmp_path))
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    streams = [(name, *written(dialect, stream, caller)) for name, dialect, stream in recorded()]
    asked = [{"dialect": caller, "body": body.decode()} for _, _, body in streams]
    run = subprocess.run(
        [str(NODE), str(program)],
        input=json.dumps(asked).encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr.decode()
    for (name, reply, _), found in zip(streams, json.loads(run.stdout), strict=True):
        if reply.failure is not None:
            assert "error" in found, name
        else:
            assert "error" not in found, (name, found)
            calls = [(call, loose(arguments)) for call, arguments in found["calls"]]
            assert comparable({**found, "calls": calls}, reply) == comparable(meant(reply), reply), name
