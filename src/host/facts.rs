//! What this host allows, as plain values that the plan can be tested with.
//!
//! Read, never changed. Ids here are the *host's*; see [`crate::plan::idmap`] for the container's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupFacts, Container};
use super::network::NetworkFacts;

/// Everything the plan may know about the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    pub user: HostUser,
    /// Our own user namespace's `/proc/self/uid_map` and `gid_map`: which ids exist for us at all.
    pub own_map: OwnIdMap,
    pub subuids: Vec<SubIdRange>,
    pub subgids: Vec<SubIdRange>,
    pub newuidmap: IdMapTool,
    pub newgidmap: IdMapTool,
    /// CAP_SETUID, CAP_SETGID and CAP_SETFCAP in our own user namespace: the kernel then takes any map of ids that exist
    /// here, from us as from newuidmap (user_namespaces(7), "Defining user and group ID mappings").
    #[serde(default)]
    pub may_write_maps: bool,
    pub user_namespaces: UserNamespaces,
    #[serde(default)]
    pub confinement: Confinement,
    pub overlay: OverlaySupport,
    pub procfs: ProcVisibility,
    /// Where a procfs is mounted: what a hostPath may show of other processes.
    #[serde(default)]
    pub procfs_points: Vec<PathBuf>,
    /// The same rule holds for a new sysfs.
    #[serde(default = "whole")]
    pub sysfs: ProcVisibility,
    pub runtime_dir: Dir,
    pub data_dir: Dir,
    #[serde(default)]
    pub layers: LayerFacts,
    /// `(major, minor)` of `uname -r`.
    pub kernel: (u32, u32),
    pub hostname: String,
    /// The soft limit of the stack in bytes (RLIMIT_STACK), of which execve(2) grants a quarter to arguments and variables;
    /// `None`: unlimited.
    #[serde(default)]
    pub stack_limit: Option<u64>,
    /// The first port that we may bind: `net.ipv4.ip_unprivileged_port_start`, which is for IPv6 too (ip(7)); 0 with
    /// CAP_NET_BIND_SERVICE.
    pub unprivileged_port_start: u16,
    /// Whether the host has a /dev/mqueue, which a pod with hostIPC shares.
    pub mqueue: bool,
    /// Text of `/etc/hosts`, which a pod with hostNetwork has, too; empty when there is none.
    #[serde(default)]
    pub hosts: String,
    /// Text of `/etc/resolv.conf`; empty when there is none.
    pub resolv_conf: String,
    /// The host's root directory; read only when an image is `host:`.
    pub host_root: Option<HostRoot>,
    /// Who owns each `rootfs:` directory of the manifest; read only for those.
    pub rootfs: Vec<RootfsFact>,
    pub cgroup: CgroupFacts,
    pub network: NetworkFacts,
    /// What was odd and tolerated: garbage lines in /etc/subuid, and the like. For stderr.
    pub warnings: Vec<String>,
}

fn whole() -> ProcVisibility {
    ProcVisibility::Full
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostUser {
    pub uid: u32,
    pub gid: u32,
    /// From `/etc/passwd` or `$USER`; `None` where the uid has no name.
    pub name: Option<String>,
}

/// One line of `/proc/self/{uid,gid}_map`, in user_namespaces(7)'s order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapLine {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnIdMap {
    pub uids: Vec<MapLine>,
    pub gids: Vec<MapLine>,
}

impl OwnIdMap {
    /// In the initial user namespace (`0 0 4294967295`) every id is ours to see.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.uids == [MapLine { inside: 0, outside: 0, count: u32::MAX }]
    }
}

/// A usable line of `/etc/subuid` or `/etc/subgid` (subuid(5)): already inside our own map, without overlaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubIdRange {
    pub start: u32,
    pub count: u32,
}

/// `newuidmap` or `newgidmap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMapTool {
    /// setuid root, or `cap_setuid`/`cap_setgid` as a file capability; on a mount without `nosuid`.
    Privileged(PathBuf),
    /// There, but it cannot write maps; `why` says what it lacks.
    Unprivileged {
        path: PathBuf,
        why: String,
        /// What a person can do about it.
        fix: String,
    },
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespaces {
    Allowed,
    /// `switch` is the file or setting, `value` what it says, `fix` the exact command.
    Forbidden {
        switch: String,
        value: String,
        fix: String,
    },
}

/// What is in force around this process that can refuse what the kernel allows; for advice only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Which program made the container, where it is known.
    pub container: Option<Container>,
    /// A seccomp filter: `Seccomp: 2` of /proc/self/status.
    pub seccomp: bool,
    /// The AppArmor profile of this process, unless it is unconfined.
    pub apparmor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlaySupport {
    /// In `/proc/filesystems`, or a module that `fsopen` may load; Linux ≥ 5.11 for `userxattr`.
    Native,
    Missing {
        why: String,
    },
}

/// Can a new procfs be mounted in a nested pid namespace? The kernel refuses it (EPERM) when every procfs in sight
/// has something mounted over it (`mount_too_revealing` in fs/namespace.c).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcVisibility {
    Full,
    /// The mounts that cover parts of it; `/proc` itself when it is read-only or not `relatime`, which a new one would
    /// have to be too. Empty: no procfs is mounted at all.
    Masked {
        by: Vec<PathBuf>,
    },
}

/// A directory of ours and how it was chosen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dir {
    pub path: PathBuf,
    /// `Some(why)` when it is not the first choice (`$XDG_RUNTIME_DIR` unset, home read-only, …).
    pub fallback: Option<String>,
}

/// Which directories can hold the upper layer of an overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// What keeps the data directory from it; `None`: nothing, and the rest was not looked at.
    pub data: Option<String>,
    /// Other directories that are sandpod's own, or can be made so; those on a disk first.
    pub elsewhere: Vec<LayerDir>,
    /// What keeps a tmpfs of the pod's own from it.
    pub memory: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDir {
    /// `/tmp/sandpod-1000`
    pub path: PathBuf,
    /// On a tmpfs: what is written there takes memory.
    pub in_memory: bool,
    pub why_not: Option<String>,
}

/// Top level of the host's root, for `host:`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostRoot {
    /// `bin -> usr/bin` and so on, by name: of `bin sbin lib*`, those that are links.
    pub links: Vec<(String, PathBuf)>,
    /// Of `usr bin sbin lib* etc opt`, those that are real directories.
    pub dirs: Vec<HostRootDir>,
    /// Directories below `/var`, relative to it, parents first (`lib`, `lib/nginx`): a package may expect to find
    /// them, empty. Of `lib cache log spool`, two levels, at most 400.
    pub var_dirs: Vec<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostRootDir {
    pub name: String,
    /// Mounts below it; the kernel then refuses it as an overlay's lower layer in a user namespace.
    pub mounts_below: Vec<PathBuf>,
    /// It lies on an overlay over another one, and the kernel mounts no third over it.
    #[serde(default)]
    pub too_deep: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootfsFact {
    pub dir: PathBuf,
    /// `None`: not there or not a directory; then `error` says what the kernel said.
    pub owner: Option<u32>,
    pub error: Option<String>,
    pub mounts_below: Vec<PathBuf>,
    /// As for [`HostRootDir`].
    #[serde(default)]
    pub too_deep: bool,
}
