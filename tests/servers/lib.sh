# Sourced by up, down and tests/run-all. A file without a dot in this folder, up and down aside, is a server;
# it says:
#   commands, packages, services   what has to be there, the Debian packages that bring it, the services they bring
#   first_port                     the port to take if nothing else has it
#   launch                         starts it from $dir on $port by `detached`, writing $dir/pid, never waiting
#   answers                        true once a client gets a real answer on $port
#   environment                    the `export` lines for tests; $pid is empty under Docker
#   stop_signal                    what asks it to end at once, if not TERM
# It is always sourced in a subshell, so these names do not meet those of another server.
# shellcheck shell=bash disable=SC2034,SC2154

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
here=$root/tests/servers
home=$root/target/servers
# Debian keeps servers out of an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { echo "$*" >&2; }

server_names() {
  local file
  for file in "$here"/*; do
    case ${file##*/} in up | down | *.*) ;; *) echo "${file##*/}" ;; esac
  done
}

# Loads one server. Call in a subshell.
load() {
  name=$1 dir=$home/$1
  # shellcheck source=/dev/null
  . "$here/$name"
}

missing_commands() {
  local command
  for command; do type -P "$command" >/dev/null || echo "$command"; done
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

can_install() { type -P apt-get >/dev/null && as_root true 2>/dev/null; }

# apt_install PACKAGE... [-- SERVICE...]: nothing is started now, and SERVICEs do not start at the next boot either.
apt_install() {
  local all="$*"
  say "installing: ${all%% --*}"
  # shellcheck disable=SC2016
  as_root env DEBIAN_FRONTEND=noninteractive bash -c '
    policy=/usr/sbin/policy-rc.d aside=/usr/sbin/policy-rc.d.rekindle
    # What apt asks before it starts a service; 101 means no. One that was there comes back, also after a kill.
    restore() { rm -f $policy; [ ! -e $aside ] || mv -f $aside $policy; }
    [ ! -e $aside ] || restore
    [ ! -e $policy ] || mv $policy $aside
    trap restore EXIT
    trap "exit 130" INT TERM
    printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy
    packages=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do packages+=("$1"); shift; done
    shift
    install() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${packages[@]}"; }
    # A fresh machine has no package lists, an old one stale ones: asked for only then.
    install >/dev/null 2>&1 || { apt-get -qq update && install >/dev/null; } || exit 1
    for service; do update-rc.d "$service" disable >/dev/null 2>&1 || true; done
  ' apt "$@" </dev/null >&2
}

# Starts a program that outlives us and holds nothing of ours: neither the pipe of a caller who captures our output,
# nor make's job pipe, nor our lock.
detached() {
  (
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    exec setsid "$@"
  ) </dev/null >>"$dir/log" 2>&1 &
}

# The pid of a server that `up` started and that lives. A number that meanwhile belongs to another process, or to the
# same server of another clone, does not count: our folder is among the arguments of ours.
live_pid() {
  local pid
  pid=$(cat "$home/$1/pid" 2>/dev/null) && [ -n "$pid" ] &&
    grep -Fqs -- "$home/$1/" "/proc/$pid/cmdline" && ! grep -qs '^State:.Z' "/proc/$pid/status" && echo "$pid"
}

# stop NAME: asks, and after 20 s insists. True also where nothing ran.
stop() {
  local pid i
  pid=$(live_pid "$1") || { rm -f "$home/$1/pid"; return 0; }
  # A stopped process cannot hear the request.
  kill -s "$(stop_signal=TERM && load "$1" && echo "$stop_signal")" "$pid" && kill -CONT "$pid"
  for ((i = 0; i < 200; i++)); do
    live_pid "$1" >/dev/null || break
    sleep 0.1
  done
  if live_pid "$1" >/dev/null; then kill -9 "$pid"; sleep 0.5; fi
  ! live_pid "$1" >/dev/null && rm -f "$home/$1/pid"
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Writes $home/env anew from all servers that run.
write_env() {
  local name
  {
    echo "# written by tests/servers/up"
    for name in $(server_names); do
      if [ -e "$home/compose" ]; then
        ! grep -qx "$name" "$home/compose" || (load "$name"; pid='' port=$first_port environment)
      elif pid=$(live_pid "$name"); then
        (load "$name"; port=$(cat "$dir/port") environment)
      fi
    done
  } >"$home/env.new"
  if grep -q ^export "$home/env.new"; then mv -f "$home/env.new" "$home/env"; else rm -f "$home/env.new" "$home/env"; fi
}
