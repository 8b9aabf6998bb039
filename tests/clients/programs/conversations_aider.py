"""One conversation in which aider's model changes at every turn, told as JSON; aider has no tools: it reads edits in the text.

``conversations_aider.py {"base": ..., "key": ..., "turns": [[model, prompt], ...], "folder": ...}`` works in a folder with a
file ``notes.txt``. Each prompt holds an edit, which the simulated model says after it.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# pyright: reportMissingImports=false
# It is installed apart, because it pins all that it uses.
from aider.coders import Coder
from aider.commands import SwitchCoder
from aider.io import InputOutput
from aider.models import Model

given = json.loads(sys.argv[1])


def converse(provider: str) -> list[dict[str, Any]]:
    if provider == "openai":
        os.environ |= {"OPENAI_API_BASE": given["base"], "OPENAI_API_KEY": given["key"]}
    else:
        os.environ |= {"ANTHROPIC_API_BASE": given["base"], "ANTHROPIC_API_KEY": given["key"]}
    notes = Path(f"notes-{provider}.txt")
    notes.write_text("begin\n")
    coder: Any = None
    told: list[dict[str, Any]] = []
    for number, (model, prompt) in enumerate(given["turns"]):
        before = notes.read_text().splitlines()[-1]
        edit = (
            f"{notes}\n```\n<<<<<<< SEARCH\n{before}\n=======\n{before}\nturn {number}\n>>>>>>> REPLACE\n```"
        )
        if coder is None:
            coder = Coder.create(
                main_model=Model(f"{provider}/{model}"),
                edit_format="diff",
                io=InputOutput(yes=True, pretty=False, fancy_input=False),
                fnames=[str(notes)],
                use_git=False,
                stream=True,
                suggest_shell_commands=False,
                auto_lint=False,
            )
        else:
            try:
                coder.commands.cmd_model(f"{provider}/{model}")
            except SwitchCoder as switch:
                coder = Coder.create(
                    from_coder=coder, io=coder.io, **{"edit_format": "diff", **switch.kwargs}
                )
        answer = coder.run(with_message=f"{prompt} (of-aider-{provider})\n\n{edit}")
        told.append({"said": edit in answer, "notes": notes.read_text()})
    return told


def tried(provider: str) -> Any:
    try:
        return converse(provider)
    except Exception:  # noqa: BLE001 - whatever it raises is told
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    told = {f"aider-{provider}": tried(provider) for provider in ("openai", "anthropic")}
    Path(given["told"]).write_text(json.dumps(told))
