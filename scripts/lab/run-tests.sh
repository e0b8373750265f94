#!/bin/sh
# run-tests.sh: in a guest: runs test executables one after the other and their tests one by one; fails when one does.
#
#   run-tests.sh [-b FILTER] EXECUTABLE... [-- LIBTEST-ARGUMENT...]
#
#   -b FILTER  these first, in the delegated cgroup itself; the others run in a leaf below it, and without
#              LIBTEST-ARGUMENTs there are no others
set -u
before='' executables=''
[ "${1-}" != -b ] || { before=$2; shift 2; }
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  executables="$executables $1"
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
if [ "$before" ]; then
  for executable in $executables; do run "$executable" "$before"; done
  [ $# -gt 0 ] || exit $status
fi
# The delegated cgroup has to be empty before controllers can be enabled for its children (cgroups(7), "no internal
# processes"): we and the other tests go to a leaf. In the scope of a login session we may not, and stay.
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
if mkdir "$own/lab" 2>/dev/null; then
  echo $$ >"$own/lab/cgroup.procs" || exit 125
fi
for executable in $executables; do run "$executable" "$@"; done
exit $status
