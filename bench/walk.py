"""What a warm Chat request to a Chat upstream passes of our own code, and one more chunk of a stream: ``python -m bench.walk``.

The least of thirty of each, so that no timer's turn is among it. A function counts with the lines that it has.
"""

import ast
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType

import uvloop

import penstock
from tests.service.conversations import CHAT_REPLY, body_of
from tests.service.running_service import open_house, raw
from tests.service.scripted import Asked

ROOT = Path(penstock.__file__).parent
TIMES = 30
CHUNK = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":7,"model":"up-chat","choices":[{"index":0,'
    b'"delta":{"content":"word%d"},"finish_reason":null}]}\n\n'
)


async def passed(work: Callable[[], Awaitable[object]]) -> set[CodeType]:
    """The functions of ours that the event loop calls meanwhile."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            seen.add(frame.f_code)

    sys.setprofile(note)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return seen


def lengths(path: Path) -> dict[int, int]:
    """The lines of each function in a file, by its first line, decorators counted in for that."""
    return {
        min([node.lineno, *(each.lineno for each in node.decorator_list)]): (node.end_lineno or 0)
        - node.lineno
        + 1
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def told(what: str, runs: list[set[CodeType]]) -> str:
    """The least of the runs, in numbers."""
    seen = min(runs, key=len)
    files = {Path(code.co_filename) for code in seen}
    known = {str(path): lengths(path) for path in files}
    lines = sum(known[code.co_filename].get(code.co_firstlineno, 1) for code in seen)
    parts = {path.relative_to(ROOT).parts[0] for path in files}
    return f"{what}: {len(parts)} parts, {len(files)} files, {len(seen)} functions, {lines} lines"


async def main() -> None:
    """Print both."""
    with tempfile.TemporaryDirectory() as data:
        async with open_house(Path(data) / "data", cache_seconds=600.0) as house:
            user, upstream, caller = await house.user(), house.wires["wire-chat"], await house.call()
            upstream.script = lambda asked: asked.answer(CHAT_REPLY)
            request = raw("POST", "/api/v1/chat/completions", user.key, body_of("chat", "wire-chat"), {})

            async def whole() -> None:
                await caller.send(request)
                await caller.answer()

            for _ in range(5):
                await whole()
            print(told("request", [await passed(whole) for _ in range(TIMES)]))

            asked: list[Asked] = []
            upstream.script = lambda one: (
                asked.append(one) or one.begin(*(CHUNK % number for number in range(3)))
            )
            body = body_of("chat", "wire-chat", stream=True)
            await caller.send(raw("POST", "/api/v1/chat/completions", user.key, body, {}))
            await caller.reader.readuntil(b"word2")
            numbers = iter(range(3, 3 + TIMES))

            async def chunk() -> None:
                number = next(numbers)
                asked[0].frames(CHUNK % number)
                await caller.reader.readuntil(b'word%d"' % number)

            print(told("chunk", [await passed(chunk) for _ in range(TIMES)]))
            caller.leave()


if __name__ == "__main__":
    uvloop.run(main())
