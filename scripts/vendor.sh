#!/usr/bin/env bash
# Fetch the one thing of others that is in the package, by exact version and checksum: Swagger UI, for the API reference.
set -euo pipefail
cd "$(dirname "$0")/../src/penstock/site/static/swagger"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent swagger-ui-dist@5.35.0 >/dev/null && tar xzf swagger-ui-dist-5.35.0.tgz)
cp "$work"/package/{swagger-ui.css,swagger-ui-bundle.js,LICENSE} .
sha256sum --check --quiet <<'SUMS'
5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d  swagger-ui.css
e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2  swagger-ui-bundle.js
SUMS
