//! The Pod as the user asked for it, after every rule that needs no host has been checked.
//!
//! Owns the vocabulary between the manifest's text and the plan. Field names are Kubernetes' own
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>) in Rust spelling.
//! The plan destructures these types without `..`, so a field that nobody enforces does not compile.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::amount::binary;
use super::image_source::{ImageSource, PullPolicy};

mod env;
mod network;

pub use env::*;
pub use network::*;

/// A valid `kind: Pod`, `apiVersion: v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub metadata: Metadata,
    pub spec: PodSpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// A DNS-1123 subdomain, as Kubernetes wants a Pod's name. Empty only where `generate_name` is to be used.
    pub name: String,
    /// What a made-up name begins with, where there is no `name`.
    pub generate_name: Option<String>,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// At least one; names are unique DNS-1123 labels.
    pub containers: Vec<Container>,
    /// Names are unique; every mount names one of these.
    pub volumes: Vec<Volume>,
    pub restart_policy: RestartPolicy,
    pub termination_grace_period: Duration,
    pub share_process_namespace: bool,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
    pub hostname: Option<String>,
    /// A DNS-1123 label.
    pub subdomain: Option<String>,
    pub set_hostname_as_fqdn: bool,
    pub host_aliases: Vec<HostAlias>,
    pub dns_policy: DnsPolicy,
    pub dns_config: DnsConfig,
    pub security_context: PodSecurityContext,
    /// KEP-2837, pod-level resources.
    pub resources: Resources,
}

/// Kubernetes' default is `Always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSecurityContext {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: Option<bool>,
    /// Files are unique.
    pub sysctls: Vec<Sysctl>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub image: Image,
    pub image_pull_policy: PullPolicy,
    /// Empty: the image's own entrypoint (for `host:` and `rootfs:` that is `/bin/sh`).
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// Absolute.
    pub working_dir: Option<String>,
    pub env: Vec<EnvVar>,
    pub stdin: bool,
    /// stdin ends with the first client that attaches; without it, stdin stays open.
    pub stdin_once: bool,
    pub tty: bool,
    pub volume_mounts: Vec<VolumeMount>,
    /// Those without a host port are documentation.
    pub ports: Vec<ContainerPort>,
    pub security_context: ContainerSecurityContext,
    pub resources: Resources,
    /// Absolute, without `..`.
    pub termination_message_path: String,
    pub termination_message_policy: TerminationMessagePolicy,
}

/// <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminationMessagePolicy {
    /// What the container has written to its termination message path.
    File,
    /// Where that is empty and the container has failed: the end of its log.
    FallbackToLogsOnError,
}

impl Container {
    /// Kubernetes' default of `terminationMessagePath`.
    pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
}

/// As written; no request is greater than the limit of the same resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub limits: Amounts,
    pub requests: Amounts,
}

/// <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Thousandths of a cpu, rounded up as Kubernetes does.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes.
    pub ephemeral_storage: Option<u64>,
    /// Bytes, by page size in bytes: `hugepages-2Mi`.
    pub hugepages: BTreeMap<u64, u64>,
}

/// What can be limited and requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
    /// Of this size in bytes, a power of two.
    HugePages(u64),
}

/// Its name in a manifest.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Cpu => f.write_str("cpu"),
            Resource::Memory => f.write_str("memory"),
            Resource::EphemeralStorage => f.write_str("ephemeral-storage"),
            Resource::HugePages(page) => write!(f, "hugepages-{}", binary(*page)),
        }
    }
}

impl Amounts {
    /// Thousandths of a cpu, or bytes.
    #[must_use]
    pub fn get(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Cpu => self.cpu_millis,
            Resource::Memory => self.memory,
            Resource::EphemeralStorage => self.ephemeral_storage,
            Resource::HugePages(page) => self.hugepages.get(&page).copied(),
        }
    }

    pub fn set(&mut self, resource: Resource, amount: u64) {
        match resource {
            Resource::Cpu => self.cpu_millis = Some(amount),
            Resource::Memory => self.memory = Some(amount),
            Resource::EphemeralStorage => self.ephemeral_storage = Some(amount),
            Resource::HugePages(page) => drop(self.hugepages.insert(page, amount)),
        }
    }
}

impl Resources {
    /// What is requested: where nothing is said, the limit (Kubernetes' SetDefaults_Pod).
    #[must_use]
    pub fn request(&self, resource: Resource) -> Option<u64> {
        self.requests.get(resource).or_else(|| self.limits.get(resource))
    }
}

/// Where a container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// `host:` — this machine's own `/usr`, `/etc`, … copy-on-write.
    Host,
    /// `rootfs:DIR` — a directory, never written to. Absolute.
    Rootfs(PathBuf),
    /// An image that is taken into the store: from a registry, or from a file of this machine.
    Stored(ImageSource),
}

/// As a manifest has it.
impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Image::Host => f.write_str("host:"),
            Image::Rootfs(directory) => write!(f, "rootfs:{}", directory.display()),
            Image::Stored(source) => source.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The name of a declared volume.
    pub name: String,
    /// Absolute, without `..`, unique within its container.
    pub mount_path: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSecurityContext {
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub run_as_non_root: Option<bool>,
    pub read_only_root_filesystem: bool,
    /// `None`: not said, which means false here (no_new_privs), unlike Kubernetes' true.
    pub allow_privilege_escalation: Option<bool>,
    /// Without the `CAP_` prefix, upper case, known to Linux; `ALL` is possible.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// `emptyDir: {}`: on disk, as long as the pod. `size_limit` in bytes.
    EmptyDirDisk { size_limit: Option<u64> },
    /// `emptyDir: {medium: Memory}`: one tmpfs for all containers of the pod. `size_limit` in bytes.
    EmptyDirMemory { size_limit: Option<u64> },
    /// Absolute, without `..`.
    HostPath { path: PathBuf, kind: HostPathType },
    /// The files of an image, read-only (KEP-4639).
    Image { source: ImageSource, pull_policy: PullPolicy },
}

/// <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathType {
    /// `""`: no check before mounting.
    Unchecked,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}
