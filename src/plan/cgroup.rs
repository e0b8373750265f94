//! The pod's cgroups: the tree, and every value that is written into it.
//!
//! ```text
//! <parent>/sandpod-<pod>-<id>.supervisor/    the supervisor and its helpers, beside what the pod is limited to
//! <parent>/sandpod-<pod>-<id>/          the pod's limits, no process
//!     pause/
//!     <container>.<n>/                  the container's limits; a fresh one for every start
//!         container/                    its processes, and the root of their cgroup namespace
//! ```

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod placement;

pub(super) use placement::place;

/// Where the pod's processes are accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupPlan {
    /// In whatever cgroup the caller is: nothing is limited, measured or frozen. A degradation says why.
    Inherited,
    Tree(CgroupTree),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupTree {
    pub parent: CgroupParent,
    /// `sandpod-<pod>-<id>`.
    pub name: String,
    /// Enabled in `cgroup.subtree_control` of the parent and of the pod: those that a value needs, and of the others
    /// what is delegated of `cpu memory pids io`, for `stats`.
    pub controllers: Vec<String>,
    /// Of the pod's own cgroup, in this order.
    pub settings: Vec<Setting>,
    /// Of pause's leaf.
    #[serde(default)]
    pub pause: Vec<Setting>,
    /// Of every container's cgroup.
    #[serde(default)]
    pub nesting: Nesting,
}

/// What may be made below a container's cgroup: it may make some of its own where root is you. Files of every cgroup, with
/// whatever controllers (cgroup-v2.rst, "cgroup.max.descendants"), so they are no [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nesting {
    pub descendants: u32,
    pub depth: u32,
}

impl Nesting {
    /// Each file and what is written into it.
    #[must_use]
    pub fn files(self) -> [(&'static str, u32); 2] {
        [("cgroup.max.descendants", self.descendants), ("cgroup.max.depth", self.depth)]
    }
}

impl Default for Nesting {
    /// Not so many that the kernel's ids for them run out for everybody (65535 with a memory controller), nor so deep that
    /// their path is longer than any path may be.
    fn default() -> Nesting {
        Nesting { descendants: 256, depth: 8 }
    }
}

/// The leaf of the supervisor: beside the pod's cgroup, since what it and the launchers use must not be taken from the
/// containers' limits, nor their OOM killer choose the supervisor.
#[must_use]
pub fn of_supervisor(pod: &std::path::Path) -> PathBuf {
    let mut name = pod.file_name().unwrap_or_default().to_owned();
    name.push(SUPERVISOR);
    pod.with_file_name(name)
}

/// What its name ends in.
pub const SUPERVISOR: &str = ".supervisor";

/// The cgroup of a container's processes, in the one that has its limits.
pub const CONTAINER: &str = "container";

impl CgroupTree {
    /// The pod's own directory, where it can be known beforehand.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        match &self.parent {
            CgroupParent::Directory { path, .. } => Some(path.join(&self.name)),
            CgroupParent::SystemdScope { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupParent {
    /// The directory of an existing cgroup. `leave`: the caller sits in it and goes to a leaf of its own first.
    Directory { path: PathBuf, leave: bool },
    /// A transient scope of the user's systemd with `Delegate=yes` (systemd.scope(5)), by this name.
    SystemdScope { unit: String },
}

/// One value of one cgroup: written, then read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub value: Value,
    /// The field of the manifest that asked for it (`spec.containers[0].resources.limits.memory`); `None`: a default of
    /// ours, left out where the controller is not there.
    pub asked_by: Option<String>,
}

/// A value of cgroup v2 (kernel cgroup-v2.rst). `None` is `max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Microseconds in each period of microseconds.
    CpuMax {
        quota: Option<u64>,
        period: u64,
    },
    /// 1–10000.
    CpuWeight(u64),
    /// Bytes.
    MemoryMax(Option<u64>),
    /// Bytes.
    MemoryLow(u64),
    /// Bytes.
    MemorySwapMax(Option<u64>),
    /// The OOM killer takes all of the cgroup or nothing.
    MemoryOomGroup,
    PidsMax(Option<u64>),
    /// Bytes of pages of this size, named as the kernel does: `2MB`, `1GB`.
    HugetlbMax {
        page: String,
        bytes: u64,
    },
}

impl Value {
    /// The controller that has the file.
    #[must_use]
    pub fn controller(&self) -> &'static str {
        match self {
            Value::CpuMax { .. } | Value::CpuWeight(_) => "cpu",
            Value::MemoryMax(_) | Value::MemoryLow(_) | Value::MemorySwapMax(_) | Value::MemoryOomGroup => "memory",
            Value::PidsMax(_) => "pids",
            Value::HugetlbMax { .. } => "hugetlb",
        }
    }

    #[must_use]
    pub fn file(&self) -> String {
        match self {
            Value::CpuMax { .. } => "cpu.max".to_owned(),
            Value::CpuWeight(_) => "cpu.weight".to_owned(),
            Value::MemoryMax(_) => "memory.max".to_owned(),
            Value::MemoryLow(_) => "memory.low".to_owned(),
            Value::MemorySwapMax(_) => "memory.swap.max".to_owned(),
            Value::MemoryOomGroup => "memory.oom.group".to_owned(),
            Value::PidsMax(_) => "pids.max".to_owned(),
            Value::HugetlbMax { page, .. } => format!("hugetlb.{page}.max"),
        }
    }
}

/// As the file shows it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |f: &mut fmt::Formatter<'_>, limit: &Option<u64>| match limit {
            Some(limit) => write!(f, "{limit}"),
            None => f.write_str("max"),
        };
        match self {
            Value::CpuMax { quota, period } => {
                limit(f, quota)?;
                write!(f, " {period}")
            }
            Value::MemoryMax(bytes) | Value::MemorySwapMax(bytes) => limit(f, bytes),
            Value::PidsMax(count) => limit(f, count),
            Value::CpuWeight(number) | Value::MemoryLow(number) => write!(f, "{number}"),
            Value::HugetlbMax { bytes, .. } => write!(f, "{bytes}"),
            Value::MemoryOomGroup => f.write_str("1"),
        }
    }
}

/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// What a pod claims of the host while it runs: the effective request of all its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    /// Thousandths of a cpu.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory: u64,
}
