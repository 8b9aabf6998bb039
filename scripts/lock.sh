#!/usr/bin/env bash
# Remake requirements/run.txt from pyproject.toml, the other sets from their *.in, and the npm lock from package.json.
# Extras stay in the names (pip asks for `name[extra]` with a version of its own otherwise, which a lock has no hash for).
# Arguments go to uv: --upgrade for everything, --upgrade-package NAME for one.
# The locks hold hashes and no addresses: where packages come from is the installing machine's business.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

lock() { # lock SOURCE SET
    ../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
        --no-header --no-emit-index-url --no-emit-find-links "$1" -o "$2.txt" "${@:3}"
}
lock ../pyproject.toml run "$@"
lock build.in build "$@"
lock dev.in dev "$@" # constrained by the two above
for apart in anthropic-old frameworks llama-index aider; do
    lock $apart.in $apart "$@"
done

cd ../tests/clients
../../scripts/node.sh
PATH="$PWD/../../.clients/bin:$PATH" npm install --package-lock-only --omit-lockfile-registry-resolved \
    --ignore-scripts --no-audit --no-fund --silent

if grep -nE '://|"resolved"' ../../requirements/*.txt package-lock.json | grep -vE '"(url|funding)":|/sponsors/'; then
    echo "A lock names an address (above)." >&2
    exit 1
fi
