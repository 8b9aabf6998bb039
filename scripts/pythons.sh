#!/usr/bin/env bash
# Run tests on every other Python of this machine that Penstock supports, by their usual names: scripts/pythons.sh TEST...
# Says which were run and which were not there; where there is none at all it fails in CI, and says so elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
run=() missing=()
for version in 3.11 3.12 3.13 3.14; do
    if [ "$version" = "$own" ]; then
        continue # make check and make test run on it
    elif scripts/test_python.sh "python$version" --found; then
        scripts/test_python.sh "python$version" "$@"
        run+=("$version")
    else
        missing+=("$version")
    fi
done
echo "Run on ${run[*]:-no other Python}; .venv has $own; not on this machine: ${missing[*]:-none}."
[ ${#run[@]} -gt 0 ] || [ -z "${CI:-}" ] || exit 1
