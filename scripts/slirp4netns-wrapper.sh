#!/bin/sh
# Gives the network namespace of a process a way to the outside, through slirp4netns(1).
#
# sandpod has this text inside and runs it with sh; it is as good by hand:
#
#   unshare --user --map-root-user --net sleep 1000 &
#   scripts/slirp4netns-wrapper.sh --cidr 10.0.2.0/24 $!
set -u

usage() {
  cat <<'USAGE'
usage: slirp4netns-wrapper.sh [OPTION]... PID

Checks what slirp4netns needs, then runs it for the network namespace of process PID. Stays in the foreground and ends
when it is killed, or when the other end of --exit-fd is closed.

  --interface NAME        what the interface is called inside (eth0)
  --cidr NETWORK/PREFIX   IPv4 network inside (10.0.2.0/24): its .2 is the gateway, .3 the DNS server, .100 the address
  --mtu BYTES             (65520: one segment carries as much as fits, which is what makes it fast)
  --mac ADDRESS           of the interface; a fixed one fixes the IPv6 address, too
  --ipv6                  also IPv6, network fd00::/64; a slirp4netns that has none is refused
  --allow-host-loopback   the gateway address leads to 127.0.0.1 of this machine; without it that is closed
  --no-sandbox            without a mount namespace of its own, and outside of the process's user namespace
  --api-socket PATH       see slirp4netns(1)
  --ready-fd FD           gets a byte when the interface can be used
  --exit-fd FD            whose hang-up ends it
  --exec                  become slirp4netns, which saves a process; nobody looks then why it ended
  --called NAME           what messages call the program, where SANDPOD_SLIRP4NETNS names a copy of it
  --check                 only say what would be run
  -h, --help

SANDPOD_SLIRP4NETNS names another program than the slirp4netns of PATH.

exit status: that of slirp4netns, or
  64  wrong usage
  80  slirp4netns was not found
  81  it cannot be run, or lacks an option that is needed (too old)
  82  /dev/net/tun cannot be opened
  83  the process is not there, or its namespaces are not yours to enter
  84  the sandbox is what is refused here, as within another container
USAGE
}

# fail STATUS WHAT FIX
fail() {
  printf '%s\nfix: %s\n' "$2" "$3" >&2
  exit "$1"
}

misused() { fail 64 "slirp4netns-wrapper.sh: $1" 'see slirp4netns-wrapper.sh --help'; }

interface=eth0 cidr=10.0.2.0/24 mtu=65520 mac='' ipv6=no loopback=closed sandbox=yes api='' ready='' lifeline='' check=no
pid='' become=no called=''
while [ $# -gt 0 ]; do
  case $1 in
  --interface | --cidr | --mtu | --mac | --api-socket | --ready-fd | --exit-fd | --called)
    [ $# -ge 2 ] || misused "$1 needs a value"
    case $1 in
    --interface) interface=$2 ;;
    --cidr) cidr=$2 ;;
    --mtu) mtu=$2 ;;
    --mac) mac=$2 ;;
    --api-socket) api=$2 ;;
    --ready-fd) ready=$2 ;;
    --exit-fd) lifeline=$2 ;;
    --called) called=$2 ;;
    esac
    shift
    ;;
  --ipv6) ipv6=yes ;;
  --allow-host-loopback) loopback=open ;;
  --no-sandbox) sandbox=no ;;
  --exec) become=yes ;;
  --check) check=yes ;;
  -h | --help) usage && exit 0 ;;
  -*) misused "$1 is no option" ;;
  *)
    [ -z "$pid" ] || misused "one PID, not $pid and $1"
    pid=$1
    ;;
  esac
  shift
done
case $pid in
'') misused 'PID is missing' ;;
*[!0-9]*) misused "$pid is no process id" ;;
esac

# ---- the program, and what it can do -------------------------------------------------------------------------------
program=${SANDPOD_SLIRP4NETNS:-slirp4netns}
if ! found=$(command -v -- "$program"); then
  if [ -n "${SANDPOD_SLIRP4NETNS:-}" ]; then
    fail 80 "SANDPOD_SLIRP4NETNS names ${called:-$program}, which is not there" 'correct it, or unset it'
  fi
  fail 80 'slirp4netns was not found in PATH' \
    'install it (Debian, Ubuntu: apt install slirp4netns; Fedora: dnf install slirp4netns), or use --network none'
fi
called=${called:-$found}
# Its help names the options that it has, which says more than its version: distributions patch both ways. Each look takes a
# process and a millisecond of the four that a start takes, so the version is asked where it is not in a hurry. What sandpod
# starts is not too old anyhow: --macaddress came with 1.1.9. Nor is there a look for seccomp: since it has that option, it
# is not built without libseccomp.
if ! options=$("$found" --help 2>&1); then
  fail 81 "$called cannot be run: $(printf '%s\n' "$options" | head -n 1)" 'reinstall it, or name another one with SANDPOD_SLIRP4NETNS'
fi
has() {
  case $options in
  *"$1"*) true ;;
  *) false ;;
  esac
}
version() { "$found" --version 2>/dev/null | head -n 1; }
outdated() {
  fail 81 "$called $1: it is $(version)" \
    'install slirp4netns 1.1.9 or newer, or name another one with SANDPOD_SLIRP4NETNS'
}
needed='--configure --mtu --cidr --disable-host-loopback --ready-fd --exit-fd'
[ $sandbox = no ] || needed="$needed --enable-sandbox --enable-seccomp"
[ -z "$mac" ] || needed="$needed --macaddress"
# Whoever asks for it has promised the address to the pod.
[ $ipv6 = no ] || needed="$needed --enable-ipv6"
for option in $needed; do
  has "$option" || outdated "has no $option"
done
if [ $become = no ]; then
  # `slirp4netns version 1.2.0`, or with `-beta.0`, `+dev` or the like behind it. What says nothing of the kind is not judged.
  case $(version) in
  'slirp4netns version 0.'*) outdated 'is too old' ;;
  esac
fi

# ---- what it needs of the machine ----------------------------------------------------------------------------------
# Opening tells more than the file's mode: a container may have the node without the right to use it. What is no device is
# not opened: the shell would create it.
refusal='No such file or directory'
if [ ! -c /dev/net/tun ] || ! refusal=$( (: <>/dev/net/tun) 2>&1); then
  refusal=${refusal##*: }
  case $refusal in
  *ermission*) fix='sudo chmod 0666 /dev/net/tun (which is what udev does where it runs)' ;;
  *) fix='sudo modprobe tun; in a container, start that with --device /dev/net/tun' ;;
  esac
  fail 82 "/dev/net/tun cannot be opened: $refusal" "$fix; or use --network none"
fi
[ -e "/proc/$pid/ns/net" ] || fail 83 "process $pid is not there, or its namespaces are not yours" 'name a process of yours'

# ---- run -----------------------------------------------------------------------------------------------------------
set -- --configure "--mtu=$mtu" "--cidr=$cidr"
[ -z "$mac" ] || set -- "$@" "--macaddress=$mac"
[ $loopback = open ] || set -- "$@" --disable-host-loopback
[ $sandbox = no ] || set -- "$@" --enable-sandbox
! has --enable-seccomp || set -- "$@" --enable-seccomp
[ $ipv6 = no ] || set -- "$@" --enable-ipv6
[ -z "$api" ] || set -- "$@" "--api-socket=$api"
[ -z "$ready" ] || set -- "$@" "--ready-fd=$ready"
[ -z "$lifeline" ] || set -- "$@" "--exit-fd=$lifeline"
set -- "$@" "$pid" "$interface"
if [ $check = yes ]; then
  printf '%s' "$found" && printf ' %s' "$@" && echo
  exit 0
fi
# The mounts that its sandbox begins with, as root of the same user namespace. Without nsenter(1) nobody knows. What went
# wrong otherwise, as for lack of memory, may go right the next time: only what the kernel or an outer container does not
# allow is a refusal (EPERM, EACCES; ENOSYS of a filter; ENOSPC for /proc/sys/user/max_mnt_namespaces: here somebody reads it and decides).
refuse_without_sandbox() {
  [ $sandbox = yes ] && command -v nsenter >/dev/null || return 0
  refusal=$(nsenter --target "$pid" --user --preserve-credentials --setuid 0 unshare --mount sh -c \
    'mount --rbind /etc /tmp && mount -t tmpfs none /tmp' 2>&1) && return 0
  case $refusal in
  *'not permitted'* | *'ermission denied'* | *'No space left'* | *'not implemented'*)
    fail 84 "its sandbox is refused here: ${refusal##*: }" \
      'allow mounts in the container that this runs in, or go without: --no-sandbox'
    ;;
  esac
}
[ $become = no ] || exec "$found" "$@"

# A job in the background does not hear Ctrl-C. A signal may come before its pid is known, and ends any wait.
child='' ended=no
end() {
  ended=yes
  [ -z "$child" ] || kill "$child" 2>/dev/null
}
trap end HUP INT TERM
"$found" "$@" &
child=$!
[ $ended = no ] || end
wait "$child"
status=$?
# Not before it has let go of the interface.
while [ $ended = yes ] && kill -0 "$child" 2>/dev/null; do
  wait "$child"
  status=$?
done
[ $status -ne 1 ] || refuse_without_sandbox
exit $status
