//! What each way of lacking a delegation means, and its fix.
//!
//! The commands were tried on the hosts that they are for (tests/lab/delegation.rs, or by hand in a guest of
//! scripts/lab); those for Docker, Podman and Kubernetes are from their documentation.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::candidate::listed;
use super::{Container, NoDelegation, NoSystemd};

const BOOT_UNIFIED: &str = "boot with cgroup2 alone: add the kernel argument `systemd.unified_cgroup_hierarchy=1` \
                            (GRUB: in GRUB_CMDLINE_LINUX of /etc/default/grub, then `sudo update-grub` and reboot); with \
                            OpenRC set rc_cgroup_mode=\"unified\" in /etc/rc.conf and reboot; in a container this is up \
                            to its host";

impl NoDelegation {
    /// In one line: what is lacking, and where it was looked for.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            NoDelegation::NotMounted => "no cgroup file system is mounted".to_owned(),
            NoDelegation::Version1 => {
                "this host has cgroups of version 1, which cannot be delegated to an ordinary user; cgroup2 is not mounted"
                    .to_owned()
            }
            NoDelegation::Hybrid { in_v1 } => {
                format!("this host is a hybrid: cgroup2 is mounted, but version 1 has the controllers {}", names(in_v1))
            }
            NoDelegation::ReadOnly { mount, container } => {
                let whose = container.map_or(String::new(), |container| format!(", as usual in {container}"));
                format!("{} is mounted read-only{whose}", mount.display())
            }
            NoDelegation::OutOfSight { own, mount } => format!(
                "our cgroup (`{own}` in /proc/self/cgroup) is not below {}: that mount is of another cgroup namespace",
                mount.display()
            ),
            NoDelegation::NotOurs { own, why_no_systemd } => {
                format!("our cgroup {} is not delegated to us, and {why_no_systemd}", own.display())
            }
            NoDelegation::Occupied { path, pids } => format!(
                "other processes are in the cgroup {} ({}), and one with processes cannot give limits to those below it",
                path.display(),
                listed(pids)
            ),
            NoDelegation::Asked { path, why } => format!("--cgroup-parent {}: {why}", path.display()),
        }
    }

    /// What the user, or the host's administrator, can do.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            NoDelegation::NotMounted => {
                "mount it (`sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup`); in a container this is up to its runtime"
                    .to_owned()
            }
            NoDelegation::Version1 | NoDelegation::Hybrid { .. } => BOOT_UNIFIED.to_owned(),
            NoDelegation::ReadOnly { mount, container } => read_only(mount, *container),
            NoDelegation::OutOfSight { .. } => {
                "mount cgroup2 in the namespace (`mount -t cgroup2 cgroup2 DIRECTORY`, as root of its user namespace), \
                 instead of showing it the host's; with Docker leave out `-v /sys/fs/cgroup:/sys/fs/cgroup`"
                    .to_owned()
            }
            NoDelegation::NotOurs { why_no_systemd, .. } => why_no_systemd.fix(),
            NoDelegation::Occupied { path, .. } => format!(
                "move them to a leaf: `cd {} && mkdir -p shell && for pid in $(cat cgroup.procs); do echo $pid \
                 >shell/cgroup.procs; done`; of processes that end meanwhile it says `No such process`",
                quoted(path)
            ),
            NoDelegation::Asked { .. } => {
                "name a cgroup that is yours, without processes and below the one that you are in, or leave \
                 --cgroup-parent out: sandpod then looks for one, and asks your systemd"
                    .to_owned()
            }
        }
    }
}

fn read_only(mount: &Path, container: Option<Container>) -> String {
    match container {
        Some(Container::Docker) => {
            "start the container with `--security-opt writable-cgroups=true` (older Docker: `--privileged`), not with `-v \
             /sys/fs/cgroup:/sys/fs/cgroup`, which shows it the host's cgroups instead of its own"
                .to_owned()
        }
        Some(Container::Podman) => "start the container with `--security-opt unmask=/sys/fs/cgroup`".to_owned(),
        Some(Container::Kubernetes) => {
            "the node must allow it: `cgroup_writable = true` for the runtime in containerd's configuration, or \
             `securityContext.privileged: true`"
                .to_owned()
        }
        Some(Container::Sandpod) => {
            "a pod inside of a pod lives within the outer one's limits: set the limits there".to_owned()
        }
        None => format!(
            "run sandpod where it is mounted read-write, or mount it so: `sudo mount -o remount,rw {}`",
            quoted(mount)
        ),
    }
}

impl fmt::Display for NoSystemd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSystemd::OtherInit { container: Some(container) } => {
                write!(f, "this is {container}, without a systemd that could be asked for one")
            }
            NoSystemd::OtherInit { container: None } => {
                f.write_str("systemd, which could be asked for one, is not the init here (no /run/systemd/system)")
            }
            NoSystemd::OtherPidNamespace { pid1 } => {
                write!(f, "systemd is in another pid namespace (pid 1 here is `{pid1}`), where our pids mean others")
            }
            NoSystemd::RuntimeDirUnset { .. } => f.write_str(
                "your systemd cannot be asked for one: XDG_RUNTIME_DIR is not set, as in a shell of su(1), sudo(8) or \
                 cron(8)",
            ),
            NoSystemd::NotRunning { runtime_dir } => write!(
                f,
                "your systemd does not run (no socket {}): you are in no login session (a shell of su(1), sudo(8) or \
                 cron(8), or a service), and without linger it runs in sessions only",
                runtime_dir.join("bus").display()
            ),
            NoSystemd::NoBus { runtime_dir } => {
                write!(
                    f,
                    "your systemd cannot be asked for one: there is no user's bus ({}/bus)",
                    runtime_dir.display()
                )
            }
            NoSystemd::NoBusctl => f.write_str("your systemd cannot be asked for one: busctl(1) is not in PATH"),
            NoSystemd::OutOfSight { unit } => {
                write!(f, "the cgroup of your systemd ({unit}) is not to be seen from here")
            }
        }
    }
}

impl NoSystemd {
    fn fix(&self) -> String {
        match self {
            NoSystemd::OtherInit { container: Some(container) } => format!(
                "have the container's root do what gives you a cgroup: {GIVE}{}",
                if *container == Container::Sandpod { "; or set the limits on the outer pod" } else { "" }
            ),
            NoSystemd::OtherInit { container: None } => format!("have root give you a cgroup: {GIVE}"),
            NoSystemd::OtherPidNamespace { .. } => {
                "run sandpod outside of this pid namespace (container, unshare)".to_owned()
            }
            NoSystemd::RuntimeDirUnset { runtime_dir } => {
                format!("`export XDG_RUNTIME_DIR={}`, or log in by ssh or `machinectl shell`", runtime_dir.display())
            }
            NoSystemd::NotRunning { runtime_dir } => format!(
                "log in by ssh or `sudo machinectl shell $(id -un)@`; or let your systemd run without a session: `sudo \
                 loginctl enable-linger $(id -un)` and `export XDG_RUNTIME_DIR={}`",
                runtime_dir.display()
            ),
            NoSystemd::NoBus { .. } => {
                "install the user's bus (`sudo apt install dbus-user-session`, elsewhere dbus or dbus-broker), then `systemctl \
                 --user start dbus.socket`"
                    .to_owned()
            }
            NoSystemd::NoBusctl => {
                "put it there: it is a part of systemd, in /usr/bin (with some distributions, of a package \
                 systemd-container or systemd-tools)"
                    .to_owned()
            }
            NoSystemd::OutOfSight { .. } => {
                "run sandpod outside of this cgroup namespace, where all of cgroup2 is mounted".to_owned()
            }
        }
    }
}

/// As the kernel's cgroup-v2.rst has it ("Model of Delegation"): the directory and the three files are given, limits are
/// not. The shell that types it goes to a leaf.
const GIVE: &str = "`sudo sh -c \"cd /sys/fs/cgroup && mkdir -p sandpod-$(id -u)/shell && echo +cpu +memory +pids \
                    >cgroup.subtree_control && cd sandpod-$(id -u) && chown $(id -u) . cgroup.procs cgroup.threads \
                    cgroup.subtree_control && echo $$ >shell/cgroup.procs\"`";

fn names(controllers: &BTreeSet<String>) -> String {
    controllers.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// As one word of sh.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
