#!/usr/bin/env bash
# Build what a release is made of, from a clean tree, into dist/: the source archive, the wheels, and their checksums.
# The wheels are built from the source archive by the locked build backend, so that the archive is known to be whole: one with the
# scanner compiled for this platform, one without it for all others. The first is tried: installed with hashes into an environment of its own, asked for its version, started, called, and stopped.
# `BASE` is the image that the release's own is built on, by its digest; it is written down beside what is built.
# Nothing is tagged or sent anywhere. `REHEARSAL=1` lets an unfinished changelog, a changed tree and no base pass, for a rehearsal.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
server=
cleanup() { # the server that was tried must not outlive this
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "release: $*" >&2; exit 1; }
settle() { # settle CONDITION-FAILED-TEXT: fatal, except in a rehearsal
    [ -n "${REHEARSAL:-}" ] || fail "$1"
    echo "release: $1 (a rehearsal goes on)" >&2
}

version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
[ "$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/penstock/__init__.py)" = "$version" ] \
    || fail "src/penstock/__init__.py has another version than pyproject.toml ($version)"
[ -z "$(git status --porcelain)" ] || settle "the tree has changes that are not committed"
! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || fail "v$version is tagged already"
heading=$(grep -m 1 -E '^## [0-9]' CHANGELOG.md)
[[ $heading =~ ^"## $version ("[0-9]{4}-[0-9]{2}-[0-9]{2}")"$ ]] \
    || settle "the first section of CHANGELOG.md is not \"## $version (YYYY-MM-DD)\" but \"$heading\""
base=${BASE:-}
[[ $base =~ ^[a-z0-9./:_-]+@sha256:[0-9a-f]{64}$ ]] \
    || settle "BASE is not an image with its digest, such as python:3.13-slim@sha256:... (docs/operations/release.md), but \"$base\""

echo "Building $version from $(git rev-parse --short HEAD)"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
build() { # build KIND FROM TO: by the backend's own hook; no front end, no network
    (cd "$2" && rm -rf build && PATH="${python%/*}:$PATH" "$python" -c 'import sys; from setuptools import build_meta; print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))' "$1" "$3")
}
mkdir "$work/tree" "$work/dist" "$work/again"
git archive HEAD | tar -x -C "$work/tree"
sdist=$(build sdist "$work/tree" "$work/dist" | tail -1)
tar -xzf "$work/dist/$sdist" -C "$work"
wheel=$(build wheel "$work/${sdist%.tar.gz}" "$work/dist" | tail -1)
build wheel "$work/tree" "$work/again" >/dev/null
[[ $wheel == *-abi3-* ]] || fail "the scanner was not compiled: a C compiler and Python's headers are needed"
pure=$(CC=false build wheel "$work/${sdist%.tar.gz}" "$work/dist" | tail -1)
[[ $pure == *-py3-none-any.whl ]] || fail "without a compiler the wheel is $pure"
cmp -s "$work/dist/$wheel" "$work/again/$wheel" || fail "the archive's wheel is not the tree's: a file is missing, or the build is not repeatable"
echo "$base" >"$work/dist/BASE"
(cd "$work/dist" && sha256sum "$sdist" "$wheel" "$pure" BASE >SHA256SUMS)

echo "Installing it with hashes"
"$python" -m venv "$work/venv"
tried=$work/venv/bin
"$tried/python" -m pip -qq install --require-hashes -r requirements/run.txt
printf 'penstock @ file://%s --hash=sha256:%s\n' "$work/dist/$wheel" "$(sha256sum "$work/dist/$wheel" | cut -d ' ' -f 1)" >"$work/wheel.txt"
"$tried/python" -m pip -qq install --no-deps --require-hashes -r "$work/wheel.txt"
"$tried/python" -m pip check
[ "$("$tried/penstock" --version)" = "$version" ] || fail "penstock --version says $("$tried/penstock" --version)"

echo "Trying it"
cd "$work" # away from the source
env -i PATH="$PATH" HOME="$work" "$tried/penstock" serve --port 0 --data "$work/data" >"$work/out" 2>"$work/log" &
server=$!
for _ in {1..300}; do # until it greets, half a minute at most
    grep -q 'Data  ' "$work/out" && break
    kill -0 "$server" 2>/dev/null || fail "it has ended: $(cat "$work/log")"
    sleep 0.1
done
url=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/out" | head -1)
key=$(grep -o 'sk-ps-[0-9A-Za-z]*' "$work/out" | head -1)
"$tried/python" - "$url" "$key" <<'PY'
import json, sys, urllib.request

url, key = sys.argv[1:]


def ask(path, body=None):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url + path, body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


assert ask("/healthz") == b"ok\n"
asked = {"model": "claude-haiku-4.5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
assert json.loads(ask("/api/v1/chat/completions", asked))["choices"][0]["message"]["content"]
assert json.loads(ask("/api/v1/messages/count_tokens", asked))["input_tokens"] > 0
assert b"<html" in ask("/") and b"<html" in ask("/docs/quickstart")
PY
kill -TERM "$server"
wait "$server" || fail "it ended with status $?: $(cat "$work/log")"
server=

cd - >/dev/null
mkdir -p dist
rm -f dist/*
cp "$work/dist"/* dist/
echo "dist/ has penstock $version:"
sed 's/^/  /' dist/SHA256SUMS
echo "What is left: docs/operations/release.md, from \"Tag and publish\" on."
