"""Where the clients are installed: the pinned versions, or the newest ones that ``make newest`` tries."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = Path(os.environ.get("PENSTOCK_TEST_CLIENTS", ROOT / ".clients"))
NODE_MODULES = INSTALLED / "node_modules"
NODE = INSTALLED / "bin" / "node"
CLAUDE = NODE_MODULES / ".bin" / "claude"
CODEX = NODE_MODULES / ".bin" / "codex"
OPENCODE = NODE_MODULES / "opencode-linux-x64-baseline" / "bin" / "opencode"
QUIET = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
"""A proxy that nobody listens on: whatever is not for this machine fails at once."""


def search_path() -> str:
    """The PATH with the clients' Node before the system's."""
    return f"{INSTALLED / 'bin'}{os.pathsep}{os.environ['PATH']}"


def python_path(name: str) -> dict[str, str]:
    """The environment of a Python program that uses a set of packages installed apart; nothing where it is not there.

    The set ``sdks`` is there for the newest versions alone: the pinned ones are in the tests' own environment.
    """
    place = INSTALLED / name
    return {"PYTHONPATH": str(place)} if place.is_dir() else {}
