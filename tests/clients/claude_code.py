"""Claude Code's command line, in a home of its own and with no way out but to this machine."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.installed import CLAUDE

# A proxy that nobody listens on: whatever is not for this machine fails at once.
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """What the command line is started with: nothing of this machine's own but PATH."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), **_QUIET, **settings}


def claude(home: Path, settings: Mapping[str, str], prompt: str, *options: str) -> Any:
    """One prompt with the tool Bash allowed; the JSON result. ``settings`` are environment variables."""
    done = subprocess.run(
        [str(CLAUDE), "-p", prompt, "--output-format", "json", "--allowedTools", "Bash", *options],
        cwd=home,
        env=environment(home, settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
