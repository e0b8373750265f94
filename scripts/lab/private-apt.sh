# shellcheck shell=sh
# private-apt.sh: what get-kernel, get-uml and get-qemu share (sourced): apt with lists, status and cache of its own, so that
# another suite's packages can be fetched without root and without a change to this machine. $scratch is the caller's.

# apt PROGRAM ARGUMENT...: apt-get or apt-cache, with the private root once `use_suite` has made one.
apt() {
  program=$1
  shift
  if [ -f "${scratch:?}/apt.conf" ]; then
    APT_CONFIG=$scratch/apt.conf "$program" "$@"
  else
    "$program" -o APT::Sandbox::User=root "$@"
  fi
}

# use_suite SUITE: from the mirror that this machine uses.
use_suite() {
  # shellcheck disable=SC2016 # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  mkdir -p "$scratch/apt/lists/partial" "$scratch/apt/cache/archives/partial"
  : >"$scratch/apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" >"$scratch/apt/sources.list"
  cat >"$scratch/apt.conf" <<CONF
Dir::State::Lists "$scratch/apt/lists";
Dir::State::status "$scratch/apt/status";
Dir::Cache "$scratch/apt/cache";
Dir::Etc::sourcelist "$scratch/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
CONF
  apt apt-get -qq update
}
