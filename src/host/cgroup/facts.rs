//! What this host's cgroups allow, as plain values.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Read from `/proc/self/mountinfo`, `/proc/self/cgroup` and the cgroup2 file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CgroupFacts {
    pub hierarchy: Hierarchy,
    /// The cgroup that we are in, as a directory of the mounted cgroup2.
    pub own: Option<PathBuf>,
    /// `--cgroup-parent`, as typed: this cgroup or an error, never none.
    #[serde(default)]
    pub asked: Option<PathBuf>,
    pub delegation: Delegation,
    /// What was looked at before, in order, and why it was not taken: for `plan` and for the message of a refusal.
    pub passed_over: Vec<PassedOver>,
    pub capacity: Capacity,
}

/// Which hierarchies are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Hierarchy {
    /// cgroup2 alone, at this mount point.
    Unified { mount: PathBuf },
    /// cgroup2 is mounted, but v1 has (some of) the controllers: systemd's `hybrid`.
    Hybrid { mount: PathBuf, in_v1: BTreeSet<String> },
    /// Version 1 only.
    Version1,
    #[default]
    NotMounted,
}

/// A subtree in which we may make cgroups (cgroups(7), "Cgroups delegation"; kernel cgroup-v2.rst, "Delegation").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delegation {
    /// An existing directory.
    Directory {
        path: PathBuf,
        /// Its `cgroup.controllers`: what its children can be given.
        controllers: BTreeSet<String>,
        /// We are in it ourselves, alone, and must leave for a leaf before controllers can be enabled (no internal
        /// processes).
        ours: Membership,
    },
    /// The user's systemd gives one on request, with these controllers.
    SystemdScope {
        controllers: BTreeSet<String>,
    },
    None(NoDelegation),
}

/// Whether the calling process sits in the delegated cgroup itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    Inside,
    Outside,
}

impl Default for Delegation {
    fn default() -> Delegation {
        Delegation::None(NoDelegation::NotMounted)
    }
}

/// Why there is none; each has its own message and fix ([`super::advice`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoDelegation {
    /// No cgroup file system at all.
    NotMounted,
    Version1,
    Hybrid {
        in_v1: BTreeSet<String>,
    },
    /// The cgroup2 mount is read-only, as in most containers.
    ReadOnly {
        mount: PathBuf,
        /// The container that we are in, where it could be told.
        container: Option<Container>,
    },
    /// Our cgroup is not below the directory that is mounted, as in a cgroup namespace without a cgroup2 mount of its
    /// own (cgroup_namespaces(7)).
    OutOfSight {
        /// As `/proc/self/cgroup` says it.
        own: String,
        mount: PathBuf,
    },
    /// Owned by somebody else or managed by systemd, and there is no user's systemd that could be asked.
    NotOurs {
        own: PathBuf,
        why_no_systemd: NoSystemd,
    },
    /// Other processes sit in the only cgroup that we could use.
    Occupied {
        path: PathBuf,
        /// The first of them; 0 stands for one outside of our pid namespace.
        pids: Vec<i32>,
    },
    /// `--cgroup-parent` names something that we cannot use.
    Asked {
        path: PathBuf,
        why: String,
    },
}

/// What keeps us from asking the user's systemd for a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoSystemd {
    /// No `/run/systemd/system` (sd_booted(3)).
    OtherInit {
        container: Option<Container>,
    },
    /// systemd counts processes otherwise than we do: it would be given a wrong pid.
    OtherPidNamespace {
        /// The command of our pid 1.
        pid1: String,
    },
    /// `$XDG_RUNTIME_DIR` is not set, although the user's systemd runs, with its sockets here.
    RuntimeDirUnset {
        runtime_dir: PathBuf,
    },
    /// Neither in a session that PAM opened nor by linger (loginctl(1)).
    NotRunning {
        runtime_dir: PathBuf,
    },
    /// It runs, but without the user's bus, on which busctl(1) asks.
    NoBus {
        runtime_dir: PathBuf,
    },
    NoBusctl,
    /// Its cgroup is not below the mount.
    OutOfSight {
        unit: String,
    },
}

/// Whose container we are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Container {
    Docker,
    Podman,
    Kubernetes,
    /// A pod of ours.
    Sandpod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// A path, or `the user's systemd`.
    pub candidate: String,
    pub why: String,
}

/// What could be given to a pod at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of a cpu that we may run on: sched_getaffinity(2); 0 where nobody looked.
    pub cpu_millis: u64,
    /// Bytes: MemAvailable of /proc/meminfo; `None` where it is not told.
    pub memory_available: Option<u64>,
    /// Bytes: MemTotal of /proc/meminfo; `None` where it is not told.
    pub memory_total: Option<u64>,
    /// Bytes: SwapTotal of /proc/meminfo; `None` where it is not told.
    pub swap_total: Option<u64>,
    /// Of the delegation and everything above it, innermost first; only those with a limit.
    pub ancestors: Vec<AncestorLimits>,
}

/// The limits of one cgroup above the pod; `None` is `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AncestorLimits {
    pub path: PathBuf,
    /// Bytes.
    pub memory_max: Option<u64>,
    pub pids_max: Option<u64>,
    /// Thousandths of a cpu (quota / period).
    pub cpu_millis: Option<u64>,
}
