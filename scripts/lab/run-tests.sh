#!/bin/sh
# run-tests.sh: in a guest: runs test executables one after the other and their tests one by one; fails when one does.
#
#   run-tests.sh EXECUTABLE... [-- LIBTEST-ARGUMENT...]
set -u
# The delegated cgroup has to be empty before controllers can be enabled for its children (cgroups(7), "no internal
# processes"): we and the tests go to a leaf. In the scope of a login session we may not, and stay.
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
if mkdir "$own/lab" 2>/dev/null; then
  echo $$ >"$own/lab/cgroup.procs" || exit 125
fi
executables=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  executables="$executables $1"
  shift
done
[ $# = 0 ] || shift
status=0
for executable in $executables; do
  name=${executable##*/}
  echo "-- ${name%-*} on Linux $(uname -r), $(nproc) cpu"
  "$executable" --show-output --test-threads=1 "$@" || status=$?
done
exit $status
