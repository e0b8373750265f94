# shellcheck shell=sh
# guest-options.sh: what uml-run and qemu-run share (sourced): options, the run directory that the guest reads, the end.
#
# OPTIONS (of both)
#   -k FILE    kernel                        -M DIR   its modules: DIR/<release>/
#   -m SIZE    guest memory (1G)             -t SECS  kill the guest after SECS (120)
#   -u NAME    user that runs the command; made in the guest if missing. Default: whoever runs this, sandpod-lab for root
#   -U UID     uid and gid of a user that is made (4242)
#   -r         run the command as root
#   -s         boot systemd as pid 1; the command runs in a PAM/logind session of the user, with a systemd --user
#              manager. Without -s a small shell script is pid 1, and the command runs in a delegated cgroup, $DELEGATED
#   -S         as -s, and wrapped in systemd-run --user --scope -p Delegate=yes
#   -D LIST    with -s: Delegate= of user@.service ("default": the distribution's own; else cpu cpuset io memory pids);
#              without -s: the controllers to delegate (all there are)
#   -w DIR     working directory (the present one)
#   -o DIR     in the guest an empty tmpfs (mode 1777); what is there at the end is copied to DIR on the host.
#              Everything else that the guest writes vanishes
#   -d SIZE    an ext4 disk of that size, the command's $HOME (for io.max, and for what overlay and tmpfs lack)
#   -e K=V     environment of the command; repeatable
#   -p SCRIPT  sh text, run as root in the guest before the command (and before systemd)
#   -l LIST    modules to load ("tun fuse overlay")
#   -x ARGS    more kernel command line      -v       copy the guest's logs to stderr at the end
# Exit status: the command's (128 + signal); 124: out of time; 125: the guest itself failed.
# In the guest /tmp, /run and /dev/shm are tmpfs; the host's files that these hide are below /run/host, read-only.

# shellcheck disable=SC2034 # the variables are read by whoever sources this, or by name
{
  memory=1G limit=120 new_uid=4242 asroot=0 mode=plain scope=0 deleg='' wd=$(pwd -P)
  if [ "$(id -u)" = 0 ]; then user=sandpod-lab; else user=$(id -un); fi
  out='' disk='' size='' pre='' load='tun fuse overlay' cmdline='' verbose=0 envs=''
}
: "${me:?}" "${here:?}" # set by whoever sources this

# quoted TEXT: as one word of sh.
quoted() { printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
  sed -n '/^# OPTIONS/,/^[^#]/s/^# \{0,1\}//p' "$here/guest-options.sh" >&2
  exit 125
}

# read_options ARG...: leaves OPTIND behind them. `more_option LETTER` of the caller takes those of $more_options.
# shellcheck disable=SC2034
read_options() {
  while getopts "k:M:m:t:u:U:rsSD:w:o:d:e:p:l:x:v${more_options-}" option; do
    case $option in
    k) kernel=$OPTARG ;;
    M) modules=$OPTARG ;;
    m) memory=$OPTARG ;;
    t) limit=$OPTARG ;;
    u) user=$OPTARG ;;
    U) new_uid=$OPTARG ;;
    r) asroot=1 ;;
    s) mode=systemd ;;
    S) mode=systemd scope=1 ;;
    D) deleg=$OPTARG ;;
    w) wd=$OPTARG ;;
    o) out=$OPTARG ;;
    d) size=$OPTARG ;;
    e) envs="$envs$(quoted "$OPTARG")" ;;
    p) pre=$OPTARG ;;
    l) load=$OPTARG ;;
    x) cmdline=$OPTARG ;;
    v) verbose=1 ;;
    *) more_option "$option" 2>/dev/null || usage ;;
    esac
  done
}

# make_run_directory COMMAND...: $run, with everything that the guest reads.
make_run_directory() {
  [ $# -gt 0 ] || { echo "$me: no command" >&2; exit 125; }
  run=$(mktemp -d "${TMPDIR:-/tmp}/$me.XXXXXX") || exit 125
  run=$(cd "$run" && pwd -P)
  trap sweep EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 141' PIPE
  chmod 711 "$run" # the guest's user must reach $run/cmd
  cmd=''
  for word in "$@"; do cmd="$cmd$(quoted "$word")"; done
  [ ! "$size" ] || envs="HOME=/mnt/home $envs"
  [ $scope = 0 ] || cmd="systemd-run --user --scope -q -p Delegate=yes -- $cmd"
  printf '%s\n' "$pre" >"$run/pre"
  {
    echo '#!/bin/sh'
    printf 'cd %s|| exit 126\n' "$(quoted "$wd")"
    printf 'exec env %s%s\n' "$envs" "$cmd"
  } >"$run/cmd"
  if [ "$size" ]; then # not on the user's own home, which may hold the working directory
    disk=${disk_device:?}
    { truncate -s "$size" "$run/disk" && mkfs.ext4 -q -F "$run/disk"; } || exit 125
  fi
  for name in user new_uid asroot mode wd out deleg load modules run out_device err_device disk; do
    eval "printf '%s=%s\n' $name \"\$(quoted \"\${$name-}\")\""
  done >"$run/conf"
  cp "$here/guest.sh" "$run/guest.sh"
  # The guest's output goes through pipes of ours: UML makes its files non-blocking, which must not reach our stdout.
  mkfifo "$run/stdout" "$run/stderr"
  cat <"$run/stdout" &
  stdout_reader=$!
  cat <"$run/stderr" >&2 &
  stderr_reader=$!
}

# run_guest COMMAND...: in a session of its own, under the time limit. The session id names what must be swept up when
# the guest is killed hard, since its other processes would live on and hold the pipes. If this shell is killed hard, the
# guest goes too (pdeathsig); only $run stays then.
guest=''
run_guest() {
  # shellcheck disable=SC2016 # for the inner shell
  setpriv --pdeathsig TERM timeout -k 5 "$limit" setsid -w sh -c 'echo $$ > "$0"; exec "$@"' "$run/session" "$@" &
  guest=$!
  guest_status=0
  wait $guest || guest_status=$?
  guest=''
  kill_session
}
kill_session() { [ ! -s "$run/session" ] || pkill -KILL -s "$(cat "$run/session")" || :; }
sweep() {
  trap '' HUP INT TERM PIPE
  [ ! "$guest" ] || { kill "$guest"; wait "$guest"; } 2>/dev/null
  kill_session
  rm -rf "$run"
}

end_run() {
  wait "$stdout_reader" "$stderr_reader"
  [ ! -d "$run/out" ] || cp -R "$run/out/." "$out/"
  status=$(cat "$run/status" 2>/dev/null)
  case $guest_status in
  124 | 137)
    echo "$me: killed, or not done after $limit s" >&2
    status=124
    ;;
  esac
  [ "$status" ] || {
    echo "$me: the guest failed (status $guest_status)" >&2
    verbose=1 status=125
  }
  [ $verbose = 0 ] || for log in console dmesg log; do
    [ ! -f "$run/$log" ] || { echo "--- $log"; cat "$run/$log"; } >&2
  done
  exit "$status"
}
