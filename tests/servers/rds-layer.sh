#!/usr/bin/env bash
# rds-layer.sh fetch: brings moto, once, into target/servers/rds/venv.
# rds-layer.sh HOME PORT: becomes the stand-in for RDS, with its pid file in HOME.
set -euo pipefail
# shellcheck source=tests/servers/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The release that rds-layer.py reaches into.
release=5.1.18
venv=$home/rds/venv
if [ "$1" = fetch ]; then
  if [ "$(cat "$venv/release" 2>/dev/null)" != "$release" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" -q --disable-pip-version-check install "moto[server,rds]==$release"
    echo "$release" >"$venv/release"
  fi
  exit
fi
mkdir -p "$1"
echo $$ >"$1/pid"
exec "$venv/bin/python" "$here/rds-layer.py" "$2"
