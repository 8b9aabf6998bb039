"""Codex's command line, in a home of its own and with no way out but to this machine."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.installed import CODEX, search_path

CONFIG = """\
model = "{model}"
model_provider = "penstock"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.penstock]
name = "Penstock"
base_url = "{base}"
env_key = "PENSTOCK_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""

OPENAI_BASE_URL = """\
model = "{model}"
openai_base_url = "{base}"
check_for_update_on_startup = false

[analytics]
enabled = false
"""
"""The provider that is built in, at another address: Codex takes us for OpenAI, and tries what it would try there."""

_KEYS = {CONFIG: "PENSTOCK_API_KEY", OPENAI_BASE_URL: "CODEX_API_KEY"}

# A proxy that nobody listens on: whatever is not for this machine fails at once.
_QUIET = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


def codex(
    home: Path, base: str, key: str, model: str, *arguments: str, config: str = CONFIG
) -> list[dict[str, Any]]:
    """One run of ``codex exec``; the events that it prints. The same ``home`` may be resumed."""
    settings = home / ".codex"
    settings.mkdir(exist_ok=True)
    (settings / "config.toml").write_text(config.format(base=base, model=model))
    work = home / "work"
    work.mkdir(exist_ok=True)
    done = subprocess.run(
        [str(CODEX), "exec", *arguments, "--json", "--skip-git-repo-check"],
        cwd=work,
        env={"PATH": search_path(), "HOME": str(home), _KEYS[config]: key, **_QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
