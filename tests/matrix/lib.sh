# Sourced by run. A file without an ending in this folder, run aside, is a row of the matrix; it says:
#   title           what the table calls it
#   kind            redis, search or source: which side of the plan it is
#   commands        what has to be there
#   start           brings it up below $dir, on ports from free_port, by `detached` (which notes what to stop)
#   answers         true once a client gets a real answer
#   endpoint        prints the lines of YAML that name it in the plan
#   reach           prints how the comparison reaches it: words for compare.py
# It is always sourced in a subshell, so these names do not meet those of another row.
# shellcheck shell=bash disable=SC2034,SC2154

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
here=$root/tests/matrix
home=$root/target/matrix
cache=$home/cache
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "$*" >&2; }

rows() {
  local file
  for file in "$here"/*; do
    case ${file##*/} in run | *.sh | *.py | *.java | *.xml) ;; *) echo "${file##*/}" ;; esac
  done
}

# Asks the system for a port that nobody listens on. Ports that it gives end below 61000: room for a bus 100 above.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# detached NAME COMMAND...: starts a program that outlives this shell, and notes its pid in $dir/pids.
detached() {
  local name=$1
  shift
  setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 &
  echo $! >>"$dir/pids"
}

# become: sets `as`, what to put before a command of a server that wants no root, and gives it the row's folder.
become() {
  as=()
  [ "$(id -u)" = 0 ] || return 0
  chown -R "$somebody" "$dir" && as=(setpriv --reuid "$somebody" --regid "$(id -gn "$somebody")" --clear-groups)
}

# alive PID: not gone, and no zombie that only waits for us to look.
alive() { [ -e "/proc/$1" ] && ! grep -qs '^State:.Z' "/proc/$1/status"; }

# stop: ends what `detached` started, with all that they started themselves: each is a session of its own.
stop() {
  local pid i
  [ -e "$dir/pids" ] || return 0
  while read -r pid; do kill -- "-$pid" 2>/dev/null; done <"$dir/pids"
  while read -r pid; do
    for ((i = 0; i < 200; i++)); do alive "$pid" || break; sleep 0.1; done
    kill -9 -- "-$pid" 2>/dev/null
  done <"$dir/pids"
  rm -f "$dir/pids"
}

# maven GROUP:ARTIFACT:VERSION:TYPE: prints the path of the file, which is fetched once.
maven() {
  local group artifact version type file
  IFS=: read -r group artifact version type <<<"$1"
  file=$cache/$artifact-$version.$type
  if [ ! -e "$file" ]; then
    mkdir -p "$cache/new" && mvn -q -B dependency:copy -Dartifact="$1" -DoutputDirectory="$cache/new" >&2 &&
      mv "$cache/new/${file##*/}" "$file" || return 1
  fi
  echo "$file"
}

# unpacked FILE NAME: unpacks a zip or jar once, and prints where.
unpacked() {
  if [ ! -d "$cache/$2" ]; then
    rm -rf "$cache/$2.new" && mkdir -p "$cache/$2.new" && unzip -q "$1" -d "$cache/$2.new" && mv "$cache/$2.new" "$cache/$2" || return 1
  fi
  echo "$cache/$2"
}

# certificates: an authority and a certificate for 127.0.0.1 and localhost, in $dir/tls: ca.pem, node.pem, node.key.
certificates() {
  local tls=$dir/tls
  mkdir -p "$tls" && (
    cd "$tls" || exit 1
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca.test -keyout ca.key -out ca.pem &&
      openssl req -newkey rsa:2048 -nodes -subj /CN=node.test -keyout node.key -out node.csr &&
      openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out node.pem \
        -extfile <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n') &&
      chmod 644 ./*
  ) >"$dir/openssl.log" 2>&1
}

# within SECONDS: waits until the row answers; gives up at once when a process of it has ended.
within() {
  local end=$((SECONDS + $1)) pid
  until answers >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    while read -r pid; do alive "$pid" || return 1; done <"$dir/pids"
    sleep 0.2
  done
}
