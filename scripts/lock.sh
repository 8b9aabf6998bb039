#!/usr/bin/env bash
# Remake requirements/*.txt from *.in and the npm lock from package.json; arguments go to uv (--upgrade, -P NAME).
# The locks hold hashes and no addresses: where packages come from is the installing machine's business.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

for set in run build dev anthropic-old; do # dev is constrained by the two before it
    ../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links "$@" "$set.in" -o "$set.txt"
done

cd ../tests/clients
../../scripts/node.sh
PATH="$PWD/../../.clients/bin:$PATH" npm install --package-lock-only --omit-lockfile-registry-resolved \
    --ignore-scripts --no-audit --no-fund --silent

if grep -nE '://|"resolved"' ../../requirements/*.txt package-lock.json | grep -vE '"(url|funding)":'; then
    echo "A lock names an address (above)." >&2
    exit 1
fi
