//! Everything decided about a pod. The engine does these values and decides nothing more.
//!
//! [`SandboxPlan`] and [`ContainerPlan`] are apart because a CRI front makes them in separate calls.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupPlan, Claim, QosClass, Setting};
use super::dirs::PodDirs;
use super::idmap::{ContainerId, IdMapPlan};
use super::network::NetworkPlan;
use super::ports::PublishedPort;
use super::storage::StoragePlan;
use crate::image::Digest;
/// The manifest's own words, where the plan has none better: who does the plan need not know the manifest.
pub use crate::manifest::{HostPathType, Protocol, RestartPolicy};
use crate::manifest::{Image, Resources};

mod root;

pub use root::{FreshDir, HostTreeDir, RootPlan};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlan {
    pub sandbox: SandboxPlan,
    pub containers: Vec<ContainerPlan>,
    /// The container whose exit code is the pod's, and which `exec` and `logs` mean when none is named:
    /// the first, or the annotation `kubectl.kubernetes.io/default-container`.
    pub main: String,
    pub lifecycle: LifecyclePlan,
    pub degradations: Vec<Degradation>,
}

/// The pod without its containers: what pause holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPlan {
    /// 12 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub idmap: IdMapPlan,
    #[serde(default)]
    pub enter: EnterFile,
    pub namespaces: SandboxNamespaces,
    pub hostname: String,
    pub dirs: PodDirs,
    #[serde(default)]
    pub layers: LayerPlace,
    /// One tmpfs each, mounted in pause's mount namespace, shared by every container that mounts it.
    pub memory_volumes: Vec<MemoryVolume>,
    /// Directories on disk below `dirs.data/volumes`, made before the first container.
    pub disk_volumes: Vec<String>,
    /// Checked (and made, where the type says so) before the first effect.
    pub host_paths: Vec<HostPathPlan>,
    /// Written once into the pod's own tmpfs, bound into every container.
    pub etc_files: Vec<EtcFile>,
    #[serde(default)]
    pub network: NetworkPlan,
    /// Written by the process that will be pause, in this order.
    #[serde(default)]
    pub sysctls: Vec<Sysctl>,
    pub cgroup: CgroupPlan,
    /// Ports of the host that lead into the pod.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
    /// Addresses of the pod that those lead to, in the order in which they are tried; empty where no port is published.
    #[serde(default)]
    pub port_targets: Vec<IpAddr>,
    /// As asked for: what an update starts from.
    #[serde(default)]
    pub resources: Resources,
    pub qos: QosClass,
    /// Bytes of the host's memory, as far as it is told: a Burstable container's oom_score_adj is a matter of its part.
    #[serde(default)]
    pub memory_total: Option<u64>,
    pub claim: Claim,
    #[serde(default)]
    pub storage: StoragePlan,
}

/// What the last program of ours before a command is executed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnterFile {
    /// A memfd of yours.
    #[default]
    Memory,
    /// A file whose owner has no id in the pod, so that no capability there opens a process that executes it.
    Unmapped,
}

/// Which namespaces pause makes; the rest stay the host's. User and mount are always new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxNamespaces {
    pub pid: NamespaceMode,
    pub net: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroup: NamespaceMode,
}

/// CRI's NamespaceMode (api.proto).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NamespaceMode {
    /// Pause's, shared by the pod's containers.
    Pod,
    /// One of its own for each container.
    Container,
    /// The host's.
    Node,
}

/// Where the writable layers of containers are. What is not an overlay (a copy, the new directory of `host:`) is always in
/// [`PodDirs::data`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerPlace {
    #[default]
    Data,
    /// Another directory of the pod's on the host: [`layer_dir`] of a base.
    Directory(PathBuf),
    /// `layers` in the pod's tmpfs: a tmpfs of at most so many bytes.
    Memory { size: u64 },
}

/// The pod's directory for layers, where that is below another directory of sandpod's.
#[must_use]
pub fn layer_dir(base: &Path, id: &str) -> PathBuf {
    base.join("layers").join(id)
}

/// Where a container's root has its writable part, in [`PodDirs::data`] or its [`LayerPlace`].
#[must_use]
pub fn container_root(container: &str) -> String {
    format!("{container}.root")
}

/// What a container is to leave its termination message in, in [`PodDirs::data`].
#[must_use]
pub fn container_message(container: &str) -> String {
    format!("{container}.message")
}

/// A container's log, in [`PodDirs::data`]; rotated files are beside it, with `.1` and so on after this name.
#[must_use]
pub fn container_log(container: &str) -> String {
    format!("{container}.log")
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryVolume {
    /// Directory name below the pod's tmpfs: `shm`, or `volumes/<name>`.
    pub path: PathBuf,
    /// Bytes; `None` is the kernel's own default of half the memory (tmpfs(5)).
    pub size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPathPlan {
    pub volume: String,
    pub path: PathBuf,
    pub kind: HostPathType,
}

/// One of the kernel's settings that each network or ipc namespace has its own of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Below /proc/sys: `net/ipv4/ip_unprivileged_port_start`.
    pub file: PathBuf,
    pub value: String,
    /// Where the manifest asks for it; `None`: a default of ours, which a host may refuse (a read-only /proc/sys).
    pub asked_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFile {
    /// `hostname`, `hosts` or `resolv.conf`.
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    pub name: String,
    /// As the manifest wrote it, for `ps` and `inspect`.
    pub image: Image,
    /// `None`: `host:` and `rootfs:`; or an image that is not here, in a plan that is only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image: Option<FromImage>,
    /// What asks its process to end (signal(7)).
    #[serde(default = "sigterm")]
    pub stop_signal: i32,
    pub pid: NamespaceMode,
    pub root: RootPlan,
    pub read_only_root: bool,
    /// In order; a destination is inside the root, resolved with `RESOLVE_IN_ROOT`.
    pub mounts: Vec<Mount>,
    pub masked_paths: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
    pub process: ProcessPlan,
    /// What the manifest says that it listens on; documentation. [`SandboxPlan::ports`] are those of the host.
    pub ports: Vec<PortPlan>,
    pub log: LogPlan,
    /// Of the container's own cgroup, in this order; none without a tree.
    pub cgroup: Vec<Setting>,
    /// As asked for: what an update starts from.
    #[serde(default)]
    pub resources: Resources,
    /// Which part of its termination message is kept.
    #[serde(default)]
    pub termination: TerminationPlan,
}

impl ContainerPlan {
    /// The images whose layers it uses.
    #[must_use]
    pub fn images(&self) -> Vec<Digest> {
        let volumes = self.mounts.iter().filter_map(|mount| match mount.kind {
            MountKind::ImageFiles { manifest, trees: _ } => manifest,
            _ => None,
        });
        self.from_image.iter().map(|image| image.manifest).chain(volumes).collect()
    }

    /// The unpacked layers of its volumes.
    #[must_use]
    pub fn volume_trees(&self) -> Vec<&PathBuf> {
        let volumes = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::ImageFiles { manifest: _, trees } => Some(trees),
            _ => None,
        });
        volumes.flatten().collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationPlan {
    /// Without a message a container that failed leaves the end of its log.
    pub falls_back_to_log: bool,
    /// Bytes of a message.
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    pub name: Option<String>,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// What an image says that no process needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromImage {
    /// The image's identity: what the store must keep while the pod is there.
    pub manifest: Digest,
    /// `linux/amd64`
    pub platform: String,
    /// `80/tcp`
    pub exposed_ports: Vec<String>,
}

/// SIGTERM: what plans without a stop signal mean.
fn sigterm() -> i32 {
    15
}

impl SandboxPlan {
    /// Where a container has what it writes outside of volumes.
    #[must_use]
    pub fn place_of(&self, root: &RootPlan) -> &LayerPlace {
        if root.has_overlay() { &self.layers } else { &LayerPlace::Data }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container.
    pub destination: PathBuf,
    pub kind: MountKind,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A new procfs of the container's pid namespace.
    Proc,
    /// The procfs that is already there, where a new one is refused (`masked-proc`, or the host's pid namespace).
    ProcBind,
    /// A new sysfs of the pod's network namespace.
    Sysfs,
    /// The host's sysfs, where the network is the host's.
    SysBind,
    /// cgroup2 as the container's own cgroup namespace shows it.
    Cgroup2,
    /// tmpfs with `null zero full random urandom tty` bound from the host and the usual links.
    Dev,
    /// A devpts instance of its own.
    DevPts,
    /// A new mqueue of the pod's ipc namespace.
    Mqueue,
    /// The host's, where ipc is the host's.
    MqueueBind,
    /// A private tmpfs. `size` in bytes.
    Tmpfs { mode: u32, size: Option<u64> },
    /// From the pod's own tmpfs in pause's mount namespace: `shm`, `volumes/<name>`, `etc/hosts`.
    PodTmpfs { source: PathBuf },
    /// `dirs.data/volumes/<name>`.
    DiskVolume { name: String },
    /// `dirs.data/<file>`, where the container leaves its termination message; made anew for each of its lives.
    TerminationMessage { file: String },
    /// A path of the host, seen with your rights.
    HostPath { source: PathBuf },
    /// What the root file system has at the destination, as a mount of its own: a volume that the image declares. In the
    /// container's writable layer, and so new at each start, as containerd's is.
    ImageVolume,
    /// The files of an image, without programs: a volume `image` of the manifest.
    ImageFiles {
        /// `None`: not known, in a plan that is only shown.
        manifest: Option<Digest>,
        /// Its unpacked layers in the store, the highest first.
        trees: Vec<PathBuf>,
    },
}

/// A user or a group: by number, or by a name that only the container's own /etc/passwd or /etc/group knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IdOrName {
    Id(ContainerId),
    Name(String),
}

impl fmt::Display for IdOrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdOrName::Id(ContainerId(id)) => id.fmt(f),
            IdOrName::Name(name) => name.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    pub argv: Vec<String>,
    /// `NAME=value`, expanded. `HOME` is added from the container's /etc/passwd when absent.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// `runAsUser`, else the image's user, else 0.
    pub uid: IdOrName,
    /// `runAsGroup`, or the image's group; `None`: the user's group in the container's /etc/passwd, else 0 (as CRI
    /// runtimes do).
    pub gid: Option<IdOrName>,
    /// True unless the manifest says `allowPrivilegeEscalation: true`.
    pub no_new_privs: bool,
    /// Names without `CAP_`; the bounding set. Only root has them effective, as in Kubernetes.
    pub capabilities: Vec<String>,
    pub stdin: bool,
    /// stdin ends with the first client that has typed into it.
    #[serde(default)]
    pub stdin_once: bool,
    pub tty: bool,
    /// What `/proc/PID/oom_score_adj` is raised to by the QoS class, -1000 to 1000; an ordinary user can only raise it
    /// (proc_pid_oom_score_adj(5)), so it is left alone where it is higher already.
    pub oom_score_adj: i32,
}

/// CRI log format, rotated by size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    pub path: PathBuf,
    /// Bytes of one file (kubelet's containerLogMaxSize, 10 MiB).
    pub max_size: u64,
    /// Files in all (kubelet's containerLogMaxFiles, 5): `x.log`, `x.log.1` … `x.log.4`.
    pub max_files: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecyclePlan {
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_period: Duration,
}

/// A guarantee this host cannot give, by a stable name (`no-subids`), with what it means for this pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    pub name: String,
    pub meaning: String,
    pub fix: String,
}
