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

# servers NAME...: those of the tests; what runs already is left running.
servers() {
  tests/servers/up "$@" | tee "$out/servers"
  [ "${PIPESTATUS[0]}" -eq 0 ] || fail "no servers to measure with"
  started=$(sed -n 's/ started: .*//p' "$out/servers" | paste -sd' ')
}

# What one server's process has used of the CPU, in seconds.
cpu() { awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) / tick }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# of NAME COLUMN: median, least and most of a column of $out/NAME.
of() { cut -d' ' -f"$2" "$out/$1" | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[1], v[NR] }'; }
median() { of "$@" | cut -d' ' -f1; }
ratio() { awk -v a="$(median "$1" 1)" -v b="$(median "$2" 1)" 'BEGIN { printf "%.2f", a / b }'; }

missed=
# judge CONDITION WORDS: a promise, and whether it is kept.
judge() {
  if awk "BEGIN { exit !($1) }"; then echo "ok      $2"; else echo "MISSED  $2"; missed=yes; fi
}

verdict() {
  [ -z "$missed" ] || fail "a promise is not kept"
  echo "bench: passed; ${out#"$root"/}/results.json"
}
