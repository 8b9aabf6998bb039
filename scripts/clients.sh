#!/usr/bin/env bash
# Install the clients that the tests drive against a running gateway. A second call costs nothing.
#
# The fixed places, all below the git-ignored .clients/:
#   bin/node, bin/npm         a Node >= 22 (symlinks)
#   node_modules              the SDKs, the Vercel AI SDK, Cline's and Continue's libraries; in node_modules/.bin the command
#                             lines of Claude Code, Codex, opencode
#   anthropic-old             an Anthropic Python client of the 0.x line: put this folder first on PYTHONPATH
#   frameworks                LangChain, LiteLLM's client, pydantic-ai, llm: the same way
#   llama-index, aider        what their names say: the same way
# The newest Python clients (openai, anthropic) are in .venv. What is newest is tried by scripts/newest.sh, in .clients/newest.
set -euo pipefail
cd "$(dirname "$0")/.."

# stamp PLACE FILE...: what must be unchanged for PLACE to be up to date
stamp() { shift; cat "$@" <(.clients/bin/node --version) <(.venv/bin/python --version) | cksum; }
fresh() { [ -d "$1" ] && [ "$(cat "$1/.stamp" 2>/dev/null)" = "$(stamp "$@")" ]; }
# Each place is made aside and moved in whole, so that an interrupted install is never taken for a good one.
move_in() { stamp "$@" >"$new/.stamp" && rm -rf "$1" && mv "$new" "$1"; }

scripts/node.sh
work=$(mktemp -d .clients/new.XXXXXX)
trap 'rm -rf "$work"' EXIT

files=(tests/clients/package.json tests/clients/package-lock.json)
if ! fresh .clients/node_modules "${files[@]}"; then
    cp "${files[@]}" "$work"
    (export PATH="$PWD/.clients/bin:$PATH" && cd "$work" && npm ci --no-audit --no-fund --loglevel=error)
    new=$work/node_modules
    move_in .clients/node_modules "${files[@]}"
fi

for set in anthropic-old frameworks llama-index aider; do
    if ! fresh ".clients/$set" "requirements/$set.txt"; then
        new=$work/$set
        .venv/bin/python -m pip -qq install --require-hashes -r "requirements/$set.txt" --target "$new"
        move_in ".clients/$set" "requirements/$set.txt"
    fi
done
