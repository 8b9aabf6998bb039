#!/usr/bin/env bash
# Compile the scanner in C with every warning an error, and keep nothing of it. Without a compiler or Python's headers there is
# nothing to look at: then the scanner in Python is what runs.
set -euo pipefail
cd "$(dirname "$0")/.."

headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
compiler=$(command -v "${CC:-cc}" || true)
if [ -z "$compiler" ] || [ ! -e "$headers/Python.h" ]; then
    echo "No C compiler, or no headers of Python: the scanner in C is not looked at." >&2
    exit 0
fi
warnings=(-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror)
echo "$compiler -fsyntax-only ${warnings[*]} _native.c"
"$compiler" -std=c11 -O2 -fsyntax-only "${warnings[@]}" -I"$headers" src/penstock/core/body/_native.c
