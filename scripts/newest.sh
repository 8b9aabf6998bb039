#!/usr/bin/env bash
# Try the newest version of every client: install them aside, into .clients/newest, whatever the pins say; tell how they
# differ from what is pinned; run the tests of the clients with them. No pin changes: when the tests pass, package.json
# and requirements/*.in get the new versions by hand, and `make lock` the rest.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/clients.sh
place=$PWD/.clients/newest
rm -rf "$place"
mkdir -p "$place"
ln -s ../bin "$place/bin"
ln -s ../anthropic-old "$place/anthropic-old" # old on purpose

echo "Installing the newest versions."
sed -E 's/("[^"]+": )"[0-9][^"]*"/\1"latest"/' tests/clients/package.json >"$place/package.json"
(export PATH="$place/bin:$PATH" && cd "$place" && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
# names SET: what a set asks for, without its ranges; an upper bound alone stands there for a reason
names() { sed -E '/^#/d; s/>=.*//' "requirements/$1.in"; }
newest() { # newest SET NAME...
    .venv/bin/uv pip install --quiet --python .venv/bin/python --target "$place/$1" "${@:2}"
}
newest sdks openai anthropic
for set in frameworks llama-index aider; do
    mapfile -t wanted < <(names "$set")
    newest "$set" "${wanted[@]}"
done

.venv/bin/python - "$place" <<'EOF'
"""Tell which versions are newer than the pinned ones."""

import json
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

newest = Path(sys.argv[1])
pinned = newest.parent
asked = json.loads(Path("tests/clients/package.json").read_text())
for name in sorted({**asked["dependencies"], **asked["optionalDependencies"]}):
    was, now = (json.loads((at / "node_modules" / name / "package.json").read_text())["version"] for at in (pinned, newest))
    print(f"{'same ' if was == now else 'NEWER'}  {name} {was}" + ("" if was == now else f" -> {now}"))
for name in ("frameworks", "llama-index", "aider", "sdks"):
    def versions(at):
        return {found.name.lower().replace("_", "-"): found.version for found in distributions(path=[str(at)])}
    before = versions(pinned / name) if name != "sdks" else {found.name: found.version for found in distributions()}
    wanted = ["openai", "anthropic"]
    if name != "sdks":
        lines = Path(f"requirements/{name}.in").read_text().splitlines()
        wanted = [re.split("[[<>]", line)[0] for line in lines if not line.startswith("#")]
    after = versions(newest / name)
    for each in wanted:
        was, now = before[each], after[each]
        print(f"{'same ' if was == now else 'NEWER'}  {each} {was}" + ("" if was == now else f" -> {now}"))
EOF

PENSTOCK_TEST_CLIENTS=$place PYTHONPATH=$place/sdks .venv/bin/pytest -n auto --maxprocesses 8 --dist loadgroup tests/clients "$@"
