# Sourced by the measurements of this folder: what they share. `begin NAME` comes first, `verdict` last.
# shellcheck shell=bash disable=SC2034
set -uo pipefail
exec </dev/null
# shellcheck source=tests/servers/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../servers/lib.sh"
cd "$root" || exit 1

fail() {
  say "bench: $*"
  exit 1
}

# begin NAME: makes $out anew and builds $rekindle, or takes the program that REKINDLE names. What was started is stopped
# at the end.
begin() {
  out=$root/target/bench/$1
  rm -rf "$out"
  mkdir -p "$out" || exit 1
  started=
  trap finish EXIT
  trap 'exit 130' INT TERM HUP
  rekindle=${REKINDLE:-}
  if [ -z "$rekindle" ]; then
    cargo build --release || fail "it does not compile"
    rekindle=${CARGO_TARGET_DIR:-target}/release/rekindle
  fi
}

finish() {
  # shellcheck disable=SC2086
  [ -z "$started" ] || tests/servers/down $started >&2
}

# need COMMAND...
need() {
  # GNU time: the shell's own knows nothing of memory.
  [ -x /usr/bin/time ] || apt_install time -- || fail "GNU time is missing"
  [ -z "$(missing_commands "$@")" ] || fail "the floor needs $(missing_commands "$@" | paste -sd' ')"
}

# servers NAME...: those of the tests; what runs already is left running. The databases get the memory that a shop would give
# them: with less than their tables they read the disk, MariaDB past the system's cache, and the floor and what is held against
# it wait for that by turns.
servers() {
  MARIADB_BUFFER_POOL=${MARIADB_BUFFER_POOL:-2G} POSTGRES_SHARED_BUFFERS=${POSTGRES_SHARED_BUFFERS:-2G} tests/servers/up "$@" |
    tee "$out/servers"
  [ "${PIPESTATUS[0]}" -eq 0 ] || fail "no servers to measure with"
  started=$(sed -n 's/ started: .*//p' "$out/servers" | paste -sd' ')
  # shellcheck source=/dev/null
  . "$home/env"
  export MYSQL_PWD=app-pw PGPASSWORD=app-pw
  # Not the database that the tests use.
  export BENCH_REDIS=${REDIS_URL:+${REDIS_URL%/*}/9}
  mysql=(mariadb --no-defaults --host=127.0.0.1 "--port=${MARIADB_PORT:-}" --user=app --database=app --raw --skip-column-names
    "--init-command=SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
}

sql() { "${mysql[@]}" --execute="$1"; }
redis() { redis-cli -h 127.0.0.1 -p "$REDIS_PORT" -n 9 "$@"; }

# What a process and those it began and saw end have used of the CPU, in seconds: PostgreSQL has one for each client.
cpu() { awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / tick }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# timed NAME SERVER-PID... -- COMMAND...: appends "wall client-CPU KiB server-CPU..." to $out/NAME.
timed() {
  local name=$1 pids=() before=() i
  shift
  while [ "$1" != -- ]; do pids+=("$1") before+=("$(cpu "$1")"); shift; done
  shift
  /usr/bin/time -o "$out/time" -f '%e %U %S %M' "$@" >"$out/$name.log" 2>&1 ||
    { tail -n 20 "$out/$name.log" >&2; fail "$name ended with an error"; }
  {
    tail -n 1 "$out/time" | awk '{ printf "%s %.2f %s", $1, $2 + $3, $4 }'
    for i in "${!pids[@]}"; do awk -v a="${before[$i]}" -v b="$(cpu "${pids[$i]}")" 'BEGIN { printf " %.2f", b - a }'; done
    echo
  } >>"$out/$name"
}

# of NAME COLUMN: median, least and most of a column of $out/NAME.
of() { cut -d' ' -f"$2" "$out/$1" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[1], v[NR] }'; }
median() { of "$@" | cut -d' ' -f1; }
most() { of "$@" | cut -d' ' -f3; }
ratio() { awk -v a="$(median "$1" 1)" -v b="$(median "$2" 1)" 'BEGIN { printf "%.2f", a / b }'; }

# list NAME COLUMN: a JSON list.
list() { cut -d' ' -f"$2" "$out/$1" | paste -sd, | sed 's/.*/[&]/'; }

# machine: a line about where this was measured.
machine() { echo "$(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg)"; }
stamp() { printf '"commit":"%s","at":"%s","cores":%s,"load":"%s"' "$(git rev-parse --short HEAD 2>/dev/null)" "$(date -u +%FT%TZ)" "$(nproc)" "$(cut -d' ' -f1-3 /proc/loadavg)"; }

missed=
# judge CONDITION WORDS: a promise, and whether it is kept.
judge() {
  if awk "BEGIN { exit !($1) }"; then echo "ok      $2"; else echo "MISSED  $2"; missed=yes; fi
}

verdict() {
  [ -z "$missed" ] || fail "a promise is not kept"
  echo "bench: passed; ${out#"$root"/}/results.json"
}
