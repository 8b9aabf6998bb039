"""The fenced blocks of a page, and how each language is run as a reader would run it."""

import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import yaml
from markdown_it import MarkdownIt

from tests.clients.claude_code import claude, environment
from tests.clients.installed import INSTALLED, NODE_MODULES, OPENCODE, python_path
from tests.clients.interpreter import interpreter

ROOT = Path(__file__).parents[2]
ORIGIN = "http://127.0.0.1:8484"
KEY = "sk-ps-YOUR-KEY"
LAB = "http://127.0.0.1:8000/v1"
"""What the pages print in place of the reader's own."""


NOTHING: Mapping[str, str] = {}


QUIET = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
"""What keeps opencode from looking for newer versions and models elsewhere."""

LLM = INSTALLED / "frameworks" / "bin"
"""Where the program llm is."""

APART = {"langchain": "frameworks", "pydantic_ai": "frameworks", "llama_index": "llama-index"}
"""What is installed apart, and where."""


class Block(msgspec.Struct, frozen=True):
    """A fenced block: its place, its language, and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page of this repository."""
    tokens = MarkdownIt("commonmark").parse((ROOT / page).read_text("utf-8"))
    return [
        Block(page, token.map[0] + 1 if token.map else 0, token.info.partition(" ")[0], token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


class Reader:
    """Someone who follows a page: a directory of their own, a server, a key."""

    def __init__(self, home: Path, settings: Mapping[str, str], put_in: Mapping[str, str]) -> None:
        self.home = home
        self._put_in = put_in
        self._environ = environment(home, settings)
        bins = (ROOT / ".venv" / "bin", NODE_MODULES / ".bin", INSTALLED / "bin", OPENCODE.parent)
        self._environ["PATH"] = ":".join([*map(str, bins), os.environ["PATH"]])
        (home / "node_modules").symlink_to(NODE_MODULES)

    def own(self, text: str) -> str:
        """The text with the reader's own address and key in it."""
        for printed, real in self._put_in.items():
            text = text.replace(printed, real)
        return text

    def run(self, block: Block) -> str:
        """Do what the block says; what it prints."""
        text = self.own(block.text)
        match block.language:
            case "sh":
                return self.shell(text)
            case "fish" | "powershell":
                return self._variables(text)
            case "python":
                return self._python(text)
            case "javascript":
                program = self.home / "snippet.mjs"
                program.write_text(text, "utf-8")
                return self._program(["node", str(program)])
            case "json":
                return self._settings(text)
            case "yaml":
                read = yaml.safe_load(text)
                if isinstance(read, list):  # llm's: the commands that follow read it
                    (self.home / "extra-openai-models.yaml").write_text(text, "utf-8")
                    return ""
                (model,) = read["models"]
                return self._request(model["apiBase"], model["apiKey"], model["model"])
            case "toml":
                return self._file(text)
            case _:
                raise AssertionError(f"{block} is in a language that nobody runs")

    def _python(self, text: str) -> str:
        """A program; what is installed apart is found where the program is about that."""
        found = [place for name, place in APART.items() if name in text]
        packages = found[0] if found else "sdks"
        environ = {**self._environ, **python_path(packages)}
        return _printed(interpreter(packages).run(text, [], environ, self.home))

    def _variables(self, text: str) -> str:
        """Variables as another shell sets them, for Claude Code."""
        found = re.findall(r'^(?:set -x |\$env:)(\w+)(?: = | )"?([^"\n]+)"?$', text, re.MULTILINE)
        assert len(found) == len(text.splitlines())
        answer = claude(self.home, dict(found), "Say hello")
        assert answer["is_error"] is False, answer
        return answer["result"]

    def _request(self, base: str, key: str, model: str) -> str:
        """What an editor with these settings would ask for."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        command = ["curl", "-s", f"{base}/chat/completions", "-H", f"Authorization: Bearer {key}"]
        return self._program([*command, "-H", "Content-Type: application/json", "-d", body])

    def shell(self, text: str) -> str:
        """Run commands, stopping at the first that fails."""
        more = QUIET if text.startswith("opencode ") else NOTHING
        if text.startswith("llm "):
            own = {"LLM_USER_PATH": str(self.home), "PATH": f"{LLM}:{self._environ['PATH']}"}
            more = {**python_path("frameworks"), **own}
        return self._program(["bash", "-euo", "pipefail", "-c", text], more)

    @contextmanager
    def serving(self, command: str) -> Generator["Server"]:
        """Run a command that serves until it is stopped, and stop it."""
        server = Server(["bash", "-c", command], self._environ)
        try:
            yield server
        finally:
            server.stop()

    def _program(self, command: list[str], more: Mapping[str, str] = NOTHING) -> str:
        done = subprocess.run(
            command,
            cwd=self.home,
            env={**self._environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return _printed(done)

    def _settings(self, text: str) -> str:
        """The settings of Claude Code, of VS Code (whose extension starts the same program with them), of opencode, of Zed."""
        settings = json.loads(text)
        if "language_models" in settings:
            (provider,) = settings["language_models"]["openai_compatible"].values()
            return self._request(provider["api_url"], self.own(KEY), provider["available_models"][0]["name"])
        if "messages" in settings:  # a body of a request
            return self._program(
                [
                    *(
                        "curl",
                        "-s",
                        self.own(f"{ORIGIN}/api/v1/chat/completions"),
                        "-H",
                        f"Authorization: Bearer {self.own(KEY)}",
                    ),
                    *("-H", "Content-Type: application/json", "-d", text),
                ]
            )
        if "provider" in settings:
            (self.home / "opencode.json").write_text(text, "utf-8")
            return ""  # the command that follows reads it
        if "env" in settings:
            folder = self.home / ".claude"
            folder.mkdir(exist_ok=True)
            (folder / "settings.json").write_text(text, "utf-8")
            answer = claude(self.home, {}, "Say hello")
            (folder / "settings.json").unlink()
        else:
            entries = settings["claudeCode.environmentVariables"]
            answer = claude(self.home, {entry["name"]: entry["value"] for entry in entries}, "Say hello")
        assert answer["is_error"] is False, answer
        return answer["result"]

    def _file(self, text: str) -> str:
        """A file, named in its first line; the commands that follow read it."""
        tomllib.loads(text)
        file = self.home / text.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
        return ""


def _printed(done: subprocess.CompletedProcess[str]) -> str:
    """What a program printed that has done its work."""
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Server:
    """A process that prints a greeting and serves until it is told to end."""

    def __init__(self, command: list[str], environ: Mapping[str, str], cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.greeting = ""
        assert self._process.stdout is not None
        while not re.search(r"^  Data .*\n|^Simulating .*\n", self.greeting, re.MULTILINE):
            line = self._process.stdout.readline()
            assert line, f"it ended before it had started: {self.greeting}"
            self.greeting += line

    @property
    def origin(self) -> str:
        return self._found(r"http://127\.0\.0\.1:\d+")

    @property
    def key(self) -> str:
        return self._found(r"sk-ps-\w{40,}")

    def stop(self) -> None:
        """End it, as Ctrl-C does: the whole group gets the signal."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.communicate()

    def _found(self, pattern: str) -> str:
        found = re.search(pattern, self.greeting)
        assert found is not None, self.greeting
        return found[0]
