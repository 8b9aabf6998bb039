#!/usr/bin/env bash
# Make the servers and the browser that the tests drive available; each test starts its own, on free ports.
# Nothing is started here. Debian puts some of them where no PATH looks.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
for name in nginx haproxy caddy redis-server; do
    command -v "$name" >/dev/null || missing+=("$name")
done
if ! command -v chromium-headless-shell >/dev/null && ! command -v chromium >/dev/null; then
    # the same browser without windows, which is not packaged everywhere
    [ -n "$(apt-cache --quiet search --names-only '^chromium-headless-shell$' 2>/dev/null)" ] &&
        missing+=(chromium-headless-shell) || missing+=(chromium)
fi
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
    root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
    echo "Please install ${missing[*]}: there is no apt-get here, or neither root nor sudo without a password." >&2
    echo "Until then the tests that need them are skipped." >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi

# Debian's packages start their service when they are installed; exit status 101 of this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
fi
echo "Installing ${missing[*]}"
install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends)
"${install[@]}" "${missing[@]}" >/dev/null 2>&1 || { "${root[@]}" apt-get -qq update && "${install[@]}" "${missing[@]}" >/dev/null; }
