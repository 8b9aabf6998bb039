#!/usr/bin/env bash
# Make .venv with the interpreter named in $1, else with the first Python >= 3.11 on the PATH that can make one.
set -euo pipefail
cd "$(dirname "$0")/.."

able() { # a usable Python: new enough, and with the parts that `python -m venv` needs
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=""
for name in ${1:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if able "$name"; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11 or newer that can make a virtual environment was found${1:+ (asked for: $1)}." >&2
    echo "Debian and Ubuntu: apt-get install python3 python3-venv. Or name one: make env PYTHON=/path/to/python3" >&2
    exit 1
fi
"$python" -m venv --clear .venv
