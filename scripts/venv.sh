#!/usr/bin/env bash
# Make .venv with the interpreter named in $1, else with the system's own Python, else with the first on the PATH: each if it
# is 3.11 or newer and can make one. The system's own is built with profile-guided optimization, which one that was compiled by
# hand or by pyenv mostly is not: the same work takes more CPU there (docs/decisions/0001-toolchain.md).
set -euo pipefail
cd "$(dirname "$0")/.."

able() { # a usable Python: new enough, and with the parts that `python -m venv` needs
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# not the system's own where the compiled scanner could not be built for it
own=/usr/bin/python3
"$own" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || own=python3

python=""
for name in ${1:-"$own" python3 python3.14 python3.13 python3.12 python3.11 python}; do
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
