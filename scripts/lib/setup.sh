# shellcheck shell=sh
# setup.sh: what the scripts beside it need of a machine: Debian packages, Rust, an ordinary user.
# Sourced, never run. The caller runs under `set -eu` and has set $me, its own name for messages.

: "${me:?set by the caller}"

# Debian gives ordinary users no sbin, where nginx and useradd live; rustup installs into ~/.cargo.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin
export PATH

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# as_root COMMAND...: fails when we are neither root nor may become it.
as_root() {
  if is_root; then "$@"; else sudo "$@"; fi
}
may_become_root() {
  is_root && return
  command -v sudo >/dev/null || return
  # Without a terminal nobody could type the password.
  sudo -n true 2>/dev/null || [ -t 0 ]
}

# ---- packages ---------------------------------------------------------------

# has THING: a command, or the absolute path of a file.
has() {
  case $1 in
  /*) [ -e "$1" ] ;;
  *) command -v "$1" >/dev/null ;;
  esac
}

# missing_packages THING=PACKAGE...: the packages whose command or file is not there, each once.
missing_packages() {
  for pair in "$@"; do
    has "${pair%%=*}" || printf '%s\n' "${pair#*=}"
  done | sort -u | tr '\n' ' '
}

# install_missing THING=PACKAGE...: installs what is missing, where that is possible; says what it does, and what is
# still missing afterwards. Never fails: the caller decides what it can do without.
install_missing() {
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if command -v apt-get >/dev/null && may_become_root; then
    say "installing Debian packages: $missing"
    # shellcheck disable=SC2086 # a list of words
    apt_install $missing
  fi
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  say "missing, and not installed: $missing"
  say "  to install: sudo apt-get install --no-install-recommends $missing"
}

# A package's daemon must not start only because we want its program. policy-rc.d (invoke-rc.d(8)) forbids it while apt
# runs; disabling keeps nginx from starting at the next boot. --no-remove: apt gives up rather than take away anything,
# which it would to put systemd in the place of another init.
apt_install() {
  policy=/usr/sbin/policy-rc.d policy_is_ours=no
  nginx_is_new=no
  command -v nginx >/dev/null || nginx_is_new=yes
  if [ ! -e $policy ] && as_root sh -c "printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy"; then
    policy_is_ours=yes
  fi
  as_root apt-get -qq update || say "apt-get update failed; trying with the lists that are there"
  if ! apt_get_install "$@" && [ $# -gt 1 ]; then
    say 'apt-get failed; trying one at a time: what cannot be had shall not hold up the others'
    for package in "$@"; do apt_get_install "$package" || say "$package cannot be had"; done
  fi
  [ $policy_is_ours = no ] || as_root rm -f $policy
  if [ $nginx_is_new = yes ] && [ -e /etc/init.d/nginx ]; then
    as_root update-rc.d nginx disable >/dev/null 2>&1 || :
  fi
}
apt_get_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-remove --no-install-recommends \
    -o DPkg::Lock::Timeout=120 install "$@" >/dev/null
}

# ---- the tap device ----------------------------------------------------------

# need_tun: lets everybody open /dev/net/tun, as udev does where it runs (50-udev-default.rules): what a user makes of it
# stays in that user's network namespaces. Never fails: pods have no way out without it, and say so.
need_tun() {
  tun=/dev/net/tun
  if [ -c $tun ] && [ "$(stat -c %a $tun)" = 666 ]; then return 0; fi
  if ! may_become_root; then
    if [ ! -c $tun ] || ! (: <>$tun) 2>/dev/null; then
      say "$tun cannot be opened: pods will have no network; to change that: sudo chmod 0666 $tun"
    fi
    return 0
  fi
  if [ ! -c $tun ]; then
    say "loading the module tun"
    as_root modprobe tun 2>/dev/null || :
    [ -c $tun ] || as_root sh -c "mkdir -p /dev/net && mknod $tun c 10 200" || :
  fi
  if [ -c $tun ]; then
    say "chmod 0666 $tun, as udev does: an ordinary user may make network devices in namespaces of its own"
    as_root chmod 0666 $tun || :
  fi
}

# ---- Rust -------------------------------------------------------------------

# need_rust MAJOR.MINOR: ends the script, with the way out, when cargo is missing or older.
need_rust() {
  command -v cargo >/dev/null || die "Rust is missing. To install it for this user:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
  version=$(cargo --version) || die "cargo does not run"
  version=${version#cargo }
  printf '%s\n' "$version" | awk -F. -v want="$1" \
    '{ split(want, w, "."); exit !($1 > w[1] || ($1 == w[1] && $2 + 0 >= w[2] + 0)) }' ||
    die "cargo $1 or later is needed, this is ${version%% *}; run: rustup update stable"
}

# ---- an ordinary user -------------------------------------------------------

# Pods are for ordinary users, so nothing here runs one as root. make_user NAME makes a user with subordinate ids.
make_user() {
  if ! id "$1" >/dev/null 2>&1; then
    say "making the user $1 (to take it away again: userdel -r $1)"
    useradd --create-home --shell /bin/sh "$1"
  fi
  give_subids "$1"
}

# give_subids NAME: 65536 subordinate uids and gids, behind everybody else's, unless it has some (subuid(5)).
give_subids() {
  for file in subuid subgid; do
    grep -qs "^$1:" "/etc/$file" && continue
    [ -e "/etc/$file" ] || as_root touch "/etc/$file"
    first=$(awk -F: 'BEGIN { end = 100000 } $2 + $3 > end { end = $2 + $3 } END { print end }' "/etc/$file")
    say "giving $1 the subordinate ids $first to $((first + 65535)) in /etc/$file"
    as_root usermod "--add-${file}s" "$first-$((first + 65535))" "$1"
  done
}

# become NAME DIR: from now on as_user runs as NAME, with temporary files in DIR/tmp. DIR exists, is ours, and everybody
# may pass through it. The runtime directory is on a tmpfs where there is one, as a login session has it.
become() {
  as_user_name=$1 as_user_tmp=$2/tmp
  as_user_home=$(getent passwd "$1" | cut -d: -f6)
  as_user_run=$(mktemp -d /dev/shm/sandpod-run.XXXXXX 2>/dev/null || mktemp -d "$2/run.XXXXXX")
  mkdir -p "$as_user_tmp"
  chown "$1:" "$as_user_run" "$as_user_tmp"
  chmod 700 "$as_user_run" "$as_user_tmp"
}

# leave_user: the end of `become`, also where there was none.
leave_user() {
  [ -z "${as_user_run-}" ] || rm -rf "$as_user_run"
  as_user_name=
}

# as_user COMMAND...: as the user of `become`, with a clean environment; without `become` simply runs COMMAND.
as_user() {
  if [ -z "${as_user_name-}" ]; then
    "$@"
    return
  fi
  setpriv --reuid "$as_user_name" --regid "$(id -g "$as_user_name")" --init-groups --reset-env -- \
    env HOME="$as_user_home" XDG_RUNTIME_DIR="$as_user_run" TMPDIR="$as_user_tmp" PATH="$PATH" LANG=C.UTF-8 "$@"
}
