#!/usr/bin/env bash
# Fuzz the admin API by its own description, as every role: schemathesis, installed aside into .clients/fuzz, against a server of
# its own with a simulator and no way out. Fails where anything answers 5xx, or what needs a token is had without one.
# What may send something somewhere is left out, and what would end the token or its maker. SEED and EXAMPLES change the run.
set -euo pipefail
cd "$(dirname "$0")/.."

port=${PORT:-18790}
place=$PWD/.clients/fuzz
data=$(mktemp -d)
if [ ! -x "$place/bin/st" ]; then
    .venv/bin/python -m venv "$place"
    "$place/bin/pip" install --quiet "schemathesis==4.32.5"
fi
export PENSTOCK_DATA=$data PENSTOCK_MAIL_URL=file:$data/mails PENSTOCK_ADMIN_API_PER_MINUTE=1000000 PENSTOCK_WEBHOOK_SECONDS=0.2
penstock=.venv/bin/penstock
$penstock user create --email owner@example.com --admin --verified >"$data/out"
.venv/bin/python - >"$data/openapi.json" <<'PYTHON'
"""The contract without the servers of its paths, which would stand for the address that is given."""
import json
from pathlib import Path
contract = json.loads(Path("src/penstock/site/openapi.json").read_text())
for path in contract["paths"].values():
    path.pop("servers", None)
print(json.dumps(contract))
PYTHON
$penstock serve --port "$port" >"$data/serve" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; rm -rf "$data"' EXIT
until curl --silent --fail --output "$data/ready" "http://127.0.0.1:$port/readyz"; do
    kill -0 $server # it has died
    sleep 0.2
done
failed=0
for role in owner admin support billing viewer; do
    if [ "$role" != owner ]; then
        $penstock user create --email "$role@example.com" --verified >"$data/out"
        $penstock staff set --email "$role@example.com" --role "$role" >"$data/out"
    fi
    token=$($penstock token make fuzz --email "$role@example.com" --role "$role" --scope all --json |
        .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["token"])')
    echo "As $role:"
    "$place/bin/st" run "$data/openapi.json" --url "http://127.0.0.1:$port" --header "Authorization: Bearer $token" \
        --include-path-regex '^/admin/api/v1' \
        --exclude-path-regex '(/test$|/tokens/|/staff|/users/\{id\}/(disable|delete|sign-out)|/users/\{id\}/plan)' \
        --checks not_a_server_error,ignored_auth,content_type_conformance,response_schema_conformance,status_code_conformance,unsupported_method \
        --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-12}" --seed "${SEED:-7}" --continue-on-failure \
        --request-timeout 20 --no-color --report-dir "$data/report" || failed=1
done
if grep -E "ERROR|Traceback" "$data/serve"; then failed=1; fi
exit $failed
