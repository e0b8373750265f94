#!/bin/sh
# run-tests.sh: in a guest: runs test executables one after the other and their tests one by one; fails when one does.
#
#   run-tests.sh EXECUTABLE... [-- LIBTEST-ARGUMENT...]
set -u
occupied='' executables=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case ${1##*/} in
  lab_delegation-*) occupied="$occupied $1" ;;
  *) executables="$executables $1" ;;
  esac
  shift
done
[ $# = 0 ] || shift
status=0
run() { # EXECUTABLE [LIBTEST-ARGUMENT...]
  executable=$1
  shift
  name=${executable##*/}
  echo "-- ${name%-*} on Linux $(uname -r), $(nproc) cpu"
  "$executable" --show-output --test-threads=1 "$@" || status=$?
}
for executable in $occupied; do run "$executable" "$@"; done
# The delegated cgroup has to be empty before controllers can be enabled for its children (cgroups(7), "no internal
# processes"): we and the other tests go to a leaf. In the scope of a login session we may not, and stay.
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
if mkdir "$own/lab" 2>/dev/null; then
  echo $$ >"$own/lab/cgroup.procs" || exit 125
fi
for executable in $executables; do run "$executable" "$@"; done
exit $status
