#!/bin/sh
# smoke.sh: run in a guest (uml-run -S): is this the machine that the lab's tests count on? Says what is not.
set -u
bad=0
expect() { # WHAT COMMAND...
  what=$1
  shift
  if "$@" >/dev/null 2>&1; then
    echo "ok: $what"
  else
    echo "not so: $what ($*)"
    bad=1
  fi
}
cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
expect 'an ordinary user' test "$(id -u)" != 0
expect 'cgroup v2' test -e /sys/fs/cgroup/cgroup.controllers
expect 'our cgroup is delegated to us' mkdir "$cgroup/leaf"
expect 'controllers cpu io memory pids' grep -q 'cpu.*io.*memory.*pids' "$cgroup/cgroup.controllers"
expect 'a systemd user manager' systemctl --user show --property=Version
expect 'a runtime directory of ours' test -O "${XDG_RUNTIME_DIR:-/nonexistent}"
expect 'user namespaces with all others' unshare --user --map-root-user --mount --pid --net --ipc --uts --cgroup --fork true
expect 'subordinate ids' grep -q "^$(id -un):" /etc/subuid
expect 'newuidmap' unshare --user --map-auto --map-root-user true
expect '/dev/net/tun' test -w /dev/net/tun
uname -r
exit $bad
